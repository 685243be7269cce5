package sim

import (
	"net/netip"
	"slices"

	"htip/src/htip"
)

// style is how the homes of a world number their networks.
type style struct {
	kind   int
	tight  bool // the pool may be too small for all
	around bool // WAN networks, guests and static routes are about
}

const (
	same      = iota // all use 192.168.1.0/24
	usual            // what routers come with
	nested           // all lengths, one inside the other
	several          // several networks a home
	sequence         // as in the figures of the application
	styleKind        // number of kinds
)

func pickStyle(r *Rand) style {
	s := style{around: r.Chance(0.5)}
	switch n := r.Intn(100); {
	case n < 45:
		s.kind = same
	case n < 70:
		s.kind = usual
	case n < 80:
		s.kind = nested
	case n < 93:
		s.kind = several
	default:
		s.kind = sequence
	}
	s.tight = r.Chance(0.05)
	return s
}

func px(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func pxs(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, px(s))
	}
	return out
}

var (
	lans   = pxs("192.168.1.0/24", "192.168.0.0/24", "192.168.178.0/24", "10.0.0.0/24", "192.168.2.0/24", "172.16.0.0/24", "10.0.0.0/16", "192.168.100.0/24")
	odd    = pxs("10.0.0.0/8", "10.0.0.0/16", "10.0.0.0/24", "10.0.0.128/25", "10.0.1.0/24", "172.16.0.0/12", "172.16.4.0/30", "192.168.0.0/16", "192.168.1.0/24", "10.128.0.0/9")
	rooms  = pxs("192.168.1.0/24", "192.168.2.0/24", "192.168.3.0/24", "10.0.0.0/24", "10.0.1.0/24", "10.1.0.0/16", "172.16.0.0/20", "172.20.1.0/28", "192.168.9.0/30")
	beside = pxs("192.168.0.0/24", "192.168.1.0/24", "192.168.9.0/24", "10.64.0.0/10", "10.8.0.0/24", "172.17.0.0/16", "100.64.3.0/24", "203.0.113.0/24")
)

// networks are those of a home in this style; they never overlap each other.
func (s style) networks(r *Rand) []netip.Prefix {
	switch s.kind {
	case usual:
		return []netip.Prefix{pick(r, lans)}
	case nested:
		return []netip.Prefix{pick(r, odd)}
	case several:
		var out []netip.Prefix
		for range 1 + r.Intn(6) {
			if n := pick(r, rooms); !overlapsAny(n, out) {
				out = append(out, n)
			}
		}
		return out
	case sequence:
		return []netip.Prefix{pick(r, pxs("10.0.0.0/24", "10.0.0.0/16", "10.0.1.0/24"))}
	}
	return pxs("192.168.1.0/24")
}

// home makes a home's addresses.
func (s style) home(r *Rand, key []byte) htip.Home {
	h := htip.Home{Networks: s.networks(r), Pool: htip.Private, Seed: key}
	if s.kind == sequence {
		h.Order, h.Pool = htip.Sequential, pxs("10.0.0.0/8")
	}
	if s.tight {
		h.Pool = pxs("10.9.0.0/21")
	}
	h.Gateway = gatewayOf(h.Networks)
	if s.around && r.Chance(0.5) {
		for range 1 + r.Intn(3) {
			h.Occupied = occupy(h, pick(r, beside))
		}
	}
	return h
}

func gatewayOf(nets []netip.Prefix) netip.Addr { return nets[0].Addr().Next() }

// occupy adds a prefix to what is connected or routed besides the networks: not
// what lies within them.
func occupy(h htip.Home, p netip.Prefix) []netip.Prefix {
	out := slices.Clone(h.Occupied)
	if !slices.Contains(out, p) {
		out = append(out, p)
	}
	return slices.DeleteFunc(out, func(o netip.Prefix) bool {
		return slices.ContainsFunc(h.Networks, func(n netip.Prefix) bool { return n.Bits() <= o.Bits() && n.Contains(o.Addr()) })
	})
}

func overlapsAny(p netip.Prefix, others []netip.Prefix) bool {
	for _, o := range others {
		if p.Overlaps(o) {
			return true
		}
	}
	return false
}

// roomy tells whether there is room for any substitute of this home at any
// other, so that a tunnel that does not come up has no excuse.
func roomy(h *htip.Home) bool {
	for _, n := range slices.Concat(h.Networks, h.Occupied) {
		if n.Bits() < 10 {
			return false
		}
	}
	for _, n := range h.Networks {
		if n.Bits() < 16 || n.Bits() > htip.MaxBits {
			return false
		}
	}
	return len(h.Pool) > 0 && h.Pool[0].Bits() <= 8
}
