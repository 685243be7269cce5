package htip

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// sent is the last message among actions.
func sent(t testing.TB, as []Action) (m *Message) {
	t.Helper()
	for _, a := range as {
		if s, ok := a.(Send); ok {
			m = s.Msg
		}
	}
	if m == nil {
		t.Fatalf("nothing sent: %v", as)
	}
	if _, err := m.Encode(); err != nil {
		t.Fatal(err)
	}
	return m
}

// asking is alice with a REQUEST sent to bob, who is played by the test.
func asking(t *testing.T) (*node, *Message) {
	_, n := homes(t, "alice", "bob")
	a := n["alice"]
	a.Handle("bob", Connect{})
	return a, sent(t, a.Handle("bob", Opened{Conn: 7}))
}

// TestReasonsForTheInitiator: what becomes of an attempt that is refused.
func TestReasonsForTheInitiator(t *testing.T) {
	const no = 0
	for _, c := range []struct {
		reason Reason
		state  State
		pause  time.Duration
		text   string
	}{
		{ReasonNoProtocol, Idle, no, "the other gateway says: because"},
		{ReasonVersion, Idle, no, "the other gateway says: because"},
		{ReasonApproval, Waiting, 30 * time.Second, "the other gateway says: because"},
		{ReasonBusy, Waiting, time.Second, "the other gateway says: because"},
		{ReasonRefused, Idle, no, "the other gateway says: because"},
		{ReasonLoop, Idle, no, "the other gateway says: because"},
		{ReasonExhausted, Idle, no, "the other gateway says: because"},
		{ReasonMalformed, Idle, no, "the other gateway says: because"},
		{ReasonServer, Idle, no, "the other gateway says: because"},
		{ReasonUser, Idle, no, "the other gateway says: because"},
		{ReasonShutdown, Idle, no, "the other gateway says: because"},
		{ReasonSuperseded, Idle, no, "another device"},
		{ReasonAddresses, Waiting, time.Second, "the other gateway says: because"},
		{Reason(999), Idle, no, "the other gateway says: because"},
	} {
		a, req := asking(t)
		as := a.Handle("bob", Received{Conn: 7, Msg: &Message{Type: Nak, Talk: req.Talk, Refused: Request, Reason: c.reason, Text: "because"}})
		st := a.Status()[0]
		var pause time.Duration
		closed := false
		for _, x := range as {
			switch x := x.(type) {
			case Send:
				t.Errorf("%v: answered with %v", c.reason, x.Msg.Type)
			case CloseConn:
				closed = true
			case SetTimer:
				pause = x.After
			}
		}
		if st.State != c.state || st.Reason != c.reason || !strings.Contains(st.Text, c.text) || pause != c.pause || !closed {
			t.Errorf("%v: %v %v %q, pause %v, closed %v", c.reason, st.State, st.Reason, st.Text, pause, closed)
		}
	}
	// One that gives no text.
	a, req := asking(t)
	a.Handle("bob", Received{Conn: 7, Msg: &Message{Type: Nak, Talk: req.Talk, Refused: Request, Reason: ReasonRefused}})
	if st := a.Status()[0]; st.Text != "the other gateway says: refused" {
		t.Errorf("%+v", st)
	}
}

