//go:build qemu

package qemu_test

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

const sequential = "\toption candidates 'sequential'\n\tlist pool '10.0.0.0/8'\n\toption log_level 'debug'\n"

// anyArch is for tests of what is the same on every router. arm64 is emulated with a third of
// the work of MIPS: its MMU needs no exception for a page, its multiplier has 64 bits.
var anyArch = flag.String("arch", lab.Arm64.Name, "processor of the routers of tests that insist on none, such as mipsel")

// newLab waits for a slot; the context it returns begins after that. Another test may
// run at the same time.
func newLab(t *testing.T) (context.Context, *lab.Lab) {
	t.Helper()
	arch, err := lab.ArchByName(*anyArch)
	if err != nil {
		t.Fatal(err)
	}
	t.Parallel()
	return makeLab(t, lab.Options{Arch: arch, Logf: t.Logf})
}

// newLabMIPS is newLab for tests of what has to be seen on the weakest processor.
func newLabMIPS(t *testing.T) (context.Context, *lab.Lab) {
	t.Helper()
	t.Parallel()
	return makeLab(t, lab.Options{Arch: lab.Mipsel, Logf: t.Logf})
}

// newLabAlone is newLabMIPS for tests with limits in seconds.
func newLabAlone(t *testing.T) (context.Context, *lab.Lab) {
	t.Helper()
	return makeLab(t, lab.Options{Arch: lab.Mipsel, Logf: t.Logf, Alone: true})
}

