package htip

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// homes makes gateways that all use 192.168.1.0/24.
func homes(t *testing.T, names ...string) (*world, map[string]*node) {
	w := newWorld(t)
	for _, n := range names {
		w.add(n, Derived, "", "192.168.1.0/24")
	}
	w.friends()
	return w, w.nodes
}

func (w *world) mustBeUp(a, b *node) {
	w.t.Helper()
	if a.state(b.name) != Up || b.state(a.name) != Up {
		w.t.Fatalf("%s %v, %s %v\n%s", a.name, a.state(b.name), b.name, b.state(a.name), strings.Join(w.log, "\n"))
	}
	w.agree()
}

func TestEveryPairOfHomes(t *testing.T) {
	w, n := homes(t, "alice", "bob", "carol", "dave")
	for a := range n {
		for b := range n {
			if a < b {
				w.handle(n[a], b, Connect{})
				w.mustBeUp(n[a], n[b])
			}
		}
	}
	for _, x := range n {
		if len(x.Entries()) != 3 {
			t.Errorf("%s has %d entries", x.name, len(x.Entries()))
		}
		first := x.Entries()[0].Own[0].Substitute
		for _, e := range x.Entries() {
			if e.Own[0].Substitute != first {
				t.Errorf("%s is %v and %v to its friends", x.name, first, e.Own[0].Substitute)
			}
			if !slices.Contains(x.Known(), e.Theirs[0].Substitute) {
				t.Errorf("%s does not guard %v", x.name, e.Theirs)
			}
		}
	}
}

// TestAFreeNetworkUsedForAThirdHome is ¶121: A's own address is free at B, but
// B knows a third home by it already.
func TestAFreeNetworkUsedForAThirdHome(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", Sequential, "10.0.0.0/8", "10.0.1.0/24")
	b := w.add("bob", Sequential, "10.0.0.0/8", "10.0.0.0/24")
	c := w.add("carol", Sequential, "10.0.0.0/8", "10.0.1.0/24")
	w.friends()
	w.handle(c, "bob", Connect{})
	w.mustBeUp(c, b)
	w.handle(a, "bob", Connect{})
	w.mustBeUp(a, b)
	if s := c.entry("bob").Own[0].Substitute; s != px("10.0.1.0/24") {
		t.Errorf("carol is known as %v", s)
	}
	if s := a.entry("bob").Own[0].Substitute; s == px("10.0.1.0/24") {
		t.Errorf("alice is known as %v, which is carol", s)
	}
}

func TestResponderRefusesProtocol(t *testing.T) {
	w, n := homes(t, "alice", "bob")
	w.act(n["bob"], n["bob"].SetPeers([]Peer{{Name: "alice", Key: key("alice"), Protocols: []Protocol{WireGuard}}}, nil))
	w.handle(n["alice"], "bob", Connect{})
	st := n["alice"].Status()[0]
	if st.State != Idle || st.Reason != ReasonNoProtocol || !strings.Contains(st.Text, "allows you none") {
		t.Fatalf("%+v", st)
	}
	if n["bob"].state("alice") != Idle || len(w.conns) != 0 {
		t.Errorf("bob is %v, connections %v", n["bob"].state("alice"), w.conns)
	}
}

func TestNothingPossibleHere(t *testing.T) {
	w, n := homes(t, "alice", "bob")
	w.act(n["alice"], n["alice"].SetPeers([]Peer{{Name: "bob", Domain: "bob.example.org", Key: key("bob")}}, nil))
	w.handle(n["alice"], "bob", Connect{})
	if st := n["alice"].Status()[0]; st.Reason != ReasonNoProtocol || len(w.wire) != 0 {
		t.Fatalf("%+v, %v", st, w.wire)
	}
}