// TestReasonsOfTheResponder: every reason that a gateway gives by itself.
func TestReasonsOfTheResponder(t *testing.T) {
	n := px("192.168.1.0/24")
	for _, c := range []struct {
		name   string
		change func(b *node, req *Message)
		late   func(b *node) []Action // what happens after RESPONSE
		reason Reason
		text   string
	}{
		{"all candidates in use", func(b *node, req *Message) { req.Offers[0].Candidates = []netip.Prefix{n} }, nil, ReasonClash, "no substitute offered for 192.168.1.0/24 is free here"},
		{"public candidates only", func(b *node, req *Message) { req.Offers[0].Candidates = []netip.Prefix{px("8.0.0.0/8")} }, nil, ReasonClash, "free here"},
		{"another protocol", func(b *node, req *Message) { req.Protocols = []Protocol{PPTP, 99} }, nil, ReasonNoProtocol, "this gateway allows you l2tp"},
		{"nothing left to propose", func(b *node, req *Message) {
			b.home.Pool = []netip.Prefix{n}
			b.SetHome(b.home)
		}, nil, ReasonExhausted, "nothing in the address pool (192.168.1.0/24) is free at both homes to stand for 192.168.1.0/24"},
		{"removed from the configuration", nil, func(b *node) []Action { return b.SetPeers(nil, nil) }, ReasonRefused, ""},
		{"protocol no longer allowed", nil, func(b *node) []Action {
			return b.SetPeers([]Peer{{Name: "alice", Key: key("alice")}}, nil)
		}, ReasonNoProtocol, "no longer allowed"},
		{"another key under the same name", nil, func(b *node) []Action {
			return b.SetPeers([]Peer{{Name: "alice", Key: key("mallory")}}, nil)
		}, ReasonRefused, ""},
		{"going down", nil, func(b *node) []Action { return b.Handle("alice", Disconnect{ReasonShutdown}) }, ReasonShutdown, ""},
		{"no ACK comes", nil, func(b *node) []Action { return b.Handle("alice", Timeout{b.peers["alice"].timer}) }, ReasonTimeout, "did not answer"},
		{"another version", nil, func(b *node) []Action { return b.Handle("alice", Malformed{7, 4711, VersionError(2)}) }, ReasonVersion, "version 2"},
		{"junk", nil, func(b *node) []Action { return b.Handle("alice", Malformed{7, 4711, &MalformedError{Ack, "junk"}}) }, ReasonMalformed, "junk"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, ns := homes(t, "alice", "bob")
			b, req := ns["bob"], requestOf(4711, 0)
			if c.change != nil {
				c.change(b, req)
			}
			as := b.Handle("alice", Received{Conn: 7, Msg: req})
			if c.late != nil {
				if m := sent(t, as); m.Type != Response {
					t.Fatal(m.Type)
				}
				as = c.late(b)
			}
			m := sent(t, as)
			if m.Type != Nak || m.Reason != c.reason || m.Talk != 4711 || m.Refused != Request || !strings.Contains(m.Text, c.text) {
				t.Errorf("%+v", m)
			}
			if m.Reason == ReasonClash && (len(m.Offers) != 1 || m.Offers[0].Network != n) {
				t.Errorf("our networks are not named: %+v", m)
			}
		})
	}
}

