package htip

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sort"
)

// Private is the space in which substitutes may lie: RFC 1918. A peer that
// claims anything else (its "network" 8.8.8.0/24, say) would draw our traffic
// to a public host into the tunnel.
var Private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
}

// Limits of a network's prefix length in bits. Shorter than /8 swallows the
// whole private space, longer than /30 has no room for a host and a gateway.
const (
	MinBits = 8
	MaxBits = 30
)

func toUint(a netip.Addr) uint32 {
	b := a.As4()
	return binary.BigEndian.Uint32(b[:])
}

func fromUint(u uint32) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], u)
	return netip.AddrFrom4(b)
}

// first and last are the lowest and the highest address of p as numbers; last
// is 64 bits wide so that last+1 never wraps.
func first(p netip.Prefix) uint64 { return uint64(toUint(p.Masked().Addr())) }
func last(p netip.Prefix) uint64  { return first(p) + size(p.Bits()) - 1 }
func size(bits int) uint64        { return 1 << (32 - bits) }

// inside tells whether every address of p belongs to outer.
func inside(p, outer netip.Prefix) bool {
	return outer.Bits() <= p.Bits() && outer.Contains(p.Addr())
}

func insideAny(p netip.Prefix, outer []netip.Prefix) bool {
	return slices.ContainsFunc(outer, func(o netip.Prefix) bool { return inside(p, o) })
}

func overlapsAny(p netip.Prefix, others []netip.Prefix) bool {
	return slices.ContainsFunc(others, p.Overlaps)
}

// overlap tells whether any of a overlaps any of b.
func overlap(a, b []netip.Prefix) bool {
	return slices.ContainsFunc(a, func(p netip.Prefix) bool { return overlapsAny(p, b) })
}

// Translate moves an address from one prefix into another of the same length
// and keeps its host part (design law 3): 10.0.0.5 of 10.0.0.0/24 is 10.0.2.5
// in 10.0.2.0/24. The zero Addr means that a does not lie in from.
func Translate(a netip.Addr, from, to netip.Prefix) netip.Addr {
	if !a.Is4() || !from.Contains(a) || from.Bits() != to.Bits() {
		return netip.Addr{}
	}
	return fromUint(uint32(first(to) + uint64(toUint(a)) - first(from)))
}

// span is a run of addresses, both ends included.
type span struct{ lo, hi uint64 }

// space is a set of addresses as sorted, disjoint spans: what is taken. A look
// into it costs a binary search, so that the thousandth tunnel is planned as
// quickly as the first.
type space []span

func newSpace(lists ...[]netip.Prefix) space {
	var s space
	for _, l := range lists {
		for _, p := range l {
			s = append(s, span{first(p), last(p)})
		}
	}
	return merge(s)
}

// merge sorts spans and joins those that touch.
func merge(s space) space {
	sort.Slice(s, func(i, j int) bool { return s[i].lo < s[j].lo }) // not slices.SortFunc: each instance of it costs 10 kB of program
	out := s[:0]
	for _, x := range s {
		if n := len(out); n > 0 && x.lo <= out[n-1].hi+1 {
			out[n-1].hi = max(out[n-1].hi, x.hi)
			continue
		}
		out = append(out, x)
	}
	return out
}

// at is the index of the first span that ends at or behind lo.
func (s space) at(lo uint64) int {
	return sort.Search(len(s), func(i int) bool { return s[i].hi >= lo })
}

// free tells whether nothing of p is in s.
func (s space) free(p netip.Prefix) bool {
	i := s.at(first(p))
	return i == len(s) || s[i].lo > last(p)
}

// lowest is the lowest free prefix of the given length within r.
func (s space) lowest(r netip.Prefix, bits int) (netip.Prefix, bool) {
	if bits < r.Bits() {
		return netip.Prefix{}, false
	}
	step := size(bits)
	lo, end := first(r), last(r)
	for i := s.at(lo); lo+step-1 <= end; i++ {
		if i == len(s) || s[i].lo > lo+step-1 {
			return netip.PrefixFrom(fromUint(uint32(lo)), bits), true
		}
		lo = (s[i].hi/step + 1) * step
	}
	return netip.Prefix{}, false
}

// gaps are the free prefixes within r, in order of address, that have room for
// a prefix of the given length.
func (s space) gaps(r netip.Prefix, bits int) []netip.Prefix {
	var out []netip.Prefix
	lo, end := first(r), last(r)
	for i := s.at(lo); lo <= end; i++ {
		hi, next := end, end+1
		if i < len(s) && s[i].lo <= end {
			next = s[i].hi + 1
			if s[i].lo <= lo {
				lo = max(lo, next)
				continue
			}
			hi = s[i].lo - 1
		}
		out = appendCIDR(out, lo, hi, bits)
		lo = next
	}
	return out
}

// appendCIDR cuts lo..hi into the fewest prefixes and keeps those that are no
// longer than bits.
func appendCIDR(out []netip.Prefix, lo, hi uint64, bits int) []netip.Prefix {
	for lo <= hi {
		b := 32
		for b > 0 && lo%size(b-1) == 0 && lo+size(b-1)-1 <= hi {
			b--
		}
		if b <= bits {
			out = append(out, netip.PrefixFrom(fromUint(uint32(lo)), b))
		}
		lo += size(b)
	}
	return out
}
