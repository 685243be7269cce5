//go:build qemu

package qemu_test

import (
	"context"
	"encoding/base64"
	"encoding/hex"
	"net"
	"strings"
	"testing"
	"time"

	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

const (
	listPPTP      = "\tlist protocol 'pptp'\n"
	encryptionOff = "\toption encryption 'off'\n"
)

// openPPTP is what a user who wants PPTP does to the firewall, and what a system
// has in /etc/ppp for other lines: nothing of that may be used or touched.
const openPPTP = `iptables -I INPUT 1 -i wan -p tcp -m tcp --dport 1723 -j ACCEPT; iptables -I INPUT 1 -i wan -p gre -j ACCEPT
mkdir -p /etc/ppp && cd /etc/ppp && printf 'mtu 600\nmru 600\nlogfile /tmp/somebodys.log\n' >options && printf 'htip * wrong *\n' >chap-secrets && chmod 600 chap-secrets && touch -d 2001-01-01 *`

// TestPPTP is two homes that list pptp, and say that they need no encryption.
func TestPPTP(t *testing.T) {
	ctx, l := newLab(t)
	specs := fig11.specs()
	for i := range specs {
		specs[i].L2TP, specs[i].Main, specs[i].Peers = false, sequential, encryptionOff
	}
	specs[0].Main += listPPTP // one for all peers, one for this peer
	specs[1].Peers += listPPTP
	hs, err := homes.Boot(ctx, l, specs...)
	if err != nil {
		t.Fatal(err)
	}
	a, b := hs[0], hs[1]
	showLogs(t, a, b)
	var pristine, started [2]string
	for i, h := range hs {
		h.Router.MustRun(ctx, openPPTP)
		pristine[i] = leavings(ctx, t, h)
		if err := h.StartDaemon(ctx); err != nil {
			t.Fatal(err)
		}
	}
	settle(ctx, t, a, b)
	for i, h := range hs {
		started[i] = leavings(ctx, t, h)
	}

	t.Run("not unless both want it", func(t *testing.T) { testNoPPTP(ctx, t, hs) })
	t.Run("warning", func(t *testing.T) { testPPTPWarning(ctx, t, a) })
	out, err := a.Connect(ctx, "bob")
	if err != nil {
		t.Fatal(err)
	}
	t.Log(out)
	t.Run("tunnel", func(t *testing.T) { testPPTPTunnel(ctx, t, a, b) })
	t.Run("strangers", func(t *testing.T) { testPPTPStranger(ctx, t, l, a, b) })
	t.Run("secrets", func(t *testing.T) { testPPTPSecrets(ctx, t, a, b) })
	t.Run("big packets", func(t *testing.T) {
		if err := a.Host.Ping(ctx, addr(fig11.seenB), 3000, 3); err != nil {
			t.Error(err)
		}
		if err := a.Host.PingDF(ctx, addr(fig11.seenB), 1400-28, 2); err != nil {
			t.Error(err)
		}
		if err := b.Host.PingDF(ctx, addr(fig11.seenA), 1400-28+1, 2); err == nil {
			t.Error("1401 bytes went through a tunnel of 1400")
		}
	})
	t.Run("kill", func(t *testing.T) { testPPTPKill(ctx, t, a, b) })
	t.Run("disconnect", func(t *testing.T) { testPPTPDisconnect(ctx, t, a, b, started) })
	t.Run("stop", func(t *testing.T) {
		if _, err := b.Connect(ctx, "alice"); err != nil { // the other way round this time
			t.Fatal(err)
		}
		for i, h := range hs {
			if err := h.StopDaemon(ctx); err != nil {
				t.Fatal(err)
			}
			after := strings.Replace(leavings(ctx, t, h), "/etc/htip/state.json\n", "", 1)
			sameLeavings(t, h.Name+" after the daemon has stopped", pristine[i], after)
			if out := h.Router.MustRun(ctx, "find /run /tmp /var -name '*pptp*'; find /run/htip -mindepth 1 2>/dev/null; stat -c '%Y %n' /etc/ppp/* | grep -v ^9783; grep -l htip /proc/[0-9]*/mountinfo; conntrack -L expect 2>/dev/null; true"); out != "" {
				t.Errorf("%s has left, or changed:\n%s", h.Name, out)
			}
		}
	})
}

// testNoPPTP: one of two is not enough, neither of homes nor of lines.
func testNoPPTP(ctx context.Context, t *testing.T, hs []*homes.Home) {
	a, b := hs[0], hs[1]
	good := [2]string{a.Config(hs...), b.Config(hs...)}
	for _, c := range []struct{ what, alice, bob, words string }{
		{"not listed there, as by default", good[0], strings.ReplaceAll(good[1], listPPTP, ""), "the other gateway says: this gateway allows you wireguard, l2tp-esp, l2tp"},
		{"encryption required there", good[0], strings.ReplaceAll(good[1], encryptionOff, ""), "the other gateway says: this gateway allows you none"},
		{"encryption required at both", strings.ReplaceAll(good[0], encryptionOff, ""), strings.ReplaceAll(good[1], encryptionOff, ""), "none of those possible (pptp) is encrypted"},
	} {
		for i, text := range []string{c.alice, c.bob} {
			hs[i].Reconfigure(ctx, t, text)
		}
		res, err := a.Router.Run(ctx, "htip connect bob --wait")
		if err != nil || res.Code != 1 || !strings.Contains(res.Output, c.words) || strings.Contains(res.Output, "pptp is not possible") {
			t.Errorf("%s: exit code %d, %v: %s", c.what, res.Code, err, res.Output)
		}
		if out := b.Router.MustRun(ctx, "ps -o args | grep -c '[p]ptp' || true"); strings.TrimSpace(out) != "0" {
			t.Errorf("%s: programs of PPTP run: %s", c.what, out)
		}
	}
	for i, h := range hs {
		h.Reconfigure(ctx, t, good[i])
	}
	settle(ctx, t, hs...)
}

// testPPTPWarning: who lists it is told what it means, wherever he looks.
func testPPTPWarning(ctx context.Context, t *testing.T, a *homes.Home) {
	const words = "pptp may be used with bob. Its encryption is broken: whoever records what goes through such a tunnel can read it. Use it only when nothing else works"
	if out := a.Router.MustRun(ctx, "htip status"); !strings.Contains(out, "problem: "+words) {
		t.Errorf("htip status:\n%s", out)
	}
	if !strings.Contains(a.Log(), words) {
		t.Error("not in the log")
	}
}

func testPPTPTunnel(ctx context.Context, t *testing.T, a, b *homes.Home) {
	f := fig11
	for _, x := range []struct {
		h, other          *homes.Home
		own, theirs, role string
	}{{a, b, f.prefixA, f.prefixB, "client"}, {b, a, f.prefixB, f.prefixA, "server"}} {
		tn, err := x.h.WaitState(ctx, x.other.Name, "up")
		if err != nil {
			t.Fatal(err)
		}
		if tn.Own[0].Substitute.String() != x.own || tn.Theirs[0].Substitute.String() != x.theirs || tn.Role != x.role || tn.Protocol != "pptp" || tn.Encrypted {
			t.Errorf("%s's connection table: %+v", x.h.Name, tn)
		}
		const reason = "not encrypted, which option encryption 'off' allows; wireguard is not allowed here; l2tp-esp is not allowed here; l2tp is not allowed here"
		if tn.ProtocolReason != reason {
			t.Errorf("%s: because %q", x.h.Name, tn.ProtocolReason)
		}
		out := x.h.Router.MustRun(ctx, "htip status")
		for _, words := range []string{"pptp (" + x.role + "), NOT safe: its encryption is broken, ID ", "not in the kernel: slow", "because        " + reason} {
			if !strings.Contains(out, words) {
				t.Errorf("%s: no %q in\n%s", x.h.Name, words, out)
			}
		}
	}
	if err := a.Host.Ping(ctx, addr(f.seenB), 56, 3); err != nil {
		t.Error(err)
	}
	if err := b.Host.Ping(ctx, addr(f.seenA), 56, 3); err != nil {
		t.Error(err)
	}
	lookup(ctx, t, a, "nas.bob.internal", f.seenB)
	lookup(ctx, t, b, "pc.alice.internal", f.seenA)
	// What is there of encryption is on.
	if log := b.Router.MustRun(ctx, "cat /var/run/htip/tunnels/pptp/htip-alice/log"); !strings.Contains(log, "MPPE 128-bit stateless compression enabled") {
		t.Errorf("no MPPE:\n%s", log)
	}
}

// testPPTPStranger: nobody but the peer's address gets to pptpd, and packets of
// the call are not taken from anybody else.
func testPPTPStranger(ctx context.Context, t *testing.T, l *lab.Lab, a, b *homes.Home) {
	b.Router.MustRun(ctx, "iptables -t mangle -Z HTIP-PPTP-INPUT")
	short, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if c, err := l.Internet().Dial(short, "tcp", b.Router.WANAddr().String()+":1723"); err == nil {
		c.Close()
		t.Error("a stranger gets to pptpd")
	}
	if rules := b.Router.MustRun(ctx, "iptables-save -c -t mangle | grep -e '-A HTIP-PPTP'"); strings.HasPrefix(rules, "[0:") {
		t.Errorf("another rule has stopped the stranger: %s", rules)
	}
	// All numbers that the call may have, with what ends it at once: LCP's
	// Terminate-Request in GRE.
	c, err := l.Internet().ListenPacket("ip4:47", lab.InternetHost.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	arrived := "iptables -%s INPUT -p gre -s " + lab.InternetHost.String()
	b.Router.MustRun(ctx, strings.Replace(arrived, "%s", "I", 1))
	to := &net.IPAddr{IP: b.Router.WANAddr().AsSlice()}
	before := b.Router.MustRun(ctx, "grep -c Terminate /var/run/htip/tunnels/pptp/htip-alice/log || true")
	for id := range 64 {
		lcp := []byte{0xff, 0x03, 0xc0, 0x21, 5, 1, 0, 4}
		gre := append([]byte{0x30, 0x01, 0x88, 0x0b, 0, byte(len(lcp)), byte(id >> 8), byte(id), 0, 0, 0xff, 0xff}, lcp...)
		if _, err := c.WriteTo(gre, to); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.Host.Ping(ctx, addr(fig11.seenB), 56, 4); err != nil {
		t.Errorf("a stranger's packets have an effect: %v", err)
	}
	if rules := b.Router.MustRun(ctx, "iptables-save -c -t filter | grep 'INPUT.*-p gre$'"); !strings.Contains(rules, "[64:") {
		t.Errorf("the packets have not arrived: %s", rules)
	}
	b.Router.MustRun(ctx, strings.Replace(arrived, "%s", "D", 1))
	if after := b.Router.MustRun(ctx, "grep -c Terminate /var/run/htip/tunnels/pptp/htip-alice/log || true"); after != before {
		t.Error("a stranger's packets get to pppd")
	}
}

// testPPTPSecrets: the secret is in the tunnel's file and, as base64 of what the
// digits mean, in the table of tunnels, both root's and in RAM, and nowhere else.
func testPPTPSecrets(ctx context.Context, t *testing.T, a, b *homes.Home) {
	secret := strings.Fields(b.Router.MustRun(ctx, "cat /var/run/htip/tunnels/pptp/htip-alice/etc/chap-secrets"))[2]
	if len(secret) != 32 {
		t.Fatalf("%d characters", len(secret))
	}
	raw, err := hex.DecodeString(secret)
	if err != nil {
		t.Fatal(err)
	}
	encoded := base64.StdEncoding.EncodeToString(raw)
	for _, h := range []*homes.Home{a, b} {
		said := h.Router.MustRun(ctx, "ps -o args; cat /var/log/messages /var/log/htipd.log; htip status --json; htip peers --json; cat /var/run/htip/tunnels/pptp/*/log; cat /proc/[0-9]*/environ")
		if strings.Contains(said, secret) || strings.Contains(said, encoded) {
			t.Errorf("%s tells the secret", h.Name)
		}
		in := h.Router.MustRun(ctx, "grep -rlIF -e "+secret+" -e "+encoded+" /etc /run /tmp /var 2>/dev/null | grep -v ^/tmp/agent | sort")
		if !strings.Contains(in, "/run/htip/tunnels/pptp/") || !strings.Contains(in, "/run/htip/tunnels.json\n") || strings.Count(in, "\n") != 2 {
			t.Errorf("%s has it in %s", h.Name, in)
		}
		for _, line := range strings.Split(strings.TrimSpace(h.Router.MustRun(ctx, "stat -c '%a %n' $(find /var/run/htip/tunnels -type d) "+strings.ReplaceAll(in, "\n", " "))), "\n") {
			if mode, _, _ := strings.Cut(line, " "); mode != "700" && mode != "600" {
				t.Errorf("%s: others may read %s", h.Name, line)
			}
		}
	}
}

// testPPTPKill kills both daemons while hosts talk; the next ones take over what
// is there. Then it kills all of a tunnel's programs.
func testPPTPKill(ctx context.Context, t *testing.T, a, b *homes.Home) {
	const look = "iptables-save | grep HTIP | grep -v '^:'; ip route show proto 72; pidof pppd pptpd pptpctrl pptp"
	peers := map[*homes.Home]string{a: "bob", b: "alice"}
	before, err := a.Tunnel(ctx, "bob")
	if err != nil {
		t.Fatal(err)
	}
	was := map[*homes.Home]string{}
	talking(ctx, t, a.Host, addr(fig11.seenB), func() {
		for h := range peers {
			h.Router.MustRun(ctx, "kill -9 $(pidof htipd)")
			was[h] = h.Router.MustRun(ctx, look)
		}
		for h, peer := range peers {
			if err := h.StartDaemon(ctx); err != nil {
				t.Fatal(err)
			}
			tn, err := h.WaitState(ctx, peer, "up")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(tn.ProtocolReason, "not encrypted") {
				t.Errorf("%s has forgotten why: %q", h.Name, tn.ProtocolReason)
			}
			if log := h.Log(); !strings.Contains(log, "tunnel taken over") || !strings.Contains(log, "changes=[]") {
				t.Errorf("%s did not take the tunnel over unchanged", h.Name)
			}
		}
	})
	for h := range peers {
		sameLeavings(t, h.Name+" after a new daemon", was[h], h.Router.MustRun(ctx, look))
	}
	if tn, err := a.Tunnel(ctx, "bob"); err != nil || tn.TunnelID != before.TunnelID {
		t.Errorf("tunnel %s became %s, %v", before.TunnelID, tn.TunnelID, err)
	}
	// A call goes on without who has taken it; not without its pppd.
	b.Router.MustRun(ctx, "kill -9 $(pidof pptpd)")
	if err := a.Host.Ping(ctx, addr(fig11.seenB), 56, 3); err != nil {
		t.Error(err)
	}
	b.Router.MustRun(ctx, "kill -9 $(pidof pppd)")
	for begin := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		tn, err := a.Tunnel(ctx, "bob")
		if err == nil && tn.State == "up" && tn.TunnelID != before.TunnelID {
			t.Logf("another tunnel %.1f s after pppd was killed", time.Since(begin).Seconds())
			break
		}
		if ctx.Err() != nil || time.Since(begin) > time.Minute {
			t.Fatalf("no new tunnel: %+v, %v", tn, err)
		}
	}
}

// testPPTPDisconnect: with the daemon running nothing of the tunnel stays but the
// guard of a home that is known.
func testPPTPDisconnect(ctx context.Context, t *testing.T, a, b *homes.Home, started [2]string) {
	a.Router.MustRun(ctx, "htip disconnect bob")
	if _, err := b.WaitState(ctx, "alice", "idle"); err != nil {
		t.Fatal(err)
	}
	for i, h := range []*homes.Home{a, b} {
		leftByDisconnect(ctx, t, h, started[i])
	}
}
