package htip

import (
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
// ours and theirs, of every other tunnel. The substitutes of homes that are not
// connected now are kept for them: otherwise a peer could take an absent home's
// place, and its addresses in everybody's bookmarks.
func (g *Gateway) taken(p *peer) []netip.Prefix {
	out := slices.Concat(g.home.Networks, g.home.Occupied)
	for _, n := range g.order {
		q := g.peers[n]
		switch {
		case q == p:
		case len(q.entry.Theirs) > 0:
			for _, m := range q.entry.Own {
				out = append(out, m.Substitute)
			}
			for _, m := range q.entry.Theirs {
				out = append(out, m.Substitute)
			}
		default:
			for _, m := range q.before.Theirs {
				out = append(out, m.Substitute)
			}
		}
	}
	return out
}

// foreign are the substitutes of all other homes: ours must keep clear of them,
// while our own may be the same for everybody.
func (g *Gateway) foreign(p *peer) []netip.Prefix {
	var out []netip.Prefix
	for _, n := range g.order {
		if q := g.peers[n]; q != p {
			ms := q.entry.Theirs
			if len(ms) == 0 {
				ms = q.before.Theirs
			}
			for _, m := range ms {
				out = append(out, m.Substitute)
			}
		}
	}
	return out
}

// choose picks the substitutes of p's networks.
func (g *Gateway) choose(p *peer, offers []Offer, own []netip.Prefix) ([]Mapping, error) {
	var before []Mapping
	var nets []netip.Prefix
	for _, o := range offers {
		nets = append(nets, o.Network)
	}
	if p.before.valid(g.home.Networks, nets) {
		before = p.before.Theirs
	}
	return Choose(offers, append(g.taken(p), own...), before)
}

// substitutesFree and ownFree check an agreement against what stands now. What
// is only kept for absent homes ends no agreement.
func (g *Gateway) substitutesFree(p *peer, theirs []Mapping) bool {
	for _, m := range theirs {
		s := m.Substitute
		if overlapsAny(s, g.home.Networks) || overlapsAny(s, g.home.Occupied) {
			return false
		}
		for _, q := range g.peers {
			if q != p && (meets(s, q.entry.Own) || meets(s, q.entry.Theirs)) {
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
			if q != p && meets(s, q.entry.Theirs) {
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
	before := p.before.Own
	if len(nets) > 0 && !p.before.valid(g.home.Networks, nets) {
		before = nil // one of the homes was renumbered: begin afresh
	}
	p.offers = g.home.Offers(Bounds{
		Avoid:   slices.Concat(g.foreign(p), p.avoid, more),
		Peer:    nets,
		Reserve: p.role == Initiator,
		Before:  before,
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
	used := map[uint16]bool{}
	for _, p := range g.peers {
		used[p.entry.LocalPort] = true
	}
	for i := range g.cfg.Ports {
		if n := g.cfg.PortBase + i; !used[n] {
			return n
		}
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
