package daemon

import (
	"context"
	"net"
	"net/netip"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"htip/src/config"
	"htip/src/control"
	"htip/src/htip"
	"htip/src/rtnl"
	"htip/src/slog"

	"golang.org/x/sys/unix"
)

// connected is a control connection on loopback.
func connected(t *testing.T) (ours, theirs *control.Conn, us *control.Identity) {
	t.Helper()
	us, _, err := control.LoadIdentity(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	them, _, err := control.LoadIdentity(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	free, err := net.Listen("tcp", "127.0.76.9:0")
	if err != nil {
		t.Fatal(err)
	}
	at := free.Addr().(*net.TCPAddr).AddrPort()
	free.Close()
	l, err := control.Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	accepted := make(chan *control.Conn, 1)
	ctx, cancel := context.WithCancel(context.Background())
	server := &control.Server{Identity: them, Accepted: func(c *control.Conn) { accepted <- c }, Known: func([]byte) bool { return true }}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx, l) }()
	ours, err = control.Dial(ctx, us, at, them.Public())
	if err != nil {
		t.Fatal(err)
	}
	theirs = <-accepted
	t.Cleanup(func() { ours.Close(); theirs.Close(); cancel(); <-ended })
	return ours, theirs, us
}

// probed counts what is sent through tunnels.
type probed struct {
	FakeNames
	n atomic.Int32
}

func (p *probed) Probe(context.Context, string) error {
	p.n.Add(1)
	return nil
}

// TestLineLost: what a change of the lines to the Internet does to a control
// connection, to tunnels and to what waits. The tunnel is up, we are its
// initiator.
func TestLineLost(t *testing.T) {
	here := netip.MustParseAddr("127.0.0.1") // of the connection and the tunnel
	const none = 0
	first := []link{at("wan", "127.0.0.1/8"), at("lte", "10.170.3.9/29"), def("wan"), def("lte")}
	second := []link{first[0], first[1], def("lte")} // the route is gone, the address is not
	gone := []link{first[1], def("lte")}
	nothing := []link{at("br-lan", "192.168.1.1/24")}
	for _, c := range []struct {
		name     string
		protocol htip.Protocol
		role     htip.Role
		links    []link
		way      int // was 1

		closed, down bool
		again        bool // at once
		probes       bool
	}{
		{name: "nothing has changed", protocol: htip.L2TP, links: first, way: 1},
		{name: "a policy keeps the way", protocol: htip.L2TP, links: second, way: 1, probes: true},
		{name: "no line, but the address is there", protocol: htip.L2TP, links: first[:1], way: none},
		{name: "all is lost", protocol: htip.WireGuard, links: nothing, way: none, closed: true},
		{name: "all is lost", protocol: htip.L2TP, links: nothing, way: none, closed: true, down: true},
		{name: "address gone", protocol: htip.WireGuard, links: gone, way: none, closed: true, again: true, probes: true},
		{name: "address gone", protocol: htip.L2TP, links: gone, way: none, closed: true, down: true, again: true},
		{name: "address gone", protocol: htip.L2TPESP, links: gone, way: none, closed: true, down: true, again: true},
		{name: "address gone", protocol: htip.PPTP, links: gone, way: none, closed: true, down: true, again: true},
		{name: "another line by metric", protocol: htip.WireGuard, links: second, way: 2, closed: true, again: true, probes: true},
		{name: "another line by metric", protocol: htip.L2TP, links: second, way: 2, closed: true, down: true, again: true},
		{name: "another way to this peer only", protocol: htip.WireGuard, links: first, way: 2, closed: true},
		{name: "they called", protocol: htip.WireGuard, role: htip.Responder, links: gone, way: none, closed: true, probes: true},
		{name: "they called", protocol: htip.L2TP, role: htip.Responder, links: gone, way: none, closed: true, down: true},
	} {
		t.Run(c.name+" "+c.protocol.String(), func(t *testing.T) {
			ours, theirs, us := connected(t)
			d := lonely(t, t.TempDir(), config.Key{1})
			ctx, cancel := context.WithCancel(context.Background())
			names := &probed{}
			way := 1
			d.ctx, d.id, d.names, d.opt.Way = ctx, us, names, func(netip.Addr, netip.Addr) int { return way }
			d.conns, d.timers = map[htip.ConnID]conn{}, map[string]*time.Timer{}
			defer func() { cancel(); d.tasks.Wait() }()
			d.cfg.Peers[0].Domain, d.cfg.Peers[0].Port = "bob.example.org", 1
			d.gw.SetPeers([]htip.Peer{{Name: "bob", Domain: "bob.example.org", Key: d.cfg.Peers[0].Key[:]}}, nil)

			role := c.role
			if role == 0 {
				role = htip.Initiator
			}
			e := htip.Entry{Peer: "bob", Domain: "bob.example.org", Protocol: c.protocol, TunnelID: 7, Role: role, OwnGateway: netip.Addr{}}
			d.tunnels["bob"] = &tunnel{Entry: e, Local: here, Remote: ours.Remote().Addr(), way: way, started: true, link: true, linked: true}
			d.act(d.gw.Adopt(e))
			d.wans = wans(&d.cfg.Main, first, nil)
			id := d.newConn("bob", ours)
			if role == htip.Initiator {
				d.handle("bob", htip.Opened{Conn: id})
			} else {
				d.handle("bob", htip.Received{Conn: id, Msg: &htip.Message{Type: htip.Keepalive, Talk: 1, TunnelID: 7}})
			}
			if d.gw.Conn("bob") != id || d.stateOf("bob").State != htip.Up {
				t.Fatalf("%+v", d.stateOf("bob"))
			}
			way = c.way
			began := time.Now()
			d.linesChanged(c.links)
			// What is done at once comes before this in the loop, however slow the
			// machine is; what waits for its pause of a second comes after it.
			late := false
			time.AfterFunc(500*time.Millisecond, func() { d.post(func() { late = d.dials["bob"] == nil }) })
			until := func(want bool, quiet time.Duration, state func() bool) bool {
				limit := quiet // what must not happen has this time for it
				if want {
					limit = 30 * time.Second
				}
				for over := time.After(limit); !state(); {
					select {
					case f := <-d.events:
						f()
					case <-time.After(time.Millisecond):
					case <-over:
						return false
					}
				}
				return true
			}
			dialed := func() bool { return d.dials["bob"] != nil }
			probes := func() bool { return names.n.Load() > 0 }
			if got := d.gw.Conn("bob") == 0; got != c.closed {
				t.Errorf("connection closed: %v", got)
			}
			if got := d.tunnels["bob"] == nil; got != c.down || got != (d.stateOf("bob").State != htip.Up) {
				t.Errorf("tunnel down: %v, %v", got, d.stateOf("bob").State)
			}
			got := until(c.again, 300*time.Millisecond, dialed)
			if !c.again && time.Since(began) >= time.Second {
				got = false // the machine slept through the pause: this was not at once
			}
			if got != c.again || c.again && late {
				t.Errorf("dialled at once: %v, late: %v", got, late)
			}
			if got := until(c.probes, 50*time.Millisecond, probes); got != c.probes {
				t.Errorf("something sent through the tunnel: %v", got)
			}
			if c.closed && !t.Failed() { // the other end notices, too, where it can still be reached
				for err := error(nil); err == nil; {
					_, err = theirs.Receive()
				}
			}
			if c.closed && !t.Failed() && !c.again && role == htip.Initiator { // without haste it comes back by itself
				if !until(true, 0, dialed) {
					t.Error("not dialled again at all")
				}
			}
		})
	}
}

