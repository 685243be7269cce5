//go:build qemu

package qemu_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

// hostile is what a home drops of another one, as "htip status --json" says.
type hostile struct{ Source, Destination, Host, Router int }

func refusedOf(ctx context.Context, t *testing.T, h *homes.Home, peer string) (r hostile) {
	t.Helper()
	time.Sleep(1100 * time.Millisecond) // the counters are read once a second
	var s struct {
		Tunnels []struct {
			Peer    string
			Refused hostile
		}
	}
	if err := json.Unmarshal([]byte(h.Router.MustRun(ctx, "htip status --json")), &s); err != nil {
		t.Fatal(err)
	}
	for _, x := range s.Tunnels {
		if x.Peer == peer {
			return x.Refused
		}
	}
	t.Fatalf("%s has no peer %s", h.Name, peer)
	return r
}

// echo serves TCP and UDP at an address of a host: every line comes back.
func echo(t *testing.T, h *lab.Host, port int) {
	t.Helper()
	at := fmt.Sprintf("%s:%d", h.Addr(), port)
	l, err := h.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	p, err := h.ListenPacket("udp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close(); p.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b := make([]byte, 100)
				for {
					n, err := c.Read(b)
					if err != nil {
						return
					}
					c.Write(b[:n])
				}
			}()
		}
	}()
	go func() {
		b := make([]byte, 100)
		for {
			n, from, err := p.ReadFrom(b)
			if err != nil {
				return
			}
			p.WriteTo(b[:n], from)
		}
	}()
}

// What is open may take its time on a busy machine; what is closed is waited for
// as long as an answer takes many times over.
const (
	opens  = 10 * time.Second
	closed = 1500 * time.Millisecond
)

// knock opens a connection and wants its own words back.
func knock(ctx context.Context, h *lab.Host, network, to string, wait time.Duration) (net.Conn, bool) {
	short, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	c, err := h.Dial(short, network, to)
	if err != nil {
		return nil, false
	}
	return c, comesBack(c, wait)
}

func comesBack(c net.Conn, wait time.Duration) bool {
	want := fmt.Sprint(time.Now().UnixNano(), "\n")
	if _, err := c.Write([]byte(want)); err != nil {
		return false
	}
	b := make([]byte, 1000)
	c.SetReadDeadline(time.Now().Add(wait))
	for got := ""; ; {
		n, err := c.Read(b)
		if got += string(b[:n]); strings.Contains(got, want) {
			return true
		}
		if err != nil {
			return false
		}
	}
}

