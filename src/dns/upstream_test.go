package dns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"testing"
)

func TestParseResolv(t *testing.T) {
	const s = "# Interface wan\nnameserver 198.51.100.254\n;nameserver 1.1.1.1\nnameserver\nnameserver x\nnameserver 127.0.0.1\nnameserver ::1\n" +
		"nameserver 0.0.0.0\nsearch lan\n nameserver 2001:db8::53\nnameserver fe80::1%wan # link\nnameserver ::ffff:9.9.9.9\n"
	want := []netip.Addr{addr("198.51.100.254"), addr("2001:db8::53"), addr("fe80::1%wan"), addr("9.9.9.9")}
	if got := parseResolv(s); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

func TestResolvers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf.auto")
	r := &resolvers{file: file, own: func() ([]net.Addr, error) {
		return []net.Addr{&net.IPNet{IP: net.IPv4(192, 168, 1, 1), Mask: net.CIDRMask(24, 32)}}, nil
	}}
	all := func(netip.Addr) bool { return true }
	if _, err := (&resolvers{}).servers(all); !errors.Is(err, errNoResolver) {
		t.Error(err)
	}
	if _, err := r.servers(all); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	write := func(s string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(usable func(netip.Addr) bool, want ...string) {
		t.Helper()
		got, err := r.servers(usable)
		if len(want) == 0 {
			if !errors.Is(err, errNoResolver) {
				t.Errorf("%v, %v", got, err)
			}
			return
		}
		var list []string
		for _, s := range got {
			list = append(list, s.String())
		}
		if err != nil || !reflect.DeepEqual(list, want) {
			t.Errorf("%v, %v, want %v", list, err, want)
		}
	}
	write("nameserver 192.168.1.1\nnameserver 127.0.0.1\n")
	expect(all) // the router itself: that would be dnsmasq
	write("nameserver 198.51.100.1\nnameserver 10.0.2.1\n")
	expect(all, "198.51.100.1:53", "10.0.2.1:53")
	expect(func(a netip.Addr) bool { return a != addr("10.0.2.1") }, "198.51.100.1:53")
	write("nameserver 198.51.100.2\nnameserver 198.51.100.3\nnameserver 198.51.100.4\nnameserver 198.51.100.5\nnameserver 198.51.100.6\n")
	expect(all, "198.51.100.2:53", "198.51.100.3:53", "198.51.100.4:53", "198.51.100.5:53")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	expect(all, "198.51.100.2:53", "198.51.100.3:53", "198.51.100.4:53", "198.51.100.5:53")

	r = &resolvers{fixed: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53"), netip.MustParseAddrPort("127.0.0.1:5353")}, never: []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}}
	expect(all, "127.0.0.1:5353")
}