func makeLab(t *testing.T, o lab.Options) (context.Context, *lab.Lab) {
	t.Helper()
	l, err := lab.New(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	t.Cleanup(cancel)
	return ctx, l
}

func showLogs(t *testing.T, hs ...*homes.Home) {
	t.Cleanup(func() {
		for _, h := range hs {
			if t.Failed() {
				t.Log(h.Log())
			}
		}
	})
}

func lan(router, host, name string) lab.LAN {
	a := netip.MustParseAddr(host)
	return lab.LAN{Router: netip.MustParsePrefix(router), Host: a, Names: map[string]netip.Addr{name: a}}
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// figure is one of the seed's three cases on real routers.
type figure struct {
	name             string
	lanA, lanB       lab.LAN
	seenA, seenB     string // host A as B sees it, host B as A sees it
	prefixA, prefixB string // substitutes
	nat              bool
	wireguard        bool // or L2TP
}

var (
	fig9  = figure{"FIG. 9 and 10", lan("10.0.0.1/24", "10.0.0.4", "pc"), lan("10.0.1.1/24", "10.0.1.5", "nas"), "10.0.0.4", "10.0.1.5", "10.0.0.0/24", "10.0.1.0/24", false, false}
	fig11 = figure{"FIG. 11 and 12", lan("10.0.0.1/24", "10.0.0.4", "pc"), lan("10.0.0.1/24", "10.0.0.5", "nas"), "10.0.1.4", "10.0.2.5", "10.0.1.0/24", "10.0.2.0/24", true, false}
	fig13 = figure{"FIG. 13", lan("10.0.0.1/24", "10.0.0.4", "pc"), lan("10.0.0.1/16", "10.0.7.5", "nas"), "10.2.0.4", "10.1.7.5", "10.2.0.0/24", "10.1.0.0/16", true, false}
)

func (f figure) specs() []homes.Spec {
	return []homes.Spec{{Name: "alice", LAN: f.lanA, Main: sequential, L2TP: !f.wireguard}, {Name: "bob", LAN: f.lanB, Main: sequential, L2TP: !f.wireguard}}
}

// check looks at everything that a figure promises, once the tunnel is up.
func (f figure) check(ctx context.Context, t *testing.T, l *lab.Lab, a, b *homes.Home) {
	t.Helper()
	for _, x := range []struct {
		h, other    *homes.Home
		own, theirs string
		role        string
	}{{a, b, f.prefixA, f.prefixB, "client"}, {b, a, f.prefixB, f.prefixA, "server"}} {
		tn, err := x.h.WaitState(ctx, x.other.Name, "up")
		if err != nil {
			t.Fatal(err)
		}
		if tn.Own[0].Substitute != netip.MustParsePrefix(x.own) || tn.Theirs[0].Substitute != netip.MustParsePrefix(x.theirs) || tn.Role != x.role {
			t.Errorf("%s's connection table: %+v", x.h.Name, tn)
		}
		if !tn.Kernel || tn.Encrypted != f.wireguard {
			t.Errorf("%s: in the kernel %v, encrypted %v", x.h.Name, tn.Kernel, tn.Encrypted)
		}
		// The file's header has the words TUNNEL and SESSION in any case: the link's own name is the proof.
		ask, proof := "cat /proc/net/pppol2tp", "interface "+tn.Device
		if f.wireguard {
			ask, proof = "wg show "+tn.Device, "latest handshake"
		}
		if answer := x.h.Router.MustRun(ctx, ask); !strings.Contains(answer, proof) {
			t.Errorf("%s: %s says %q", x.h.Name, ask, answer)
		}
		rules := x.h.Router.MustRun(ctx, "iptables-save -t nat")
		if strings.Contains(rules, "NETMAP") != f.nat {
			t.Errorf("%s: NAT wanted %v, rules are\n%s", x.h.Name, f.nat, rules)
		}
	}
	hostA, hostB := f.lanA.Host, f.lanB.Host
	f.hops(ctx, t, a, b, addr(f.seenB), [][2]netip.Addr{
		{hostA, addr(f.seenB)}, {addr(f.seenA), addr(f.seenB)}, {addr(f.seenA), addr(f.seenB)}, {addr(f.seenA), hostB},
	})
	f.hops(ctx, t, b, a, addr(f.seenA), [][2]netip.Addr{
		{hostB, addr(f.seenA)}, {addr(f.seenB), addr(f.seenA)}, {addr(f.seenB), addr(f.seenA)}, {addr(f.seenB), hostA},
	})
	lookup(ctx, t, a, "nas.bob.internal", f.seenB)
	lookup(ctx, t, a, "nas.bob.example.org", f.seenB)
	lookup(ctx, t, b, "pc.alice.internal", f.seenA)
	lookup(ctx, t, a, "bob.example.org", b.Router.WANAddr().String())
	if names, err := a.Host.LookupPTR(ctx, addr(f.seenB)); err != nil || !slices.Contains(names, "nas.bob.internal") {
		t.Errorf("PTR of %s: %v, %v", f.seenB, names, err)
	}
	if names, err := b.Host.LookupPTR(ctx, addr(f.seenA)); err != nil || !slices.Contains(names, "pc.alice.internal") {
		t.Errorf("PTR of %s: %v, %v", f.seenA, names, err)
	}
	for _, h := range []*homes.Home{a, b} {
		if err := h.Host.Ping(ctx, lab.InternetHost, 56, 2); err != nil {
			t.Errorf("%s: the Internet: %v", h.Name, err)
		}
	}
}

func (f figure) hops(ctx context.Context, t *testing.T, from, to *homes.Home, dst netip.Addr, want [][2]netip.Addr) {
	t.Helper()
	request, reply, err := homes.Hops(ctx, from, to, dst)
	if err != nil || len(request) != 4 || len(reply) != 4 {
		t.Errorf("%s: ping %v from %s: %v\n%v\n%v", f.name, dst, from.Name, err, request, reply)
		return
	}
	for i, w := range want {
		if r := request[i]; r.From != w[0] || r.To != w[1] {
			t.Errorf("%s: request at hop %d: %v, want %v > %v", f.name, i+1, r, w[0], w[1])
		}
		if r := reply[3-i]; r.From != w[1] || r.To != w[0] {
			t.Errorf("%s: reply at hop %d: %v, want %v > %v", f.name, 4-i, r, w[1], w[0])
		}
	}
}

func lookup(ctx context.Context, t *testing.T, h *homes.Home, name, want string) {
	t.Helper()
	got, err := h.Host.Lookup(ctx, name)
	if err != nil || len(got) != 1 || got[0] != addr(want) {
		t.Errorf("%s looks %s up: %v, %v; want %s", h.Name, name, got, err, want)
	}
}

func TestFig9(t *testing.T)  { testFigure(t, fig9) }
func TestFig13(t *testing.T) { testFigure(t, fig13) }

func testFigure(t *testing.T, f figure) {
	ctx, l := newLab(t)
	hs, err := homes.Start(ctx, l, f.specs()...)
	if err != nil {
		t.Fatal(err)
	}
	showLogs(t, hs...)
	out, err := hs[0].Connect(ctx, "bob")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out)
	f.check(ctx, t, l, hs[0], hs[1])
}

// TestMainJob is FIG. 11 and everything else that two homes live through.
func TestMainJob(t *testing.T) {
	ctx, l := newLabMIPS(t)
	hs, err := homes.Boot(ctx, l, fig11.specs()...)
	if err != nil {
		t.Fatal(err)
	}
	a, b := hs[0], hs[1]
	showLogs(t, a, b)
	pristine := [2]string{leavings(ctx, t, a), leavings(ctx, t, b)}
	for _, h := range hs {
		if err := h.StartDaemon(ctx); err != nil {
			t.Fatal(err)
		}
	}
	settle(ctx, t, a, b)
	started := [2]string{leavings(ctx, t, a), leavings(ctx, t, b)}

	out, err := a.Connect(ctx, "bob.example.org")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out)
	if !strings.HasSuffix(out, "bob's 10.0.0.x is your 10.0.2.x; try ping nas.bob.internal\n") {
		t.Error("the sentence at the end is another one")
	}
	steps := []string{"looking up", "connecting to", "REQUEST", "RESPONSE", "ACK", "READY", "tunnel, NAT", "names"}
	for i, last := 0, -1; i < len(steps); i++ {
		if at := strings.Index(out, steps[i]); at <= last {
			t.Errorf("step %q is missing or out of order", steps[i])
		} else {
			last = at
		}
	}
	fig11.check(ctx, t, l, a, b)
	t.Run("out of bounds", func(t *testing.T) { testBounds(ctx, t, l, a, b) })
	t.Run("transfer", func(t *testing.T) { testTransfer(ctx, t, a, b, 10) })
	t.Run("big packets", func(t *testing.T) { testBigPackets(ctx, t, a, b, 1410) })
	t.Run("kill", func(t *testing.T) { testKill(ctx, t, a, b) })
	t.Run("disconnect", func(t *testing.T) { testDisconnect(ctx, t, l, a, b, started) })
	t.Run("early flow", func(t *testing.T) { testEarlyFlow(ctx, t, a, b) })
	t.Run("stop", func(t *testing.T) {
		for i, h := range hs {
			if err := h.StopDaemon(ctx); err != nil {
				t.Fatal(err)
			}
			// Other homes are remembered on purpose.
			after := strings.Replace(leavings(ctx, t, h), "/etc/htip/state.json\n", "", 1)
			sameLeavings(t, h.Name+" after the daemon has stopped", pristine[i], after)
		}
	})
}

