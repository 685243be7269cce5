package htip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestAdoption(t *testing.T) {
	w, n := homes(t, "alice", "bob")
	a, b := n["alice"], n["bob"]
	w.handle(a, "bob", Connect{})
	e := a.Entries()[0]
	messages := len(w.wire)

	// Alice's daemon is killed and starts again.
	for c := range w.conns {
		delete(w.conns, c)
		w.handle(b, "alice", Closed{Conn: c})
	}
	w.mustBeUpAt(b, "alice")
	a2 := w.add("alice", Derived, "", "192.168.1.0/24")
	w.act(a2, a2.SetPeers([]Peer{{Name: "bob", Domain: "bob.example.org", Key: key("bob"), Protocols: []Protocol{L2TP}}}, a.saved))
	w.act(a2, a2.Adopt(e))
	w.fire(a2, "bob")
	w.mustBeUp(a2, b)
	if len(a2.stops)+len(b.stops) != 0 {
		t.Errorf("stopped %v %v", a2.stops, b.stops)
	}
	for _, m := range w.wire[messages:] {
		if !strings.Contains(m, "KEEPALIVE") {
			t.Errorf("negotiated again: %s", m)
		}
	}

	// The responder is killed too, and keeps nothing.
	b2 := w.add("bob", Derived, "", "192.168.1.0/24")
	w.act(b2, b2.SetPeers([]Peer{{Name: "alice", Key: key("alice"), Protocols: []Protocol{L2TP}}}, b.saved))
	for c := range w.conns {
		delete(w.conns, c)
		w.handle(a2, "bob", Closed{Conn: c})
	}
	w.fire(a2, "bob") // reconnects, learns that bob knows nothing
	w.fire(a2, "bob") // negotiates again
	w.mustBeUp(a2, b2)
	if len(a2.stops) != 1 {
		t.Errorf("stopped %v", a2.stops)
	}
	if got := a2.Entries()[0]; fmt.Sprint(got.Own, got.Theirs) != fmt.Sprint(e.Own, e.Theirs) {
		t.Errorf("%+v became %+v", e, got)
	}
	// What is adopted for a peer that is no longer configured is stopped.
	e.Peer = "nobody"
	if as := a2.Adopt(e); len(as) != 1 {
		t.Errorf("%v", as)
	}
}

func TestKeepalive(t *testing.T) {
	w, n := homes(t, "alice", "bob")
	a, b := n["alice"], n["bob"]
	w.handle(a, "bob", Connect{})
	for range 3 {
		w.fire(a, "bob")
		w.mustBeUp(a, b)
	}
	if len(w.conns) != 1 {
		t.Errorf("connections %v", w.conns)
	}
	w.drop = func(from string, m *Message) bool { return from == "bob" }
	w.fire(a, "bob") // unanswered
	w.fire(a, "bob") // given up
	if a.Conn("bob") != 0 || len(w.conns) != 0 || a.limit("bob") != backoff(0) {
		t.Errorf("connection %d, next try after %v", a.Conn("bob"), a.limit("bob"))
	}
	w.drop = nil
	w.fire(a, "bob") // connects anew
	w.mustBeUp(a, b)
	if len(w.conns) != 1 || len(a.stops) != 0 {
		t.Errorf("connections %v, stopped %v", w.conns, a.stops)
	}
	// No connection to be had: the tunnel is not touched.
	bob := w.nodes["bob"]
	delete(w.nodes, "bob")
	w.handle(a, "bob", Closed{Conn: a.peers["bob"].conn})
	if a.limit("bob") != backoff(0) {
		t.Errorf("a lost connection is opened again after %v", a.limit("bob"))
	}
	w.fire(a, "bob")
	w.nodes["bob"] = bob
	if a.state("bob") != Up || a.limit("bob") == 0 {
		t.Errorf("%v %v", a.state("bob"), a.limit("bob"))
	}
}

func TestHomeRenumbered(t *testing.T) {
	w, n := homes(t, "alice", "bob", "carol")
	a, b, c := n["alice"], n["bob"], n["carol"]
	w.handle(a, "bob", Connect{})
	w.handle(c, "bob", Connect{})
	untouched := b.entry("carol")
	for _, who := range []*node{b, a} {
		h := who.home
		// A static route appears where the other home is known.
		h.Occupied = []netip.Prefix{who.Entries()[0].Theirs[0].Substitute}
		was := who.Entries()[0]
		w.act(who, who.SetHome(h))
		w.handle(a, "bob", Timeout{})
		if a.state("bob") == Waiting {
			w.fire(a, "bob")
		}
		w.mustBeUp(a, b)
		if got := who.Entries()[0]; got.Theirs[0].Substitute == was.Theirs[0].Substitute {
			t.Errorf("%s keeps %v", who.name, got.Theirs)
		}
	}
	if got := b.entry("carol"); fmt.Sprint(got) != fmt.Sprint(untouched) {
		t.Errorf("the other tunnel moved: %+v", got)
	}
	if as := b.SetHome(b.Gateway.home); len(as) != 0 {
		t.Errorf("the same home again: %v", as)
	}
}

// TestFlappingTunnel: a peer whose tunnel comes up and breaks at once is tried
// ever more slowly.
func TestFlappingTunnel(t *testing.T) {
	w, n := homes(t, "alice", "bob")
	a, b := n["alice"], n["bob"]
	w.handle(a, "bob", Connect{})
	for _, want := range []time.Duration{1, 2, 5, 10} {
		w.handle(b, "alice", LinkDown{b.entry("alice").TunnelID, "flap"})
		w.handle(a, "bob", LinkDown{a.entry("bob").TunnelID, "flap"})
		if got := a.limit("bob"); got != want*time.Second {
			t.Fatalf("waits %v, want %v s", got, int(want))
		}
		w.fire(a, "bob")
		w.mustBeUp(a, b)
	}
	w.fire(a, "bob") // it stands for a while
	w.mustBeUp(a, b)
	w.handle(a, "bob", LinkDown{a.entry("bob").TunnelID, "once"})
	if got := a.limit("bob"); got != time.Second {
		t.Errorf("waits %v after a long time up", got)
	}
}
