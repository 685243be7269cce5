package htip

import (
	"bytes"
	"net/netip"
)

// names lists prefixes for people.
func names(ps []netip.Prefix) string {
	s := ""
	for i, p := range ps {
		if i > 0 {
			s += ", "
		}
		s += p.String()
	}
	return s
}

// usedUp says that our pool has nothing for the peer, in words that are true at
// both homes.
func (g *Gateway) usedUp() string {
	if len(g.home.Networks) == 0 {
		return "there is no network to share"
	}
	return "nothing in the address pool (" + names(g.home.Pool) + ") is free at both homes to stand for " + names(g.home.Networks) + "; a larger pool or smaller networks are needed"
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

const noCipher = "the two gateways have no cipher in common for l2tp-esp (AES-GCM or ChaCha20-Poly1305)"

// obstacle says why the sender of a REQUEST and we can't have a protocol that
// both allow, in words that are true at both homes; "" if we can. ESP and GRE
// have no ports, so that they don't pass where addresses are translated, which
// shows in that the two ends of the connection see different addresses.
func (g *Gateway) obstacle(x Protocol, ends Ends, m *Message) string {
	known := m.Ends.valid() && ends.valid()
	switch {
	case x != L2TPESP && x != PPTP:
		return ""
	case x == L2TPESP && g.cfg.ESP.cipher(m.Features) == NoCipher:
		return noCipher
	case x == L2TPESP && !known:
		return "it is not known whether addresses are translated between the two homes; l2tp-esp would not work then"
	case known && (m.Ends.Own != ends.Other || m.Ends.Other != ends.Own):
		return "there is address translation (NAT) between the two homes; " + x.String() + " does not pass through it, a tunnel needs wireguard here"
	}
	return ""
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
