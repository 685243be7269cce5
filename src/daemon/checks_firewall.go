package daemon

import (
	"strings"

	"htip/src/config"
	"htip/src/datapath"
)

const (
	firewallAnew = " anew: /usr/share/htip/firewall.sh remove; /usr/share/htip/firewall.sh add; /etc/init.d/firewall reload; /etc/init.d/htip restart"
	firewallThen = ", then /etc/init.d/firewall reload"
)

func onePort(p uint16) config.Ports { return config.Ports{Low: p, High: p} }

// tunnelPorts are the UDP ports that are called: the users' and the tunnels'.
func tunnelPorts(m *config.Main) config.Ports {
	return config.Ports{Low: m.L2TPPort - 1, High: m.L2TPPort + config.L2TPPorts - 1}
}

// checkFirewall holds the firewall's file, as fw4 reads it, against what tunnels
// need. What other programs have added while it runs is not seen.
func (f *facts) checkFirewall(out *report) {
	out.id = "firewall"
	if f.firewallErr != nil {
		out.warn("the firewall's configuration can't be read: %\nfw4 check says what it thinks of it", f.firewallErr.Error())
	}
	if f.firewall == nil {
		return
	}
	if z := f.zone("", datapath.DevicePrefix+"x", ""); z == "" {
		out.bad("no zone of the firewall has the tunnels' devices, " + datapath.DevicePrefix + "+: nothing passes between the homes\nmake the zone" + firewallAnew)
	} else {
		f.checkZone(out, z)
		if f.checkPorts(out, z, "udp", onePort(datapath.NamesPort), "", "tunnels don't come up, and names of devices here can't be looked up") {
			f.checkPorts(out, z, "tcp", onePort(datapath.NamesPort), "", "the other homes' lists of devices lack those of this one")
		}
	}
	wan := "wan"
	if len(f.lines) > 0 {
		l := &f.lines[0]
		wan = f.zone(l.name, l.device, wan)
	}
	f.checkPorts(out, wan, "tcp", onePort(f.main.Port), "port", "other homes can't call")
	f.checkPorts(out, wan, "udp", tunnelPorts(&f.main), "l2tp_port", "tunnels that other homes or users begin don't come up")
}

func (f *facts) checkZone(out *report, z string) {
	const way, need = "the firewall does not forward from zone % to %: ", "\na section forwarding with option src % and option dest % is missing" + firewallThen
	before := len(out.rows)
	for _, s := range f.firewall {
		if s.Is("zone") && s.Text("name") == z && s.Truth("masq", false) {
			out.bad("the firewall's zone % masquerades: the other homes drop what comes with the router's address\ntake option masq out of the zone %"+firewallThen, z, z)
		}
	}
	home := f.zone(strings.Join(f.main.Interfaces, " "), strings.Join(f.main.LANDevices, " "), "lan")
	if home != z && !f.forwards(home, z) {
		out.bad(way+"devices here reach no other home"+need, home, z, home, z)
	}
	if home != z && !f.forwards(z, home) {
		out.bad(way+"other homes reach nothing here"+need, z, home, z, home)
	}
	if len(out.rows) == before {
		out.ok("the firewall's zone % has the tunnels, and forwards between them and this home", z)
	}
}

// zone is the name of the first zone that has one of some interfaces or devices,
// which stand with blanks between; a pattern is held against the first device.
func (f *facts) zone(networks, devices, otherwise string) string {
	for _, s := range f.firewall {
		if !s.Is("zone") {
			continue
		}
		if s.Any("network", networks) {
			return s.Text("name")
		}
		for _, d := range s.Words("device") {
			if stem, all := strings.CutSuffix(d, "+"); config.Among(devices, d) || all && strings.HasPrefix(devices, stem) {
				return s.Text("name")
			}
		}
	}
	return otherwise
}

// forwards tells whether what comes from one zone is let through to another.
func (f *facts) forwards(from, to string) bool {
	for _, s := range f.firewall {
		if s.Is("forwarding") && s.Any("src", "* "+from) && s.Any("dest", "* "+to) && s.Word("family") != "ipv6" {
			return true
		}
	}
	return f.accepts("", "forward")
}

