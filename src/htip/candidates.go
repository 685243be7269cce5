package htip

import (
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
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
	// Fresh: one of the homes has other networks than then. A network that no
	// longer collides gets its own address back (law 4) and has it proposed
	// first; one that still does keeps its substitute.
	Fresh bool
	// InUse: by which substitutes other homes know our networks, the most usual
	// first: whoever comes next shall know us by the same (law 5).
	InUse []Mapping
}

// Offers lists our networks with the candidates for their substitutes. A
// network that can't be offered anything comes with no candidates.
func (h Home) Offers(b Bounds) []Offer {
	avoid := slices.Concat(b.Avoid, b.Peer)
	mine := newSpace(avoid, h.Occupied)
	var reserved []netip.Prefix
	if b.Reserve {
		reserved = h.expect(mine, b.Peer)
	}
	taken := mine.with(reserved, h.Networks)
	out := make([]Offer, len(h.Networks))
	// What each network had, and its own address, come before anything new: a
	// new proposal for one network must not take the place of another one.
	for i, n := range h.Networks {
		o := &out[i]
		o.Network = n
		own := mine.free(n) && insideAny(n, Private) // what collides with nothing keeps its address (¶79)
		if own && b.Fresh {
			o.propose(n)
		}
		for _, m := range b.Before {
			if m.Network == n && (m.NAT() && taken.free(m.Substitute) || !m.NAT() && own) {
				o.propose(m.Substitute)
			}
		}
		if own {
			o.propose(n)
		}
		taken = taken.with(o.Candidates)
	}
	for i := range out {
		o := &out[i]
		for _, m := range b.InUse {
			if m.Network == o.Network && taken.free(m.Substitute) {
				o.propose(m.Substitute)
				taken = taken.with(o.Candidates)
			}
		}
		n := len(o.Candidates)
		if h.Order == Sequential {
			o.Candidates = h.sequential(o, taken)
		} else {
			o.Candidates = h.derived(o, taken)
		}
		for _, c := range o.Candidates[n:] {
			if c.Bits() == o.Network.Bits() {
				taken = taken.with([]netip.Prefix{c}) // first proposals of our networks must not overlap each other
			}
		}
	}
	return out
}

func (o *Offer) propose(p netip.Prefix) {
	if !slices.Contains(o.Candidates, p) {
		o.Candidates = append(o.Candidates, p)
	}
}

// expect are the substitutes that the peer's colliding networks will most
// likely be given.
func (h Home) expect(mine space, peer []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	if h.Order != Sequential {
		return nil // the peer's order can't be guessed, and ours rarely meets it
	}
	for _, p := range peer {
		if !overlapsAny(p, h.Networks) {
			continue
		}
		s := mine.with(h.Networks, out)
		for _, r := range h.Pool {
			if q, ok := s.lowest(r, p.Bits()); ok {
				out = append(out, q)
				break
			}
		}
	}
	return out
}

func (h Home) sequential(o *Offer, taken space) []netip.Prefix {
	out := o.Candidates
	for _, r := range h.Pool {
		for len(out) < explicit {
			p, ok := taken.with(out).lowest(r, o.Network.Bits())
			if !ok {
				break
			}
			out = append(out, p)
		}
	}
	return out
}

// derived proposes places in the pool that follow from our key and the network
// alone, and behind them ranges. The same first place is therefore offered to
// every peer (design law 5).
func (h Home) derived(o *Offer, taken space) []netip.Prefix {
	bits := o.Network.Bits()
	out := o.Candidates
	var slots uint64
	for _, r := range h.Pool {
		if r.Bits() <= bits {
			slots += size(r.Bits()) / size(bits)
		}
	}
	want := len(out) + explicit
	for i := uint32(0); i < tries && slots > 0 && len(out) < want; i++ {
		p := h.slot(hash(h.Seed, o.Network, i)%slots, bits)
		if taken.free(p) && !overlapsAny(p, out) {
			out = append(out, p)
		}
	}
	// The largest first: they are the likeliest to have room at the other end.
	var gaps []netip.Prefix
	for _, r := range h.Pool {
		gaps = taken.largest(gaps, ranges, r, bits)
	}
	return append(out, gaps...)
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
