package cli

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"htip/src/control"
	"htip/src/daemon"
	"htip/src/datapath"
	"htip/src/dns"
	"htip/src/htip"
	"htip/tests/town"
)

// gateway is a home whose daemon the command talks to.
type gateway struct {
	*town.Home
	t *testing.T
}

// makeTown makes gateways that know each other.
func makeTown(t *testing.T, names ...string) []*gateway {
	t.Helper()
	return townWith(t, func(*gateway) {}, names...)
}

// townWith is makeTown with something changed before the start.
func townWith(t *testing.T, change func(*gateway), names ...string) []*gateway {
	t.Helper()
	homes, err := town.New(t.TempDir(), 0, names...)
	if err != nil {
		t.Fatal(err)
	}
	var gs []*gateway
	for _, h := range homes {
		gs = append(gs, &gateway{h, t})
	}
	t.Cleanup(func() {
		if err := town.Close(homes); err != nil {
			t.Error(err)
		}
		for _, h := range homes {
			if t.Failed() {
				t.Logf("--- %s\n%s", h.Name, h.Log)
			}
		}
	})
	for _, g := range gs {
		g.configure(gs...)
		change(g)
	}
	for _, g := range gs {
		g.start()
	}
	return gs
}

// configure writes the configuration, with other gateways as peers.
func (g *gateway) configure(gs ...*gateway) {
	g.t.Helper()
	var peers []*town.Home
	for _, h := range gs {
		peers = append(peers, h.Home)
	}
	if err := g.Configure(peers...); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) start() {
	g.t.Helper()
	if err := g.Start(); err != nil {
		g.t.Fatal(err)
	}
}

func (g *gateway) stop() {
	g.t.Helper()
	if err := g.Stop(); err != nil {
		g.t.Error(err)
	}
}

// htip runs the command against this gateway.
func (g *gateway) run(args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = Run(context.Background(), append(args, "--socket", g.Socket(), "--state-dir", filepath.Join(g.Dir, "state")), "test", &out, &errs)
	return code, out.String(), errs.String()
}

func (g *gateway) must(args ...string) string {
	g.t.Helper()
	code, out, errs := g.run(args...)
	if code != ExitOK {
		g.t.Fatalf("%s: htip %s: exit code %d, %s%s", g.Name, strings.Join(args, " "), code, out, errs)
	}
	return out
}

type tunnelJSON struct {
	Peer, State, Error, Reason, Role string
	ID                               string `json:"tunnel_id"`
	Theirs                           []struct{ Network, Substitute string }
}

func (g *gateway) tunnel(peer string) tunnelJSON {
	g.t.Helper()
	var s struct{ Tunnels []tunnelJSON }
	if err := json.Unmarshal([]byte(g.must("status", "--json")), &s); err != nil {
		g.t.Fatal(err)
	}
	for _, t := range s.Tunnels {
		if t.Peer == peer {
			return t
		}
	}
	g.t.Fatalf("%s has no peer %s", g.Name, peer)
	return tunnelJSON{}
}

func (g *gateway) wait(peer, state string) tunnelJSON {
	g.t.Helper()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		t := g.tunnel(peer)
		if t.State == state {
			return t
		}
		if time.Now().After(deadline) {
			g.t.Fatalf("%s: the tunnel to %s is %s, not %s: %s", g.Name, peer, t.State, state, t.Error)
		}
	}
}

