package htip

import (
	"encoding/binary"
	mathbits "math/bits"
	"net/netip"
	"slices"
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

// space is a set of addresses as sorted, disjoint spans: what is taken. It is
// built once for a plan; a look into it costs a binary search, so that the
// thousandth tunnel is planned about as quickly as the first.
type space []span

func newSpace(lists ...[]netip.Prefix) space { return space(nil).with(lists...) }

// with is s and more.
func (s space) with(lists ...[]netip.Prefix) space {
	n := 0
	for _, l := range lists {
		n += len(l)
	}
	if n == 0 {
		return s
	}
	more := make(space, 0, n)
	for _, l := range lists {
		for _, p := range l {
			lo := first(p)
			more = append(more, span{lo, lo + size(p.Bits()) - 1})
		}
	}
	more.sort()
	out := make(space, 0, len(s)+n)
	for len(s)+len(more) > 0 {
		from := &s
		if len(s) == 0 || len(more) > 0 && more[0].lo < s[0].lo {
			from = &more
		}
		x := (*from)[0]
		*from = (*from)[1:]
		if n := len(out); n > 0 && x.lo <= out[n-1].hi+1 {
			out[n-1].hi = max(out[n-1].hi, x.hi)
		} else {
			out = append(out, x)
		}
	}
	return out
}

// sort is Shell's: package slices would cost 10 kB of program for each type,
// package sort ten times the time.
func (s space) sort() {
	for _, gap := range [...]int{1750, 701, 301, 132, 57, 23, 10, 4, 1} {
		for i := gap; i < len(s); i++ {
			x, j := s[i], i
			for ; j >= gap && s[j-gap].lo > x.lo; j -= gap {
				s[j] = s[j-gap]
			}
			s[j] = x
		}
	}
}

// at is the index of the first span that ends at or behind lo.
func (s space) at(lo uint64) int {
	i, j := 0, len(s)
	for i < j {
		if m := (i + j) / 2; s[m].hi < lo {
			i = m + 1
		} else {
			j = m
		}
	}
	return i
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
		lo = max(lo, (s[i].hi/step+1)*step)
	}
	return netip.Prefix{}, false
}

// largest adds the free prefixes within r to a list that holds at most n,
// the largest first and those of one length in order of address; none is
// smaller than a prefix of the given length.
func (s space) largest(list []netip.Prefix, n int, r netip.Prefix, bits int) []netip.Prefix {
	lo, end := first(r), last(r)
	for i := s.at(lo); lo <= end; i++ {
		hi, next := end, end+1
		if i < len(s) && s[i].lo <= end {
			hi, next = s[i].lo-1, s[i].hi+1
			if s[i].lo <= lo {
				lo = max(lo, next)
				continue
			}
		}
		for lo <= hi { // cut into the fewest prefixes
			b := 33 - mathbits.Len64(hi-lo+1)
			if b > bits {
				break // nor is any of the rest large enough
			}
			if lo != 0 {
				b = max(b, 32-mathbits.TrailingZeros64(lo))
			}
			if b <= bits && (len(list) < n || b < list[n-1].Bits()) {
				list = insert(list, n, netip.PrefixFrom(fromUint(uint32(lo)), b))
			}
			lo += size(b)
		}
		lo = next
	}
	return list
}

// insert puts p behind all that are not smaller and keeps at most n.
func insert(list []netip.Prefix, n int, p netip.Prefix) []netip.Prefix {
	if len(list) < n {
		list = append(list, p)
	}
	i := len(list) - 1
	for ; i > 0 && list[i-1].Bits() > p.Bits(); i-- {
		list[i] = list[i-1]
	}
	list[i] = p
	return list
}
