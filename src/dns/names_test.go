package dns

import (
	"net/netip"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func TestHostname(t *testing.T) {
	for _, bad := range []string{
		"", ".", "a.", ".a", "a..b", "o'brien", "my pc", "küche", "a\\.b", "a\\046b", "a\x00b", "a\nserver=/#/1.2.3.4",
		"a/b", "a,b", "a#b", "*", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "a",
	} {
		if hostname(bad) {
			t.Errorf("hostname(%q)", bad)
		}
	}
	for _, good := range []string{"a", "nas", "NAS-1", "_http._tcp", "a.b.c", "9", strings.Repeat("a", 63), strings.Repeat("a.", 125) + "a"} {
		if !hostname(good) {
			t.Errorf("!hostname(%q)", good)
		}
	}
}

func TestBelow(t *testing.T) {
	for _, c := range []struct {
		name, zone, host string
		ok               bool
	}{
		{"nas.lan.", "internal.", "", false},
		{"xinternal.", "internal.", "", false},
		{".internal.", "internal.", "", false},
		{"", "internal.", "", false},
		{"internal.", "bob.internal.", "", false},
		{"internal.", "internal.", "", true},
		{"nas.internal.", "internal.", "nas", true},
		{"a.b.internal.", "internal.", "a.b", true},
		{"a.b.", ".", "a.b", true},
	} {
		if host, ok := below(c.name, c.zone); host != c.host && ok || ok != c.ok {
			t.Errorf("below(%q, %q) = %q, %v", c.name, c.zone, host, ok)
		}
	}
}

func TestReverseAddr(t *testing.T) {
	for _, bad := range []string{
		"nas.lan.", "x.in-addr.arpa.", "256.0.0.10.in-addr.arpa.", "05.0.0.10.in-addr.arpa.", "+5.0.0.10.in-addr.arpa.",
		"1.5.0.0.10.in-addr.arpa.", "0/25.5.0.0.10.in-addr.arpa.", "..in-addr.arpa.", "5.0.0.10.ip6.arpa.",
	} {
		if a, n, ok := reverseAddr(bad); ok {
			t.Errorf("reverseAddr(%q) = %s, %d", bad, a, n)
		}
	}
	for name, octets := range map[string]int{"in-addr.arpa.": 0, "10.in-addr.arpa.": 1, "0.0.10.in-addr.arpa.": 3} {
		if a, n, ok := reverseAddr(name); !ok || n != octets || a.IsValid() {
			t.Errorf("reverseAddr(%q) = %s, %d, %v", name, a, n, ok)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		a := anyAddr(t)
		if b, n, ok := reverseAddr(reverseName(a)); !ok || n != 4 || a != b {
			t.Fatalf("%s: %s gives %s", a, reverseName(a), b)
		}
	})
}

func anyAddr(t *rapid.T) netip.Addr {
	var b [4]byte
	copy(b[:], rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "octets"))
	return netip.AddrFrom4(b)
}