// leavings is all that a tunnel could leave behind on a router: rules, routes,
// links, processes, files. What changes by itself is left out.
func leavings(ctx context.Context, t *testing.T, h *homes.Home) string {
	t.Helper()
	return h.Router.MustRun(ctx, `iptables-save | grep -v '^#' | sed 's/\[[0-9:]*\]//' | sort
ip route show table all | grep -v fe80::ff: | sort # its own addresses become valid some time after the boot
ip -br addr
ps -o args | grep -vE '\[|^ps |^sed |^grep |^sort|agent|dnsmasq|sh -c|^COMMAND|dash|^find |iptables-(save|restore)' | sort # the daemon looks each minute
find /etc /run /var /tmp -type f -o -type s -o -type p | grep -vE '/htipd.log$|/messages$|^/run/dnsmasq.pid$|^/tmp/lab|^/var/run/dnsmasq.pid' | sort
cat /etc/config/htip
sysctl -a 2>/dev/null | grep -E 'rp_filter|ip_forward' | grep -v htip | sort`)
}

func sameLeavings(t *testing.T, what, before, after string) {
	t.Helper()
	if before == after {
		return
	}
	t.Errorf("%s: not as before", what)
	b, a := strings.Split(before, "\n"), strings.Split(after, "\n")
	for _, x := range b {
		if !slices.Contains(a, x) {
			t.Logf("- %s", x)
		}
	}
	for _, x := range a {
		if !slices.Contains(b, x) {
			t.Logf("+ %s", x)
		}
	}
}

