package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Section types of the file.
const (
	kindMain = "htip"
	kindPeer = "peer"
	mainName = "main"
)

// decode turns a document into a Config. It looks at everything before it
// returns, so that all problems are told at once.
func decode(d document) (Config, Problems) {
	c := Defaults()
	var ps Problems
	labels, taken := d.labels(), newClaims()
	main := findMain(d)
	if main >= 0 {
		ps = decodeMain(d.sections[main], labels[main], &c.Main)
	} else if len(d.sections) > 0 {
		ps.addf(Warning, mainName, "there is no section main: want config htip 'main'; htip is disabled")
	}
	for i, s := range d.sections {
		switch {
		case i == main:
		case s.kind == kindPeer:
			p, found := decodePeer(s, labels[i])
			found = append(found, taken.conflicts(p, &c.Main, peerTitle(s, labels[i]))...)
			ps = append(ps, found...)
			if found.Count(Error) > 0 {
				c.LeftOut = append(c.LeftOut, labels[i])
			} else {
				c.Peers = append(c.Peers, p)
				taken.add(p)
			}
		case s.kind == kindMain:
			ps.addf(Warning, labels[i], "only one section of type htip is read, %s", labels[main])
		default:
			ps.add(Problem{Section: labels[i], Option: "type", Value: s.kind, Want: "want htip or peer", Instead: "not read"})
		}
	}
	if ps.Fatal() != nil {
		c.Main.Enabled = false
	}
	return c, ps.cut()
}

// findMain is the index of the section "main" of type htip, else of the first of
// that type, else -1.
func findMain(d document) int {
	first := -1
	for i, s := range d.sections {
		if s.kind == kindMain && s.name == mainName {
			return i
		}
		if s.kind == kindMain && first < 0 {
			first = i
		}
	}
	return first
}

// read reads a section's options by fs into t; found gets what is wrong with one.
func (fs fields[T]) read(s *section, t *T, found func(o *option, p Problem)) {
	for _, o := range s.options {
		verb := "option "
		if o.list {
			verb = "list "
		}
		f, ok := fs.find(o.name)
		if !ok {
			found(o, Problem{Option: verb + o.name, Value: strings.Join(o.values, "' '"),
				Want: "there is no such option, only " + fs.names(), Instead: "not read"})
			continue
		}
		f.read(t, o.values, func(value, want string) {
			found(o, Problem{Severity: Error, Option: verb + o.name, Value: value, Want: want})
		})
	}
}

func decodeMain(s *section, label string, m *Main) Problems {
	var ps Problems
	usual := *m
	m.Name, m.Interfaces = "", nil
	refused := map[string]int{}
	mainFields.read(s, m, func(o *option, p Problem) {
		p.Section = label
		if p.Severity == Error {
			p.Instead = "using " + mainDefault(o.name)
			if f, _ := mainFields.find(o.name); f.list {
				p.Instead = "this entry is left out"
				if refused[o.name]++; refused[o.name] == len(o.values) && !slices.Contains(sharing, o.name) {
					p.Instead = "no entry is left, using " + mainDefault(o.name)
				}
			}
		}
		ps.add(p)
	})
	// Falling back to the whole LAN would offer other homes what the user had
	// chosen not to name.
	for i, n := range []int{len(m.Networks), len(m.LANDevices), len(m.Interfaces)} {
		if name := sharing[i]; s.option(name) != nil { // it overrides the ones behind it
			if n == 0 {
				ps.addf(Fatal, label, "nothing in list %s can be used: mend it or remove it; htip is disabled", name)
			}
			break
		}
	}
	if len(m.Interfaces) == 0 {
		m.Interfaces = usual.Interfaces
	}
	ps = append(ps, strange(label, "network", m.Networks)...)
	ps = append(ps, strange(label, "pool", m.Pool)...)
	if m.Zone == m.LANDomain {
		ps.add(Problem{Severity: Error, Section: label, Option: "option zone", Value: m.Zone,
			Want: "want another name than lan_domain's", Instead: fmt.Sprintf("using %s and %s", usual.Zone, usual.LANDomain)})
		m.Zone, m.LANDomain = usual.Zone, usual.LANDomain
	}
	if m.Domain != "" && (within(m.Domain, m.Zone) || within(m.Domain, m.LANDomain)) {
		ps.add(Problem{Severity: Error, Section: label, Option: "option domain", Value: m.Domain,
			Want: "want a name outside of " + m.Zone + " and " + m.LANDomain, Instead: "using none"})
		m.Domain = ""
	}
	if m.Name == "" {
		m.Name = usual.Name
		if m.Domain != "" {
			m.Name, _, _ = strings.Cut(m.Domain, ".")
		}
	}
	return ps
}