// TestAccess: alice, bob and carol have the same network. bob's router is in
// bad hands and tries what can be tried out of a tunnel; and alice says what
// bob may reach.
func TestAccess(t *testing.T) {
	ctx, l := newLab(t)
	var specs []homes.Spec
	for i, name := range []string{"alice", "bob", "carol"} {
		specs = append(specs, homes.Spec{Name: name, LAN: lan("192.168.1.1/24", fmt.Sprint("192.168.1.", 4+i), map[string]string{"alice": "nas", "bob": "pc", "carol": "tv"}[name])})
	}
	hs, err := homes.Start(ctx, l, specs...)
	if err != nil {
		t.Fatal(err)
	}
	showLogs(t, hs...)
	a, b, c := hs[0], hs[1], hs[2]
	for _, x := range [][2]*homes.Home{{a, b}, {a, c}} {
		if _, err := x[0].Connect(ctx, x[1].Name); err != nil {
			t.Fatal(err)
		}
	}
	ab, err := a.Tunnel(ctx, "bob") // as alice sees it
	if err != nil {
		t.Fatal(err)
	}
	// What bob calls alice's nas and router, and what alice calls carol's tv.
	nas, err := b.Host.Lookup(ctx, "nas.alice.internal")
	if err != nil {
		t.Fatal(err)
	}
	tv, err := a.Host.Lookup(ctx, "tv.carol.internal")
	if err != nil {
		t.Fatal(err)
	}
	echo(t, a.Host, 445)
	echo(t, a.Host, 80)
	echo(t, b.Host, 7000)

	t.Run("out of the tunnel", func(t *testing.T) {
		// Web pages of alice's router, at its LAN address and towards the Internet.
		a.Router.MustRun(ctx, "mkdir -p /tmp/www; echo secret >/tmp/www/index.html; busybox httpd -p 80 -h /tmp/www")
		gatewayA := ab.Gateway
		for _, m := range []struct {
			what, command string
			counted       func(before, after hostile) bool
		}{
			// (What is not one of alice's substitutes bob's own WireGuard does not
			// even send: TestDatapath/guard and TestKernelPackets do.)
			{"forged source", "ip address add 10.99.0.1/32 dev lo; ping -c 2 -W 1 -I 10.99.0.1 " + gatewayA + "; r=$?; ip address del 10.99.0.1/32 dev lo; exit $r", func(b, a hostile) bool { return a.Source >= b.Source+2 }},
			{"the web page of alice's router", "echo GET / | busybox nc -w 2 " + gatewayA + " 80 | grep -q .", func(b, a hostile) bool { return a.Router > b.Router }},
			{"alice's resolver", "echo x | busybox nc -w 2 " + gatewayA + " 53 | grep -q .", func(b, a hostile) bool { return a.Router > b.Router }},
		} {
			before := refusedOf(ctx, t, a, "bob")
			res, err := b.Router.Run(ctx, "busybox timeout 8 sh -c '"+m.command+"'")
			if err != nil || res.Code == 0 || strings.Contains(res.Output, "secret") {
				t.Errorf("%s: got through: %+v, %v", m.what, res, err)
			}
			if after := refusedOf(ctx, t, a, "bob"); !m.counted(before, after) {
				t.Errorf("%s: not counted: %+v, then %+v\n%s", m.what, before, after, res.Output)
			}
		}
		if out := a.Router.MustRun(ctx, "htip status"); !strings.Contains(out, "with a forged source") || !strings.Contains(out, "to services of this router") {
			t.Error(out)
		}
		// Nothing of it stood in carol's way, and bob's hosts are still served.
		if err := a.Host.Ping(ctx, tv[0], 56, 3); err != nil {
			t.Error(err)
		}
		if _, ok := knock(ctx, b.Host, "tcp", nas[0].String()+":80", opens); !ok {
			t.Error("bob's host can't reach the nas any more")
		}
	})

	t.Run("chosen ports", func(t *testing.T) {
		pc, err := a.Host.Lookup(ctx, "pc.bob.internal")
		if err != nil {
			t.Fatal(err)
		}
		tcp, ok1 := knock(ctx, b.Host, "tcp", nas[0].String()+":80", opens)
		udp, ok2 := knock(ctx, b.Host, "udp", nas[0].String()+":80", opens)
		ours, ok3 := knock(ctx, a.Host, "tcp", pc[0].String()+":7000", opens)
		if !ok1 || !ok2 || !ok3 {
			t.Fatal("nothing is limited, and not everything passes", ok1, ok2, ok3)
		}
		id := ab.TunnelID
		out := a.Router.MustRun(ctx, "htip access bob nas:tcp:445")
		begin := time.Now()
		for ; comesBack(tcp, closed) || comesBack(udp, closed); time.Sleep(50 * time.Millisecond) {
			if time.Since(begin) > 30*time.Second {
				t.Fatal("flows go on although access was taken away:", out)
			}
		}
		t.Logf("flows stopped %.1f s after the command", time.Since(begin).Seconds())
		if !comesBack(ours, opens) {
			t.Error("what alice's own host began has stopped")
		}
		if c, ok := knock(ctx, b.Host, "tcp", nas[0].String()+":445", opens); !ok {
			t.Error("the open port is closed")
		} else {
			c.Close()
		}
		if _, ok := knock(ctx, a.Host, "tcp", pc[0].String()+":7000", opens); !ok {
			t.Error("alice's host can't begin anything new at bob's")
		}
		for _, to := range []string{nas[0].String() + ":80", nas[0].String() + ":22"} {
			if _, ok := knock(ctx, b.Host, "tcp", to, closed); ok {
				t.Errorf("%s is open", to)
			}
		}
		if err := b.Host.Ping(ctx, nas[0], 56, 1); err == nil {
			t.Error("the nas answers a ping")
		}
		if got, err := b.Host.Lookup(ctx, "nas.alice.internal"); err != nil || got[0] != nas[0] {
			t.Errorf("names are told whatever may be reached: %v, %v", got, err)
		}
		if r := refusedOf(ctx, t, a, "bob"); r.Host == 0 {
			t.Errorf("%+v", r)
		}
		// A killed daemon takes nothing back, a new one neither.
		a.Router.MustRun(ctx, "kill -9 $(pidof htipd)")
		if _, ok := knock(ctx, b.Host, "tcp", nas[0].String()+":80", closed); ok {
			t.Error("open while no daemon runs")
		}
		if err := a.StartDaemon(ctx); err != nil {
			t.Fatal(err)
		}
		if c, ok := knock(ctx, b.Host, "tcp", nas[0].String()+":445", opens); !ok {
			t.Error("the open port is closed after a restart")
		} else {
			c.Close()
		}
		if _, ok := knock(ctx, b.Host, "tcp", nas[0].String()+":80", closed); ok {
			t.Error("open after a restart")
		}
		a.Router.MustRun(ctx, "htip access bob all")
		if _, ok := knock(ctx, b.Host, "tcp", nas[0].String()+":80", opens); !ok {
			t.Error("given back, and not open")
		}
		if now, err := a.Tunnel(ctx, "bob"); err != nil || now.TunnelID != id || now.State != "up" {
			t.Errorf("the tunnel was another one meanwhile: %+v, %v", now, err)
		}
	})
}