func TestConnectShowsTheStepsAndTheSentence(t *testing.T) {
	gs := makeTown(t, "alice", "bob")
	a, b := gs[0], gs[1]
	a.Names.SetHosts([]dns.Host{{Host: "nas", Name: "nas.bob.internal", Addr: netip.MustParseAddr("10.0.0.9")}})
	out := a.must("connect", "--wait", "bob.example.org")
	last := -1
	for _, step := range []string{"looking up bob.example.org", "connecting to " + b.Addr.String(), "REQUEST", "RESPONSE", "ACK", "READY", "tunnel, NAT", "names", "bob's 192.168.1.x is your "} {
		i := strings.Index(out, step)
		if i <= last {
			t.Fatalf("%q is missing or out of order:\n%s", step, out)
		}
		last = i
	}
	if !strings.HasSuffix(out, "; try ping nas.bob.internal\n") {
		t.Error(out)
	}
	x, y := a.wait("bob", "up"), b.wait("alice", "up")
	if x.ID != y.ID || x.Role != "client" || y.Role != "server" {
		t.Errorf("%+v %+v", x, y)
	}
	if out := a.must("connect", "bob", "--wait"); !strings.Contains(out, "is your") {
		t.Errorf("the second time: %s", out)
	}
	if out := a.must("connect", "bob"); out != "bob is connected\n" {
		t.Error(out)
	}
	if w := a.Path.Applied(); len(w[len(w)-1].Tunnels) != 1 || w[len(w)-1].Tunnels[0].Server {
		t.Errorf("wanted %+v", w)
	} else if string(w[len(w)-1].Tunnels[0].Secret) != string(b.Path.Applied()[len(b.Path.Applied())-1].Tunnels[0].Secret) {
		t.Error("the two ends have different secrets")
	}
	// The first embodiment: bob's server listened before anything was agreed on.
	early := false
	for _, w := range b.Path.Applied() {
		early = early || len(w.Tunnels) == 1 && w.Tunnels[0].Server && len(w.Tunnels[0].Own) == 0 && !w.Tunnels[0].LocalAddr.IsValid()
	}
	if !early {
		t.Errorf("bob's server did not listen early: %+v", b.Path.Applied())
	}
	for _, c := range [][]string{{"status"}, {"peers"}, {"hosts"}, {"hosts", "bob"}, {"key"}, {"version"}, {"help"}} {
		if out := a.must(c...); out == "" {
			t.Errorf("htip %v prints nothing", c)
		}
	}
	for _, c := range []string{"status", "peers", "hosts", "key"} {
		if out := a.must(c, "--json"); !json.Valid([]byte(out)) {
			t.Errorf("htip %s --json: %s", c, out)
		}
	}
	if out := a.must("disconnect", "bob"); out != "bob is disconnected\n" {
		t.Error(out)
	}
	b.wait("alice", "idle")
	if out := a.must("disconnect", "bob"); out != "bob was not connected\n" {
		t.Error(out)
	}
	again := a.must("connect", "bob", "--wait")
	if again[strings.Index(again, "bob's"):] != out[strings.Index(out, "bob's"):] {
		t.Errorf("other substitutes the second time:\n%s%s", out, again)
	}
	a.stop()
	b.wait("alice", "idle")
	if a.Path.Cleaned() != 1 {
		t.Error("not cleaned up")
	}
	if left, _ := filepath.Glob(filepath.Join(a.Dir, "run", "*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	var s []byte
	for _, w := range b.Path.Applied() {
		for _, x := range w.Tunnels {
			s = x.Secret
		}
	}
	if len(s) == 0 {
		t.Fatal("no tunnel was ever wanted of bob")
	}
	for _, secret := range []string{string(s), hex.EncodeToString(s), base64.StdEncoding.EncodeToString(s), strings.Trim(fmt.Sprint(s), "[]")} {
		if strings.Contains(a.Log.String()+b.Log.String(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

func TestTunnelIsTakenOver(t *testing.T) {
	gs := makeTown(t, "alice", "bob")
	a, b := gs[0], gs[1]
	a.must("connect", "bob", "--wait")
	was := a.wait("bob", "up")
	b.wait("alice", "up")
	table, err := os.ReadFile(filepath.Join(a.Dir, "run", "tunnels.json"))
	if err != nil {
		t.Fatal(err)
	}
	if st, _ := os.Stat(filepath.Join(a.Dir, "run", "tunnels.json")); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	// What a killed process leaves: the table, and a kernel that knows the
	// tunnel. Its end is seen by bob as a lost connection, without CLOSE.
	a.stop()
	b.wait("alice", "idle")
	os.WriteFile(filepath.Join(a.Dir, "run", "tunnels.json"), table, 0o600)
	a.Path = &datapath.Fake{ApplyFunc: func(w datapath.Wanted) (datapath.Report, error) {
		for _, x := range w.Tunnels { // it stands already
			a.Path.SetStatus(datapath.Status{Device: x.Device, State: datapath.Up})
		}
		return datapath.Report{}, nil
	}}
	a.start()
	if !strings.Contains(a.Log.String(), "tunnel taken over") {
		t.Error("not taken over")
	}
	// Bob has been told that it is over; alice learns that and connects anew.
	now := a.wait("bob", "up")
	for deadline := time.Now().Add(15 * time.Second); (now.ID == was.ID || now.State != "up") && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		now = a.tunnel("bob")
		for _, x := range a.Path.Applied()[len(a.Path.Applied())-1].Tunnels {
			a.Path.Raise(datapath.Event{Device: x.Device, Up: true})
		}
	}
	if now.ID == was.ID || now.State != "up" {
		t.Error("alice still has a tunnel that bob does not know")
	}
	if fmt.Sprint(now.Theirs) != fmt.Sprint(was.Theirs) {
		t.Errorf("%v became %v", was.Theirs, now.Theirs)
	}
}

// TestTunnelsAreLeft: when it is told to leave, the daemon ends and nothing else
// does: the kernel keeps the tunnel, and the table is there for the next process.
func TestTunnelsAreLeft(t *testing.T) {
	gs := makeTown(t, "alice", "bob")
	a, b := gs[0], gs[1]
	a.must("connect", "bob", "--wait")
	a.wait("bob", "up")
	was := b.wait("alice", "up")
	a.Leave <- syscall.SIGUSR1
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(a.Log.String(), daemon.ErrLeft.Error()) && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	a.stop()
	if n := a.Path.Cleaned(); n != 0 {
		t.Errorf("the data path was cleaned up %d times", n)
	}
	table, err := os.ReadFile(filepath.Join(a.Dir, "run", "tunnels.json"))
	if err != nil || !strings.Contains(string(table), was.ID) && !strings.Contains(string(table), "bob") {
		t.Errorf("the next process finds %q, %v", table, err)
	}
	if now := b.tunnel("alice"); now.State != "up" || now.ID != was.ID {
		t.Errorf("bob was told something: %+v", now)
	}
}

// TestLinkComesUpBetweenTwoLooks: a link that comes up after the daemon has
// looked at it, and before it knows that the tunnel has started.
func TestLinkComesUpBetweenTwoLooks(t *testing.T) {
	gs := townWith(t, func(g *gateway) {
		if g.Name != "alice" {
			return
		}
		var once sync.Once
		g.Path.ApplyFunc = func(datapath.Wanted) (datapath.Report, error) { return datapath.Report{}, nil }
		g.Path.StatusFunc = func(s datapath.Status) {
			once.Do(func() {
				g.Path.Raise(datapath.Event{Device: s.Device, Up: true})
				time.Sleep(200 * time.Millisecond) // the loop has heard of it
			})
		}
	}, "alice", "bob")
	gs[0].must("connect", "bob", "--wait")
}

// TestLineChanges: when the way to the other home is another one, a tunnel of
// L2TP is negotiated anew at once, and WireGuard's stays; only its control
// connection is another one. Either end may have moved.
func TestLineChanges(t *testing.T) {
	for _, c := range []struct {
		protocol string
		moved    int // 0: who has connected
		same     bool
	}{{datapath.ProtocolL2TP, 0, false}, {datapath.ProtocolWireGuard, 0, true}, {datapath.ProtocolWireGuard, 1, true}} {
		gs := townWith(t, func(g *gateway) {
			g.Path.CapabilitiesValue = []datapath.Capability{{Protocol: c.protocol}}
			g.Way.Store(1)
		}, "alice", "bob")
		a := gs[0]
		a.must("connect", "bob", "--wait")
		was := a.wait("bob", "up")
		began := time.Now()
		g := gs[c.moved]
		g.Way.Store(2)
		g.Reload <- os.Interrupt // it looks at its addresses
		for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			now := a.tunnel("bob")
			if now.State == "up" && (now.ID == was.ID) == c.same && time.Since(began) > time.Second {
				if fmt.Sprint(now.Theirs) != fmt.Sprint(was.Theirs) {
					t.Errorf("%v became %v", was.Theirs, now.Theirs)
				}
				break
			}
			if c.same && now.State != "up" || time.Now().After(deadline) {
				t.Fatalf("%s: %+v, was %+v", c.protocol, now, was)
			}
		}
		for _, g := range gs {
			g.stop()
		}
	}
}

func TestErrorsAreSentences(t *testing.T) {
	gs := makeTown(t, "alice", "bob", "carol")
	a, b, c := gs[0], gs[1], gs[2]
	check := func(what string, wantCode int, words []string, args ...string) {
		t.Helper()
		code, out, errs := a.run(args...)
		if code != wantCode {
			t.Errorf("%s: exit code %d, not %d: %s%s", what, code, wantCode, out, errs)
		}
		for _, w := range words {
			if !strings.Contains(errs, w) {
				t.Errorf("%s: no %q in %q", what, w, errs)
			}
		}
	}
	check("no such command", ExitUsage, []string{"frobnicate"}, "frobnicate")
	check("no command", ExitUsage, []string{"usage"})
	check("no peer given", ExitUsage, []string{"missing"}, "connect")
	check("too much given", ExitUsage, []string{"too many"}, "connect", "bob", "carol")
	check("no such option", ExitUsage, []string{"frob"}, "status", "--frob")
	check("no such peer", ExitUnknown, []string{"dave"}, "connect", "dave", "--wait")
	check("no such peer", ExitUnknown, []string{"dave"}, "disconnect", "dave")
	check("no such peer", ExitUnknown, []string{"dave"}, "hosts", "dave")
	check("no such peer", ExitUnknown, []string{"dave"}, "watch", "dave")
	check("hosts while down", ExitFailed, []string{"not connected"}, "hosts", "bob")

	a.Names.SetA("bob.example.org", netip.Addr{})
	check("unknown domain", ExitFailed, []string{"bob.example.org can't be found", "spelled right"}, "connect", "bob", "--wait")
	a.Names.SetA("bob.example.org", c.Addr.Next())
	check("refused port", ExitFailed, []string{"does not answer", "refused", "port open"}, "connect", "bob", "--wait")
	a.Names.SetA("bob.example.org", c.Addr)
	check("another key", ExitFailed, []string{"another key"}, "connect", "bob", "--wait")
	a.Names.SetA("bob.example.org", b.Addr)

	b.Lacking.Store(true)
	check("no kernel module there", ExitFailed, []string{"install kmod-pppol2tp", "the other gateway says"}, "connect", "bob", "--wait")
	b.Lacking.Store(false)
	a.Names.SetDeaf(true) // the link comes up, but nothing comes through

	check("takes too long", ExitTimeout, []string{"not connected within"}, "connect", "bob", "--wait", "--timeout", "3s")
	check("no time at all", ExitTimeout, []string{"htipd does not answer"}, "connect", "bob", "--wait", "--timeout", "1ns") // it runs
	a.must("disconnect", "bob")

	// Bob forgets us.
	b.Extra = "\toption accept 'known'\n"
	b.configure(b, c)
	b.Reload <- os.Interrupt
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(b.Log.String(), "taken over") && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	check("not known there", ExitFailed, []string{"does not know our key", "htip key"}, "connect", "bob", "--wait")
	if got := a.tunnel("bob"); !strings.Contains(got.Error, "does not know our key") || got.State != "idle" {
		t.Errorf("status says %+v", got)
	}

	a.stop()
	check("no daemon", ExitDaemon, []string{"not running"}, "status")
	check("no daemon", ExitDaemon, []string{"not running"}, "connect", "bob", "--wait")
	var out, errs bytes.Buffer
	if code := Run(context.Background(), []string{"status", "--socket", "/nowhere"}, "", &out, &errs); code != ExitDaemon {
		t.Errorf("no ubus: %d", code)
	}
}

func TestConfigurationChanges(t *testing.T) {
	gs := makeTown(t, "alice", "bob", "carol")
	a, b, c := gs[0], gs[1], gs[2]
	a.must("connect", "bob", "--wait")
	a.must("connect", "carol", "--wait")
	was := a.wait("carol", "up")
	log := func() int {
		return strings.Count(a.Log.String(), "taken over") + strings.Count(a.Log.String(), "not taken")
	}
	change := func(text func()) {
		t.Helper()
		n := log()
		text()
		a.Reload <- os.Interrupt
		for deadline := time.Now().Add(5 * time.Second); log() == n; time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("no reload")
			}
		}
	}
	// A file that can't be read changes nothing.
	change(func() { os.WriteFile(a.File(), []byte("config htip 'main\n"), 0o600) })
	a.wait("bob", "up")
	// Bob is removed: his tunnel ends, carol's stays.
	change(func() { a.configure(a, c) })
	b.wait("alice", "idle")
	if now := a.wait("carol", "up"); now.ID != was.ID {
		t.Error("carol's tunnel was touched")
	}
	// A bad section does not take the good ones down, and is named.
	a.Extra = "config peer 'mallory'\n\toption domain 'mallory.example.org'\n\toption key 'abc'\n"
	change(func() { a.configure(a, c) })
	if now := a.wait("carol", "up"); now.ID != was.ID {
		t.Error("carol's tunnel was touched")
	}
	if out := a.must("status"); !strings.Contains(out, "mallory") || !strings.Contains(out, "abc") {
		t.Error(out)
	}
	// Bob comes back.
	a.Extra = ""
	change(func() { a.configure(gs...) })
	a.must("connect", "bob", "--wait")
}

func TestComesBackAfterAReboot(t *testing.T) {
	gs := makeTown(t, "alice", "bob")
	a, b := gs[0], gs[1]
	a.must("connect", "bob", "--wait")
	was := a.tunnel("bob")
	a.stop()
	b.wait("alice", "idle")
	a.start() // nobody asks
	now := a.wait("bob", "up")
	if fmt.Sprint(now.Theirs) != fmt.Sprint(was.Theirs) {
		t.Errorf("%v became %v", was.Theirs, now.Theirs)
	}
	a.must("disconnect", "bob")
	a.stop()
	a.start() // and not after a user ended it
	time.Sleep(300 * time.Millisecond)
	if now := a.tunnel("bob"); now.State != "idle" {
		t.Errorf("connected again after disconnect: %+v", now)
	}
	// A damaged memory is no reason not to start.
	a.stop()
	os.WriteFile(filepath.Join(a.Dir, "state", "state.json"), []byte("{\"bob\":{\"key\""), 0o600)
	a.start()
	a.must("connect", "bob", "--wait")
}

// dial opens a control connection with another gateway's identity.
func (g *gateway) dial(as *gateway) *control.Conn {
	g.t.Helper()
	id, _, err := control.LoadIdentity(filepath.Join(as.Dir, "state", "key"))
	if err != nil {
		g.t.Fatal(err)
	}
	mine, _, err := control.LoadIdentity(filepath.Join(g.Dir, "state", "key"))
	if err != nil {
		g.t.Fatal(err)
	}
	c, err := control.Dial(context.Background(), id, netip.AddrPortFrom(g.Addr, uint16(g.Port)), mine.Public())
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(c.Close)
	return c
}

func request() *htip.Message {
	n := netip.MustParsePrefix("192.168.1.0/24")
	return &htip.Message{Type: htip.Request, Talk: 7, Protocols: []htip.Protocol{htip.L2TP}, Gateway: netip.MustParseAddr("192.168.1.1"),
		Offers: []htip.Offer{{Network: n, Candidates: []netip.Prefix{n, netip.MustParsePrefix("10.0.0.0/8")}}}}
}

// TestRevokedKey: a connection that stands is worth nothing once its key is no
// longer in the configuration.
func TestRevokedKey(t *testing.T) {
	gs := makeTown(t, "alice", "bob", "carol")
	a, b, c := gs[0], gs[1], gs[2]
	stolen := b.dial(a)
	stolen.Send(&htip.Message{Type: htip.Keepalive, Talk: 1, TunnelID: 99})
	if m, err := stolen.Receive(); err != nil || m.Type != htip.Close || m.Reason != htip.ReasonUnknown {
		t.Fatal(m, err)
	}
	stolen = b.dial(a)
	a.Key = control.EncodeKey([]byte("0123456789abcdef0123456789abcdef")) // alice has a new router
	b.configure(a, b, c)
	b.Reload <- os.Interrupt
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(b.Log.String(), "taken over") && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	// It is a stranger's now, at most: nothing is told, nothing agreed on.
	stolen.Send(request())
	if m, err := stolen.Receive(); err == nil && (m.Type != htip.Nak || m.Reason != htip.ReasonApproval || m.Domain != "" || len(m.Offers) > 0) {
		t.Errorf("the old key still gets %+v", m)
	}
}

// TestConnectionsAreBounded: a friend that opens ever more connections loses
// the older ones.
func TestConnectionsAreBounded(t *testing.T) {
	gs := makeTown(t, "alice", "bob")
	var all []*control.Conn
	for range 10 {
		all = append(all, gs[1].dial(gs[0]))
	}
	ended := make(chan int, len(all))
	for i, c := range all {
		go func() {
			c.Receive()
			ended <- i
		}()
	}
	for range 7 {
		select {
		case i := <-ended:
			if i > 7 {
				t.Errorf("connection %d, one of the newest, was closed", i)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("more than three connections stay open")
		}
	}
}

// TestConnectionsInALoop: a peer that connects and connects is taken in a few
// times, and others are served meanwhile.
func TestConnectionsInALoop(t *testing.T) {
	gs := makeTown(t, "alice", "bob", "carol")
	taken := func(as *gateway, i int) bool {
		id, _, err := control.LoadIdentity(filepath.Join(as.Dir, "state", "key"))
		if err != nil {
			t.Fatal(err)
		}
		key, _ := base64.StdEncoding.DecodeString(gs[0].Key)
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 99, byte(1+i))}, Timeout: 5 * time.Second} // not a matter of its address
		raw, err := d.Dial("tcp", netip.AddrPortFrom(gs[0].Addr, uint16(gs[0].Port)).String())
		if err != nil {
			return false
		}
		c, err := control.Over(context.Background(), raw, id, key)
		if err != nil {
			return false
		}
		defer c.Close()
		m := request()
		m.Talk = uint64(i + 1)
		c.Send(m)
		_, err = c.Receive()
		return err == nil
	}
	n, began := 0, time.Now()
	for i := range 40 {
		time.Sleep(150 * time.Millisecond) // strangers would all be let in
		if taken(gs[1], i) {
			n++
		}
	}
	took := time.Since(began) // which a busy machine makes longer
	if most := 16 + int(took/(2*time.Second)) + 1; n < 12 || n > most {
		t.Errorf("taken in %d times of 40 in %v", n, took)
	}
	time.Sleep(1500 * time.Millisecond) // anybody is let in once a second
	if !taken(gs[2], 100) {
		t.Error("carol is not served")
	}
}

