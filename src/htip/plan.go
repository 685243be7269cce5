package htip

import (
	"fmt"
	"net/netip"
	"slices"
)

// Mapping says by which substitute a network is known inside a tunnel. Equal
// prefixes mean that nothing is translated (¶79).
type Mapping struct {
	Network    netip.Prefix // as the home itself uses it
	Substitute netip.Prefix // of the same length, as the other home sees it
}

// NAT tells whether addresses are translated.
func (m Mapping) NAT() bool { return m.Network != m.Substitute }

// Substitutes lists the second halves of mappings.
func Substitutes(ms []Mapping) []netip.Prefix {
	out := make([]netip.Prefix, len(ms))
	for i, m := range ms {
		out[i] = m.Substitute
	}
	return out
}

// Networks lists the first halves of mappings.
func Networks(ms []Mapping) []netip.Prefix {
	out := make([]netip.Prefix, len(ms))
	for i, m := range ms {
		out[i] = m.Network
	}
	return out
}

// Inside is the address by which a host of the mapped networks is known inside
// the tunnel; the zero Addr when no mapping holds it.
func Inside(a netip.Addr, ms []Mapping) netip.Addr {
	for _, m := range ms {
		if t := Translate(a, m.Network, m.Substitute); t.IsValid() {
			return t
		}
	}
	return netip.Addr{}
}

// Offer is a network with the substitutes its home proposes, best first
// ("network addresses to be used instead of", ¶121). A candidate of the
// network's own length is meant as it is; a shorter one is a range from which
// the other side may take any prefix of that length.
type Offer struct {
	Network    netip.Prefix
	Candidates []netip.Prefix
}

// covers tells whether p is one of the offered candidates or lies in an offered
// range, and has the network's length.
func (o Offer) covers(p netip.Prefix) bool {
	return p.Bits() == o.Network.Bits() && p == p.Masked() && insideAny(p, o.Candidates)
}

// Home is what a gateway knows of its own addresses.
type Home struct {
	Networks []netip.Prefix // shared with peers
	Gateway  netip.Addr     // our own address in one of them
	Occupied []netip.Prefix // anything else connected or routed here: WAN on-link, guests, static routes
	Pool     []netip.Prefix // where our substitutes are taken from
	Order    Order          // in which order
	Seed     []byte         // our public key: makes Derived differ from home to home
}

// ClashError says that none of the offered candidates of a network is free
// here, and what stood in the way.
type ClashError struct {
	Network netip.Prefix
	With    []netip.Prefix // at most maxAvoid; only what a candidate ran into
}

func (e *ClashError) Error() string {
	return fmt.Sprintf("no substitute offered for %v is free here", e.Network)
}

// Choose picks for every offer the substitute by which that network will be
// known here: one that is covered by the candidates, overlaps nothing in taken
// and nothing picked for another offer, and lies in the private space.
//
// Who had a substitute last time (before, may be nil) gets it again because
// people have got used to it (design law 5); then whose own address is free
// keeps it because it needs no translation (law 4). When one of the homes has
// other networks than last time (fresh), own addresses go first. The rest takes
// the first candidate that is free: larger networks first, so that small ones
// don't break up the space they need.
//
// The mappings are in the order of the offers. The error is a *ClashError.
func Choose(offers []Offer, taken []netip.Prefix, before []Mapping, fresh bool) ([]Mapping, error) {
	s := newSpace(taken)
	out := make([]Mapping, len(offers))
	var picked []netip.Prefix
	pick := func(i int, p netip.Prefix) {
		if o := &offers[i]; !out[i].Network.IsValid() && o.covers(p) && s.free(p) && insideAny(p, Private) && !overlapsAny(p, picked) {
			out[i], picked = Mapping{o.Network, p}, append(picked, p)
		}
	}
	own := func() {
		for i := range offers {
			pick(i, offers[i].Network)
		}
	}
	if fresh {
		own()
	}
	for i := range offers {
		for _, m := range before {
			if m.Network == offers[i].Network {
				pick(i, m.Substitute)
			}
		}
	}
	own()
	for bits := MinBits; bits <= MaxBits; bits++ {
		for i := range offers {
			o := &offers[i]
			if o.Network.Bits() != bits || out[i].Network.IsValid() {
				continue
			}
			p, ok := chooseOne(o, s.with(picked))
			if !ok {
				return nil, &ClashError{Network: o.Network, With: blockers(o, taken, picked)}
			}
			pick(i, p)
		}
	}
	return out, nil
}

// chooseOne is the first free candidate.
func chooseOne(o *Offer, taken space) (netip.Prefix, bool) {
	for _, c := range o.Candidates {
		for _, r := range Private {
			switch {
			case inside(c, r):
				r = c
			case !inside(r, c):
				continue
			}
			if p, found := taken.lowest(r, o.Network.Bits()); found {
				return p, true
			}
		}
	}
	return netip.Prefix{}, false
}

// blockers lists what the candidates ran into, without repetition.
func blockers(o *Offer, lists ...[]netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, l := range lists {
		for _, p := range l {
			if len(out) < maxAvoid && overlapsAny(p, o.Candidates) && !slices.Contains(out, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// checkMappings says whether what the other side chose out of our offers is
// what we offered: each network once, one of its candidates, nothing
// overlapping.
func checkMappings(offers []Offer, chosen []Mapping) error {
	if len(chosen) != len(offers) {
		return fmt.Errorf("%d substitutes chosen for %d networks", len(chosen), len(offers))
	}
	for i, m := range chosen {
		j := slices.IndexFunc(offers, func(o Offer) bool { return o.Network == m.Network })
		if j < 0 {
			return fmt.Errorf("substitute chosen for %v, which was not offered", m.Network)
		}
		if !offers[j].covers(m.Substitute) {
			return fmt.Errorf("substitute %v of %v was not among the candidates", m.Substitute, m.Network)
		}
		for _, n := range chosen[:i] {
			if n.Network == m.Network || n.Substitute.Overlaps(m.Substitute) {
				return fmt.Errorf("substitutes %v and %v overlap", n.Substitute, m.Substitute)
			}
		}
	}
	return nil
}

// checkNetworks says whether the networks a peer names can be true of a home.
func checkNetworks(offers []Offer, gateway netip.Addr) error {
	within := false
	for i, o := range offers {
		if b := o.Network.Bits(); b < MinBits || b > MaxBits {
			return fmt.Errorf("network %v: prefix length not in %d..%d", o.Network, MinBits, MaxBits)
		}
		for _, n := range offers[:i] {
			if n.Network.Overlaps(o.Network) {
				return fmt.Errorf("networks %v and %v overlap", n.Network, o.Network)
			}
		}
		if o.Network.Contains(gateway) && uint64(toUint(gateway)) != first(o.Network) && uint64(toUint(gateway)) != last(o.Network) {
			within = true
		}
	}
	if !within {
		return fmt.Errorf("gateway address %v is no host address of its networks", gateway)
	}
	return nil
}
