//go:build qemu

package qemu_test

import (
	"context"
	"regexp"
	"strings"
	"testing"
	"time"

	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

// xfrm is everything of IPsec that a router holds, in the order of its names,
// without what changes by itself.
func xfrm(ctx context.Context, h *homes.Home) string {
	return h.Router.MustRun(ctx, "ip xfrm state | grep -v seq; ip xfrm policy")
}

// somebodyElses makes what a VPN program of the router's owner would have,
// once more if it was there.
func somebodyElses(ctx context.Context, h *homes.Home) string {
	h.Router.MustRun(ctx, `ip xfrm policy delete dir out src 10.99.0.0/24 dst 10.98.0.0/24 2>/dev/null
ip xfrm state delete src 198.51.100.77 dst 198.51.100.78 proto esp spi 0x1001 2>/dev/null
set -e
ip xfrm state add src 198.51.100.77 dst 198.51.100.78 proto esp spi 0x1001 reqid 1 mode tunnel aead 'rfc7539esp(chacha20,poly1305)' 0x000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223 128
ip xfrm policy add dir out src 10.99.0.0/24 dst 10.98.0.0/24 priority 380000 tmpl src 198.51.100.77 dst 198.51.100.78 proto esp reqid 1 mode tunnel`)
	return xfrm(ctx, h)
}

// spis are those of the tunnel's associations, sent by and received by.
func spis(ctx context.Context, h *homes.Home, dst string) []string {
	var out []string
	for _, m := range regexp.MustCompile(`spi (0x[0-9a-f]+) reqid 12[0-9]{8}`).FindAllStringSubmatch(h.Router.MustRun(ctx, "ip xfrm state list dst "+dst), -1) {
		out = append(out, m[1])
	}
	return out
}

// TestESP is two homes whose tunnel is L2TP in ESP, with keys that change every
// 10 seconds, on routers that have associations of somebody else. They have no
// instructions for AES: ChaCha20 is chosen.
func TestESP(t *testing.T) {
	ctx, l := newLabMIPS(t)
	f := wg11()
	specs := f.specs()
	for i := range specs {
		specs[i].Main += "\tlist protocol 'l2tp-esp'\n\tlist protocol 'wireguard'\n"
		specs[i].Flags = []string{"-esp-rekey", "10s"}
	}
	hs, err := homes.Boot(ctx, l, specs...)
	if err != nil {
		t.Fatal(err)
	}
	a, b := hs[0], hs[1]
	showLogs(t, a, b)
	var pristine, started, foreign [2]string
	for i, h := range hs {
		foreign[i] = somebodyElses(ctx, h)
		pristine[i] = leavings(ctx, t, h)
		if err := h.StartDaemon(ctx); err != nil {
			t.Fatal(err)
		}
	}
	settle(ctx, t, a, b)
	for i, h := range hs {
		started[i] = leavings(ctx, t, h)
	}
	alone := func(t *testing.T) {
		t.Helper()
		for i, h := range hs {
			if now := xfrm(ctx, h); now != foreign[i] {
				t.Errorf("%s has other associations and policies than before:\n%s", h.Name, now)
			}
		}
	}
	alone(t)

	t.Run("nothing to read on the way", func(t *testing.T) {
		testSecrecy(ctx, t, l, a, b, func(p lab.Packet) bool { return p.Proto == 50 })
	})
	if out := a.Router.MustRun(ctx, "htip status"); !strings.Contains(out, "l2tp-esp (chacha20-poly1305) (client), encrypted, ID") {
		t.Errorf("htip status:\n%s", out)
	}
	t.Run("nothing plain is taken", func(t *testing.T) { testPlain(ctx, t, l, a, b) })
	t.Run("secrets", func(t *testing.T) { testESPSecrets(ctx, t, a, b) })
	t.Run("keys change", func(t *testing.T) { testRekey(ctx, t, a, b) })
	t.Run("big packets", func(t *testing.T) { testBigPackets(ctx, t, a, b, 1410) })
	t.Run("kill", func(t *testing.T) { testESPAdoption(ctx, t, a, b) })
	t.Run("disconnect", func(t *testing.T) { testDisconnect(ctx, t, l, a, b, started); alone(t) })
	t.Run("disturbed", func(t *testing.T) { testDisturbed(ctx, t, a, b) })
	somebodyElses(ctx, a) // flushed
	t.Run("stop", func(t *testing.T) {
		for i, h := range hs {
			if err := h.StopDaemon(ctx); err != nil {
				t.Fatal(err)
			}
			after := strings.Replace(leavings(ctx, t, h), "/etc/htip/state.json\n", "", 1)
			sameLeavings(t, h.Name+" after the daemon has stopped", pristine[i], after)
		}
		alone(t)
		for _, h := range hs {
			if err := h.StartDaemon(ctx); err != nil {
				t.Fatal(err)
			}
		}
	})
	t.Run("falls to WireGuard behind NAT", func(t *testing.T) {
		testNAT(ctx, t, l, a, b)
		if tn, err := a.Tunnel(ctx, "bob"); err != nil || tn.Protocol != "wireguard" {
			t.Errorf("%+v, %v", tn, err)
		}
	})
}

// testPlain calls bob's xl2tpd from alice's own address, past her policies, as
// somebody between the two could. Nothing comes back, neither to that nor to a
// stranger, and bob's xl2tpd hears nothing.
func testPlain(ctx context.Context, t *testing.T, l *lab.Lab, a, b *homes.Home) {
	before := b.Router.MustRun(ctx, "cat /var/run/htip/tunnels/esp/*/log")
	errors := func() string { return b.Router.MustRun(ctx, "grep XfrmIn /proc/net/xfrm_stat") }
	was := errors()
	stop, err := homes.Capture(ctx, b.Router, "wan", "udp port 17010")
	if err != nil {
		t.Fatal(err)
	}
	// Another xl2tpd at alice, at a port that her policies say nothing of.
	a.Router.MustRun(ctx, `mkdir /tmp/plain; cd /tmp/plain; printf '[global]\nport = 29999\n[lac x]\nlns = `+b.Router.WANAddr().String()+`:17010\nautodial = yes\n' >c
xl2tpd -D -c /tmp/plain/c -p /tmp/plain/p -C /tmp/plain/control >/dev/null 2>&1 &
p=$!; sleep 4; kill -9 $p; rm -r /tmp/plain`)
	testSilence(ctx, t, l, b)
	seen, err := stop()
	if err != nil {
		t.Fatal(err)
	}
	knocks := 0
	for _, p := range seen {
		if p.From == b.Router.WANAddr() {
			t.Errorf("an answer in plain: %s", p.Text)
		}
		if p.From == a.Router.WANAddr() {
			knocks++
		}
	}
	if knocks == 0 {
		t.Error("alice's packet never came")
	}
	if now := errors(); now == was {
		t.Errorf("the kernel has refused nothing: %s", now)
	}
	if after := b.Router.MustRun(ctx, "cat /var/run/htip/tunnels/esp/*/log"); after != before {
		t.Errorf("xl2tpd heard it: %s", strings.TrimPrefix(after, before))
	}
}

// testESPSecrets: keys are nowhere but in the kernel and in the file by which a
// new process takes the tunnel over.
func testESPSecrets(ctx context.Context, t *testing.T, a, b *homes.Home) {
	for _, h := range []*homes.Home{a, b} {
		keys := regexp.MustCompile(`poly1305\)\) 0x([0-9a-f]{72})`).FindAllStringSubmatch(h.Router.MustRun(ctx, "ip xfrm state | sed 's/poly1305)/poly1305))/'"), -1)
		if len(keys) < 5 {
			t.Fatalf("%s has %d keys", h.Name, len(keys))
		}
		said := h.Router.MustRun(ctx, "ps -o args; cat /var/log/messages /var/log/htipd.log; htip status --json; htip peers --json")
		for _, k := range keys {
			if strings.Contains(said, k[1][:32]) {
				t.Errorf("%s tells a key:\n%s", h.Name, said)
			}
		}
		if out := h.Router.MustRun(ctx, "stat -c '%a %n' /var/run/htip/tunnels.json"); !strings.HasPrefix(out, "600 ") {
			t.Errorf("%s: %s", h.Name, out)
		}
	}
}

// newKeys is how often a home has changed keys so far.
func newKeys(h *homes.Home) int { return strings.Count(h.Log(), "msg=\"new key\"") }

// testRekey has hosts talk while keys of both directions change twice.
func testRekey(ctx context.Context, t *testing.T, a, b *homes.Home) {
	first := map[*homes.Home][]string{a: spis(ctx, a, b.Router.WANAddr().String()), b: spis(ctx, b, a.Router.WANAddr().String())}
	before := map[*homes.Home]int{a: newKeys(a), b: newKeys(b)}
	talking(ctx, t, a.Host, addr(fig11.seenB), func() {
		testTransfer(ctx, t, a, b, 10)
		for begin := time.Now(); newKeys(a) < before[a]+2 || newKeys(b) < before[b]+2; time.Sleep(time.Second) {
			if time.Since(begin) > 2*time.Minute {
				t.Fatal("no more new keys")
			}
		}
	})
	for h, was := range first {
		var now []string
		for _, x := range []*homes.Home{a, b} {
			if x != h {
				now = spis(ctx, h, x.Router.WANAddr().String())
			}
		}
		for _, s := range was {
			for _, n := range now {
				if s == n {
					t.Errorf("%s still sends by %s of %v", h.Name, s, was)
				}
			}
		}
		t.Logf("%s: sent by %v, then by %v", h.Name, was, now)
	}
}

// testESPAdoption kills both daemons while hosts talk. New ones find everything
// as it should be.
func testESPAdoption(ctx context.Context, t *testing.T, a, b *homes.Home) {
	const look = "iptables-save | grep HTIP | grep -v '^:'; ip route show proto 72; cat /var/run/htip/tunnels/esp/*/pid; ip xfrm policy"
	was := map[*homes.Home]string{}
	talking(ctx, t, a.Host, addr(fig11.seenB), func() {
		for _, h := range []*homes.Home{a, b} {
			h.Router.MustRun(ctx, "kill -9 $(pidof htipd)")
			was[h] = h.Router.MustRun(ctx, look)
		}
		time.Sleep(time.Second)
		// Both at once: each has the keys of two more changes, which come every ten seconds here.
		started := make(chan error, 2)
		for _, h := range []*homes.Home{a, b} {
			go func() { started <- h.StartDaemon(ctx) }()
		}
		for range 2 {
			if err := <-started; err != nil {
				t.Fatal(err)
			}
		}
		for h, peer := range map[*homes.Home]string{a: "bob", b: "alice"} {
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
	// The keys go on changing.
	for keys := newKeys(a); newKeys(a) == keys; {
		if ctx.Err() != nil {
			t.Fatal("no more new keys")
		}
		time.Sleep(time.Second)
	}
	if err := a.Host.Ping(ctx, addr(fig11.seenB), 56, 5); err != nil {
		t.Error(err)
	}
}

// testDisturbed takes all associations away under a tunnel, as a VPN program
// that flushes them at its start does. Nothing leaves in plain, and the homes
// make a new tunnel, with new keys.
func testDisturbed(ctx context.Context, t *testing.T, a, b *homes.Home) {
	if _, err := a.Connect(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	if err := a.Host.PingUntil(ctx, addr(fig11.seenB)); err != nil {
		t.Fatal(err)
	}
	before, err := a.Tunnel(ctx, "bob")
	if err != nil {
		t.Fatal(err)
	}
	stop, err := homes.Capture(ctx, b.Router, "wan", "udp portrange 17010-17073")
	if err != nil {
		t.Fatal(err)
	}
	a.Router.MustRun(ctx, "ip xfrm state flush")
	for {
		now, err := a.Tunnel(ctx, "bob")
		if err == nil && now.State == "up" && now.TunnelID != before.TunnelID {
			break
		}
		if ctx.Err() != nil {
			t.Fatalf("no new tunnel: %+v, %v", now, err)
		}
		time.Sleep(300 * time.Millisecond)
	}
	if err := a.Host.PingUntil(ctx, addr(fig11.seenB)); err != nil {
		t.Fatal(err)
	}
	seen, err := stop()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range seen {
		if p.From == a.Router.WANAddr() {
			t.Errorf("in plain: %s", p.Text)
		}
	}
}

// TestESPByAES: a home whose kernel has no ChaCha20-Poly1305 gets AES-GCM.
func TestESPByAES(t *testing.T) {
	ctx, l := newLabMIPS(t)
	specs := wg11().specs()
	for i := range specs {
		specs[i].Main += "\tlist protocol 'l2tp-esp'\n"
		specs[i].Flags = []string{"-esp-rekey", "10s"}
	}
	hs, err := homes.Boot(ctx, l, specs...)
	if err != nil {
		t.Fatal(err)
	}
	a, b := hs[0], hs[1]
	showLogs(t, a, b)
	b.Router.MustRun(ctx, "rm $(find /lib/modules -name chacha20poly1305.ko | grep -v lib/crypto); ! modprobe chacha20poly1305 2>/dev/null")
	for _, h := range hs {
		if err := h.StartDaemon(ctx); err != nil {
			t.Fatal(err)
		}
	}
	settle(ctx, t, a, b)
	if _, err := a.Connect(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	if out := a.Router.MustRun(ctx, "htip status"); !strings.Contains(out, "l2tp-esp (aes-gcm-128) (client), encrypted, ID") {
		t.Errorf("htip status:\n%s", out)
	}
	if err := a.Host.PingUntil(ctx, addr(fig11.seenB)); err != nil {
		t.Fatal(err)
	}
	talking(ctx, t, a.Host, addr(fig11.seenB), func() {
		testTransfer(ctx, t, a, b, 5)
		for begin := time.Now(); newKeys(a) == 0; time.Sleep(time.Second) {
			if time.Since(begin) > 2*time.Minute {
				t.Fatal("no new key")
			}
		}
	})
}
