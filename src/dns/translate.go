package dns

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// Mapping says under which prefix a network is known inside a tunnel. Both are
// IPv4, masked and of the same length, so the host part is kept (seed ¶34, 117:
// network A and substitute A').
type Mapping struct {
	Network    netip.Prefix
	Substitute netip.Prefix
}

// String is "network=substitute".
func (m Mapping) String() string { return m.Network.String() + "=" + m.Substitute.String() }

func (m Mapping) validate() error {
	for _, p := range []netip.Prefix{m.Network, m.Substitute} {
		if err := validPrefix(p); err != nil {
			return err
		}
	}
	if m.Network.Bits() != m.Substitute.Bits() {
		return fmt.Errorf("mapping %s: the lengths differ", m)
	}
	return nil
}

func validPrefix(p netip.Prefix) error {
	if !p.IsValid() || !p.Addr().Is4() || p != p.Masked() || p.Bits() == 0 {
		return fmt.Errorf("prefix %q: not an IPv4 network", p)
	}
	return nil
}

// move puts the host part of a, which lies in from, into to.
func move(a netip.Addr, from, to netip.Prefix) netip.Addr {
	x, f, t := a.As4(), from.Addr().As4(), to.Addr().As4()
	n := binary.BigEndian.Uint32(x[:]) - binary.BigEndian.Uint32(f[:]) + binary.BigEndian.Uint32(t[:])
	binary.BigEndian.PutUint32(x[:], n)
	return netip.AddrFrom4(x)
}

// substitute is the address by which the peer knows our host a; ok is false
// when no mapping covers it, and then nobody must hear of it.
func substitute(own []Mapping, a netip.Addr) (netip.Addr, bool) {
	for _, m := range own {
		if m.Network.Contains(a) {
			return move(a, m.Network, m.Substitute), true
		}
	}
	return netip.Addr{}, false
}

// original is the inverse of substitute.
func original(own []Mapping, a netip.Addr) (netip.Addr, bool) {
	for _, m := range own {
		if m.Substitute.Contains(a) {
			return move(a, m.Substitute, m.Network), true
		}
	}
	return netip.Addr{}, false
}

// inside tells whether one of the prefixes holds a.
func inside(prefixes []netip.Prefix, a netip.Addr) bool {
	for _, p := range prefixes {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
