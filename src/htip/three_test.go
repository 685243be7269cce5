package htip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// threeMessages makes gateways able to do without READY, in both roles.
func threeMessages(ns ...*node) {
	for _, n := range ns {
		n.cfg.ThreeMessages, n.cfg.EarlyServers = true, []Protocol{L2TP}
	}
}

// quickHomes are homes that can do without READY.
func quickHomes(t *testing.T, names ...string) (*world, map[string]*node) {
	w, ns := homes(t, names...)
	for _, n := range ns {
		threeMessages(n)
	}
	return w, ns
}

// count is how often a message went over the wire.
func (w *world) count(t Type) int {
	n := 0
	for _, l := range w.wire {
		if strings.Contains(l, " "+t.String()+"\n") {
			n++
		}
	}
	return n
}

// TestThreeMessages: READY is saved only where both can do without.
func TestThreeMessages(t *testing.T) {
	for _, c := range []struct {
		name  string
		set   func(a, b *node)
		ready int
	}{
		{"nobody can", func(a, b *node) {}, 1},
		{"the initiator can't", func(a, b *node) { threeMessages(b) }, 1},
		{"the responder can't", func(a, b *node) { a.cfg.ThreeMessages = true }, 1},
		{"the responder's server of this protocol can't", func(a, b *node) { threeMessages(a, b); b.cfg.EarlyServers = []Protocol{WireGuard} }, 1},
		{"the responder can't as initiator", func(a, b *node) { threeMessages(a, b); b.cfg.ThreeMessages = false }, 0},
		{"both can", func(a, b *node) { threeMessages(a, b) }, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, n := homes(t, "alice", "bob")
			a, b := n["alice"], n["bob"]
			c.set(a, b)
			w.handle(a, "bob", Connect{})
			w.mustBeUp(a, b)
			if w.count(Ready) != c.ready || len(w.wire) != 3+c.ready {
				t.Errorf("%s", strings.Join(w.wire, "\n"))
			}
			e, early := b.entry("alice"), c.ready == 0
			if len(b.starts) != 1 || early != (b.starts[0].Own == nil) || b.starts[0].TunnelID != e.TunnelID || b.starts[0].LocalPort != e.LocalPort {
				t.Errorf("server started with %+v", b.starts)
			}
			if early && (len(b.agreed) != 1 || fmt.Sprint(b.agreed[0]) != fmt.Sprint(e)) {
				t.Errorf("agreed: %+v, is %+v", b.agreed, e)
			}
			if got := a.entry("bob").PeerPort; got != e.LocalPort {
				t.Errorf("client goes to port %d, server is at %d", got, e.LocalPort)
			}
		})
	}
}

// TestThreeMessagesUnasked: a responder that does without READY although nobody
// said that it could gets no client.
func TestThreeMessagesUnasked(t *testing.T) {
	a, req := asking(t)
	as := a.Handle("bob", Received{Conn: 7, Msg: &Message{Type: Response, Talk: req.Talk, Features: FeatureThreeMessages, Protocols: []Protocol{L2TP},
		Gateway: netip.MustParseAddr("10.9.9.1"), Offers: []Offer{{px("10.9.9.0/24"), []netip.Prefix{px("10.9.9.0/24")}}},
		Initiator: []Mapping{{px("192.168.1.0/24"), px("192.168.1.0/24")}}, TunnelID: 5, Port: 5}})
	if m := sent(t, as); m.Type != Ack || a.state("bob") != Acked {
		t.Errorf("%v, %v", m.Type, a.state("bob"))
	}
}

// TestTheServerIsKeptForTheNextResponse: a NAK to RESPONSE is about addresses;
// the server that listens serves the next one.
func TestTheServerIsKeptForTheNextResponse(t *testing.T) {
	w, n := quickHomes(t, "alice", "bob")
	a, b := n["alice"], n["bob"]
	once := false
	w.drop = func(_ string, m *Message) bool {
		if m.Type == Response && !once {
			once = true
			h := a.home
			for _, c := range m.Offers[0].Candidates {
				h.Occupied = append(h.Occupied, c)
			}
			h.Occupied = h.Occupied[:explicit]
			for _, c := range m.Offers[0].Candidates[explicit:] {
				if c.Bits() < 24 {
					h.Occupied = append(h.Occupied, c)
				}
			}
			w.act(a, a.SetHome(h))
		}
		return false
	}
	w.handle(a, "bob", Connect{})
	w.mustBeUp(a, b)
	if w.count(Response) != 2 || w.count(Nak) != 1 || len(b.starts) != 1 || len(b.stops) != 0 {
		t.Errorf("started %v, stopped %v\n%s", b.starts, b.stops, strings.Join(w.wire, "\n"))
	}
}

