package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"htip/src/control"
	"htip/src/datapath"
	"htip/src/htip"
)

// strangers makes homes that don't know each other.
func strangers(t *testing.T, names ...string) []*gateway {
	t.Helper()
	gs := makeTown(t, names...)
	for _, g := range gs {
		g.stop()
		g.Path.CapabilitiesValue = []datapath.Capability{{Protocol: datapath.ProtocolWireGuard}}
		g.configure()
		g.start()
	}
	return gs
}

func (g *gateway) fingerprint() string {
	g.t.Helper()
	id, _, err := control.LoadIdentity(filepath.Join(g.Dir, "state", "key"))
	if err != nil {
		g.t.Fatal(err)
	}
	return control.Fingerprint(id.Public())
}

// with runs the command with something on standard input.
func (g *gateway) with(in io.Reader, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	c := &command{in: in, out: &out, err: &errs}
	code = c.main(context.Background(), append(args, "--socket", g.Socket(), "--state-dir", filepath.Join(g.Dir, "state")))
	return code, out.String(), errs.String()
}

func (g *gateway) eventually(what string, so func() bool) {
	g.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			g.t.Fatalf("%s: never %s", g.Name, what)
		}
	}
}

type requestJSON struct {
	Number, Count                           int
	Fingerprint, Claims, Name, Address, Key string
	Networks, Protocols                     []string
}

func (g *gateway) pending() (out []requestJSON) {
	g.t.Helper()
	var s struct{ Requests []requestJSON }
	if err := json.Unmarshal([]byte(g.must("requests", "--json")), &s); err != nil {
		g.t.Fatal(err)
	}
	return s.Requests
}

func (g *gateway) port4847() string { return fmt.Sprint(g.Port) }

// TestRequestAndApproval: the way of a stranger to a friend.
func TestRequestAndApproval(t *testing.T) {
	gs := strangers(t, "alice", "bob")
	a, b := gs[0], gs[1]

	// Without somebody who compares the fingerprint nothing happens.
	code, out, errs := a.with(strings.NewReader("y\n"), "request", "bob.example.org", "--port", a.port4847())
	if code != ExitUsage || !strings.Contains(errs, b.fingerprint()) || !strings.Contains(errs, "--fingerprint") {
		t.Errorf("code %d, %s%s", code, out, errs)
	}
	code, _, errs = a.run("request", "bob.example.org", "--port", a.port4847(), "--fingerprint", a.fingerprint())
	if code != ExitFailed || !strings.Contains(errs, "Nothing was changed") {
		t.Errorf("wrong fingerprint: %d, %s", code, errs)
	}
	if text, _ := os.ReadFile(a.File()); strings.Contains(string(text), "config peer") {
		t.Error("a peer was written")
	}
	code, _, errs = a.run("connect", "bob.example.org")
	if code != ExitUnknown || !strings.Contains(errs, "htip request bob.example.org") {
		t.Errorf("no hint: %d, %s", code, errs)
	}
	if n := len(b.pending()); n != 0 {
		t.Errorf("%d requests of a look-up", n)
	}

	out = a.must("request", "bob.example.org", "--port", a.port4847(), "--fingerprint", strings.ToLower(b.fingerprint()), "--name", "bobs-home")
	if !strings.Contains(out, "once the other home has approved") {
		t.Error(out)
	}
	b.eventually("is asked", func() bool { return len(b.pending()) == 1 })
	p := b.pending()[0]
	if p.Fingerprint != a.fingerprint() || p.Claims != "alice.example.org" || p.Name != "alice" || p.Address != "127.0.0.1" ||
		fmt.Sprint(p.Networks) != "[192.168.1.0/24]" || !slices.Contains(p.Protocols, "wireguard") && !slices.Contains(p.Protocols, "l2tp") {
		t.Errorf("%+v", p)
	}
	if out := b.must("requests"); !strings.Contains(out, a.fingerprint()) || !strings.Contains(out, "not verified") || !strings.Contains(out, "htip approve 1") {
		t.Error(out)
	}
	a.eventually("waits", func() bool { return strings.Contains(a.tunnel("bobs-home").Error, "waiting for approval") })
	if got := a.wait("bobs-home", "waiting"); !strings.Contains(got.Error, "has to approve") {
		t.Errorf("%+v", got)
	}
	// The wish survives a reboot, and the second request is the first one.
	a.stop()
	a.start()
	b.eventually("is asked again", func() bool { p := b.pending(); return len(p) == 1 && p[0].Count >= 2 })

	for _, c := range []struct{ what, want string }{
		{"99", "no request 99"}, {"ABC", "at least 4"}, {"AAAA-AAAA", "no home with the fingerprint"}, {"bob", "at least 4"},
	} {
		if code, _, errs := b.run("approve", c.what); code != ExitFailed || !strings.Contains(errs, c.want) {
			t.Errorf("approve %s: %d, %s", c.what, code, errs)
		}
	}
	if code, _, errs := b.run("approve", "1", "--access", "nas:tcp:99999"); code != ExitFailed || !strings.Contains(errs, "nas:tcp:445") {
		t.Errorf("bad access: %d, %s", code, errs)
	}
	if code, _, errs := b.run("approve", "1", "--name", "no name"); code != ExitFailed || !strings.Contains(errs, "word of a-z") {
		t.Errorf("bad name: %d, %s", code, errs)
	}
	out = b.must("approve", a.fingerprint()[:7], "--name", "Ally", "--access", "nas:tcp:445", "--access", "printer", "--port", b.port4847())
	if !strings.Contains(out, "ally is a peer now") {
		t.Error(out)
	}
	text, _ := os.ReadFile(b.File())
	for _, w := range []string{"config peer 'ally'", a.Key, "list access 'nas:tcp:445'", "list access 'printer'"} {
		if !strings.Contains(string(text), w) {
			t.Errorf("no %q in\n%s", w, text)
		}
	}
	if len(b.pending()) != 0 {
		t.Error("still pending")
	}
	// A second time changes nothing.
	b.eventually("has alice's domain", func() bool {
		text, _ = os.ReadFile(b.File())
		return strings.Contains(string(text), "option domain 'alice.example.org'")
	})
	if out := b.must("approve", a.fingerprint(), "--name", "other"); !strings.Contains(out, "ally is a peer already") {
		t.Error(out)
	}
	if now, _ := os.ReadFile(b.File()); !bytes.Equal(now, text) {
		t.Errorf("changed by the second approve:\n%s", now)
	}
	if code, _, errs := b.run("reject", a.fingerprint()); code != ExitFailed || !strings.Contains(errs, "that is peer ally") {
		t.Errorf("%d %s", code, errs)
	}
	a.wait("bobs-home", "up")
	b.wait("ally", "up")
	// Asking once more is a success, too.
	if out := a.must("request", "bob.example.org", "--port", a.port4847(), "--wait"); !strings.Contains(out, "is your") && !strings.Contains(out, "keeps") {
		t.Error(out)
	}
}

