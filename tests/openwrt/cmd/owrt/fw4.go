package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"htip/tests/openwrt/uci"
)

const fw4State = "/var/run/fw4.state"

// runFW4 is fw4 with its verbs start, reload, restart, stop and flush: it drops by
// default, keeps to the zones, and removes what fw4 removes and nothing else. A
// flush takes the tables of everybody, as there.
func runFW4(_ context.Context, args []string) error {
	verb := strings.Join(args, " ")
	_, err := os.Stat(fw4State)
	loaded := err == nil
	switch verb {
	case "start":
		if loaded {
			return fmt.Errorf("the firewall is loaded already")
		}
	case "reload":
		if !loaded {
			return fmt.Errorf("the firewall is not loaded")
		}
	case "restart":
		exec.Command("nft", "delete", "table", "inet", "fw4").Run()
	case "stop":
		os.Remove(fw4State)
		return exec.Command("nft", "delete", "table", "inet", "fw4").Run()
	case "flush":
		os.Remove(fw4State)
		return exec.Command("nft", "flush", "ruleset").Run()
	case "print":
		text, err := fw4Rules()
		fmt.Print(text)
		return err
	default:
		return fmt.Errorf("%q is not understood here", args)
	}
	text, err := fw4Rules()
	if err != nil {
		return err
	}
	nft := exec.Command("nft", "-f", "-")
	nft.Stdin = strings.NewReader(text)
	if out, err := nft.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s\n%s", err, out, text)
	}
	if err := os.WriteFile(fw4State, nil, 0o600); err != nil {
		return err
	}
	return fw4Includes()
}

func fw4Includes() error {
	p, err := fw4Config()
	if err != nil {
		return err
	}
	for _, s := range p.Of("include") {
		if s.Get("type") != "script" || s.Get("fw4_compatible") != "1" || s.Get("enabled") == "0" {
			continue
		}
		if out, err := exec.Command("sh", "-c", `. "$0"`, s.Get("path")).CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "include %s failed: %v: %s\n", s.Get("path"), err, out)
		}
	}
	return nil
}

func fw4Config() (*uci.Package, error) {
	return uci.Dirs{Config: "/etc/config", Changes: "/nowhere"}.Load("firewall")
}

type fw4 struct {
	pkg     *uci.Package
	devices map[string][]string // of each zone, as nft writes them
	chains  map[string][]string
}

// fw4Rules makes the rules from /etc/config/firewall.
func fw4Rules() (string, error) {
	p, err := fw4Config()
	if err != nil {
		return "", err
	}
	ifs, err := readInterfaces()
	if err != nil {
		return "", err
	}
	f := &fw4{pkg: p, devices: map[string][]string{}, chains: map[string][]string{}}
	var input, forward, srcnat, mangle []string
	for _, z := range p.Of("zone") {
		name := z.Get("name")
		for _, n := range z.List("network") {
			for _, i := range ifs {
				if i.name == n {
					f.devices[name] = append(f.devices[name], `"`+i.device+`"`)
				}
			}
		}
		for _, d := range z.List("device") {
			f.devices[name] = append(f.devices[name], `"`+strings.Replace(d, "+", "*", 1)+`"`)
		}
		set := f.set(name)
		if set == "" {
			continue
		}
		input = append(input, "iifname "+set+" jump input_"+name)
		forward = append(forward, "iifname "+set+" jump forward_"+name)
		if z.Get("masq") == "1" {
			srcnat = append(srcnat, "meta nfproto ipv4 oifname "+set+" masquerade")
		}
		if z.Get("mtu_fix") == "1" {
			for _, way := range []string{"iifname", "oifname"} {
				mangle = append(mangle, way+" "+set+" tcp flags syn / fin,syn,rst tcp option maxseg size set rt mtu")
			}
		}
	}
	for _, r := range p.Of("rule") {
		if err := f.rule(r); err != nil {
			return "", err
		}
	}
	for _, w := range p.Of("forwarding") {
		src, dest := w.Get("src"), f.set(w.Get("dest"))
		if f.set(src) == "" || dest == "" {
			return "", fmt.Errorf("forwarding from %q to %q: no such zone", src, w.Get("dest"))
		}
		f.add("forward_"+src, "oifname "+dest+" accept")
	}
	var b strings.Builder
	b.WriteString("table inet fw4\ndelete table inet fw4\ntable inet fw4 {\n")
	chain := func(name, head string, rules []string) {
		fmt.Fprintf(&b, "\tchain %s {\n", name)
		for _, r := range append([]string{head}, rules...) {
			if r != "" {
				fmt.Fprintf(&b, "\t\t%s\n", r)
			}
		}
		b.WriteString("\t}\n")
	}
	for _, z := range p.Of("zone") {
		name := z.Get("name")
		if f.set(name) == "" {
			continue
		}
		chain("input_"+name, "", append(f.chains["input_"+name], strings.ToLower(z.Get("input"))))
		inner := []string{}
		if strings.EqualFold(z.Get("forward"), "ACCEPT") {
			inner = append(inner, "oifname "+f.set(name)+" accept")
		}
		chain("forward_"+name, "", append(append(f.chains["forward_"+name], inner...), "reject"))
	}
	known := "ct state vmap { established : accept, related : accept }"
	chain("input", "type filter hook input priority filter; policy drop;", append(append([]string{`iifname "lo" accept`, known, "tcp flags & (fin | syn | rst | ack) == syn jump syn_flood"}, input...), "reject"))
	chain("syn_flood", "limit rate 25/second burst 50 packets return", []string{"drop"})
	chain("forward", "type filter hook forward priority filter; policy drop;", append(append([]string{known}, forward...), "reject"))
	chain("srcnat", "type nat hook postrouting priority srcnat; policy accept;", srcnat)
	chain("mangle_forward", "type filter hook forward priority mangle; policy accept;", mangle)
	b.WriteString("}\n")
	// A chain has to be there before somebody jumps to it.
	text := b.String()
	var heads strings.Builder
	heads.WriteString("table inet fw4 {\n")
	for _, line := range strings.Split(text, "\n") {
		if name, ok := strings.CutPrefix(line, "\tchain "); ok && !strings.HasPrefix(name, "input {") && !strings.HasPrefix(name, "forward {") && !strings.HasPrefix(name, "srcnat") && !strings.HasPrefix(name, "mangle") {
			heads.WriteString("\tchain " + strings.TrimSuffix(name, " {") + " { }\n")
		}
	}
	heads.WriteString("}\n")
	return strings.Replace(text, "delete table inet fw4\n", "delete table inet fw4\n"+heads.String(), 1), nil
}