// TestServersAreBounded: a peer that asks and asks, and never goes on, can't keep
// this router busy with starting servers. It is told why, and gets in later.
func TestServersAreBounded(t *testing.T) {
	gs := makeTown(t, "alice", "bob")
	b := gs[1]
	told := false
	for i := range 14 { // fewer than connections that a peer may open at once
		conn := b.dial(gs[0])
		m := request()
		m.Talk, m.Features = uint64(100+i), htip.FeatureThreeMessages
		if err := conn.Send(m); err != nil {
			t.Fatal(err)
		}
		answer, err := conn.Receive()
		if err == nil && answer.Type == htip.Nak && answer.Reason == htip.ReasonServer {
			told = told || strings.Contains(answer.Text, "too many attempts")
		}
		conn.Close()
		b.wait("alice", "idle")
	}
	secrets := map[string]bool{}
	for _, w := range b.Path.Applied() {
		for _, x := range w.Tunnels {
			secrets[string(x.Secret)] = true
		}
	}
	if n := len(secrets); n == 0 || n > 8 {
		t.Errorf("%d servers were started for 14 requests", n)
	}
	if !told {
		t.Error("nobody was told why")
	}
}

// TestJunkIsAnswered: who speaks another version is told so.
func TestJunkIsAnswered(t *testing.T) {
	gs := makeTown(t, "alice", "bob")
	for _, c := range []struct {
		change func(b []byte)
		want   htip.Reason
	}{
		{func(b []byte) { b[0] = 9 }, htip.ReasonVersion},
		{func(b []byte) { b[1] = 99 }, htip.ReasonMalformed},
		{func(b []byte) { b[2], b[3] = 0, 3 }, htip.ReasonMalformed},
	} {
		conn := gs[1].dial(gs[0])
		raw, err := request().Encode()
		if err != nil {
			t.Fatal(err)
		}
		c.change(raw)
		if err := conn.SendRaw(raw); err != nil {
			t.Fatal(err)
		}
		if m, err := conn.Receive(); err != nil || m.Type != htip.Nak || m.Reason != c.want || m.Talk != 7 {
			t.Errorf("%v: answer %+v, %v", c.want, m, err)
		}
	}
}

