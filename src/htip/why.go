package htip

import (
	"slices"
	"strings"
)

// ranking is how good protocols are by themselves, the best one first. What a
// user prefers may differ.
var ranking = [...]Protocol{WireGuard, L2TPESP, L2TP, PPTP}

// SetProtocols replaces Protocols and Impossible of the Config. It counts for
// talks from now on.
func (g *Gateway) SetProtocols(possible []Protocol, impossible map[Protocol]string) {
	g.cfg.Protocols, g.cfg.Impossible = possible, impossible
}

// notPossible is in the middle of a clause on what a gateway lacks. Such clauses
// go to the other gateway, which picks those that people there need.
const notPossible, between = " is not possible: ", "; "

// lacking tells why we can't have protocols that may be used with a peer, best
// first. Of what has no room in a message whole clauses are left out.
func (g *Gateway) lacking(p *peer) string {
	s := ""
	for _, x := range ranking {
		why := g.cfg.Impossible[x]
		if why == "" || !contains(p.Protocols, x) {
			continue
		}
		c := x.String() + notPossible + strings.ReplaceAll(why, between, ", ")
		if s != "" {
			c = between + c
		}
		if s == "" || len(s)+len(c) <= maxText {
			s += c
		}
	}
	return clip(s)
}

// clause is what a peer's text says about why it can't have a protocol.
func clause(text string, x Protocol) string {
	for _, c := range strings.Split(text, between) {
		if why, ok := strings.CutPrefix(c, x.String()+notPossible); ok {
			return " (" + why + ")"
		}
	}
	return ""
}

// why says, for people here, how the talk with a peer came to a protocol: what
// is in the way of each better one. Proposed is the initiator's list, said what
// the peer told of itself.
func (g *Gateway) why(p *peer, chosen Protocol, proposed []Protocol, said string) string {
	var parts []string
	if !chosen.Encrypted() {
		parts = append(parts, "not encrypted, which option encryption 'off' allows")
	}
	for _, x := range ranking {
		if x == chosen {
			break
		}
		at := slices.Index(proposed, x)
		late := at > slices.Index(proposed, chosen)
		s := x.String()
		switch {
		case !contains(p.Protocols, x):
			s += " is not allowed here"
		case !contains(g.cfg.Protocols, x):
			s += " is not possible here"
			if lack := g.cfg.Impossible[x]; lack != "" {
				s += " (" + lack + ")"
			}
		case late && p.role == Initiator:
			s = chosen.String() + " comes before " + s + " in the list here"
		case late:
			s = p.Name + " prefers " + chosen.String() + " to " + s
		case clause(said, x) != "":
			s = p.Name + " can't use " + s + clause(said, x)
		case at < 0:
			s = p.Name + " does not offer " + s
		default: // proposed, allowed at both, and passed over
			s = p.Name + " does not take " + s
			if p.role == Responder {
				s = x.String() + " is not possible between the two homes"
			}
		}
		parts = append(parts, s)
	}
	if len(parts) == 0 {
		return "the best that there is, and both homes allow it"
	}
	return strings.Join(parts, between)
}