// TestTheServerIsStopped: whatever ends a talk of three messages before it has
// led anywhere stops the server, at every state.
func TestTheServerIsStopped(t *testing.T) {
	for name, end := range map[string]struct {
		from, to State // of the responder
		what     func(w *world, a, b *node)
		reason   Reason // there
	}{
		"it can't start":     {Listening, Listening, func(w *world, a, b *node) { w.handle(b, "alice", StartFailed{b.entry("alice").TunnelID, "no port"}) }, ReasonServer},
		"it starts too long": {Listening, Listening, func(w *world, a, b *node) { w.fire(b, "alice") }, ReasonServer},
		"it ends": {Listening, Connecting, func(w *world, a, b *node) {
			w.handle(b, "alice", LinkDown{b.entry("alice").TunnelID, "killed"})
		}, 0},
		"the connection breaks": {Listening, Responded, func(w *world, a, b *node) {
			for c := range w.conns {
				delete(w.conns, c)
				w.later(b, "alice", Closed{Conn: c})
				w.later(a, "bob", Closed{Conn: c})
			}
			w.queue = w.queue[len(w.queue)-2:] // what was under way is lost
			w.drain()
		}, ReasonUnreachable},
		"no ACK comes":      {Responded, Responded, func(w *world, a, b *node) { w.fire(b, "alice") }, ReasonTimeout},
		"a user there ends": {Listening, Up, func(w *world, a, b *node) { w.handle(a, "bob", Disconnect{ReasonUser}) }, ReasonUser},
		"a user here ends":  {Listening, Up, func(w *world, a, b *node) { w.handle(b, "alice", Disconnect{ReasonUser}) }, 0},
		"the peer is gone":  {Listening, Up, func(w *world, a, b *node) { w.act(b, b.SetPeers(nil, nil)); w.drain() }, 0},
		"the protocol is no longer allowed": {Listening, Up, func(w *world, a, b *node) {
			w.act(b, b.SetPeers([]Peer{{Name: "alice", Key: key("alice")}}, nil))
			w.drain()
		}, ReasonNoProtocol},
		"our pool is used up meanwhile": {Listening, Listening, func(w *world, a, b *node) {
			h := b.home
			h.Pool = []netip.Prefix{px("192.168.1.0/24")}
			w.act(b, b.SetHome(h))
			w.handle(b, "alice", Started{b.entry("alice").TunnelID})
		}, ReasonExhausted},
	} {
		for state := end.from; state <= end.to; state++ {
			if state == Preparing || state == Proving {
				continue
			}
			t.Run(fmt.Sprint(name, " ", state), func(t *testing.T) {
				w, n := quickHomes(t, "alice", "bob")
				a, b := n["alice"], n["bob"]
				w.act(a, a.Handle("bob", Connect{}))
				w.until(state.String(), func() bool { return b.state("alice") == state })
				end.what(w, a, b)
				if a.state("bob") == Connecting {
					w.fire(a, "bob")
				}
				if len(b.stops) != 1 || b.stops[0].TunnelID != b.starts[0].TunnelID {
					t.Errorf("started %v, stopped %v", b.starts, b.stops)
				}
				if st := b.Status(); len(st) > 0 && (st[0].State != Idle || end.reason != 0 && st[0].Reason != end.reason) {
					t.Errorf("bob: %+v", st)
				}
				if st := a.Status()[0]; st.State >= Connecting || len(a.Entries()) != 0 || st.State == Idle && st.Reason == 0 && !strings.HasPrefix(name, "a user") {
					t.Errorf("alice: %+v", st)
				}
				if len(w.conns) != 0 {
					t.Errorf("connections %v", w.conns)
				}
			})
		}
	}
}

// TestClashAfterTheClientHasStarted: what was free at RESPONSE is taken at ACK.
// The client of that agreement is stopped and another round follows.
func TestClashAfterTheClientHasStarted(t *testing.T) {
	w, n := quickHomes(t, "alice", "bob")
	a, b := n["alice"], n["bob"]
	done := false
	w.drop = func(_ string, m *Message) bool {
		if m.Type == Ack && !done {
			done = true
			h := b.home
			h.Occupied = Substitutes(m.Initiator)
			w.act(b, b.SetHome(h))
		}
		return false
	}
	w.handle(a, "bob", Connect{})
	w.mustBeUp(a, b)
	if len(a.stops) != 1 || len(b.stops) != 1 || w.count(Request) != 2 || w.count(Nak) != 1 {
		t.Errorf("stopped %v, %v\n%s", a.stops, b.stops, strings.Join(w.wire, "\n"))
	}
	if id := a.entry("bob").TunnelID; id == a.stops[0].TunnelID {
		t.Error("the tunnel ID was used twice")
	}
}

