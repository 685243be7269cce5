package htip

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// requestOf is a REQUEST as a node of homes sends it.
func requestOf(talk uint64, replaces uint64) *Message {
	n := px("192.168.1.0/24")
	return &Message{Type: Request, Talk: talk, Protocols: []Protocol{L2TP}, Gateway: n.Addr().Next(), Replaces: replaces,
		Offers: []Offer{{n, Private}}}
}

// stray opens a connection beside those of the gateways.
func (w *world) stray(opener, accepter string) ConnID {
	w.last++
	w.conns[w.last] = [2]string{opener, accepter}
	return w.last
}

// TestLateRequest: a REQUEST that was under way for long arrives when its
// sender has moved on. Whatever stands or is being agreed on goes on.
func TestLateRequest(t *testing.T) {
	for _, c := range []struct {
		at     string // who gets it
		state  State
		reason Reason // of the NAK
	}{
		{"alice", Requested, ReasonBusy},
		{"alice", Acked, ReasonStands},
		{"alice", Connecting, ReasonStands},
		{"alice", Proving, ReasonStands},
		{"alice", Up, ReasonStands},
		{"bob", Responded, ReasonStands},
		{"bob", Preparing, ReasonStands},
		{"bob", Connecting, ReasonStands},
		{"bob", Proving, ReasonStands},
		{"bob", Up, ReasonStands},
	} {
		for _, replaces := range []uint64{0, 77} { // and one that means another tunnel
			t.Run(fmt.Sprint(c.at, " ", c.state, " ", replaces), func(t *testing.T) {
				w, n := homes(t, "alice", "bob")
				at, from := n[c.at], map[string]string{"alice": "bob", "bob": "alice"}[c.at]
				w.act(n["alice"], n["alice"].Handle("bob", Connect{}))
				w.until(c.state.String(), func() bool { return at.state(from) == c.state })
				conn := w.stray(from, c.at)
				before := len(w.wire)
				w.act(at, at.Handle(from, Received{Conn: conn, Msg: requestOf(4711, replaces)}))
				if len(w.wire) != before+1 || !strings.Contains(w.wire[before], "NAK") || !strings.Contains(w.wire[before], fmt.Sprintf("000a0002%04x", uint16(c.reason))) {
					t.Errorf("answer %v", w.wire[before:])
				}
				w.act(at, at.Handle(from, Closed{Conn: conn}))
				w.drain()
				w.mustBeUp(n["alice"], n["bob"])
				if len(n["alice"].stops)+len(n["bob"].stops) != 0 || len(w.conns) != 1 {
					t.Errorf("stopped %v %v, connections %v", n["alice"].stops, n["bob"].stops, w.conns)
				}
			})
		}
	}
}

// TestRepeatedRequest: the same REQUEST once more on the same connection, at
// any later time, changes nothing.
func TestRepeatedRequest(t *testing.T) {
	for _, state := range []State{Refusing, Responded, Preparing, Connecting, Proving, Up} {
		w, n := homes(t, "alice", "bob")
		a, b := n["alice"], n["bob"]
		if state == Refusing {
			b.home.Occupied = append(b.home.Occupied, Private...)
			b.SetHome(b.home)
		}
		w.act(a, a.Handle("bob", Connect{}))
		w.until(state.String(), func() bool { return b.state("alice") == state })
		p := b.peers["alice"]
		if as := b.Handle("alice", Received{Conn: p.conn, Msg: requestOf(p.talk, 0)}); len(as) != 0 || p.state != state {
			t.Errorf("%v: %v", state, as)
		}
	}
}

// TestForgottenTunnel: a gateway that has lost everything asks anew. It costs
// one more round trip, and what the other one still had is replaced.
func TestForgottenTunnel(t *testing.T) {
	for _, who := range []string{"alice", "bob"} {
		for state := Acked; state <= Up; state++ {
			if state == Refusing {
				continue
			}
			other := map[string]string{"alice": "bob", "bob": "alice"}[who]
			w, n := homes(t, "alice", "bob")
			stands := n[other]
			w.act(n["alice"], n["alice"].Handle("bob", Connect{}))
			for len(w.queue) > 0 && stands.state(who) != state {
				w.step()
			}
			if stands.state(who) != state {
				continue // a state of the other role
			}
			was := stands.entry(who)
			w.queue = nil
			w.wire = nil
			fresh := w.add(who, Derived, "", "192.168.1.0/24")
			w.act(fresh, fresh.SetPeers([]Peer{{Name: other, Domain: other + ".example.org", Key: key(other), Protocols: []Protocol{L2TP}}}, nil))
			w.handle(fresh, other, Connect{})
			w.mustBeUp(fresh, stands)
			if len(w.conns) != 1 {
				t.Errorf("%s %v: connections %v", other, state, w.conns)
			}
			if state >= Preparing && (len(stands.stops) != 1 || stands.stops[0].TunnelID != was.TunnelID) {
				t.Errorf("%s %v: stopped %v", other, state, stands.stops)
			}
			if text := strings.Join(w.wire, "\n"); strings.Count(text, "REQUEST") != 2 || strings.Count(text, "NAK") < 1 {
				t.Errorf("%s %v:\n%s", other, state, text)
			}
		}
	}
}

