package htip

import "bytes"

// names lists the home's networks for people.
func (h Home) names() string {
	s := ""
	for i, n := range h.Networks {
		if i > 0 {
			s += ", "
		}
		s += n.String()
	}
	if s == "" {
		return "this home, which has no network to share"
	}
	return s
}

// usedUp says that our pool has nothing for the peer.
func (g *Gateway) usedUp() string {
	return "no private addresses are left to offer for " + g.home.names() + ": all of the pool here is in use, or refused by the other gateway"
}

// protocols are those possible with a peer, our best first.
func (g *Gateway) protocols(p *peer) []Protocol {
	var out []Protocol
	for _, x := range g.cfg.Protocols {
		if contains(p.Protocols, x) {
			out = append(out, x)
		}
	}
	return out
}

// clip cuts a text to what a message may carry.
func clip(s string) string {
	s = string(bytes.Map(func(r rune) rune {
		if !printable(string(r)) {
			return ' '
		}
		return r
	}, []byte(s)))
	for len(s) > maxText {
		s = s[:len(s)-1]
		for len(s) > 0 && !printable(s) {
			s = s[:len(s)-1]
		}
	}
	return s
}

// possible lists the protocols for a peer, or says why there are none.
func (g *Gateway) possible(p *peer) string {
	ps := g.protocols(p)
	s := protocolList(ps)
	if len(ps) == 0 {
		switch {
		case len(g.cfg.Protocols) == 0 && g.cfg.Lacks != "":
			s += "; " + g.cfg.Lacks
		case len(g.cfg.Protocols) > 0:
			s += ", because none of those possible (" + protocolList(g.cfg.Protocols) + ") is encrypted or otherwise permitted for this peer"
		}
	}
	return s
}

func protocolList(ps []Protocol) string {
	s := ""
	for i, p := range ps {
		if i > 0 {
			s += ", "
		}
		s += p.String()
	}
	if s == "" {
		return "none"
	}
	return s
}

func contains(ps []Protocol, p Protocol) bool {
	for _, x := range ps {
		if x == p {
			return true
		}
	}
	return false
}
