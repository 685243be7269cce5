package htip

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"sort"
)

// Order is how a home orders the substitutes it proposes.
type Order uint8

const (
	// Derived spreads homes over the pool by a hash of their public key, so
	// that strangers rarely meet, and ends with ranges to choose within.
	Derived Order = iota
	// Sequential walks the pool from its start, as the seed's figures do
	// (¶121), and proposes no ranges.
	Sequential
)

const (
	explicit = 4  // candidates named one by one
	ranges   = 12 // ranges named behind them
	tries    = 64 // hashes looked at before Derived leaves it to the ranges
)

// Bounds are what limits our proposals beyond our own addresses.
type Bounds struct {
	// Avoid: substitutes of other homes, prefixes that a NAK named, what the
	// peer was given in this talk.
	Avoid []netip.Prefix
	// Peer: the peer's networks, when known.
	Peer []netip.Prefix
	// Reserve: the peer's networks have no substitutes yet. Those that collide
	// with ours will need some; the places the peer will most likely ask for
	// are left to it (FIG. 13: 10.1.0.0/16 is left to B, A goes to 10.2.0.0/24).
	Reserve bool
	// Before: our mappings in the last tunnel with this peer, proposed first.
	Before []Mapping
}

// Offers lists our networks with the candidates for their substitutes. A
// network that can't be offered anything comes with no candidates.
func (h Home) Offers(b Bounds) []Offer {
	avoid := slices.Concat(b.Avoid, b.Peer)
	var reserved []netip.Prefix
	if b.Reserve {
		reserved = h.expect(avoid, b.Peer)
	}
	out := make([]Offer, 0, len(h.Networks))
	var heads []netip.Prefix // the first proposals of our networks must not overlap each other
	for _, n := range h.Networks {
		o := Offer{Network: n}
		// Its own address first: what collides with nothing keeps it (¶79).
		// It may overlap neither avoid nor what other networks were given.
		mine := newSpace(avoid, h.Occupied, heads)
		others := newSpace(avoid, reserved, h.Networks, h.Occupied, heads)
		for _, m := range b.Before {
			if m.Network == n && (m.NAT() && others.free(m.Substitute) || !m.NAT() && mine.free(n)) {
				o.Candidates = append(o.Candidates, m.Substitute)
			}
		}
		if mine.free(n) && insideAny(n, Private) && !slices.Contains(o.Candidates, n) {
			o.Candidates = append(o.Candidates, n)
		}
		switch h.Order {
		case Sequential:
			o.Candidates = h.sequential(o, others)
		default:
			o.Candidates = h.derived(o, others)
		}
		for _, c := range o.Candidates[:min(len(o.Candidates), 1+explicit)] {
			if c.Bits() == n.Bits() && c != n {
				heads = append(heads, c)
			}
		}
		out = append(out, o)
	}
	return out
}

// expect are the substitutes that the peer's colliding networks will most
// likely be given.
func (h Home) expect(avoid, peer []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	if h.Order != Sequential {
		return nil // the peer's order can't be guessed, and ours rarely meets it
	}
	for _, p := range peer {
		if !overlapsAny(p, h.Networks) {
			continue
		}
		s := newSpace(avoid, h.Networks, h.Occupied, out)
		for _, r := range h.Pool {
			if q, ok := s.lowest(r, p.Bits()); ok {
				out = append(out, q)
				break
			}
		}
	}
	return out
}

func (h Home) sequential(o Offer, taken space) []netip.Prefix {
	bits := o.Network.Bits()
	for _, r := range h.Pool {
		for len(o.Candidates) < explicit {
			p, ok := merge(slices.Concat(taken, newSpace(o.Candidates))).lowest(r, bits)
			if !ok {
				break
			}
			o.Candidates = append(o.Candidates, p)
		}
	}
	return o.Candidates
}

// derived proposes places in the pool that follow from our key and the network
// alone, and behind them ranges. The same first place is therefore offered to
// every peer (design law 5).
func (h Home) derived(o Offer, taken space) []netip.Prefix {
	bits := o.Network.Bits()
	var slots uint64
	for _, r := range h.Pool {
		if r.Bits() <= bits {
			slots += size(r.Bits()) / size(bits)
		}
	}
	want := len(o.Candidates) + explicit
	for i := uint32(0); i < tries && slots > 0 && len(o.Candidates) < want; i++ {
		p := h.slot(hash(h.Seed, o.Network, i)%slots, bits)
		if taken.free(p) && !overlapsAny(p, o.Candidates) {
			o.Candidates = append(o.Candidates, p)
		}
	}
	var gaps []netip.Prefix
	for _, r := range h.Pool {
		gaps = append(gaps, taken.gaps(r, bits)...)
	}
	// The largest first: they are the likeliest to have room at the other end.
	sort.SliceStable(gaps, func(i, j int) bool { return gaps[i].Bits() < gaps[j].Bits() })
	return append(o.Candidates, gaps[:min(len(gaps), ranges)]...)
}

// slot is the n-th prefix of the given length in the pool.
func (h Home) slot(n uint64, bits int) netip.Prefix {
	for _, r := range h.Pool {
		if r.Bits() > bits {
			continue
		}
		k := size(r.Bits()) / size(bits)
		if n < k {
			return netip.PrefixFrom(fromUint(uint32(first(r)+n*size(bits))), bits)
		}
		n -= k
	}
	return netip.Prefix{}
}

func hash(seed []byte, n netip.Prefix, i uint32) uint64 {
	h := sha256.New()
	h.Write([]byte("htip substitute\x00"))
	h.Write(seed)
	a := n.Addr().As4()
	h.Write(a[:])
	h.Write(binary.BigEndian.AppendUint32([]byte{byte(n.Bits())}, i))
	return binary.BigEndian.Uint64(h.Sum(nil))
}