func TestPoolUsedUp(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", Derived, "10.9.0.0/24", "192.168.1.0/24")
	b := w.add("bob", Derived, "10.9.0.0/24", "192.168.1.0/24")
	w.friends()
	w.handle(a, "bob", Connect{})
	for _, n := range []*node{a, b} {
		if len(n.Entries()) != 0 || len(w.conns) != 0 {
			t.Errorf("%s keeps %v", n.name, n.Entries())
		}
	}
	if st := a.Status()[0]; st.State != Idle || st.Reason != ReasonExhausted || st.Text == "" {
		t.Errorf("%+v", st)
	}
}

func TestAllNetworksShadowedThere(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", Sequential, "10.0.0.0/8", "10.0.0.0/24")
	w.add("bob", Sequential, "10.0.0.0/8", "10.0.0.0/8")
	w.friends()
	w.handle(a, "bob", Connect{})
	if st := a.Status()[0]; st.State != Idle || !st.Reason.Permanent() {
		t.Errorf("%+v", st)
	}
}

func TestUnreachable(t *testing.T) {
	w, n := homes(t, "alice")
	a := n["alice"]
	w.act(a, a.SetPeers([]Peer{{Name: "zoe", Domain: "zoe.example.org", Key: key("zoe"), Protocols: []Protocol{L2TP}}}, nil))
	w.handle(a, "zoe", Connect{})
	if st := a.Status()[0]; st.State != Idle || st.Reason != ReasonUnreachable {
		t.Fatalf("%+v", st)
	}
	// One that shall always be up is tried for ever, ever more slowly.
	w.act(a, a.SetPeers([]Peer{{Name: "zoe", Domain: "zoe.example.org", Key: key("zoe"), Protocols: []Protocol{L2TP}, Auto: true}}, nil))
	w.handle(a, "zoe", Connect{})
	for _, want := range []time.Duration{1, 2, 5, 10, 30, 60, 60} {
		if got := a.limit("zoe"); got != want*time.Second || a.state("zoe") != Waiting {
			t.Fatalf("%v in %v, want %v s", got, a.state("zoe"), int(want))
		}
		w.fire(a, "zoe")
	}
	w.handle(a, "zoe", Disconnect{ReasonUser})
	if a.state("zoe") != Idle || a.limit("zoe") != 0 {
		t.Error("still trying after disconnect")
	}
}

func TestBothAtOnce(t *testing.T) {
	for _, order := range [][2]string{{"alice", "bob"}, {"bob", "alice"}} {
		w, n := homes(t, "alice", "bob")
		a, b := n[order[0]], n[order[1]]
		// Both events are handled before any message is delivered.
		w.act(a, a.Handle(b.name, Connect{}))
		w.act(b, b.Handle(a.name, Connect{}))
		w.handle(a, b.name, Connect{})
		w.mustBeUp(a, b)
		if n["alice"].entry("bob").Role != Initiator {
			t.Error("alice has the smaller key and is not initiator")
		}
		if len(w.conns) != 1 || len(a.stops)+len(b.stops) != 0 {
			t.Errorf("connections %v, stopped %v %v", w.conns, a.stops, b.stops)
		}
	}
}

func TestDisconnectTellsThePeer(t *testing.T) {
	w, n := homes(t, "alice", "bob")
	a, b := n["alice"], n["bob"]
	w.handle(a, "bob", Connect{})
	for _, who := range []*node{a, b} {
		other := map[*node]*node{a: b, b: a}[who]
		w.handle(a, "bob", Connect{})
		w.mustBeUp(a, b)
		a.stops, b.stops = nil, nil
		w.handle(who, other.name, Disconnect{ReasonUser})
		if a.state("bob") != Idle || b.state("alice") != Idle || len(w.conns) != 0 {
			t.Fatalf("%v %v %v", a.state("bob"), b.state("alice"), w.conns)
		}
		if len(a.stops) != 1 || len(b.stops) != 1 {
			t.Errorf("stopped %v and %v", a.stops, b.stops)
		}
		if st := other.Status()[0]; st.Reason != ReasonUser {
			t.Errorf("%+v", st)
		}
	}
}