// TestRoundsAreBounded: whoever never agrees is given up after MaxRounds, with
// one reason on both sides.
func TestRoundsAreBounded(t *testing.T) {
	over := func(n *node, peer string, last *Message) {
		t.Helper()
		if st := n.Status()[0]; st.State != Idle || st.Reason != ReasonExhausted || st.Text != tooMany {
			t.Errorf("%+v", st)
		}
		if last.Type != Nak || last.Reason != ReasonExhausted || last.Text != tooMany {
			t.Errorf("the last word is %+v", last)
		}
	}
	t.Run("NAK to REQUEST", func(t *testing.T) {
		a, m := asking(t)
		for n := 0; n < 99; n++ {
			if m.Type != Request {
				if n != 1+MaxRounds {
					t.Errorf("%d times REQUEST", n)
				}
				over(a, "bob", m)
				return
			}
			m = sent(t, a.Handle("bob", Received{Conn: 7, Msg: &Message{Type: Nak, Talk: m.Talk, Refused: Request, Reason: ReasonClash, Avoid: m.Offers[0].Candidates[:1]}}))
		}
		t.Error("goes on for ever")
	})
	t.Run("something always stands", func(t *testing.T) {
		a, m := asking(t)
		for n := uint64(1); m.Type == Request; n++ {
			if n > 1+MaxRounds {
				t.Fatal("asks for ever")
			}
			m = sent(t, a.Handle("bob", Received{Conn: 7, Msg: &Message{Type: Nak, Talk: m.Talk, Refused: Request, Reason: ReasonStands, Replaces: n}}))
			if m.Type == Request && m.Replaces != n {
				t.Errorf("replaces %d, not %d", m.Replaces, n)
			}
		}
		over(a, "bob", m)
	})
	t.Run("RESPONSE that clashes", func(t *testing.T) {
		a, m := asking(t)
		talk := m.Talk
		for n := 1; n < 99; n++ {
			m = sent(t, a.Handle("bob", Received{Conn: 7, Msg: &Message{Type: Response, Talk: talk, Protocols: []Protocol{L2TP}, Gateway: netip.MustParseAddr("10.9.9.1"),
				Offers:    []Offer{{px("10.9.9.0/24"), []netip.Prefix{px("192.168.1.0/24")}}},
				Initiator: []Mapping{{px("192.168.1.0/24"), a.peers["bob"].offers[0].Candidates[1]}}}}))
			if m.Reason != ReasonClash {
				if n != 1+MaxRounds {
					t.Errorf("%d times RESPONSE", n)
				}
				over(a, "bob", m)
				return
			}
		}
		t.Error("goes on for ever")
	})
	t.Run("NAK to RESPONSE", func(t *testing.T) {
		_, ns := homes(t, "alice", "bob")
		b := ns["bob"]
		m := sent(t, b.Handle("alice", Received{Conn: 7, Msg: requestOf(4711, 0)}))
		for n := 0; n < 99; n++ {
			if m.Type != Response {
				if n != 1+MaxRounds {
					t.Errorf("%d times RESPONSE", n)
				}
				over(b, "alice", m)
				return
			}
			m = sent(t, b.Handle("alice", Received{Conn: 7, Msg: &Message{Type: Nak, Talk: 4711, Refused: Response, Reason: ReasonClash, Avoid: m.Offers[0].Candidates[:1]}}))
		}
		t.Error("goes on for ever")
	})
	for name, c := range map[string]struct {
		candidates []netip.Prefix
		times      int
	}{"REQUEST for ever": {Private, 2 + MaxRounds}, "REQUEST that clashes": {[]netip.Prefix{px("192.168.1.0/24")}, 1 + MaxRounds}} {
		t.Run(name, func(t *testing.T) {
			_, ns := homes(t, "alice", "bob")
			b := ns["bob"]
			for n := 1; n < 99; n++ {
				req := requestOf(uint64(n), 0)
				req.Offers[0].Candidates = c.candidates
				m := sent(t, b.Handle("alice", Received{Conn: 7, Msg: req}))
				if m.Type != Response && m.Reason != ReasonClash {
					if n != c.times {
						t.Errorf("%d times REQUEST", n)
					}
					over(b, "alice", m)
					return
				}
			}
			t.Error("goes on for ever")
		})
	}
	t.Run("our addresses keep changing", func(t *testing.T) {
		a, m := asking(t)
		for n := 1; m.Type == Request; n++ {
			if n > 1+MaxRounds {
				t.Fatal("asks for ever")
			}
			h := a.home
			h.Gateway = fromUint(toUint(h.Gateway) + uint32(n))
			a.SetHome(h)
			m = sent(t, a.Handle("bob", Received{Conn: 7, Msg: &Message{Type: Response, Talk: m.Talk, Protocols: []Protocol{L2TP}, Gateway: netip.MustParseAddr("10.9.9.1"),
				Offers:    []Offer{{px("10.9.9.0/24"), []netip.Prefix{px("10.9.9.0/24")}}},
				Initiator: []Mapping{{px("192.168.1.0/24"), px("192.168.1.0/24")}}}}))
		}
		if st := a.Status()[0]; m.Reason != ReasonAddresses || st.State != Waiting || st.Reason != ReasonAddresses {
			t.Errorf("%+v, %+v", m, st)
		}
	})
}

// TestApproval: people take their time; they are asked politely and not for
// ever.
func TestApproval(t *testing.T) {
	w, ns := homes(t, "alice", "bob")
	a := ns["alice"]
	w.drop = func(from string, m *Message) bool {
		if m.Type == Request {
			w.later(a, "bob", Received{Conn: a.peers["bob"].conn, Msg: &Message{Type: Nak, Talk: m.Talk, Refused: Request, Reason: ReasonApproval}})
		}
		return true
	}
	w.handle(a, "bob", Connect{})
	var waited time.Duration
	for n := 0; a.state("bob") == Waiting; n++ {
		if st := a.Status()[0]; st.Reason != ReasonApproval || st.Text == "" {
			t.Fatalf("%+v", st)
		}
		if l := a.limit("bob"); l < 30*time.Second {
			t.Fatalf("asks again after %v", l)
		}
		waited += a.limit("bob")
		if n > MaxApproval {
			t.Fatal("asks for ever")
		}
		w.fire(a, "bob")
	}
	if waited < 45*time.Minute || waited > 75*time.Minute || a.Status()[0].Reason != ReasonApproval || len(w.conns) != 0 {
		t.Errorf("gave up after %v: %+v", waited, a.Status()[0])
	}
	w.handle(a, "bob", Connect{})
	w.drop = nil // approved
	w.fire(a, "bob")
	w.mustBeUp(a, ns["bob"])
}

