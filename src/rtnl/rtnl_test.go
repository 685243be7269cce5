package rtnl

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// interfaces is what the standard library reads. QEMU's user mode does not turn
// every number of the kernel's answer to the order of big-endian, and the
// library then refuses the whole.
func interfaces(t *testing.T) []net.Interface {
	t.Helper()
	all, err := net.Interfaces()
	if err != nil && binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		t.Skip("no real big-endian kernel, the library can't read its links: ", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// What this machine has is what the standard library and ip say. Package
// datapath tests changes, in a namespace of its own.
func TestAgainstOthers(t *testing.T) {
	links, err := Links()
	if err != nil {
		t.Fatal(err)
	}
	addrs, err := Addrs()
	if err != nil {
		t.Fatal(err)
	}
	want := interfaces(t)
	if len(links) != len(want) {
		t.Fatalf("%d links, %d wanted", len(links), len(want))
	}
	for i, w := range want {
		l := links[i]
		if l.Name != w.Name || l.Index != w.Index || l.MTU != w.MTU || l.Flags&unix.IFF_UP != 0 != (w.Flags&net.FlagUp != 0) {
			t.Errorf("%+v, want %+v", l, w)
		}
		if n, err := Index(w.Name); err != nil || n != w.Index {
			t.Errorf("%s: %d, %v", w.Name, n, err)
		}
		all, err := w.Addrs()
		if err != nil {
			t.Fatal(err)
		}
		for _, a := range all {
			p, err := netip.ParsePrefix(a.String())
			if err != nil || !p.Addr().Is4() {
				continue
			}
			found := false
			for _, x := range addrs {
				found = found || x.Link == l.Index && (x.Local == p || x.Peer.IsValid() && x.Local.Addr() == p.Addr())
			}
			if !found {
				t.Errorf("%s: no %v in %v", w.Name, p, addrs)
			}
		}
	}
	if _, err := Index("no such device"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}

	routes, err := Routes()
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("ip", "-4", "route", "show", "table", "main").Output()
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(out, []byte("\n")); len(routes) != n {
		t.Errorf("%d routes: %v\nip says\n%s", len(routes), routes, out)
	}
	for _, r := range routes {
		dst := r.Dst.String()
		if r.Dst.Bits() == 0 {
			dst = "default"
		}
		if !strings.Contains(string(out), strings.TrimSuffix(dst, "/32")) {
			t.Errorf("%v is not in\n%s", r, out)
		}
	}
}

// TestWay: the kernel's choice is what ip says; from an address that is not here
// nothing is sent.
func TestWay(t *testing.T) {
	addr := netip.MustParseAddr
	for _, c := range []struct{ from, to netip.Addr }{
		{addr("192.0.2.77"), addr("127.0.0.1")}, {addr("192.0.2.77"), addr("198.51.100.1")}, {addr("127.0.0.1"), addr("7f00:1::")}, {addr("127.0.0.1"), netip.Addr{}},
	} {
		if n := Way(c.from, c.to); n != 0 {
			t.Errorf("from %v to %v by device %d", c.from, c.to, n)
		}
	}
	addrs, err := Addrs()
	if err != nil {
		t.Fatal(err)
	}
	links := interfaces(t)
	froms := []netip.Addr{{}, addr("127.0.77.1")}
	for _, a := range addrs {
		froms = append(froms, a.Local.Addr())
	}
	for _, from := range froms {
		for _, to := range []string{"127.0.77.2", "198.51.100.1"} {
			args := []string{"-4", "route", "get", to}
			if from.IsValid() {
				args = append(args, "from", from.String())
			}
			want := ""
			if out, err := exec.Command("ip", args...).Output(); err == nil {
				_, dev, _ := strings.Cut(string(out), " dev ")
				want, _, _ = strings.Cut(dev, " ")
			}
			got := ""
			if n := Way(from, addr(to)); n != 0 {
				i := slices.IndexFunc(links, func(l net.Interface) bool { return l.Index == n })
				if i < 0 {
					t.Fatalf("from %v to %s by device %d", from, to, n)
				}
				got = links[i].Name
			}
			if got != want || to == "127.0.77.2" && got != "lo" && !from.IsValid() {
				t.Errorf("from %v to %s by %q, ip says %q", from, to, got, want)
			}
		}
	}
}

func TestWatchEnds(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := Watch(ctx, GroupLinks|GroupAddrs|GroupRoutes, func(protocol uint8) {
		if protocol != 0 {
			t.Errorf("first call with %d", protocol)
		}
		cancel()
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestRouteProtocol(t *testing.T) {
	r := Route{Dst: netip.MustParsePrefix("10.0.2.0/24"), Protocol: 72}
	header := make([]byte, unix.SizeofNlMsghdr)
	binary.NativeEndian.PutUint16(header[4:], unix.RTM_NEWROUTE)
	msg := append(header, r.encode()...)
	if got := routeProtocol(msg); got != 72 {
		t.Error(got)
	}
	for n := range unix.SizeofNlMsghdr + unix.SizeofRtMsg {
		if got := routeProtocol(msg[:n]); got != 0 {
			t.Errorf("%d bytes: %d", n, got)
		}
	}
	binary.NativeEndian.PutUint16(msg[4:], unix.RTM_NEWADDR)
	if got := routeProtocol(msg); got != 0 {
		t.Error(got)
	}
}

// A route that is sent is the route that is read.
func FuzzDecode(f *testing.F) {
	f.Add([]byte{})
	r := Route{Dst: netip.MustParsePrefix("10.0.2.0/24"), Link: 7, Src: netip.MustParseAddr("10.0.1.1"), Metric: 5, Protocol: 72, Scope: 253, Type: 1}
	f.Add(r.encode())
	if got, ok := decodeRoute(r.encode()); !ok || got != r {
		f.Errorf("%+v, %v", got, ok)
	}
	f.Add(PutText(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_IFNAME, "htip-bob"))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, _ := decodeLink(b)
		a, okA := decodeAddr(b)
		r, okR := decodeRoute(b)
		_ = fmt.Sprint(l, a, r)
		if okA && !a.Local.IsValid() || okR && !r.Dst.IsValid() {
			t.Errorf("%v %v", a, r)
		}
	})
}
