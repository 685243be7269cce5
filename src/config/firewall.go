package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Firewall is what /etc/config/firewall says of zones and of what is let into the
// router itself, as fw4 reads it. What fw4 would not take is left out.
type Firewall struct {
	Forward     bool // what no zone and no forwarding says is let through
	Zones       []Zone
	Forwardings [][2]string // names of zones, from and to; "*" is all
	Rules       []Rule      // in the file's order: the first that fits decides
}

// Zone is a section of type zone.
type Zone struct {
	Name              string
	Networks, Devices []string // netifd's names; devices, "htip-+" is all that begin so
	Masquerade        bool
	Input             bool // lets everything into the router
}

// Rule is a section of type rule about what comes into the router by IPv4.
type Rule struct {
	Name    string // the section's, as `uci show` prints it
	Source  string // zone, or "*"
	Protos  []string
	Ports   []Ports // none: all
	Accept  bool    // else it turns away
	Enabled bool
	Narrow  bool // it asks for more than these, an address say
}

// Ports are ports from one to another.
type Ports struct{ Low, High uint16 }

func (p Ports) String() string {
	if p.Low == p.High {
		return strconv.Itoa(int(p.Low))
	}
	return fmt.Sprintf("%d-%d", p.Low, p.High)
}

// LoadFirewall reads the firewall's configuration; errors are those of Load.
func LoadFirewall(path string) (Firewall, error) {
	data, err := readFile(path)
	if err != nil {
		return Firewall{}, err
	}
	d, err := parse(data, nil)
	if err != nil {
		return Firewall{}, fmt.Errorf("%s: %w", path, err)
	}
	return firewall(d), nil
}

func firewall(d document) (f Firewall) {
	for i, label := range d.labels() {
		s := d.sections[i]
		switch on := s.truth("enabled", true); {
		case s.kind == "defaults":
			f.Forward = s.word("forward") == "accept"
		case s.kind == "zone" && on:
			f.Zones = append(f.Zones, Zone{
				Name: s.text("name"), Networks: s.words("network"), Devices: s.words("device"),
				Masquerade: s.truth("masq", false), Input: s.word("input") == "accept",
			})
		case s.kind == "forwarding" && on && s.word("family") != "ipv6":
			f.Forwardings = append(f.Forwardings, [2]string{s.text("src"), s.text("dest")})
		case s.kind == "rule":
			if r, ok := s.rule(label); ok {
				r.Enabled = on
				f.Rules = append(f.Rules, r)
			}
		}
	}
	return f
}

// plain are options of a rule that don't make it narrower.
var plain = []string{"name", "src", "proto", "dest_port", "target", "enabled", "family", "log", "counter"}

func (s *section) rule(label string) (r Rule, ok bool) {
	target := s.word("target")
	r = Rule{Name: label, Source: s.text("src"), Protos: s.words("proto"), Accept: target == "accept"}
	if r.Source == "" || s.option("dest") != nil || s.word("family") == "ipv6" || !r.Accept && target != "reject" && target != "drop" {
		return r, false
	}
	if len(r.Protos) == 0 {
		r.Protos = []string{"tcp", "udp"}
	}
	for _, o := range s.options {
		r.Narrow = r.Narrow || !slices.Contains(plain, o.name)
	}
	for _, w := range s.words("dest_port") {
		p, good := ParsePorts(strings.ReplaceAll(w, ":", "-"))
		if !good { // one that is negated, say
			r.Narrow = true
		} else {
			r.Ports = append(r.Ports, p)
		}
	}
	return r, true
}

// ParsePorts reads "80" or "80-90".
func ParsePorts(s string) (Ports, bool) {
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	l, err1 := strconv.ParseUint(low, 10, 16)
	h, err2 := strconv.ParseUint(high, 10, 16)
	return Ports{uint16(l), uint16(h)}, err1 == nil && err2 == nil && l > 0 && l <= h
}

// Fits tells whether the rule is about a port when something comes from a zone.
func (r *Rule) Fits(zone, proto string, port uint16) bool {
	if r.Source != zone && r.Source != "*" {
		return false
	}
	about := len(r.Ports) == 0
	for _, p := range r.Ports {
		about = about || p.Low <= port && port <= p.High
	}
	return about && r.Speaks(proto)
}

// Speaks tells whether the rule is about "tcp" or "udp".
func (r *Rule) Speaks(proto string) bool {
	for _, p := range r.Protos {
		switch p = lower(p); p {
		case proto, "all", "any", "*", "tcpudp":
			return true
		case "6", "17":
			if (p == "6") == (proto == "tcp") {
				return true
			}
		}
	}
	return false
}

// Has tells whether a device belongs to the zone by its name.
func (z *Zone) Has(device string) bool {
	for _, d := range z.Devices {
		if stem, all := strings.CutSuffix(d, "+"); d == device || all && strings.HasPrefix(device, stem) {
			return true
		}
	}
	return false
}

// Forwards tells whether what comes from one zone is let through to another.
func (f *Firewall) Forwards(from, to string) bool {
	for _, w := range f.Forwardings {
		if (w[0] == from || w[0] == "*") && (w[1] == to || w[1] == "*") {
			return true
		}
	}
	return f.Forward
}

// words are the values of an option or list, each split at white space, as fw4
// does.
func (s *section) words(name string) (out []string) {
	if o := s.option(name); o != nil {
		for _, v := range o.values {
			out = append(out, strings.Fields(v)...)
		}
	}
	return out
}

func (s *section) text(name string) string {
	if o := s.option(name); o != nil {
		return o.values[0]
	}
	return ""
}

func (s *section) word(name string) string { return lower(s.text(name)) }

func (s *section) truth(name string, otherwise bool) bool {
	switch s.word(name) {
	case "1", "on", "true", "yes", "enabled":
		return true
	case "0", "off", "false", "no", "disabled":
		return false
	}
	return otherwise
}