// talking wants every ping answered while something goes on.
func talking(ctx context.Context, t *testing.T, from *lab.Host, to netip.Addr, during func()) {
	t.Helper()
	if sent, lost, err := from.PingWhile(ctx, to, during); err != nil || lost > 0 {
		t.Errorf("%d of %d pings were lost: %v", lost, sent, err)
	}
}

// settle waits until the daemons have told dnsmasq of their zones.
func settle(ctx context.Context, t *testing.T, hs ...*homes.Home) {
	t.Helper()
	for _, h := range hs {
		h.Router.MustRun(ctx, "n=0; until grep -q 'dnsmasq restarted' /var/log/htipd.log; do n=$((n+1)); [ $n -lt 900 ] || exit 1; sleep 0.1; done")
	}
}

// testBounds: of the other router a friend reaches the names proxy and an echo;
// a stranger reaches no VPN program.
func testBounds(ctx context.Context, t *testing.T, l *lab.Lab, a, b *homes.Home) {
	gateway := addr("10.0.2.1")
	if err := a.Host.Ping(ctx, gateway, 56, 1); err != nil {
		t.Errorf("bob's router: %v", err)
	}
	for _, x := range []struct {
		from    *lab.Host
		network string
		to      string
	}{
		{a.Host, "tcp", "10.0.2.1:53"},   // bob's dnsmasq
		{a.Host, "tcp", "10.0.2.1:4847"}, // control channel
	} {
		short, cancel := context.WithTimeout(ctx, 1500*time.Millisecond)
		c, err := x.from.Dial(short, x.network, x.to)
		cancel()
		if err == nil {
			c.Close()
			t.Errorf("%s to bob's router %s is open", x.network, x.to)
		}
	}
	b.Router.MustRun(ctx, "iptables -t raw -Z HTIP-VPN-PREROUTING")
	c, err := l.Internet().Dial(ctx, "udp", b.Router.WANAddr().String()+":17010")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for range 3 {
		c.Write([]byte("\xc8\x02\x00\x0cknock!!!"))
	}
	rules := ""
	for begin := time.Now(); !strings.Contains(rules, "[3:"); time.Sleep(100 * time.Millisecond) {
		if time.Since(begin) > 10*time.Second {
			t.Fatalf("a stranger's knocks are not stopped: %s", rules)
		}
		rules = b.Router.MustRun(ctx, "iptables-save -c -t raw | grep -e '-A HTIP-VPN'")
	}
}

