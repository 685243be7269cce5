package daemon

import (
	"fmt"
	"slices"
	"strings"

	"htip/src/config"
	"htip/src/datapath"
)

const (
	firewallFresh = "made anew by: /usr/share/htip/firewall.sh remove; /usr/share/htip/firewall.sh add; /etc/init.d/firewall reload; /etc/init.d/htip restart"
	firewallThen  = ", then /etc/init.d/firewall reload"
)

// tunnelPorts are the UDP ports that are called: the users' and the tunnels'.
func tunnelPorts(m *config.Main) config.Ports {
	return config.Ports{Low: m.L2TPPort - 1, High: m.L2TPPort + config.L2TPPorts - 1}
}

// checkFirewall holds the firewall's file against what tunnels need. What other
// programs have added while it runs is not seen.
func checkFirewall(f *facts) (out []row) {
	if f.firewallErr != nil {
		return []row{{"firewall", levelWarn, "the firewall's configuration can't be read: " + f.firewallErr.Error(), "it is not looked at; fw4 check says what it thinks of it"}}
	}
	if !f.hasFirewall {
		return nil
	}
	fw := &f.firewall
	i := slices.IndexFunc(fw.Zones, func(z config.Zone) bool { return z.Has(datapath.DevicePrefix + "x") })
	if i < 0 {
		out = append(out, row{"firewall-zone", levelBad, "no zone of the firewall has the tunnels' devices (" + datapath.DevicePrefix + "+): nothing passes between the homes", firewallFresh})
	} else {
		out = append(out, checkZone(f, &fw.Zones[i])...)
	}
	return append(out, checkOpen(f)...)
}

func checkZone(f *facts, z *config.Zone) (out []row) {
	if z.Masquerade {
		out = append(out, row{"firewall-masq", levelBad, "the firewall's zone " + z.Name + " masquerades: what goes into a tunnel gets the router's address, and other homes drop it or can't answer", "take option masq out of the zone " + z.Name + firewallThen})
	}
	home := zonesOf(&f.firewall, f.main.Interfaces, f.main.LANDevices, "lan")
	if len(home) == 0 {
		return append(out, row{"firewall-forward", levelWarn, "no zone of the firewall has what this home shares", "put " + strings.Join(append(slices.Clone(f.main.LANDevices), f.main.Interfaces...), ", ") + " into a zone" + firewallThen})
	}
	for _, h := range home {
		for _, way := range [][3]string{{h.Name, z.Name, "devices here reach no other home"}, {z.Name, h.Name, "other homes reach nothing here"}} {
			if h.Name != z.Name && !f.firewall.Forwards(way[0], way[1]) {
				out = append(out, row{"firewall-forward", levelBad, fmt.Sprintf("the firewall does not forward from zone %s to %s: %s", way[0], way[1], way[2]), fmt.Sprintf("a section forwarding with option src '%s' and option dest '%s'%s", way[0], way[1], firewallThen)})
			}
		}
	}
	if len(out) == 0 {
		out = append(out, row{"firewall-zone", levelOK, "the firewall's zone " + z.Name + " has the tunnels, and forwards between them and this home", ""})
	}
	return out
}

// zonesOf are the zones of some interfaces and devices, else the one of that name.
func zonesOf(fw *config.Firewall, networks, devices []string, name string) (out []*config.Zone) {
	for i := range fw.Zones {
		z := &fw.Zones[i]
		if slices.ContainsFunc(z.Networks, func(n string) bool { return len(devices) == 0 && slices.Contains(networks, n) }) || slices.ContainsFunc(devices, z.Has) {
			out = append(out, z)
		}
	}
	for i := 0; len(out) == 0 && i < len(fw.Zones); i++ {
		if fw.Zones[i].Name == name {
			out = append(out, &fw.Zones[i])
		}
	}
	return out
}

// checkOpen tells whether others may call, and the tunnels may come in.
func checkOpen(f *facts) (out []row) {
	var zones []*config.Zone
	for _, l := range f.lines {
		for _, z := range append(zonesOf(&f.firewall, []string{l.name}, nil, ""), zonesOf(&f.firewall, nil, []string{l.device}, "")...) {
			if !slices.Contains(zones, z) {
				zones = append(zones, z)
			}
		}
	}
	if len(zones) == 0 {
		zones = zonesOf(&f.firewall, []string{"wan"}, nil, "wan")
	}
	if len(zones) == 0 {
		return []row{{"firewall-wan", levelWarn, "no zone of the firewall has the line to the Internet", "put its interface into a zone, wan say" + firewallThen}}
	}
	for _, z := range zones {
		out = append(out, checkPorts(&f.firewall, z, "tcp", config.Ports{Low: f.main.Port, High: f.main.Port}, "port", "other homes can't call"))
		out = append(out, checkPorts(&f.firewall, z, "udp", tunnelPorts(&f.main), "l2tp_port", "tunnels that other homes, or users, begin don't come up"))
	}
	return out
}

func checkPorts(fw *config.Firewall, z *config.Zone, proto string, want config.Ports, option, otherwise string) row {
	id, name := "firewall-"+proto, strings.ToUpper(proto)+" "+want.String()
	why := ""
	for p := int(want.Low); p <= int(want.High); p++ {
		var open bool
		if open, why = letsIn(fw, z, proto, uint16(p)); !open {
			break
		}
		why = ""
		if p == int(want.High) {
			return row{id, levelOK, "the firewall lets " + name + " in from zone " + z.Name, ""}
		}
	}
	advice := firewallFresh
	if why == "" { // others than are wanted?
		for _, r := range fw.Rules {
			if strings.HasPrefix(r.Name, "htip_") && r.Source == z.Name && r.Accept && r.Enabled && len(r.Protos) == 1 && r.Speaks(proto) && len(r.Ports) > 0 {
				why = fmt.Sprintf(": rule %s lets %s in, which is not what option %s says", r.Name, texts(r.Ports), option)
				advice = "/etc/init.d/htip restart makes the rule follow the option"
			}
		}
	} else {
		advice = "change that rule" + firewallThen
	}
	return row{id, levelBad, "the firewall does not let all of " + name + " in from zone " + z.Name + why + "; " + otherwise, advice}
}

// letsIn tells whether the router may be called at a port from a zone; why not,
// when there is more to say than that nobody has thought of it.
func letsIn(fw *config.Firewall, z *config.Zone, proto string, port uint16) (open bool, why string) {
	for i := range fw.Rules {
		r := &fw.Rules[i]
		switch {
		case !r.Fits(z.Name, proto, port):
		case r.Accept && !r.Enabled:
			why = ": rule " + r.Name + " is disabled"
		case r.Accept && r.Narrow && r.Enabled:
			why = ": rule " + r.Name + " lets it in under conditions only"
		case r.Accept:
			return true, ""
		case r.Enabled && !r.Narrow:
			return false, ": rule " + r.Name + " turns it away"
		}
	}
	return z.Input, why
}