func TestEndedWhileThePeerCouldNotBeTold(t *testing.T) {
	for _, waits := range []bool{true, false} {
		w, n := homes(t, "alice", "bob")
		a, b := n["alice"], n["bob"]
		w.handle(a, "bob", Connect{})
		w.handle(b, "alice", Closed{Conn: b.peers["alice"].conn})
		w.handle(b, "alice", Disconnect{ReasonUser})
		w.handle(a, "bob", LinkDown{a.entry("bob").TunnelID, "LCP echo"})
		w.fire(a, "bob") // the other home tries again by itself
		if st := a.Status()[0]; st.State != Idle || st.Reason != ReasonUser {
			t.Fatalf("%+v", st)
		}
		if waits {
			w.fire(b, "alice") // some time later
		}
		w.handle(a, "bob", Connect{}) // and who has read it, and asks again, means it
		w.mustBeUp(a, b)
	}
}

// TestEndedWhileTheLinkBreaks: the end of a tunnel is noticed by its link
// before the message that says why has come. Nobody brings it up again by
// itself; somebody who knows may.
func TestEndedWhileTheLinkBreaks(t *testing.T) {
	for _, knows := range []bool{false, true} {
		w, n := homes(t, "alice", "bob")
		a, b := n["alice"], n["bob"]
		w.handle(a, "bob", Connect{})
		was := a.entry("bob").TunnelID
		w.act(b, b.Handle("alice", Disconnect{ReasonUser}))
		if knows {
			w.drain()
			w.handle(a, "bob", Connect{})
			w.mustBeUp(a, b)
			continue
		}
		w.act(a, a.Handle("bob", LinkDown{was, "LCP echo"}))
		w.drain()
		w.fire(a, "bob")
		if st := a.Status()[0]; st.State != Idle || st.Reason != ReasonUser || b.state("alice") != Idle {
			t.Fatalf("%+v, bob %v", st, b.state("alice"))
		}
		w.handle(b, "alice", Connect{})
		w.mustBeUp(a, b)
	}
}

func TestBrokenLinkComesBackWithTheSameSubstitutes(t *testing.T) {
	w, n := homes(t, "alice", "bob")
	a, b := n["alice"], n["bob"]
	w.handle(a, "bob", Connect{})
	was := a.saved["bob"]
	if was.Equal(Record{}) || !was.Equal(Record{b.saved["alice"].Theirs, b.saved["alice"].Own}) {
		t.Fatalf("saved %v and %v", was, b.saved["alice"])
	}
	id := a.entry("bob").TunnelID
	w.handle(b, "alice", LinkDown{id, "peer gone"})
	w.handle(a, "bob", LinkDown{id, "peer gone"})
	if a.state("bob") != Waiting || a.limit("bob") != time.Second || b.state("alice") != Idle {
		t.Fatalf("%v %v %v", a.state("bob"), a.limit("bob"), b.state("alice"))
	}
	if !slices.Equal(a.Known(), Substitutes(was.Theirs)) {
		t.Errorf("while down %v is guarded", a.Known())
	}
	w.fire(a, "bob")
	w.mustBeUp(a, b)
	if got := (Record{a.entry("bob").Own, a.entry("bob").Theirs}); !got.Equal(was) {
		t.Errorf("%v became %v", was, got)
	}
	if a.entry("bob").TunnelID == id {
		t.Error("the tunnel ID was used twice")
	}
}