// TestLineBack: what has failed while there was no line tries at once when there
// is one, however long its pause would have been.
func TestLineBack(t *testing.T) {
	d := lonely(t, t.TempDir(), config.Key{1})
	ctx, cancel := context.WithCancel(context.Background())
	d.ctx, d.timers = ctx, map[string]*time.Timer{}
	defer func() { cancel(); d.tasks.Wait() }()
	d.cfg.Peers[0].Domain = "bob.example.org"
	d.gw.SetPeers([]htip.Peer{{Name: "bob", Domain: "bob.example.org", Key: d.cfg.Peers[0].Key[:], Auto: true}}, nil)
	line := []link{at("wan", "203.0.113.7/24"), def("wan")}
	d.linesChanged(line)
	d.linesChanged(nil)
	d.handle("bob", htip.Connect{})
	for range 6 { // the last pause is a minute
		d.handle("bob", htip.DialFailed{Reason: htip.ReasonUnreachable})
		d.stopDial("bob")
		d.timers["bob"].Reset(0)
		for d.stateOf("bob").State != htip.Dialing {
			(<-d.events)()
		}
	}
	d.stopDial("bob")
	d.handle("bob", htip.DialFailed{Reason: htip.ReasonUnreachable})
	if s := d.stateOf("bob").State; s != htip.Waiting {
		t.Fatal(s)
	}
	d.linesChanged(nil)
	for over := time.After(200 * time.Millisecond); over != nil; {
		select {
		case f := <-d.events:
			f()
		case <-over:
			over = nil
		}
	}
	if d.dials["bob"] != nil {
		t.Fatal("tried without a line")
	}
	d.linesChanged(line)
	over := time.After(30 * time.Second)
	for d.dials["bob"] == nil {
		select {
		case f := <-d.events:
			f()
		case <-over:
			t.Fatal("not tried at once")
		}
	}
	// One that is under way, by a line that is gone since, begins anew.
	was := d.dials["bob"]
	d.linesChanged([]link{at("lte", "10.170.3.9/29"), def("lte")})
	if now := d.dials["bob"]; now == nil || now == was {
		t.Error("still dialling by the old line")
	}
}