// TestTakenWhileTheServerStarts: A' was free at REQUEST and is not when the
// server listens.
func TestTakenWhileTheServerStarts(t *testing.T) {
	w, n := quickHomes(t, "alice", "bob")
	a, b := n["alice"], n["bob"]
	w.act(a, a.Handle("bob", Connect{}))
	w.until("listening", func() bool { return b.state("alice") == Listening })
	h := b.home
	h.Occupied = Substitutes(b.entry("alice").Theirs)
	w.act(b, b.SetHome(h))
	w.drain()
	w.mustBeUp(a, b)
	if len(b.stops) != 1 || w.count(Nak) != 1 {
		t.Errorf("stopped %v\n%s", b.stops, strings.Join(w.wire, "\n"))
	}
}

// TestEverySilenceOfThreeMessages is TestEverySilence for the short talk.
func TestEverySilenceOfThreeMessages(t *testing.T) {
	for _, lost := range []Type{Request, Response, Ack} {
		w, n := quickHomes(t, "alice", "bob")
		a, b := n["alice"], n["bob"]
		w.drop = func(_ string, m *Message) bool { return m.Type == lost }
		w.handle(a, "bob", Connect{})
		if a.state("bob") == Up {
			t.Fatal("up without ", lost)
		}
		w.fire(a, "bob")
		if st := a.Status()[0]; st.State != Idle || st.Reason != ReasonTimeout && st.Reason != ReasonLink || st.Text == "" {
			t.Errorf("%v lost: %+v", lost, st)
		}
		if b.state("alice") != Idle || len(w.conns) != 0 || len(b.starts) != len(b.stops) {
			t.Errorf("%v lost: bob %v, connections %v, started %v, stopped %v", lost, b.state("alice"), w.conns, b.starts, b.stops)
		}
		w.drop = nil
		w.handle(a, "bob", Connect{})
		w.mustBeUp(a, b)
	}
}

// TestPortsUsedUpForThree: neither side has a port left.
func TestPortsUsedUpForThree(t *testing.T) {
	for _, who := range []string{"alice", "bob"} {
		w, n := quickHomes(t, "alice", "bob")
		n[who].cfg.Ports = 0
		w.handle(n["alice"], "bob", Connect{})
		if st := n["alice"].Status()[0]; st.State != Idle || st.Reason != ReasonServer || !strings.Contains(st.Text, "ports") {
			t.Errorf("%s: %+v", who, st)
		}
		if len(w.conns) != 0 || len(n["bob"].starts) != len(n["bob"].stops) {
			t.Errorf("%s: connections %v, started %v, stopped %v", who, w.conns, n["bob"].starts, n["bob"].stops)
		}
	}
}

// TestLateRequestWhileListening: as TestLateRequest, for the states that only a
// talk of three messages has.
func TestLateRequestWhileListening(t *testing.T) {
	for _, state := range []State{Listening, Responded} {
		w, n := quickHomes(t, "alice", "bob")
		a, b := n["alice"], n["bob"]
		w.act(a, a.Handle("bob", Connect{}))
		w.until(state.String(), func() bool { return b.state("alice") == state })
		conn := w.stray("alice", "bob")
		as := b.Handle("alice", Received{Conn: conn, Msg: requestOf(4711, 0)})
		if m := sent(t, as); m.Reason != ReasonStands || m.Replaces != uint64(b.entry("alice").TunnelID) {
			t.Errorf("%+v", m)
		}
		w.act(b, as)
		w.drain()
		w.mustBeUp(a, b)
		if len(b.stops) != 0 || len(w.conns) != 1 {
			t.Errorf("stopped %v, connections %v", b.stops, w.conns)
		}
	}
}

// TestBothAtOnceOfThree: exactly one tunnel, and no server is left behind.
func TestBothAtOnceOfThree(t *testing.T) {
	w, n := quickHomes(t, "alice", "bob")
	a, b := n["alice"], n["bob"]
	w.act(a, a.Handle("bob", Connect{}))
	w.act(b, b.Handle("alice", Connect{}))
	w.drain()
	w.mustBeUp(a, b)
	if len(w.conns) != 1 || len(a.starts) != 0 || len(b.starts) != 1 || len(b.stops) != 0 {
		t.Errorf("connections %v, started %v %v, stopped %v", w.conns, a.starts, b.starts, b.stops)
	}
}
