package htip

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
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
// known here: the first candidate that overlaps nothing in taken, no substitute
// picked for another offer, and lies in the private space. Larger networks
// choose first, so that small ones don't break up the space they need.
//
// Two candidates go before the first: the one of last time (before, may be nil)
// because people have got used to it (design law 5), and the network's own
// address because it needs no translation (law 4).
//
// The mappings are in the order of the offers. The error is a *ClashError.
func Choose(offers []Offer, taken []netip.Prefix, before []Mapping) ([]Mapping, error) {
	order := make([]int, len(offers))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool {
		return offers[order[i]].Network.Bits() < offers[order[j]].Network.Bits()
	})
	out := make([]Mapping, len(offers))
	var picked []netip.Prefix
	for _, i := range order {
		o := offers[i]
		s := newSpace(taken, picked)
		p, ok := chooseOne(o, s, before)
		if !ok {
			return nil, &ClashError{Network: o.Network, With: blockers(o, taken, picked)}
		}
		picked = append(picked, p)
		out[i] = Mapping{o.Network, p}
	}
	return out, nil
}

func chooseOne(o Offer, taken space, before []Mapping) (netip.Prefix, bool) {
	ok := func(p netip.Prefix) bool {
		return o.covers(p) && taken.free(p) && insideAny(p, Private)
	}
	for _, m := range before {
		if m.Network == o.Network && ok(m.Substitute) {
			return m.Substitute, true
		}
	}
	if ok(o.Network) {
		return o.Network, true
	}
	for _, c := range o.Candidates {
		if c.Bits() == o.Network.Bits() {
			if ok(c) {
				return c, true
			}
			continue
		}
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
func blockers(o Offer, lists ...[]netip.Prefix) []netip.Prefix {
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
