package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netns"
	"golang.org/x/net/dns/dnsmessage"
)

// nsSockets opens the kernel's sockets inside a network namespace.
type nsSockets struct {
	name string
	ns   netns.NsHandle
}

func (s nsSockets) in(f func() error) error {
	runtime.LockOSThread()
	here, err := netns.Get()
	if err != nil {
		return err
	}
	defer here.Close()
	if err := netns.Set(s.ns); err != nil {
		return err
	}
	err = f()
	if back := netns.Set(here); back != nil {
		return back // the thread stays locked, and ends with its goroutine
	}
	runtime.UnlockOSThread()
	return err
}

func (s nsSockets) Index(device string) (i int, err error) {
	err = s.in(func() error { i, err = Kernel{}.Index(device); return err })
	return i, err
}

func (s nsSockets) ListenUDP(device string, at netip.AddrPort) (c *net.UDPConn, err error) {
	err = s.in(func() error { c, err = Kernel{}.ListenUDP(device, at); return err })
	return c, err
}

func (s nsSockets) ListenTCP(device string, at netip.AddrPort) (l net.Listener, err error) {
	err = s.in(func() error { l, err = Kernel{}.ListenTCP(device, at); return err })
	return l, err
}

func (s nsSockets) Dial(ctx context.Context, network, device string, to netip.AddrPort) (c net.Conn, err error) {
	err = s.in(func() error { c, err = Kernel{}.Dial(ctx, network, device, to); return err })
	return c, err
}

var _ Sockets = nsSockets{}

// run runs a command, split at blanks, inside the namespace.
func (s nsSockets) run(t testing.TB, command string) {
	t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", s.name}, strings.Fields(command)...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %s: %v: %s", s.name, command, err, out)
	}
}

// newNS makes a gateway's namespace with a LAN 10.0.0.0/24.
func newNS(t testing.TB, who string) nsSockets {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root for network namespaces")
	}
	name := fmt.Sprintf("htipdns%d%s", os.Getpid(), who)
	if out, err := exec.Command("ip", "netns", "add", name).CombinedOutput(); err != nil {
		t.Skipf("no network namespaces here: %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	})
	ns, err := netns.GetFromName(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ns.Close() })
	s := nsSockets{name, ns}
	s.run(t, "ip link set lo up")
	s.run(t, "ip link add lan0 type veth peer name lan0host")
	s.run(t, "ip addr add 10.0.0.1/24 dev lan0")
	s.run(t, "ip link set lan0 up")
	return s
}

// tunnel joins two gateways: a point-to-point link with the gateways' own
// substitute addresses, routes, and NETMAP at both ends, as the data path sets
// them up.
func tunnel(t testing.TB, a, b nsSockets, devA, devB string, subA, subB string) {
	t.Helper()
	a.run(t, fmt.Sprintf("ip link add %s type veth peer name %s netns %s", devA, devB, b.name))
	for _, end := range []struct {
		ns              nsSockets
		dev, own, other string
	}{{a, devA, subA, subB}, {b, devB, subB, subA}} {
		own, other := netip.MustParsePrefix(end.own), netip.MustParsePrefix(end.other)
		end.ns.run(t, fmt.Sprintf("ip addr add %s peer %s/32 dev %s", in(own, 1), in(other, 1), end.dev))
		end.ns.run(t, "ip link set "+end.dev+" up")
		end.ns.run(t, fmt.Sprintf("ip route add %s dev %s", other, end.dev))
		end.ns.run(t, fmt.Sprintf("iptables -w -t nat -A PREROUTING -i %s -d %s -j NETMAP --to 10.0.0.0/24", end.dev, own))
		end.ns.run(t, fmt.Sprintf("iptables -w -t nat -A POSTROUTING -o %s -s 10.0.0.0/24 -j NETMAP --to %s", end.dev, own))
	}
}

func nsHome(t testing.TB, s nsSockets, hosts string) *home {
	t.Helper()
	h := newHome(t, s, func(o *Options) {
		o.Listen, o.Dnsmasq, o.PeerPort = netip.AddrPort{}, netip.AddrPort{}, 0
	})
	h.opt.Listen = h.Proxy.opt.Listen
	h.dnsmasq = h.Proxy.opt.Dnsmasq
	h.write(t, "hosts/dhcp", hosts)
	h.startDnsmasq(t, nil, netip.MustParseAddrPort("127.0.0.1:5353"), "ip", "netns", "exec", s.name)
	return h
}