// TestTheOldTunnelEndsMeanwhile: what stood in the way is gone, or another one
// by now, when the REQUEST is repeated.
func TestTheOldTunnelEndsMeanwhile(t *testing.T) {
	for _, now := range []State{Idle, Up} {
		w, n := homes(t, "alice", "bob")
		a, b := n["alice"], n["bob"]
		w.handle(a, "bob", Connect{})
		old := b.entry("alice").TunnelID
		w.handle(a, "bob", Disconnect{ReasonUser})
		if now == Up {
			w.handle(a, "bob", Connect{})
		}
		conn := w.stray("alice", "bob")
		w.act(b, b.Handle("alice", Received{Conn: conn, Msg: requestOf(4711, uint64(old))}))
		if want := map[State]State{Idle: Responded, Up: Up}[now]; b.state("alice") != want {
			t.Errorf("%v: %v", now, b.state("alice"))
		}
	}
}

// TestOurOwnAttemptFollows: a home that wants a tunnel itself does not forget
// it over a REQUEST of the other one that comes to nothing.
func TestOurOwnAttemptFollows(t *testing.T) {
	for _, state := range []State{Idle, Dialing, Waiting, Responded} {
		w, n := homes(t, "alice", "bob")
		a := n["alice"]
		conn := w.stray("bob", "alice")
		late := Received{Conn: conn, Msg: requestOf(4711, 0)}
		switch state {
		case Dialing:
			a.Handle("bob", Connect{})
		case Waiting:
			w.handle(a, "bob", Connect{})
			w.handle(a, "bob", LinkDown{a.entry("bob").TunnelID, "gone"})
		case Responded:
			a.Handle("bob", late)
			w.handle(a, "bob", Connect{})
		}
		if a.state("bob") != state {
			t.Fatalf("%v, not %v", a.state("bob"), state)
		}
		a.Handle("bob", late)
		w.act(a, a.Handle("bob", Closed{Conn: conn}))
		if state == Idle {
			if st := a.Status()[0]; st.State != Idle || st.Reason != ReasonUnreachable {
				t.Errorf("nobody here asked: %+v", st)
			}
			continue
		}
		if a.state("bob") != Waiting || a.limit("bob") == 0 {
			t.Fatalf("%v: %v", state, a.Status()[0])
		}
		w.fire(a, "bob")
		w.mustBeUp(a, n["bob"])
	}
}

// TestOneKeyTwoGateways: a restored backup makes a second device with the key
// of a home. The one that asks last has the tunnel; the other one says what has
// happened and stays quiet until somebody asks.
func TestOneKeyTwoGateways(t *testing.T) {
	for _, auto := range []bool{false, true} {
		w, n := homes(t, "alice", "bob")
		a, b := n["alice"], n["bob"]
		double := w.add("double", Derived, "", "192.168.1.0/24")
		double.cfg.Key, double.as = key("alice"), "alice"
		bob := []Peer{{Name: "bob", Domain: "bob.example.org", Key: key("bob"), Protocols: []Protocol{L2TP}, Auto: auto}}
		w.act(double, double.SetPeers(bob, nil))
		w.act(a, a.SetPeers(bob, nil))
		w.handle(a, "bob", Connect{})
		w.mustBeUp(a, b)
		for _, x := range []struct{ asks, loses *node }{{double, a}, {a, double}} {
			w.handle(x.asks, "bob", Connect{})
			if x.asks.state("bob") != Up || b.state("alice") != Up || b.entry("alice").TunnelID != x.asks.entry("bob").TunnelID {
				t.Fatalf("%s %v, bob %v", x.asks.name, x.asks.state("bob"), b.state("alice"))
			}
			st := x.loses.Status()[0]
			if st.State != Idle || st.Reason != ReasonSuperseded || !strings.Contains(st.Text, "another device seems to use the key of this home") {
				t.Errorf("%s: %+v", x.loses.name, st)
			}
			if x.loses.limit("bob") != 0 || len(x.loses.stops) != 1 {
				t.Errorf("%s waits for %v, stopped %v", x.loses.name, x.loses.limit("bob"), x.loses.stops)
			}
			x.loses.stops = nil
		}
	}
}

// TestOneKeyTwoTalks: the same while the first one is still being set up.
func TestOneKeyTwoTalks(t *testing.T) {
	for _, state := range []State{Requested, Acked} {
		w, n := homes(t, "alice", "bob")
		a, b := n["alice"], n["bob"]
		w.act(a, a.Handle("bob", Connect{}))
		w.until(state.String(), func() bool { return a.state("bob") == state && b.state("alice") >= Responded })
		conn := w.stray("alice", "bob")
		w.act(b, b.Handle("alice", Received{Conn: conn, Msg: requestOf(4711, b.peers["alice"].stake())}))
		w.drain()
		if st := a.Status()[0]; st.State != Idle || st.Reason != ReasonSuperseded || !strings.Contains(st.Text, "another device") {
			t.Errorf("%v: %+v", state, st)
		}
	}
}