// TestRejected: who is rejected is told so, is not shown again, not even after a
// reboot, and does not go on asking. Approving takes it back.
func TestRejected(t *testing.T) {
	gs := strangers(t, "alice", "bob")
	a, b := gs[0], gs[1]
	a.must("request", "bob.example.org", "--port", a.port4847(), "--fingerprint", b.fingerprint())
	b.eventually("is asked", func() bool { return len(b.pending()) == 1 })
	if out := b.must("reject", "1"); !strings.Contains(out, a.fingerprint()) {
		t.Error(out)
	}
	b.must("reject", a.fingerprint()) // once more
	b.stop()
	b.start()
	for range 2 {
		if code, out, errs := a.run("connect", "bob", "--wait"); code != ExitFailed || !strings.Contains(errs, "refused") {
			t.Errorf("%d %s%s", code, out, errs)
		}
	}
	if len(b.pending()) != 0 || !strings.Contains(b.must("requests"), "rejected: "+a.fingerprint()) {
		t.Error(b.must("requests"))
	}
	if got := a.tunnel("bob"); got.State != "idle" {
		t.Errorf("goes on asking: %+v", got)
	}
	b.must("approve", a.fingerprint(), "--name", "alice")
	a.must("connect", "bob", "--wait")
	if strings.Contains(b.must("requests"), a.fingerprint()) {
		t.Error("still rejected")
	}
}

// TestAcceptPolicy: 'known' refuses strangers in the handshake, 'none' takes no
// request of anybody, and both are taken over while running.
func TestAcceptPolicy(t *testing.T) {
	gs := strangers(t, "alice", "bob", "carol")
	a, b := gs[0], gs[1]
	policy := func(g *gateway, word string, peers ...*gateway) {
		t.Helper()
		g.Extra = "\toption accept '" + word + "'\n"
		g.configure(peers...)
		n := strings.Count(g.Log.String(), "taken over")
		g.Reload <- os.Interrupt
		g.eventually("reloads", func() bool { return strings.Count(g.Log.String(), "taken over") > n })
	}
	policy(b, "known")
	id, _, _ := control.LoadIdentity(filepath.Join(a.Dir, "state", "key"))
	mine, _, _ := control.LoadIdentity(filepath.Join(b.Dir, "state", "key"))
	at := netip.AddrPortFrom(b.Addr, uint16(b.Port))
	refused := func() {
		t.Helper()
		c, err := control.Dial(context.Background(), id, at, mine.Public())
		if err == nil {
			_, err = c.Receive()
			c.Close()
		}
		if err != control.ErrNotKnown {
			t.Errorf("a stranger is told %v", err)
		}
	}
	refused()
	if out := b.must("requests"); !strings.Contains(out, "option accept 'known'") {
		t.Error(out)
	}
	policy(b, "none", a, b)
	policy(a, "ask", a, b)
	if code, _, errs := a.run("connect", "bob", "--wait"); code != ExitFailed || !strings.Contains(errs, "takes no requests") {
		t.Errorf("none: %d %s", code, errs)
	}
	if code, _, errs := b.run("invite"); code != ExitFailed || !strings.Contains(errs, "option accept") {
		t.Errorf("invite: %d %s", code, errs)
	}
	b.must("connect", "alice", "--wait") // but from there it can be asked for
	a.wait("bob", "up")
	policy(b, "known")
	refused()
}