// TestRulesTightenedOnReload: a tunnel that is no longer allowed ends.
func TestRulesTightenedOnReload(t *testing.T) {
	gs := makeTown(t, "alice", "bob")
	a, b := gs[0], gs[1]
	a.must("connect", "bob", "--wait")
	b.wait("alice", "up")
	text, err := os.ReadFile(b.File())
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(b.File(), []byte(strings.ReplaceAll(string(text), "\toption encryption 'off'\n", "")), 0o600)
	b.Reload <- os.Interrupt
	if got := b.wait("alice", "idle"); !strings.Contains(got.Error, "no longer allowed") {
		t.Errorf("%+v", got)
	}
	// A configuration that makes no sense does not end anything.
	os.WriteFile(b.File(), text, 0o600)
	b.Reload <- os.Interrupt
	a.must("connect", "bob", "--wait")
	os.WriteFile(b.File(), []byte(strings.Replace(string(text), "option enabled '1'", "option enabled '1'\n\tlist network 'nonsense'", 1)), 0o600)
	b.Reload <- os.Interrupt
	for deadline := time.Now().Add(5 * time.Second); !strings.Contains(b.Log.String(), "not taken over") && time.Now().Before(deadline); {
		time.Sleep(10 * time.Millisecond)
	}
	b.wait("alice", "up")
}
