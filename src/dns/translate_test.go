package dns

import (
	"net/netip"
	"testing"

	"pgregory.net/rapid"
)

func mapping(s, t string) Mapping {
	return Mapping{netip.MustParsePrefix(s), netip.MustParsePrefix(t)}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func TestMappingValidate(t *testing.T) {
	for _, bad := range []Mapping{
		{},
		{Network: netip.MustParsePrefix("10.0.0.0/24")},
		mapping("10.0.0.0/24", "10.0.2.0/23"),
		mapping("10.0.0.5/24", "10.0.2.0/24"),
		mapping("10.0.0.0/24", "10.0.2.5/24"),
		mapping("fd00::/64", "fd01::/64"),
		mapping("0.0.0.0/0", "0.0.0.0/0"),
	} {
		if bad.validate() == nil {
			t.Errorf("%s is valid", bad)
		}
	}
	if err := mapping("10.0.0.0/24", "10.0.2.0/24").validate(); err != nil {
		t.Error(err)
	}
}

// FIG. 12: host 10.0.0.5 of B is 10.0.2.5 for A.
func TestSubstituteGolden(t *testing.T) {
	own := []Mapping{mapping("10.0.0.0/24", "10.0.2.0/24"), mapping("192.168.0.0/16", "172.20.0.0/16")}
	for network, inTunnel := range map[string]string{"10.0.0.5": "10.0.2.5", "192.168.7.9": "172.20.7.9"} {
		if a, ok := substitute(own, addr(network)); !ok || a != addr(inTunnel) {
			t.Errorf("substitute(%s) = %s, %v", network, a, ok)
		}
		if a, ok := original(own, addr(inTunnel)); !ok || a != addr(network) {
			t.Errorf("original(%s) = %s, %v", inTunnel, a, ok)
		}
	}
	for _, other := range []string{"10.0.1.5", "10.0.2.5", "8.8.8.8", "::ffff:10.0.0.5", "fe80::1"} {
		if a, ok := substitute(own, addr(other)); ok {
			t.Errorf("substitute(%s) = %s", other, a)
		}
	}
}

func TestSubstituteLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		bits := rapid.IntRange(1, 32).Draw(t, "bits")
		m := Mapping{netip.PrefixFrom(anyAddr(t), bits).Masked(), netip.PrefixFrom(anyAddr(t), bits).Masked()}
		own := []Mapping{m}
		a := anyAddr(t)
		if rapid.Bool().Draw(t, "host of the network") {
			all := netip.PrefixFrom(a, bits).Masked()
			a = move(a, all, m.Network)
		}
		s, ok := substitute(own, a)
		if ok != m.Network.Contains(a) {
			t.Fatalf("%s: substitute(%s) = %s, %v", m, a, s, ok)
		}
		if !ok {
			return
		}
		if !m.Substitute.Contains(s) {
			t.Fatalf("%s: %s became %s", m, a, s)
		}
		if back, ok := original(own, s); !ok || back != a {
			t.Fatalf("%s: %s became %s became %s", m, a, s, back)
		}
		x, y := a.As4(), s.As4()
		for bit := bits; bit < 32; bit++ {
			mask := byte(0x80 >> (bit % 8))
			if x[bit/8]&mask != y[bit/8]&mask {
				t.Fatalf("%s: %s became %s: host part changed", m, a, s)
			}
		}
	})
}