// Three homes with the same LAN, real tunnels' devices, NETMAP, real dnsmasqs
// at their usual ports. FIG. 12: 10.0.0.5 of B is 10.0.2.5 for A.
func TestNamespaces(t *testing.T) {
	if testing.Short() {
		t.Skip("makes network namespaces")
	}
	nsA, nsB, nsC := newNS(t, "a"), newNS(t, "b"), newNS(t, "c")
	tunnel(t, nsA, nsB, "htip-bob", "htip-alice", "10.0.1.0/24", "10.0.2.0/24")
	tunnel(t, nsC, nsB, "htip-bob", "htip-carol", "10.0.3.0/24", "10.0.4.0/24")
	a := nsHome(t, nsA, "10.0.0.4 pc.lan\n10.9.9.9 guest.lan\n")
	b := nsHome(t, nsB, "10.0.0.1 gw.lan\n10.0.0.5 nas.lan\n")
	c := nsHome(t, nsC, "10.0.0.6 tv.lan\n")
	lan := netip.MustParsePrefix("10.0.0.0/24")
	peer := func(name, device, server, own, theirs string) Peer {
		return Peer{
			Name: name, Up: true, Device: device, Server: addr(server),
			Own: []Mapping{{lan, netip.MustParsePrefix(own)}}, Substitutes: prefixes(theirs),
		}
	}
	bobAtA := peer("bob", "htip-bob", "10.0.2.1", "10.0.1.0/24", "10.0.2.0/24")
	bobAtC := peer("bob", "htip-bob", "10.0.4.1", "10.0.3.0/24", "10.0.4.0/24")
	alice := peer("alice", "htip-alice", "10.0.1.1", "10.0.2.0/24", "10.0.1.0/24")
	carol := peer("carol", "htip-carol", "10.0.3.1", "10.0.4.0/24", "10.0.3.0/24")
	set(t, a.Proxy, bobAtA)
	set(t, b.Proxy, alice, carol)
	set(t, c.Proxy, bobAtC)
	for _, h := range []struct {
		*home
		peer string
	}{{a, "bob"}, {b, "alice"}, {b, "carol"}, {c, "bob"}} {
		if err := h.Probe(t.Context(), h.peer); err != nil {
			t.Fatal(err)
		}
	}
	check := func(h *home, name string, qtype uint16, want string) {
		t.Helper()
		if got := strings.ToLower(look(t, h.opt.Sockets, h.dnsmasq, name, qtype)); got != strings.ToLower(want) {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
	check(a, "nas.bob.internal.", dns.TypeA, "NOERROR 10.0.2.5")
	check(c, "nas.bob.internal.", dns.TypeA, "NOERROR 10.0.4.5") // the same host, another tunnel
	check(b, "pc.alice.internal.", dns.TypeA, "NOERROR 10.0.1.4")
	check(b, "tv.carol.internal.", dns.TypeA, "NOERROR 10.0.3.6")
	check(b, "guest.alice.internal.", dns.TypeA, "NXDOMAIN SOA:alice.internal.")
	check(a, "tv.carol.internal.", dns.TypeA, "NXDOMAIN SOA:internal.") // no way through B
	check(a, "tv.carol.bob.internal.", dns.TypeA, "NXDOMAIN SOA:bob.internal.")
	check(a, "bob.internal.", dns.TypeA, "NOERROR 10.0.2.1")
	check(a, "5.2.0.10.in-addr.arpa.", dns.TypePTR, "NOERROR nas.bob.internal.")
	check(a, "1.2.0.10.in-addr.arpa.", dns.TypePTR, "NOERROR gw.bob.internal.")
	check(a, "9.2.0.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN SOA:10.in-addr.arpa.")
	check(a, "4.0.0.10.in-addr.arpa.", dns.TypePTR, "NOERROR pc.lan.")
	check(a, "99.0.0.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN SOA:10.in-addr.arpa.")
	check(a, "9.9.9.10.in-addr.arpa.", dns.TypePTR, "NOERROR guest.lan.")
	check(c, "5.4.0.10.in-addr.arpa.", dns.TypePTR, "NOERROR nas.bob.internal.")
	check(b, "1.1.0.10.in-addr.arpa.", dns.TypePTR, "NOERROR alice.internal.") // A's own dnsmasq has no name for it

	hosts, err := a.Hosts(t.Context(), "bob") // TCP
	if err != nil || fmt.Sprint(hosts) != "[{gw gw.bob.internal 10.0.2.1} {nas nas.bob.internal 10.0.2.5}]" {
		t.Errorf("%v, %v", hosts, err)
	}

	t.Run("reply leaves from the address that was asked", func(t *testing.T) { replySource(t, nsA, nsB) })
	t.Run("device and source say who asks", func(t *testing.T) { whoAsks(t, nsA, nsC, b) })
	t.Run("device replaced", func(t *testing.T) { deviceReplaced(t, nsA, nsB, a, b, bobAtA, alice, carol) })
}

// replySource asks B at two addresses from a socket that takes replies from
// anywhere. 10.0.2.1 is rewritten to 10.0.0.1 by B's NETMAP; 10.77.0.1 is not
// rewritten and is not the address that B's kernel would choose by itself.
func replySource(t *testing.T, nsA, nsB nsSockets) {
	nsB.run(t, "ip addr add 10.77.0.1/32 dev lo")
	nsA.run(t, "ip route add 10.77.0.1 dev htip-bob")
	for _, asked := range []string{"10.0.2.1:4853", "10.77.0.1:4853"} {
		var c *net.UDPConn
		err := nsA.in(func() (err error) {
			c, err = net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 0, 1, 1)})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		b, _ := queryOf(pseudo, dns.TypeSOA).Pack()
		if _, err := c.WriteToUDPAddrPort(b, netip.MustParseAddrPort(asked)); err != nil {
			t.Fatal(err)
		}
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		b = make([]byte, 512)
		n, from, err := c.ReadFromUDPAddrPort(b)
		if err != nil || from.String() != asked {
			t.Errorf("asked %s, %d octets from %s, %v", asked, n, from, err)
		}
	}
}

// whoAsks: C can't pretend to be A, B's LAN and loopback are no tunnel.
func whoAsks(t *testing.T, nsA, nsC nsSockets, b *home) {
	q := question{"nas.htip.", dnsmessage.TypeA, dnsmessage.ClassINET}
	server := netip.MustParseAddrPort("10.0.4.1:4853")
	before := b.Stats().Spoofed
	// C sends from A's substitute through its own tunnel. B's reply, if there
	// were one, would go to A.
	nsC.run(t, "ip addr add 10.0.1.1/32 dev lo")
	var c net.Conn
	err := nsC.in(func() (err error) {
		d := net.Dialer{LocalAddr: &net.UDPAddr{IP: net.IPv4(10, 0, 1, 1)}, Control: bindTo("htip-bob")}
		c, err = d.DialContext(t.Context(), "udp4", server.String())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	packed, _ := queryOf("nas.htip.", dns.TypeA).Pack()
	if _, err := c.Write(packed); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return b.Stats().Spoofed == before+1 })
	nsC.run(t, "ip addr del 10.0.1.1/32 dev lo")
	// Nobody but a tunnel reaches the port.
	for _, at := range []string{"127.0.0.1:4853", "10.0.0.1:4853", "10.0.2.1:4853"} {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		if m, err := ask(ctx, b.opt.Sockets, "", netip.MustParseAddrPort(at), q, dnsmessage.Header{}, 1); err == nil {
			t.Errorf("%s answers at B itself: %v", at, m)
		}
		cancel()
	}
	// A question cannot leave through another device than the tunnel's.
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := nsA.Dial(ctx, "tcp", "htip-none", server); err == nil {
		t.Error("a device that does not exist can be used")
	}
}

// deviceReplaced: what a new call of L2TP does. The device comes back under the
// same name; Set notices.
func deviceReplaced(t *testing.T, nsA, nsB nsSockets, a, b *home, bobAtA, alice, carol Peer) {
	probe := func(h *home, peer string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		return h.Probe(ctx, peer)
	}
	nsA.run(t, "ip link del htip-bob")
	var pe *PeerError
	if err := b.Set([]Peer{alice, carol}); !errors.As(err, &pe) || pe.Peer != "alice" || !pe.Retry {
		t.Errorf("%v", err)
	}
	if err := probe(b, "carol"); err != nil {
		t.Errorf("the other tunnel suffers: %v", err)
	}
	if err := a.Set([]Peer{bobAtA}); !errors.As(err, &pe) || !pe.Retry {
		t.Errorf("%v", err)
	}
	for _, end := range []struct {
		ns  nsSockets
		dev string
	}{{nsA, "htip-bob"}, {nsB, "htip-alice"}} {
		end.ns.run(t, "iptables -w -t nat -F")
	}
	tunnel(t, nsA, nsB, "htip-bob", "htip-alice", "10.0.1.0/24", "10.0.2.0/24")
	set(t, a.Proxy, bobAtA)
	b.mend() // as Run does every few seconds
	if err := probe(a, "bob"); err != nil {
		t.Error(err)
	}
	if err := probe(b, "alice"); err != nil {
		t.Error(err)
	}
}