// sharing are the options that say what other homes may reach; each overrides
// those behind it.
var sharing = []string{"network", "lan_device", "interface"}

// strange warns of networks that other homes will hardly accept.
func strange(label, name string, list []netip.Prefix) (ps Problems) {
	for _, p := range list {
		if !private(p) {
			ps.add(Problem{Section: label, Option: "list " + name, Value: p.String(),
				Want: "want one in 10.0.0.0/8, 172.16.0.0/12 or 192.168.0.0/16, other homes may refuse this"})
		}
	}
	return ps
}

// mainDefault tells what holds when an option of the main section can't be used.
func mainDefault(name string) string {
	d := Defaults().Main
	switch name {
	case "enabled":
		return "0"
	case "name":
		return "the first part of domain, or " + d.Name
	case "port":
		return fmt.Sprint(d.Port)
	case "wan_device":
		return "the default route's"
	case "candidates":
		return d.Candidates
	case "zone":
		return d.Zone
	case "lan_domain":
		return d.LANDomain
	case "l2tp_port":
		return fmt.Sprint(d.L2TPPort)
	case "mtu":
		return "the protocol's own"
	case "accept":
		return d.Accept
	case "log_level":
		return d.LogLevel
	case "pool":
		return fmt.Sprint(d.Pool)
	case "protocol":
		return fmt.Sprint(d.Protocols)
	default:
		return "none"
	}
}

// private tells whether p lies in the space of RFC 1918.
func private(p netip.Prefix) bool {
	return slices.ContainsFunc(Defaults().Main.Pool, func(o netip.Prefix) bool {
		return o.Bits() <= p.Bits() && o.Contains(p.Addr())
	})
}

// peerTitle names a peer's section so that both the reader of a message and
// `uci show` find it.
func peerTitle(s *section, label string) string {
	if o := s.option("name"); s.name == "" && o != nil {
		return fmt.Sprintf("peer %s (%s)", shown(o.values[0]), label)
	}
	return "peer " + label
}

// decodePeer reads a section of type peer.
func decodePeer(s *section, label string) (Peer, Problems) {
	var ps Problems
	title := peerTitle(s, label)
	p := NewPeer("")
	peerFields.read(s, &p, func(_ *option, x Problem) {
		x.Section = title
		ps.add(x)
	})
	missing := func(option, want string) {
		ps.add(Problem{Severity: Error, Section: title, Option: "option " + option, Missing: true, Want: want})
	}
	if s.option("name") == nil {
		name, ok := PeerName(s.name)
		switch {
		case ok:
			p.Name = name
		case s.name == "":
			missing("name", wantPeerName)
		default:
			ps.add(Problem{Severity: Error, Section: title, Option: "section name", Value: s.name, Want: wantPeerName})
		}
	}
	if s.option("key") == nil {
		missing("key", wantKey)
	}
	if s.option("domain") == nil && p.Auto {
		missing("domain", "want the other home's public name, because of option auto '1'")
	}
	return p, ps
}

// claims are what the peers so far have for themselves, each with the peer's name.
type claims struct {
	names, domains map[string]string
	keys           map[Key]string
}

func newClaims() claims {
	return claims{names: map[string]string{}, domains: map[string]string{}, keys: map[Key]string{}}
}

func (c claims) add(p Peer) {
	c.names[Short(p.Name)], c.keys[p.Key] = p.Name, p.Name
	if p.Domain != "" {
		c.domains[p.Domain] = p.Name
	}
}

// conflicts tells what a peer has that must be its own but is somebody else's.
func (c claims) conflicts(p Peer, m *Main, title string) Problems {
	var ps Problems
	clash := func(option, value, want string) {
		ps.add(Problem{Severity: Error, Section: title, Option: option, Value: value, Want: want})
	}
	if q, ok := c.names[Short(p.Name)]; ok && q != p.Name {
		clash("name", p.Name, "want another one: cut to a device's length it is that of peer "+q)
	} else if ok {
		clash("name", p.Name, "want another one than the peer above has")
	}
	if q, ok := c.keys[p.Key]; ok {
		clash("option key", p.Key.String(), "want another one than peer "+q+" has: each home has its own")
	}
	if q, ok := c.domains[p.Domain]; ok {
		clash("option domain", p.Domain, "want another one than peer "+q+" has")
	}
	switch {
	case p.Domain == "":
	case p.Domain == m.Domain:
		clash("option domain", p.Domain, "want the other home's name, this is our own")
	case within(p.Domain, m.Zone) || within(p.Domain, m.LANDomain):
		clash("option domain", p.Domain, "want a name outside of "+m.Zone+" and "+m.LANDomain)
	}
	return ps
}