// TestNewParametersAfterNak: claims 13 and 14. What was refused is not proposed
// again, and what was not refused stays as it was.
func TestNewParametersAfterNak(t *testing.T) {
	for _, told := range []bool{true, false} { // whether the NAK says what was in the way
		w := newWorld(t)
		w.add("alice", Derived, "", "192.168.1.0/24")
		b := w.add("bob", Derived, "", "192.168.1.0/24", "172.20.5.0/24")
		w.friends()
		m := sent(t, b.Handle("alice", Received{Conn: 7, Msg: requestOf(4711, 0)}))
		nak := &Message{Type: Nak, Talk: 4711, Refused: Response, Reason: ReasonClash}
		refused := m.Offers[0].Candidates[:3]
		if told {
			nak.Avoid = refused
		}
		again := sent(t, b.Handle("alice", Received{Conn: 7, Msg: nak}))
		if again.Type != Response || again.Talk != 4711 {
			t.Fatalf("%+v", again)
		}
		for _, c := range again.Offers[0].Candidates {
			if overlapsAny(c, refused) {
				t.Errorf("told %v: %v is proposed again", told, c)
			}
		}
		if told && !slices.Equal(again.Offers[1].Candidates[:1], m.Offers[1].Candidates[:1]) {
			t.Errorf("%v became %v", m.Offers[1], again.Offers[1])
		}
	}
}

// TestGatewayAddressChanges: the address that the other home was told counts,
// not the one of the moment when its answer comes.
func TestGatewayAddressChanges(t *testing.T) {
	for _, who := range []string{"alice", "bob"} {
		for _, at := range []Type{Request, Response, Ack, Ready} {
			w, ns := homes(t, "alice", "bob")
			n, changed := ns[who], false
			w.drop = func(_ string, m *Message) bool {
				if m.Type == at && !changed {
					changed = true
					h := n.home
					h.Gateway = netip.MustParseAddr("192.168.1.77")
					w.queue = append(w.queue, func() { w.act(n, n.SetHome(h)) })
				}
				return false
			}
			w.handle(ns["alice"], "bob", Connect{})
			if ns["alice"].state("bob") == Waiting {
				w.fire(ns["alice"], "bob")
			}
			w.mustBeUp(ns["alice"], ns["bob"])
			other := ns[map[string]string{"alice": "bob", "bob": "alice"}[who]]
			if g := other.entry(who).PeerGateway.As4(); g[3] != 77 {
				t.Errorf("%s at %v: known as %v", who, at, other.entry(who).PeerGateway)
			}
		}
	}
}

// TestABusyPeer: it is asked again, more slowly each time, and not for ever.
func TestABusyPeer(t *testing.T) {
	w, ns := homes(t, "alice", "bob")
	a := ns["alice"]
	w.drop = func(_ string, m *Message) bool {
		if m.Type == Request {
			w.later(a, "bob", Received{Conn: a.peers["bob"].conn, Msg: &Message{Type: Nak, Talk: m.Talk, Refused: Request, Reason: ReasonBusy}})
		}
		return true
	}
	w.handle(a, "bob", Connect{})
	for n := range MaxBusy {
		if a.state("bob") != Waiting || a.limit("bob") != backoff(n) {
			t.Fatalf("%d: %v, %v", n, a.state("bob"), a.limit("bob"))
		}
		w.fire(a, "bob")
	}
	if st := a.Status()[0]; st.State != Idle || st.Reason != ReasonBusy {
		t.Errorf("%+v", st)
	}
}
