//go:build qemu

package qemu_test

import (
	"crypto/rand"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"htip/tests/qemu/homes"
)

// TestBadInput gives two homes everything that goes wrong in real life. Each
// time the person at the router reads a sentence that says what to do, and
// nothing is lost.
func TestBadInput(t *testing.T) {
	ctx, l := newLab(t)
	hs, err := homes.Start(ctx, l, homes.Spec{Name: "alice", LAN: lan("192.168.1.1/24", "192.168.1.4", "pc"), L2TP: true}, homes.Spec{Name: "bob", LAN: lan("192.168.1.1/24", "192.168.1.5", "nas"), L2TP: true})
	if err != nil {
		t.Fatal(err)
	}
	a, b := hs[0], hs[1]
	showLogs(t, a, b)
	good := map[*homes.Home]string{a: a.Config(hs...), b: b.Config(hs...)}

	// refused runs connect and wants it to fail with these words.
	refused := func(what, peer string, words ...string) {
		t.Helper()
		begin := time.Now()
		res, err := a.Router.Run(ctx, "htip connect "+peer+" --wait")
		if err != nil || res.Code != 1 {
			t.Errorf("%s: exit code %d, %v\n%s", what, res.Code, err, res.Output)
		}
		lines := strings.Split(strings.TrimSpace(res.Output), "\n")
		last := lines[len(lines)-1]
		for _, w := range words {
			if !strings.Contains(last, w) {
				t.Errorf("%s: no %q in %q", what, w, last)
			}
		}
		t.Logf("%s (%.1f s): %s", what, time.Since(begin).Seconds(), last)
	}

	t.Run("unknown domain", func(t *testing.T) {
		a.Reconfigure(ctx, t, strings.Replace(good[a], "bob.example.org", "nowhere.example.org", 1))
		refused("unknown domain", "bob", "nowhere.example.org can't be found", "spelled right")
	})
	t.Run("wrong key", func(t *testing.T) {
		a.Reconfigure(ctx, t, strings.Replace(good[a], b.Key, a.Key[:10]+"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", 1))
		refused("wrong key", "bob", "another key", "htip key")
		a.Reconfigure(ctx, t, good[a])
	})
	t.Run("not known there", func(t *testing.T) {
		b.Reconfigure(ctx, t, strings.Replace(b.Config(b), "\toption enabled", "\toption accept 'known'\n\toption enabled", 1))
		refused("not known there", "bob", "does not know our key")
		b.Reconfigure(ctx, t, good[b])
	})
	t.Run("encryption required", func(t *testing.T) {
		a.Reconfigure(ctx, t, strings.ReplaceAll(good[a], "\toption encryption 'off'\n", ""))
		refused("encryption required", "bob", "none", "encrypted")
		a.Reconfigure(ctx, t, good[a])
	})
	t.Run("refused port", func(t *testing.T) {
		if err := b.StopDaemon(ctx); err != nil {
			t.Fatal(err)
		}
		refused("refused port", "bob", "does not answer", "refused", "port open")
	})
	t.Run("no kernel module", func(t *testing.T) {
		b.Router.MustRun(ctx, "rmmod l2tp_ppp; mkdir /tmp/hidden && for m in $(find /lib/modules -name 'l2tp_ppp.ko*'); do mv $m /tmp/hidden/ && echo $m >/tmp/hidden/where; done; rm -f /dev/ppp.none")
		if err := b.StartDaemon(ctx); err != nil {
			t.Fatal(err)
		}
		refused("no kernel module", "bob", "kmod-")
		if out := b.Router.MustRun(ctx, "htip status"); !strings.Contains(out, "problem: ") {
			t.Errorf("bob's own status does not say it: %s", out)
		}
		b.Router.MustRun(ctx, "mv /tmp/hidden/l2tp_ppp.ko* $(dirname $(cat /tmp/hidden/where))/ && modprobe l2tp_ppp; rm -r /tmp/hidden")
		if err := b.StopDaemon(ctx); err != nil {
			t.Fatal(err)
		}
		if err := b.StartDaemon(ctx); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("full pool", func(t *testing.T) {
		full := strings.Replace(good[a], "\toption enabled '1'\n", "\toption enabled '1'\n\tlist pool '192.168.1.0/24'\n", 1)
		a.Reconfigure(ctx, t, full)
		refused("full pool", "bob", "no substitute addresses left", "address pool")
		a.Reconfigure(ctx, t, good[a])
	})

	// After all that the good way still works, and stays up under junk.
	if _, err := a.Connect(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	was, err := b.WaitState(ctx, "alice", "up")
	if err != nil {
		t.Fatal(err)
	}
	nas, err := a.Host.Lookup(ctx, "nas.bob.internal")
	if err != nil || len(nas) != 1 {
		t.Fatal(nas, err)
	}
	talking(ctx, t, a.Host, nas[0], func() {
		t.Run("junk on the port", func(t *testing.T) {
			heard := 0
			for i := range 50 {
				if junk(t, func() (net.Conn, error) { return l.Internet().Dial(ctx, "tcp", b.Router.WANAddr().String()+":4847") }, i) {
					heard++
				}
			}
			if t.Logf("%d of 50 connections stood long enough for junk", heard); heard < 10 {
				t.Error("too few")
			}
		})
		t.Run("ubus restarts", func(t *testing.T) {
			b.Router.MustRun(ctx, "kill -9 $(pidof ubusd); rm -f /var/run/ubus/ubus.sock; setsid ubusd -s /var/run/ubus/ubus.sock >/dev/null 2>&1 </dev/null &")
			b.Router.MustRun(ctx, "n=0; until htip status >/dev/null; do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.1; done")
		})
		t.Run("junk on ubus", func(t *testing.T) {
			// The junk on the port has shut the door, which opens after a minute: rules in mangle.
			const look = "pidof htipd | tr ' ' '\\n' | sort -n | head -1; grep changed /var/log/htipd.log | grep -vc 'what=\"rules in mangle\"'"
			before := b.Router.MustRun(ctx, look)
			said := b.Router.MustRun(ctx, "ubusjunk -n 150 call htip")
			t.Log(said)
			for _, w := range []string{"ok:", "invalid argument:", "method not found:"} { // it was heard, and answered
				if !strings.Contains(said, w) {
					t.Errorf("no answer %q", w)
				}
			}
			b.Router.MustRun(ctx, "htip status") // it still answers
			t.Log(b.Router.MustRun(ctx, "kill -9 $(pidof ubusd); rm -f /var/run/ubus/ubus.sock; ubusjunk -n 20 -limit 30s serve"))
			b.Router.MustRun(ctx, "rm -f /var/run/ubus/ubus.sock; setsid ubusd -s /var/run/ubus/ubus.sock >/dev/null 2>&1 </dev/null &")
			b.Router.MustRun(ctx, "n=0; until htip status >/dev/null; do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.1; done")
			if after := b.Router.MustRun(ctx, look); after != before {
				t.Errorf("process and changes of the kernel: before %q, after %q", before, after)
			}
		})
		t.Run("bad configuration", func(t *testing.T) {
			b.Reconfigure(ctx, t, good[b]+"config peer 'mallory'\n\toption domain 'mallory.example.org'\n\toption key 'it'\\''s no key'\n")
			if out := b.Router.MustRun(ctx, "htip status"); !strings.Contains(out, "mallory") || !strings.Contains(out, "option key") {
				t.Errorf("the bad section is not named: %s", out)
			}
			b.Reconfigure(ctx, t, "config htip 'main\n")
			if !strings.Contains(b.Log(), "configuration not taken over") {
				t.Error("a file that can't be read is not reported")
			}
			b.Reconfigure(ctx, t, good[b])
		})
	})
	if now, err := b.WaitState(ctx, "alice", "up"); err != nil || now.TunnelID != was.TunnelID {
		t.Errorf("the tunnel was lost: %+v, %v", now, err)
	}
}

// junk sends something that is no HTIP and hangs up, or not; false when it was hung up on first.
func junk(t *testing.T, dial func() (net.Conn, error), i int) (heard bool) {
	t.Helper()
	c, err := dial()
	if errors.Is(err, syscall.ECONNRESET) { // one too many, and the router was faster than we
		return false
	}
	if err != nil {
		t.Error(err)
		return false
	}
	b := make([]byte, 1+i*37)
	rand.Read(b)
	if i%3 == 0 { // looks like TLS at first
		copy(b, []byte{22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3})
	}
	c.Write(b)
	if i%2 == 0 {
		c.Close()
		return true
	}
	t.Cleanup(func() { c.Close() })
	return true
}