// testTransfer sends megabytes each way, and returns the larger of the two
// speeds in Mbit/s.
func testTransfer(ctx context.Context, t *testing.T, a, b *homes.Home, megabytes int64) (speed float64) {
	for _, x := range []struct {
		from, to *homes.Home
		dst      string
	}{{a, b, fig11.seenB}, {b, a, fig11.seenA}} {
		size := megabytes << 20
		ln, err := x.to.Host.Listen("tcp", x.to.LAN.Host.String()+":9000")
		if err != nil {
			t.Fatal(err)
		}
		sum := make(chan string, 1)
		go func() {
			defer ln.Close()
			c, err := ln.Accept()
			if err != nil {
				sum <- err.Error()
				return
			}
			defer c.Close()
			h := sha256.New()
			n, err := io.Copy(h, c)
			sum <- fmt.Sprint(n, " ", hex.EncodeToString(h.Sum(nil)), err)
		}()
		c, err := x.from.Host.Dial(ctx, "tcp", x.dst+":9000")
		if err != nil {
			t.Fatal(err)
		}
		var seed [32]byte
		rand.Read(seed[:])
		begin, h := time.Now(), sha256.New()
		n, err := io.Copy(io.MultiWriter(c, h), io.LimitReader(mathrand.NewChaCha8(seed), size))
		if e := c.(*net.TCPConn).CloseWrite(); err == nil {
			err = e
		}
		want := fmt.Sprint(n, " ", hex.EncodeToString(h.Sum(nil)), nil)
		if err != nil || n != size {
			t.Errorf("%s to %s: %d bytes sent, %v", x.from.Name, x.to.Name, n, err)
		}
		if got := <-sum; got != strings.Replace(want, "<nil>", "<nil>", 1) {
			t.Errorf("%s to %s: arrived %s, sent %s", x.from.Name, x.to.Name, got, want)
		}
		c.Close()
		mbits := float64(size) * 8 / 1e6 / time.Since(begin).Seconds()
		t.Logf("%d MB from %s to %s: %.1f Mbit/s", megabytes, x.from.Name, x.to.Name, mbits)
		speed = max(speed, mbits)
	}
	return speed
}

func testBigPackets(ctx context.Context, t *testing.T, a, b *homes.Home, mtu int) {
	const headers = 28
	for _, x := range []struct {
		h   *homes.Home
		dst string
	}{{a, fig11.seenB}, {b, fig11.seenA}} {
		if err := x.h.Host.Ping(ctx, addr(x.dst), 3000, 3); err != nil {
			t.Errorf("3,000 bytes from %s: %v", x.h.Name, err)
		}
		if err := x.h.Host.PingDF(ctx, addr(x.dst), mtu-headers, 2); err != nil {
			t.Errorf("%d unfragmented bytes from %s: %v", mtu, x.h.Name, err)
		}
		if err := x.h.Host.TooBig(ctx, addr(x.dst), mtu-headers+1); err != nil {
			t.Errorf("%s is not told the path's MTU: %v", x.h.Name, err)
		}
	}
}