func (f *fw4) add(chain, rule string) { f.chains[chain] = append(f.chains[chain], rule) }

// set is the devices of a zone as a set of nft, "" when it has none.
func (f *fw4) set(zone string) string {
	if len(f.devices[zone]) == 0 {
		return ""
	}
	return "{ " + strings.Join(f.devices[zone], ", ") + " }"
}

// rule takes the options that are used here, and refuses others: a typo in a rule
// would be a warning of fw4 that nobody reads.
func (f *fw4) rule(r *uci.Section) error {
	name := r.Get("name")
	for _, o := range r.Options {
		switch o.Name {
		case "name", "src", "dest", "proto", "dest_port", "src_ip", "icmp_type", "family", "target", "device", "direction", "enabled", "limit":
		default:
			return fmt.Errorf("rule %q: option %s is not known here", name, o.Name)
		}
	}
	src, dest := r.Get("src"), r.Get("dest")
	switch {
	case r.Get("enabled") == "0":
		return nil
	case src == "" || f.set(src) == "":
		return fmt.Errorf("rule %q: no zone %q", name, src)
	case dest != "" && f.set(dest) == "":
		return fmt.Errorf("rule %q: no zone %q", name, dest)
	}
	chain, head := "input_"+src, ""
	if dest != "" {
		chain, head = "forward_"+src, "oifname "+f.set(dest)+" "
	}
	if d := r.Get("device"); d != "" {
		if r.Get("direction") != "in" {
			return fmt.Errorf("rule %q: a device without direction in", name)
		}
		head = `iifname "` + d + `" ` + head
	}
	switch r.Get("family") {
	case "ipv4":
		head = "meta nfproto ipv4 " + head
	case "ipv6":
		head = "meta nfproto ipv6 " + head
	}
	target := strings.ToLower(r.Get("target"))
	protos := strings.Fields(r.Get("proto"))
	if len(protos) == 0 {
		protos = []string{"tcp", "udp"}
	}
	ports := strings.Join(strings.Fields(r.Get("dest_port")), ", ")
	for _, p := range protos {
		switch {
		case p == "all":
			f.add(chain, head+target)
		case p == "icmp" && r.Get("icmp_type") != "":
			f.add(chain, head+"icmp type { "+strings.Join(strings.Fields(r.Get("icmp_type")), ", ")+" } "+target)
		case ports != "":
			f.add(chain, fmt.Sprintf("%s%s dport { %s } %s", head, p, ports, target))
		default:
			f.add(chain, head+"meta l4proto "+p+" "+target)
		}
	}
	return nil
}
