//go:build qemu

package qemu_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"net/netip"
	"strings"
	"testing"
	"time"

	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

// wg11 is FIG. 11 with nothing but the defaults: WireGuard.
func wg11() figure {
	f := fig11
	f.name, f.wireguard = "FIG. 11 and 12 by WireGuard", true
	return f
}

// TestWireGuard is two homes that say nothing of protocols or encryption.
func TestWireGuard(t *testing.T) {
	ctx, l := newLab(t)
	f := wg11()
	hs, err := homes.Boot(ctx, l, f.specs()...)
	if err != nil {
		t.Fatal(err)
	}
	a, b := hs[0], hs[1]
	showLogs(t, a, b)
	var pristine, started [2]string
	for i, h := range hs {
		pristine[i] = leavings(ctx, t, h)
		if err := h.StartDaemon(ctx); err != nil {
			t.Fatal(err)
		}
	}
	settle(ctx, t, a, b)
	for i, h := range hs {
		started[i] = leavings(ctx, t, h)
	}

	t.Run("nothing to read on the way", func(t *testing.T) {
		testSecrecy(ctx, t, l, a, b, func(p lab.Packet) bool { return p.DstPort == 17010 })
	})
	f.check(ctx, t, l, a, b)
	if out := a.Router.MustRun(ctx, "htip status"); !strings.Contains(out, "wireguard (client), encrypted, ID") {
		t.Errorf("htip status:\n%s", out)
	}
	t.Run("silent to strangers", func(t *testing.T) { testSilence(ctx, t, l, b) })
	t.Run("secrets", func(t *testing.T) { testSecrets(ctx, t, a, b) })
	t.Run("transfer", func(t *testing.T) { testTransfer(ctx, t, a, b, 5) })
	t.Run("big packets", func(t *testing.T) { testBigPackets(ctx, t, a, b, 1420) })
	t.Run("kill", func(t *testing.T) { testAdoption(ctx, t, a, b) })
	t.Run("new keys", func(t *testing.T) { testNewKeys(ctx, t, l, a) }) // late: it is about to happen
	t.Run("disconnect", func(t *testing.T) { testDisconnect(ctx, t, l, a, b, started) })
	t.Run("stop", func(t *testing.T) {
		if _, err := a.Connect(ctx, "bob"); err != nil {
			t.Fatal(err)
		}
		for i, h := range hs {
			if err := h.StopDaemon(ctx); err != nil {
				t.Fatal(err)
			}
			after := strings.Replace(leavings(ctx, t, h), "/etc/htip/state.json\n", "", 1)
			sameLeavings(t, h.Name+" after the daemon has stopped", pristine[i], after)
		}
		for _, h := range hs {
			if err := h.StartDaemon(ctx); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("power cut", func(t *testing.T) { testPowerCut(ctx, t, a, b) })
	t.Run("client behind NAT", func(t *testing.T) { testNAT(ctx, t, l, a, b) })
}

// testSecrecy connects and transfers 5 MB while somebody on the Internet
// reads along.
func testSecrecy(ctx context.Context, t *testing.T, l *lab.Lab, a, b *homes.Home, carries func(lab.Packet) bool) {
	wan, err := l.Internet().Capture()
	if err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	out, err := a.Connect(ctx, "bob")
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Host.PingUntil(ctx, addr(fig11.seenB)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s%.1f s from the command to the first answered ping", out, time.Since(begin).Seconds())
	lookup(ctx, t, a, "nas.bob.internal", fig11.seenB)

	home, err := b.Host.Capture() // the same traffic where it may be read
	if err != nil {
		t.Fatal(err)
	}
	ln, err := b.Host.Listen("tcp", b.LAN.Host.String()+":9001")
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan int, 1)
	go func() {
		defer ln.Close()
		c, err := ln.Accept()
		if err != nil {
			got <- 0
			return
		}
		defer c.Close()
		n, buf := 0, make([]byte, 64<<10)
		for {
			m, err := c.Read(buf)
			if n += m; err != nil {
				got <- n
				return
			}
		}
	}()
	c, err := a.Host.Dial(ctx, "tcp", fig11.seenB+":9001")
	if err != nil {
		t.Fatal(err)
	}
	sent, err := c.Write(bytes.Repeat([]byte(marker), 5<<20/len(marker)))
	c.Close()
	if n := <-got; err != nil || n != sent {
		t.Fatalf("%d bytes of %d arrived, %v", n, sent, err)
	}
	for _, c := range []*lab.Capture{home, wan} {
		if err := c.Stop(); err != nil {
			t.Fatal(err)
		}
	}

	carried := 0
	for _, p := range wan.Packets(nil) {
		if p.Src == a.Router.WANAddr() && carries(p) {
			carried += p.Len
		}
	}
	testUnreadable(t, wan)
	if carried < 5<<20 {
		t.Errorf("only %d bytes passed by the Internet: looked at the wrong place?", carried)
	}
	if len(home.Packets(func(p lab.Packet) bool { return bytes.Contains(p.Payload, []byte(marker)) })) == 0 {
		t.Error("the same search finds nothing at home, where it must")
	}
}

const marker = "the will of aunt Emma, chapter two; "

// testUnreadable looks for what the homes say to each other in what passed by on
// the Internet.
func testUnreadable(t *testing.T, wan *lab.Capture) {
	t.Helper()
	// Strings, and both addresses of an IPv4 header in a row, so that none is
	// met by chance in 5 MB.
	secrets := map[string][]byte{"content": []byte(marker), "a host's name": []byte("\x03nas\x03bob"), "a host's name in the tunnel": []byte("\x03nas\x04htip"), "a peer's zone": []byte("internal")}
	for _, x := range [][2]string{
		{"10.0.0.4", fig11.seenB}, {fig11.seenA, fig11.seenB}, {fig11.seenA, "10.0.0.5"}, {"10.0.1.1", "10.0.2.1"},
	} {
		p, q := addr(x[0]).AsSlice(), addr(x[1]).AsSlice()
		secrets["packets of "+x[0]+" to "+x[1]] = append(p, q...)
		secrets["packets of "+x[1]+" to "+x[0]] = append(bytes.Clone(q), p...)
	}
	for _, p := range wan.Packets(nil) {
		if p.Src.IsPrivate() || p.Dst.IsPrivate() {
			t.Errorf("a private address: %v", p)
		}
		for what, s := range secrets {
			if bytes.Contains(p.Payload, s) {
				t.Errorf("%s is readable in %v", what, p)
			}
		}
	}
}

// testNewKeys waits for the handshake by which WireGuard changes its keys, 120 s
// after the last one if there is something to send, while hosts talk and
// somebody reads along. Nothing is lost.
func testNewKeys(ctx context.Context, t *testing.T, l *lab.Lab, a *homes.Home) {
	const last = "wg show all latest-handshakes"
	wan, err := l.Internet().Capture()
	if err != nil {
		t.Fatal(err)
	}
	was := a.Router.MustRun(ctx, last) // a handshake before this does not count, but is captured
	talking(ctx, t, a.Host, addr(fig11.seenB), func() {
		for begin := time.Now(); a.Router.MustRun(ctx, last) == was; time.Sleep(300 * time.Millisecond) {
			if time.Since(begin) > 3*time.Minute {
				t.Fatalf("no new handshake: %s", was)
			}
		}
		time.Sleep(2 * time.Second) // by the new keys
	})
	if err := wan.Stop(); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []byte{1, 2} { // initiation, response
		if len(wan.Packets(func(p lab.Packet) bool {
			return p.Proto == 17 && len(p.Payload) > 8 && bytes.HasPrefix(p.Payload[8:], []byte{kind, 0, 0, 0}) && (p.SrcPort == 17010 || p.DstPort == 17010)
		})) == 0 {
			t.Errorf("no handshake message of type %d passed by", kind)
		}
	}
	testUnreadable(t, wan)
}

// testSilence sends what a port scanner and a WireGuard client without the key
// send. No bit comes back, and the tunnel stays.
func testSilence(ctx context.Context, t *testing.T, l *lab.Lab, b *homes.Home) {
	c, err := l.Internet().Dial(ctx, "udp", b.Router.WANAddr().String()+":17010")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	call := make([]byte, 148) // a handshake initiation
	rand.Read(call)
	copy(call, []byte{1, 0, 0, 0})
	for _, packet := range [][]byte{{}, []byte("knock"), call, bytes.Repeat([]byte{4, 0, 0, 0}, 8), make([]byte, 1400)} {
		if _, err := c.Write(packet); err != nil {
			t.Errorf("refused: %v", err) // as a closed port does
		}
	}
	c.SetReadDeadline(time.Now().Add(time.Second))
	buf := make([]byte, 2000)
	if n, err := c.Read(buf); n > 0 || err == nil || !strings.Contains(err.Error(), "timeout") {
		t.Errorf("the port answers a stranger: %d bytes, %v", n, err)
	}
}

// testSecrets: keys are nowhere but in the kernel and in the file by which a
// new process takes the tunnel over.
func testSecrets(ctx context.Context, t *testing.T, a, b *homes.Home) {
	for _, h := range []*homes.Home{a, b} {
		keys := strings.Fields(h.Router.MustRun(ctx, "wg show all private-key | cut -f2; wg show all preshared-keys | cut -f3"))
		if len(keys) != 2 {
			t.Fatalf("%s has the keys %d", h.Name, len(keys))
		}
		said := h.Router.MustRun(ctx, "ps -o args; cat /var/log/messages /var/log/htipd.log; htip status --json; htip peers --json")
		for _, k := range keys { // in the form in which anybody would print them
			if strings.Contains(said, k) {
				t.Errorf("%s tells a key:\n%s", h.Name, said)
			}
		}
		if out := h.Router.MustRun(ctx, "stat -c '%a %n' /var/run/htip/tunnels.json"); !strings.HasPrefix(out, "600 ") {
			t.Errorf("%s: %s", h.Name, out)
		}
	}
}

// testAdoption kills both daemons while hosts talk. New ones find everything as
// it should be.
func testAdoption(ctx context.Context, t *testing.T, a, b *homes.Home) {
	const look = "iptables-save | grep HTIP | grep -v '^:'; ip route show proto 72; ip -o link show type wireguard; wg showconf $(wg show interfaces)"
	before, err := a.Tunnel(ctx, "bob")
	if err != nil {
		t.Fatal(err)
	}
	id := before.TunnelID
	was := map[*homes.Home]string{}
	talking(ctx, t, a.Host, addr(fig11.seenB), func() {
		for _, h := range []*homes.Home{a, b} {
			h.Router.MustRun(ctx, "kill -9 $(pidof htipd)")
			was[h] = h.Router.MustRun(ctx, look)
		}
		time.Sleep(time.Second)
		for h, peer := range map[*homes.Home]string{a: "bob", b: "alice"} {
			if err := h.StartDaemon(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := h.WaitState(ctx, peer, "up"); err != nil {
				t.Fatal(err)
			}
			if log := h.Log(); !strings.Contains(log, "tunnel taken over") || !strings.Contains(log, "changes=[]") {
				t.Errorf("%s did not take the tunnel over unchanged", h.Name)
			}
		}
	})
	for _, h := range []*homes.Home{a, b} {
		sameLeavings(t, h.Name+" after a new daemon", was[h], h.Router.MustRun(ctx, look))
	}
	// Over the control connection, once it is back, the two agree that the tunnel stands.
	b.Router.MustRun(ctx, "n=0; until ss -Htn state established sport = :4847 | grep -q .; do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.1; done; sleep 1")
	for h, peer := range map[*homes.Home]string{a: "bob", b: "alice"} {
		if tn, err := h.Tunnel(ctx, peer); err != nil || tn.State != "up" || tn.TunnelID != id {
			t.Errorf("%s: %+v, %v; want tunnel %s up", h.Name, tn, err, id)
		}
	}
}

// testPowerCut takes the power of bob's router away and gives it back.
func testPowerCut(ctx context.Context, t *testing.T, a, b *homes.Home) {
	if _, err := a.Connect(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	if err := a.Host.PingUntil(ctx, addr(fig11.seenB)); err != nil {
		t.Fatal(err)
	}
	b.Router.Kill()
	gone, err := a.Router.Uptime(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for {
		tn, err := a.Tunnel(ctx, "bob")
		if err != nil {
			t.Fatal(err)
		}
		if tn.State != "up" {
			t.Log("what alice is told: ", tn.Error)
			if !strings.Contains(tn.Error, "fell silent") {
				t.Error("another reason than silence")
			}
			break
		}
		if ctx.Err() != nil {
			t.Fatal("nobody notices")
		}
		time.Sleep(200 * time.Millisecond)
	}
	noticed, err := a.Router.Uptime(ctx)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("noticed after %.1f s", (noticed - gone).Seconds())
	if noticed-gone > 40*time.Second { // 24 s, and the time to look
		t.Error("noticed too late")
	}
	if err := b.Router.Start(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.StartUbus(ctx); err != nil {
		t.Fatal(err)
	}
	if err := b.StartDaemon(ctx); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	if err := a.Host.PingUntil(ctx, addr(fig11.seenB)); err != nil {
		t.Fatal(err)
	}
	t.Logf("hosts reach each other %.1f s after bob's daemon runs again", time.Since(back).Seconds())
}

// testNAT puts alice's router behind another one, as at a carrier that has no
// public address for her.
func testNAT(ctx context.Context, t *testing.T, l *lab.Lab, a, b *homes.Home) {
	a.Router.MustRun(ctx, "htip disconnect bob")
	outside := netip.MustParseAddr("192.88.99.200")
	on := func(words string) {
		t.Helper()
		f := strings.Fields(words)
		if _, err := l.Internet().Run(ctx, f[0], f[1:]...); err != nil {
			t.Fatal(err)
		}
	}
	for _, words := range []string{
		"ip link set wan-alice nomaster",
		"ip address add 100.64.0.1/24 dev wan-alice",
		"ip address add " + outside.String() + "/32 dev br-inet",
		"iptables -t nat -A POSTROUTING -s 100.64.0.0/24 -d 192.88.99.0/24 -p udp -j SNAT --to-source " + outside.String() + ":50000-50100",
		"iptables -t nat -A POSTROUTING -s 100.64.0.0/24 -d 192.88.99.0/24 -j SNAT --to-source " + outside.String(),
	} {
		on(words)
	}
	a.Router.MustRun(ctx, "ip address flush dev wan; ip address add 100.64.0.2/24 dev wan; ip route add default via 100.64.0.1")
	if _, err := a.Connect(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	for _, x := range []struct {
		h  *homes.Home
		to string
	}{{a, fig11.seenB}, {b, fig11.seenA}} {
		if err := x.h.Host.Ping(ctx, addr(x.to), 1000, 3); err != nil {
			t.Errorf("from %s: %v", x.h.Name, err)
		}
	}
	at := endpoint(ctx, b)
	if at.Addr() != outside {
		t.Errorf("alice calls from %s, bob sees her at %s", outside, at)
	}
	// Her router gets another address, and so another port on the outside. Its
	// next packet tells bob.
	a.Router.MustRun(ctx, "ip address flush dev wan; ip address add 100.64.0.3/24 dev wan; ip route add default via 100.64.0.1")
	begin := time.Now()
	if err := b.Host.PingUntil(ctx, addr(fig11.seenA)); err != nil {
		t.Fatal(err)
	}
	now := endpoint(ctx, b)
	t.Logf("bob saw alice at %s and, %.1f s after she had moved, at %s", at, time.Since(begin).Seconds(), now)
	if now.Addr() != outside || now == at {
		t.Errorf("bob has not followed alice to another port: %s, then %s", at, now)
	}
}

// endpoint is where a router sees the only peer of its tunnels.
func endpoint(ctx context.Context, h *homes.Home) netip.AddrPort {
	f := strings.Fields(h.Router.MustRun(ctx, "wg show all endpoints"))
	at, err := netip.ParseAddrPort(f[len(f)-1])
	if err != nil {
		panic(err)
	}
	return at
}