// testKill kills the daemon of each side while hosts talk.
func testKill(ctx context.Context, t *testing.T, a, b *homes.Home) {
	was, err := a.Tunnel(ctx, "bob")
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range []*homes.Home{a, b} {
		var rules string
		talking(ctx, t, a.Host, addr(fig11.seenB), func() {
			time.Sleep(time.Second)
			h.Router.MustRun(ctx, "kill -9 $(pidof htipd)")
			time.Sleep(2 * time.Second)
			rules = h.Router.MustRun(ctx, "iptables-save | grep HTIP | grep -v '^:'; ip route show proto 72")
			if err := h.StartDaemon(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := h.WaitState(ctx, map[*homes.Home]string{a: "bob", b: "alice"}[h], "up"); err != nil {
				t.Fatal(err)
			}
		})
		sameLeavings(t, h.Name+"'s rules and routes", rules, h.Router.MustRun(ctx, "iptables-save | grep HTIP | grep -v '^:'; ip route show proto 72"))
		if log := h.Log(); !strings.Contains(log, "tunnel taken over") || !strings.Contains(log, "changes=[]") {
			t.Errorf("%s did not take the tunnel over unchanged", h.Name)
		}
	}
	time.Sleep(3 * time.Second) // for a control connection to come back and bring bad news
	for h, peer := range map[*homes.Home]string{a: "bob", b: "alice"} {
		now, err := h.WaitState(ctx, peer, "up")
		if err != nil || now.TunnelID != was.TunnelID {
			t.Errorf("%s: tunnel %s became %s, %v", h.Name, was.TunnelID, now.TunnelID, err)
		}
	}
	lookup(ctx, t, a, "nas.bob.internal", fig11.seenB)
}

func testDisconnect(ctx context.Context, t *testing.T, l *lab.Lab, a, b *homes.Home, started [2]string) {
	stop, err := homes.Capture(ctx, a.Router, "wan", "icmp")
	if err != nil {
		t.Fatal(err)
	}
	if out := a.Router.MustRun(ctx, "htip disconnect bob"); out != "bob is disconnected\n" {
		t.Error(out)
	}
	if _, err := b.WaitState(ctx, "alice", "idle"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Second)
	// Nothing meant for bob may leave through the WAN now.
	if err := a.Host.Ping(ctx, addr(fig11.seenB), 56, 3); err == nil {
		t.Error("somebody answers for bob's host while the tunnel is down")
	}
	leaked, err := stop()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range leaked {
		if p.To == addr(fig11.seenB) {
			t.Errorf("leaked through the WAN: %s", p.Text)
		}
	}
	// What a user of either home has ended, no name brings up again. These two
	// were never asked before, so no cache answers them.
	for h, name := range map[*homes.Home]string{a: "printer.bob.internal", b: "printer.alice.internal"} {
		if got, err := h.Host.Lookup(ctx, name); err == nil {
			t.Errorf("%s looks %s up after the disconnect: %v", h.Name, name, got)
		}
	}
	for h, peer := range map[*homes.Home]string{a: "bob", b: "alice"} {
		if now, err := h.Tunnel(ctx, peer); err != nil || now.State != "idle" {
			t.Errorf("%s: a name brought the tunnel up that a user had ended: %+v, %v", h.Name, now, err)
		}
	}
	for i, h := range []*homes.Home{a, b} {
		leftByDisconnect(ctx, t, h, started[i])
	}
}

// leftByDisconnect: with the daemon running, a home that is known keeps its guard and is
// remembered. Nothing else stays, once the programs have ended: the state is idle before.
func leftByDisconnect(ctx context.Context, t *testing.T, h *homes.Home, started string) {
	t.Helper()
	for begin := time.Now(); ; homes.Pause(time.Second) {
		var kept []string
		for _, l := range strings.Split(leavings(ctx, t, h), "\n") {
			if !strings.HasPrefix(l, "unreachable 10.0.") && l != "/etc/htip/state.json" {
				kept = append(kept, l)
			}
		}
		if now := strings.Join(kept, "\n"); now == started || time.Since(begin) > 20*time.Second {
			sameLeavings(t, h.Name+" after disconnect", started, now)
			return
		}
	}
}

// testEarlyFlow starts talking before the tunnel is up. The same flow works
// when it is.
func testEarlyFlow(ctx context.Context, t *testing.T, a, b *homes.Home) {
	pc, err := a.Host.ListenPacket("udp4", a.LAN.Host.String()+":7000")
	if err != nil {
		t.Fatal(err)
	}
	defer pc.Close()
	echo, err := b.Host.ListenPacket("udp4", b.LAN.Host.String()+":7001")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		buf := make([]byte, 100)
		for {
			n, from, err := echo.ReadFrom(buf)
			if err != nil {
				return
			}
			echo.WriteTo(buf[:n], from)
		}
	}()
	answered := make(chan time.Time, 1)
	go func() {
		buf := make([]byte, 100)
		for {
			n, _, err := pc.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil && string(buf[:n]) == "hello" {
				answered <- time.Now()
				return
			}
		}
	}()
	to := &net.UDPAddr{IP: net.ParseIP(fig11.seenB), Port: 7001}
	end := make(chan struct{})
	defer close(end)
	go func() {
		for {
			pc.WriteTo([]byte("hello"), to) // "unreachable" comes back as an error at first
			select {
			case <-end:
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	time.Sleep(time.Second)
	if len(answered) > 0 {
		t.Fatal("answered while the tunnel is down")
	}
	out, err := a.Connect(ctx, "bob")
	if err != nil {
		t.Fatal(err)
	}
	select {
	case <-answered:
	case <-time.After(20 * time.Second):
		t.Error("a flow that began too early does not work when the tunnel is up")
	}
	if !strings.Contains(out, "bob's 10.0.0.x is your 10.0.2.x") {
		t.Errorf("other substitutes the second time: %s", out)
	}
}
