package htip

import (
	"fmt"
	"net/netip"
	"slices"
)

// fits tells whether a peer's agreement still holds with the home as it is.
func (g *Gateway) fits(p *peer) bool {
	e := &p.entry
	return sameSet(Networks(e.Own), g.home.Networks) &&
		Inside(g.home.Gateway, e.Own) == e.OwnGateway &&
		g.substitutesFree(p, e.Theirs) && g.ownFree(p, e.Own)
}

// Known are the substitutes of every home we have had a tunnel with, up or
// down: nothing meant for them may leave through the WAN.
func (g *Gateway) Known() []netip.Prefix {
	var out []netip.Prefix
	for _, n := range g.order {
		p := g.peers[n]
		subs := Substitutes(p.before.Theirs)
		if p.state >= Connecting {
			subs = Substitutes(p.entry.Theirs)
		}
		for _, s := range subs {
			if !slices.Contains(out, s) && !overlapsAny(s, g.home.Networks) && !overlapsAny(s, g.home.Occupied) {
				out = append(out, s)
			}
		}
	}
	return out
}

// taken is all that a substitute of p's home must not overlap here (design law
// 2): our networks, everything else connected or routed, and the substitutes,
// ours and theirs, of every other tunnel. Those of homes that are not connected
// now are kept for them: otherwise a peer could take an absent home's place, and
// its addresses in everybody's bookmarks; or the place by which an absent home
// knows us.
func (g *Gateway) taken(p *peer) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(g.home.Networks)+len(g.home.Occupied)+2*len(g.order))
	out = append(append(out, g.home.Networks...), g.home.Occupied...)
	for _, n := range g.order {
		if q := g.peers[n]; q != p {
			own, theirs := q.mappings()
			out = appendSubstitutes(out, theirs)
			for _, m := range own {
				if m.NAT() && slices.Contains(g.home.Networks, m.Network) { // not of a network that we had once
					out = append(out, m.Substitute)
				}
			}
		}
	}
	return out
}

// foreign are the substitutes of all other homes: ours must keep clear of them,
// while our own may be the same for everybody.
func (g *Gateway) foreign(p *peer) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(g.order))
	for _, n := range g.order {
		if q := g.peers[n]; q != p {
			_, theirs := q.mappings()
			out = appendSubstitutes(out, theirs)
		}
	}
	return out
}

// mappings are what a peer has now, or had last time.
func (p *peer) mappings() (own, theirs []Mapping) {
	if len(p.entry.Theirs) > 0 {
		return p.entry.Own, p.entry.Theirs
	}
	return p.before.Own, p.before.Theirs
}

func appendSubstitutes(out []netip.Prefix, ms []Mapping) []netip.Prefix {
	for _, m := range ms {
		out = append(out, m.Substitute)
	}
	return out
}

// inUse are the substitutes by which other homes know our networks, for each
// network the most usual first.
func (g *Gateway) inUse(p *peer) []Mapping {
	var out []Mapping
	var count []int
	for _, n := range g.order {
		q := g.peers[n]
		if q == p {
			continue
		}
		own, _ := q.mappings()
		for _, m := range own {
			if !m.NAT() {
				continue
			}
			i := slices.Index(out, m)
			if i < 0 && len(out) < maxInUse {
				i, out, count = len(out), append(out, m), append(count, 0)
			}
			if i < 0 {
				continue
			}
			for count[i]++; i > 0 && count[i] > count[i-1]; i-- {
				out[i], out[i-1], count[i], count[i-1] = out[i-1], out[i], count[i-1], count[i]
			}
		}
	}
	return out
}

// maxInUse bounds what inUse looks at: more is of no use in an offer.
const maxInUse = 2 * MaxNetworks

// tooLarge tells whether a peer claims more of the private space than one home
// may have: it would be lost to all others.
func (g *Gateway) tooLarge(offers []Offer) bool {
	n := uint64(0)
	for _, o := range offers {
		n += size(o.Network.Bits())
	}
	return g.cfg.MaxSpace != 0 && n > g.cfg.MaxSpace
}

// claimed says so, in words that are true at both homes.
func (g *Gateway) claimed() string {
	return fmt.Sprintf("the networks of one home may have %d addresses together: share a part of them (list network)", g.cfg.MaxSpace)
}

// choose picks the substitutes of p's networks.
func (g *Gateway) choose(p *peer, offers []Offer, own []netip.Prefix) ([]Mapping, error) {
	var nets []netip.Prefix
	for _, o := range offers {
		nets = append(nets, o.Network)
	}
	return Choose(offers, append(g.taken(p), own...), p.before.Theirs, !p.before.valid(g.home.Networks, nets))
}

// substitutesFree and ownFree check an agreement against what stands now. What
// is only kept for absent homes ends no agreement, and what is still being
// agreed on is checked itself before it stands.
func (g *Gateway) substitutesFree(p *peer, theirs []Mapping) bool {
	for _, m := range theirs {
		s := m.Substitute
		if overlapsAny(s, g.home.Networks) || overlapsAny(s, g.home.Occupied) {
			return false
		}
		for _, q := range g.peers {
			if q != p && q.state >= Connecting && (meets(s, q.entry.Own) || meets(s, q.entry.Theirs)) {
				return false
			}
		}
	}
	return true
}

func (g *Gateway) ownFree(p *peer, own []Mapping) bool {
	for _, m := range own {
		s := m.Substitute
		if overlapsAny(s, g.home.Occupied) || m.NAT() && overlapsAny(s, g.home.Networks) {
			return false
		}
		for _, q := range g.peers {
			if q != p && q.state >= Connecting && meets(s, q.entry.Theirs) {
				return false
			}
		}
	}
	return true
}

// meets tells whether s overlaps a substitute.
func meets(s netip.Prefix, ms []Mapping) bool {
	return slices.ContainsFunc(ms, func(m Mapping) bool { return m.Substitute.Overlaps(s) })
}

// makeOffers are our networks with candidates; false when one can't be offered
// anything.
func (g *Gateway) makeOffers(p *peer, more []netip.Prefix) bool {
	nets := slices.Clone(p.nets)
	for _, o := range p.theirs {
		nets = append(nets, o.Network)
	}
	p.offers = g.home.Offers(Bounds{
		Avoid:   slices.Concat(g.foreign(p), p.avoid, more),
		Peer:    nets,
		Reserve: p.role == Initiator,
		Before:  p.before.Own,
		Fresh:   len(nets) > 0 && !p.before.valid(g.home.Networks, nets),
		InUse:   g.inUse(p),
	})
	for _, o := range p.offers {
		if len(o.Candidates) == 0 {
			return false
		}
	}
	return len(p.offers) > 0
}

// port is the lowest VPN port that no tunnel of ours uses; 0 when all are in
// use.
func (g *Gateway) port() uint16 {
	used := make([]bool, g.cfg.Ports)
	for _, p := range g.peers {
		if i := int(p.entry.LocalPort) - int(g.cfg.PortBase); p.entry.LocalPort != 0 && i >= 0 && i < len(used) {
			used[i] = true
		}
	}
	if i := slices.Index(used, false); i >= 0 {
		return g.cfg.PortBase + uint16(i)
	}
	return 0
}

// tunnelID is a random number that no tunnel here has and that is not 0.
func (g *Gateway) tunnelID() uint32 {
	for {
		id := uint32(g.cfg.Random())
		used := id == 0
		for _, p := range g.peers {
			used = used || p.entry.TunnelID == id
		}
		if !used {
			return id
		}
	}
}