// TestNothingIsToldToAStranger looks at every octet that a stranger gets.
func TestNothingIsToldToAStranger(t *testing.T) {
	gs := strangers(t, "alice", "bob")
	b := gs[1]
	want := func(reason htip.Reason, text string) {
		t.Helper()
		c := b.dial(gs[0])
		m := request()
		m.Domain = "claims.example.net"
		if err := c.Send(m); err != nil {
			t.Fatal(err)
		}
		got, err := c.Receive()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := got.Encode()
		if err != nil {
			t.Fatal(err)
		}
		should, err := (&htip.Message{Type: htip.Nak, Talk: 7, Refused: htip.Request, Reason: reason, Text: text}).Encode()
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(raw, should) {
			t.Errorf("a stranger is told %+v", got)
		}
		if m, err := c.Receive(); err == nil {
			t.Errorf("and then %+v", m)
		}
	}
	for range 3 {
		want(htip.ReasonApproval, "somebody at the other home has to approve it")
	}
	if p := b.pending(); len(p) != 1 || p[0].Claims != "claims.example.net" || p[0].Count != 3 {
		t.Errorf("%+v", p)
	}
	b.must("reject", "1")
	want(htip.ReasonRefused, "this home does not want a tunnel with yours")

	// Anything but a REQUEST gets nothing at all, and silence is not waited for.
	c := b.dial(gs[0])
	c.Send(&htip.Message{Type: htip.Keepalive, Talk: 1, TunnelID: 99})
	if m, err := c.Receive(); err == nil {
		t.Errorf("told %+v", m)
	}
	c = b.dial(gs[0])
	begin := time.Now()
	if m, err := c.Receive(); err == nil || time.Since(begin) > 9*time.Second {
		t.Errorf("told %+v after %v", m, time.Since(begin))
	}
	// A name that no terminal should see never gets so far.
	c = b.dial(gs[0])
	raw, _ := request().Encode()
	evil := append(slices.Clone(raw), 0, 2, 0, 6)
	evil = append(evil, "a\x1b[2Jb"...)
	evil[2], evil[3] = byte(len(evil)>>8), byte(len(evil))
	c.SendRaw(evil)
	if m, err := c.Receive(); err != nil || m.Reason != htip.ReasonMalformed || len(m.Offers) > 0 || m.Domain != "" {
		t.Errorf("%+v %v", m, err)
	}
	if out := b.must("requests"); strings.Contains(out, "\x1b") {
		t.Error(out)
	}
}

// TestLobbyIsBounded: strangers that say nothing make room for others, and a
// friend does not notice them.
func TestLobbyIsBounded(t *testing.T) {
	gs := strangers(t, "alice", "bob")
	b := gs[1]
	ended := make(chan bool, 20)
	for range 6 {
		c := b.dial(gs[0])
		go func() {
			c.Receive()
			ended <- true
		}()
	}
	for range 4 { // two of one address may stay
		select {
		case <-ended:
		case <-time.After(4 * time.Second):
			t.Fatal("strangers that say nothing stay")
		}
	}
	gs[0].must("request", "bob.example.org", "--port", b.port4847(), "--fingerprint", b.fingerprint())
	b.eventually("is asked all the same", func() bool { return len(b.pending()) == 1 })
}

// TestClaimedDomain: a stranger gets a public name only when its gateway answers
// there. Who claims co.uk would be asked for all names below it.
func TestClaimedDomain(t *testing.T) {
	gs := strangers(t, "alice", "bob", "carol")
	a, b := gs[0], gs[1]
	b.Names.SetA("claims.example.net", gs[2].Addr)
	c := b.dial(a)
	m := request()
	m.Domain = "claims.example.net"
	c.Send(m)
	b.eventually("is asked", func() bool { return len(b.pending()) == 1 })
	b.must("approve", "1", "--port", b.port4847())
	has := func() bool {
		text, _ := os.ReadFile(b.File())
		return strings.Contains(string(text), "claims.example.net")
	}
	time.Sleep(500 * time.Millisecond) // carol's gateway has answered
	if has() {
		t.Error("taken for the asking")
	}
	b.Names.SetA("claims.example.net", a.Addr)
	b.eventually("takes over what is confirmed", has)
}