func TestBothForgetAndRemember(t *testing.T) {
	w, n := homes(t, "alice", "bob", "carol")
	w.handle(n["alice"], "bob", Connect{})
	w.handle(n["carol"], "bob", Connect{})
	a, b := n["alice"].saved, n["bob"].saved
	was := fmt.Sprint(n["alice"].Entries()[0].Own, n["bob"].Entries()[0].Own)

	// Both reboot; the third one comes first this time.
	w2, m := homes(t, "alice", "bob", "carol")
	m["alice"].saved, m["bob"].saved = a, b
	m["alice"].SetPeers(nil, nil)
	m["bob"].SetPeers(nil, nil)
	w2.friends()
	w2.handle(m["carol"], "bob", Connect{})
	w2.handle(m["alice"], "bob", Connect{})
	w2.mustBeUp(m["alice"], m["bob"])
	if got := fmt.Sprint(m["alice"].Entries()[0].Own, m["bob"].Entries()[0].Own); got != was {
		t.Errorf("substitutes %v became %v", was, got)
	}
}

func (w *world) mustBeUpAt(n *node, peer string) {
	w.t.Helper()
	if n.state(peer) != Up {
		w.t.Fatalf("%s: %v", n.name, n.state(peer))
	}
}

// TestEverySilence drops each message once: every attempt ends in an error with
// a reason and leaves nothing behind, at either end.
func TestEverySilence(t *testing.T) {
	for _, lost := range []Type{Request, Response, Ack, Ready} {
		w, n := homes(t, "alice", "bob")
		a, b := n["alice"], n["bob"]
		w.drop = func(_ string, m *Message) bool { return m.Type == lost }
		w.handle(a, "bob", Connect{})
		if a.state("bob") == Up {
			t.Fatal("up without ", lost)
		}
		w.fire(a, "bob")
		if st := a.Status()[0]; st.State != Idle || st.Reason != ReasonTimeout || st.Text == "" {
			t.Errorf("%v lost: %+v", lost, st)
		}
		if b.state("alice") == Connecting {
			w.fire(b, "alice") // its server has listened in vain
		}
		if b.state("alice") != Idle || len(w.conns) != 0 || len(b.Entries()) != 0 || lost == Ready && len(b.stops) != 1 {
			t.Errorf("%v lost: bob %v, connections %v, stopped %v", lost, b.state("alice"), w.conns, b.stops)
		}
		w.drop = nil
		w.handle(a, "bob", Connect{})
		w.mustBeUp(a, b)
	}
}

func TestVPNProgramFails(t *testing.T) {
	for _, broken := range []string{"alice", "bob"} {
		w, n := homes(t, "alice", "bob")
		a, b := n["alice"], n["bob"]
		n[broken].broken = true
		w.handle(a, "bob", Connect{})
		st := a.Status()[0]
		if st.State != Idle || st.Reason != ReasonServer || !strings.Contains(st.Text, "kernel has no L2TP") {
			t.Errorf("%s broken: %+v", broken, st)
		}
		if len(w.conns) != 0 || len(a.Entries())+len(b.Entries()) != 0 {
			t.Errorf("%s broken: left %v %v %v", broken, w.conns, a.Entries(), b.Entries())
		}
	}
	w, n := homes(t, "alice", "bob")
	n["alice"].mute = true
	w.handle(n["alice"], "bob", Connect{})
	w.fire(n["alice"], "bob")
	if st := n["alice"].Status()[0]; st.State != Idle || st.Reason != ReasonLink || n["bob"].state("alice") != Idle {
		t.Errorf("%+v, bob %v", st, n["bob"].state("alice"))
	}
}

// TestClashesOnTheWay: what was free when it was offered is taken when the
// answer comes; new parameters follow by themselves.
func TestClashesOnTheWay(t *testing.T) {
	for _, at := range []Type{Response, Ack} {
		w := newWorld(t)
		a := w.add("alice", Sequential, "10.0.0.0/8", "10.0.0.0/24")
		b := w.add("bob", Sequential, "10.0.0.0/8", "10.0.0.0/24")
		w.friends()
		done := false
		w.drop = func(_ string, m *Message) bool {
			if m.Type != at || done {
				return false
			}
			done = true
			n, taken := a, m.Offers
			if at == Ack {
				n, taken = b, []Offer{{Candidates: Substitutes(m.Initiator)}}
			}
			h := n.home
			for _, o := range taken {
				h.Occupied = append(h.Occupied, o.Candidates...)
			}
			w.act(n, n.SetHome(h))
			return false
		}
		w.handle(a, "bob", Connect{})
		w.mustBeUp(a, b)
		if !strings.Contains(strings.Join(w.wire, "\n"), "NAK") {
			t.Error("no NAK was needed")
		}
	}
}