// TestLineNamed: that netifd gives a line that is there a name, or another one, is
// no change of lines: what has begun goes on. Status has the name.
func TestLineNamed(t *testing.T) {
	d := lonely(t, t.TempDir(), config.Key{1})
	ctx, cancel := context.WithCancel(context.Background())
	var log strings.Builder
	d.ctx, d.timers, d.log = ctx, map[string]*time.Timer{}, slog.New(slog.NewTextHandler(&log, nil))
	defer func() { cancel(); d.tasks.Wait() }()
	d.cfg.Peers[0].Domain = "bob.example.org"
	d.gw.SetPeers([]htip.Peer{{Name: "bob", Domain: "bob.example.org", Key: d.cfg.Peers[0].Key[:], Auto: true}}, nil)
	line := []link{at("wan", "203.0.113.7/24"), def("wan")}
	d.linesChanged(line)
	d.handle("bob", htip.Connect{})
	was := d.dials["bob"]
	if was == nil {
		t.Fatal("not dialling")
	}
	log.Reset()
	for _, name := range []string{"wan", "uplink", ""} {
		d.ifaces = []iface{{name: name, device: "wan", up: true, def: true}}
		d.linesChanged(line)
		if got := wansText(d.wans); got != name+" wan 203.0.113.7" {
			t.Errorf("status says %q", got)
		}
	}
	if d.dials["bob"] != was || log.Len() > 0 {
		t.Errorf("a name counts as a change:\n%s", &log)
	}
	// A line that is lost and back is one.
	d.linesChanged(nil)
	d.linesChanged(line)
	if d.dials["bob"] == was {
		t.Error("still dialling by the line before")
	}
}

// TestLinesOfKernel: what a kernel says of two lines, in a network namespace: the
// order of its default routes, and by which it sends from where.
func TestLinesOfKernel(t *testing.T) {
	runtime.LockOSThread() // and never unlock: the thread ends with the test, and so does the namespace
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Skip("needs root:", err)
	}
	ip := func(lines ...string) {
		t.Helper()
		for _, l := range lines {
			if out, err := exec.Command("ip", strings.Fields(l)...).CombinedOutput(); err != nil {
				t.Fatalf("ip %s: %v %s", l, err, out)
			}
		}
	}
	ip("link add lte type veth peer name modem", "link add wan type veth peer name isp", "link set lte up", "link set modem up", "link set wan up", "link set isp up",
		"addr add 10.170.3.9/29 dev lte", "addr add 198.51.100.20/24 dev wan",
		"route add default via 10.170.3.10 dev lte metric 20", "route add default via 198.51.100.1 dev wan metric 10")
	peer, wan, lte := netip.MustParseAddr("203.0.113.7"), netip.MustParseAddr("198.51.100.20"), netip.MustParseAddr("10.170.3.9")
	cfg := config.Defaults().Main
	d := &Daemon{opt: Options{Way: rtnl.Way}}
	look := func(step, lines string, lostWAN, lostLTE bool, ways [2]int) {
		t.Helper()
		ls, err := kernelLinks()
		if err != nil {
			t.Fatal(err)
		}
		if got := wansText(wans(&cfg, ls, nil)); got != lines {
			t.Errorf("%s: lines %q, want %q", step, got, lines)
		}
		if got := d.lostWay(wan, peer, ways[0], ls); got != lostWAN {
			t.Errorf("%s: the way from wan is lost: %v", step, got)
		}
		if got := d.lostWay(lte, peer, ways[1], ls); got != lostLTE {
			t.Errorf("%s: the way from lte is lost: %v", step, got)
		}
	}
	const both, one, other = " wan 198.51.100.20;  lte 10.170.3.9", " wan 198.51.100.20", " lte 10.170.3.9"
	ways := [2]int{rtnl.Way(wan, peer), rtnl.Way(lte, peer)} // both by the wan, whose route is the better one
	if ways[0] == 0 || ways[0] != ways[1] {
		t.Fatal(ways)
	}
	look("two lines", both, false, false, ways)
	ip("rule add from 10.170.3.9 lookup 20", "route add default via 10.170.3.10 dev lte table 20") // as mwan3 and pbr have it
	ways[1] = rtnl.Way(lte, peer)
	if ways[1] == 0 || ways[1] == ways[0] {
		t.Fatal("the rule does not count", ways)
	}
	look("a rule for one", both, false, false, ways)
	ip("route del default dev wan metric 10")
	look("the first has no route", other, true, false, ways)
	ip("route add default via 198.51.100.1 dev wan metric 30")
	look("the first is the second", " lte 10.170.3.9;  wan 198.51.100.20", true, false, ways)
	ip("route del default dev wan metric 30", "route add default via 198.51.100.1 dev wan metric 10")
	look("as before", both, false, false, ways)
	ip("addr del 198.51.100.20/24 dev wan")
	look("the first has no address", other, true, false, ways)
	ip("link set lte down")
	look("nothing is left but an address", "", true, false, ways)
	ip("addr del 10.170.3.9/29 dev lte")
	look("nothing is left", "", true, true, ways)
	ip("link set lte up", "addr add 198.51.100.20/24 dev wan", "route add default via 198.51.100.1 dev wan metric 10")
	look("the first is back", one, false, true, ways)
}