// TestOurselves: a peer with our own key.
func TestOurselves(t *testing.T) {
	w := newWorld(t)
	a := w.add("alice", Derived, "", "192.168.1.0/24")
	a.as = "mirror"
	w.nodes["mirror"] = a
	w.act(a, a.SetPeers([]Peer{{Name: "mirror", Domain: "alice.example.org", Key: key("alice"), Protocols: []Protocol{L2TP}, Auto: true}}, nil))
	w.handle(a, "mirror", Connect{})
	if st := a.Status()[0]; st.State != Idle || st.Reason != ReasonLoop || !strings.Contains(st.Text, "our own key") || a.limit("mirror") != 0 {
		t.Errorf("%+v", st)
	}
	if len(w.wire) != 0 {
		t.Errorf("%v", w.wire)
	}
	as := a.Handle("mirror", Received{Conn: 9, Msg: requestOf(4711, 0)})
	if s, ok := as[0].(Send); !ok || s.Msg.Type != Nak || s.Msg.Reason != ReasonLoop || len(as) != 2 {
		t.Errorf("%v", as)
	}
}

// TestTheRequestComesBack: our own REQUEST, sent back by whoever.
func TestTheRequestComesBack(t *testing.T) {
	w, n := homes(t, "alice", "bob")
	b := n["bob"]
	w.act(b, b.Handle("alice", Connect{}))
	w.until("requested", func() bool { return b.state("alice") == Requested })
	as := b.Handle("alice", Received{Conn: w.stray("alice", "bob"), Msg: requestOf(b.peers["alice"].talk, 0)})
	if s, ok := as[0].(Send); !ok || s.Msg.Reason != ReasonLoop || b.state("alice") != Requested {
		t.Errorf("%v", as)
	}
	w.drain()
	w.mustBeUp(n["alice"], b)
}

// TestEndedWhileItIsBeingSetUp: the responder is told why, and does not take up
// the attempt that a user at the other end has just ended.
func TestEndedWhileItIsBeingSetUp(t *testing.T) {
	for _, state := range []State{Refusing, Responded, Preparing} {
		w, n := homes(t, "alice", "bob")
		a, b := n["alice"], n["bob"]
		if state == Refusing {
			b.home.Occupied = slices.Clone(Private)
			b.SetHome(b.home)
		}
		w.act(a, a.Handle("bob", Connect{}))
		w.until(state.String(), func() bool { return b.state("alice") == state })
		b.Handle("alice", Connect{}) // wanted there, too
		w.handle(a, "bob", Disconnect{ReasonUser})
		for _, x := range []*node{a, b} {
			if st := x.Status()[0]; st.State != Idle || len(w.conns) != 0 || len(x.Entries()) != 0 {
				t.Errorf("%v: %s %+v, connections %v", state, x.name, st, w.conns)
			}
		}
		if st := b.Status()[0]; st.Reason != ReasonUser {
			t.Errorf("%v: %+v", state, st)
		}
		if state != Refusing { // and somebody there who has read it may ask again
			w.handle(b, "alice", Connect{})
			w.mustBeUp(a, b)
		}
	}
}

// TestEventsOfAnotherTunnel: what is said of a tunnel that is over, or of none,
// changes nothing; nor do answers to another talk.
func TestEventsOfAnotherTunnel(t *testing.T) {
	for _, three := range []bool{false, true} {
		for _, at := range []string{"alice", "bob"} {
			from := map[string]string{"alice": "bob", "bob": "alice"}[at]
			for state := Idle; state <= Up; state++ {
				w, ns := homes(t, "alice", "bob")
				if three {
					threeMessages(ns["alice"], ns["bob"])
				}
				n := ns[at]
				if state == Refusing {
					b := ns["bob"]
					b.home.Occupied = Private
					b.SetHome(b.home)
				}
				w.act(ns["alice"], ns["alice"].Handle("bob", Connect{}))
				for len(w.queue) > 0 && n.state(from) != state {
					w.step()
				}
				if n.state(from) != state {
					continue // not a state of this role, or of this talk
				}
				p := n.peers[from]
				id := p.entry.TunnelID + 1
				events := []Event{Started{id}, StartFailed{id, "x"}, LinkUp{id}, LinkDown{id, "x"}, Proven{id}, Timeout{p.timer + 1}, Timeout{p.timer - 1}, Closed{Conn: p.conn + 50}}
				if p.conn != 0 {
					for _, m := range whole() {
						m.Talk, m.TunnelID = p.talk+1, id
						if m.Type != Request && m.Type != Keepalive {
							events = append(events, Received{Conn: p.conn, Msg: m})
						}
						if m.Type == Request && p.role == Initiator { // on a connection that we opened only we ask
							events = append(events, Received{Conn: p.conn, Msg: m})
						}
					}
				}
				for _, ev := range events {
					if as := n.Handle(from, ev); len(as) != 0 || p.state != state {
						t.Errorf("%s %v, %#v: %v, %v", at, state, ev, p.state, as)
					}
				}
			}
		}
	}
}