func TestPeersChange(t *testing.T) {
	w, n := homes(t, "alice", "bob")
	a, b := n["alice"], n["bob"]
	w.handle(a, "bob", Connect{})
	w.act(a, a.SetPeers([]Peer{{Name: "bob", Domain: "bob.example.org", Key: key("bob"), Protocols: []Protocol{L2TP}, Auto: true}}, nil))
	w.handle(a, "nobody", Connect{})
	w.mustBeUp(a, b)
	w.act(a, a.SetPeers([]Peer{{Name: "bob", Domain: "bob.example.org", Key: key("mallory"), Protocols: []Protocol{L2TP}}}, nil))
	w.handle(a, "nobody", Connect{})
	if a.state("bob") != Idle || len(a.stops) != 1 {
		t.Errorf("another key, same tunnel: %v", a.state("bob"))
	}
	w.act(a, a.SetPeers(nil, nil))
	if len(a.Status()) != 0 || a.Handle("bob", Connect{}) != nil {
		t.Error("a removed peer lives on")
	}
}

func TestPortsUsedUp(t *testing.T) {
	w, n := homes(t, "alice", "bob", "carol")
	n["alice"].cfg.Ports = 1
	w.handle(n["alice"], "bob", Connect{})
	w.mustBeUp(n["alice"], n["bob"])
	w.handle(n["alice"], "carol", Connect{})
	if st := n["alice"].Status()[1]; st.Reason != ReasonServer || !strings.Contains(st.Text, "ports") {
		t.Errorf("%+v", st)
	}
	w.handle(n["carol"], "alice", Connect{})
	if st := n["carol"].Status()[0]; st.Reason != ReasonServer {
		t.Errorf("%+v", st)
	}
	w.mustBeUp(n["alice"], n["bob"])
}

func TestClip(t *testing.T) {
	if s := clip("a\x1b[2Jb\n" + strings.Repeat("é", 200)); len(s) > maxText || !printable(s) || !strings.HasPrefix(s, "a [2Jb ") {
		t.Errorf("%q", s)
	}
}

// TestAbsentHomeKeepsItsPlace: an approved peer that insists on the substitute
// of a home that is away is refused, and that home comes back unchanged.
func TestAbsentHomeKeepsItsPlace(t *testing.T) {
	w, n := homes(t, "alice", "bob", "dave")
	a, b, d := n["alice"], n["bob"], n["dave"]
	w.handle(a, "bob", Connect{})
	was := a.entry("bob").Theirs
	w.handle(a, "bob", Disconnect{ReasonUser})
	w.drop = func(from string, m *Message) bool {
		if from == "dave" && m.Type == Request {
			s := was[0].Substitute
			m = &Message{Type: Request, Talk: m.Talk, Protocols: m.Protocols, Offers: []Offer{{s, []netip.Prefix{s}}}, Gateway: s.Addr().Next()}
			w.later(a, "dave", Received{Conn: w.last, Msg: m})
			return true
		}
		return false
	}
	w.handle(d, "alice", Connect{})
	if a.state("dave") == Responded || len(a.entry("dave").Theirs) > 0 {
		t.Fatalf("dave took bob's place: %+v", a.entry("dave"))
	}
	w.drop = nil
	w.handle(b, "alice", Connect{})
	w.mustBeUp(a, b)
	if got := a.entry("bob").Theirs; !slices.Equal(got, was) {
		t.Errorf("bob was %v and is %v", was, got)
	}
}