// accepts tells whether a zone, or for "" the whole, accepts what no rule is about. A
// zone that does not say is like the whole.
func (f *facts) accepts(zone, policy string) bool {
	whole, first := false, true
	for _, s := range f.firewall {
		switch says := s.Word(policy); {
		case s.Is("defaults") && first: // fw4 ignores a second one
			whole, first = says == "accept", false
		case zone != "" && s.Is("zone") && s.Text("name") == zone && says != "":
			return says == "accept"
		}
	}
	return whole
}

// inRule is a rule of the firewall about what comes into the router.
type inRule struct {
	name             string
	ports            []config.Ports // none: all
	accept, off, few bool           // few: under conditions only
}

// rules are those for a protocol from a zone, in their order: the first that fits
// decides.
func (f *facts) rules(zone, proto string) (out []*inRule) {
	protos := "tcp 6 tcpudp all any *"
	if proto == "udp" {
		protos = "udp 17 tcpudp all any *"
	}
	for _, s := range f.firewall {
		if !s.Kind("rule") || !s.Any("src", "* "+zone) || s.Text("dest") != "" || s.Word("family") == "ipv6" || !config.Among("accept reject drop", s.Word("target")) ||
			s.Text("proto") != "" && !s.Any("proto", protos) {
			continue
		}
		r := &inRule{name: s.Label, accept: s.Word("target") == "accept", off: !s.Truth("enabled", true)}
		r.few = !s.Only("name src proto dest_port target enabled family log counter")
		for _, w := range s.Words("dest_port") {
			p, ok := config.ParsePorts(strings.ReplaceAll(w, ":", "-"))
			r.ports, r.few = append(r.ports, p), r.few || !ok // one that is negated, say
		}
		out = append(out, r)
	}
	return out
}

// checkPorts looks whether ports that an option says, or for "" the names' port, are let
// in from a zone.
func (f *facts) checkPorts(out *report, zone, proto string, want config.Ports, option, otherwise string) (open bool) {
	if out.id = "firewall-" + proto; option == "" {
		out.id = "firewall-names"
	}
	rules := f.rules(zone, proto)
	open, by := true, (*inRule)(nil)
	for p := int(want.Low); p <= int(want.High) && open; p++ {
		open, by = letsIn(rules, uint16(p), f.accepts(zone, "input"))
	}
	args := []string{strings.ToUpper(proto) + " " + want.String(), zone}
	if open && option == "" && proto == "tcp" {
		return true // said with UDP
	}
	if open {
		out.ok("the firewall lets % in from zone %", args...)
		return true
	}
	const not = "the firewall does not let % in from zone %"
	why := ""
	switch {
	case by == nil:
		for _, r := range rules {
			if option != "" && r.accept && len(r.ports) > 0 && strings.HasPrefix(r.name, "htip_") {
				out.bad(not+": rule % has %, not those of option %; "+otherwise+"\n/etc/init.d/htip restart makes the rule follow the option",
					append(args, r.name, texts(r.ports), option)...)
				return false
			}
		}
	case by.off:
		why = ": rule % is disabled"
	case by.few:
		why = ": rule % does so under conditions only"
	default:
		why = ": rule % turns it away"
	}
	if by != nil {
		args = append(args, by.name)
	}
	out.bad(not+why+"; "+otherwise+"\nmake the rules"+firewallAnew, args...)
	return false
}

// letsIn tells whether rules let a port in; if not, by is the rule because of which,
// nil where there is none about it.
func letsIn(rules []*inRule, port uint16, otherwise bool) (open bool, by *inRule) {
	for _, r := range rules {
		about := len(r.ports) == 0
		for _, p := range r.ports {
			about = about || p.Low <= port && port <= p.High
		}
		switch {
		case !about, (r.off || r.few) && !r.accept:
			continue
		case r.accept && !r.off && !r.few:
			return true, nil
		}
		if by = r; !r.accept {
			return false, by
		}
	}
	return otherwise, by
}
