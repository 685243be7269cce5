package htip

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func strangerRequest() *Message {
	n := px("192.168.1.0/24")
	return &Message{Type: Request, Talk: 7, Domain: "a.example.org", Protocols: []Protocol{WireGuard}, Gateway: n.Addr().Next(), Offers: []Offer{{n, []netip.Prefix{n}}}}
}

func from(a, b, c, d byte) netip.Addr { return netip.AddrFrom4([4]byte{a, b, c, d}) }

// TestRequests: one line a key, whatever it sends.
func TestRequests(t *testing.T) {
	var r Requests
	m := strangerRequest()
	p, isNew := r.Note([]byte("one"), m, from(1, 1, 1, 1), noon)
	if !isNew || p.Number != 1 || p.Domain != m.Domain || p.Networks[0] != m.Offers[0].Network || p.Count != 1 || p.First != noon {
		t.Errorf("%+v", p)
	}
	m.Domain = "b.example.org"
	p, isNew = r.Note([]byte("one"), m, from(2, 2, 2, 2), noon.Add(time.Minute))
	if isNew || len(r.List) != 1 || p.Number != 1 || p.Domain != m.Domain || p.Count != 2 || p.First != noon || p.Last == noon || p.From != from(2, 2, 2, 2) {
		t.Errorf("%+v", p)
	}
	// From one network two at most, also when they are asked again from elsewhere.
	if _, isNew = r.Note([]byte("two"), m, from(1, 1, 1, 2), noon); !isNew {
		t.Error("the second of a network is not taken")
	}
	r.Note([]byte("two"), m, from(3, 3, 3, 3), noon)
	if p, isNew = r.Note([]byte("three"), m, from(1, 1, 1, 3), noon); isNew || p != nil {
		t.Error("the third of a network is taken")
	}
	// Who is not heard of for a week is forgotten.
	r.Note([]byte("four"), m, from(4, 4, 4, 4), noon.Add(pendingFor-time.Second))
	if len(r.List) != 3 {
		t.Error(len(r.List))
	}
	r.Note([]byte("four"), m, from(4, 4, 4, 4), noon.Add(pendingFor))
	if len(r.List) != 2 {
		t.Error(len(r.List))
	}
	// Rejecting takes it off the list, and is remembered within limits.
	r.Reject([]byte("four"))
	r.Reject([]byte("four"))
	if len(r.List) != 1 || len(r.Rejected) != 1 || !r.IsRejected([]byte("four")) || r.IsRejected([]byte("one")) {
		t.Errorf("%+v", r)
	}
	for i := range MaxRejected {
		r.Reject(fmt.Append(nil, i))
	}
	if len(r.Rejected) != MaxRejected || r.IsRejected([]byte("four")) {
		t.Error("not the oldest is forgotten")
	}
	if !r.Pardon([]byte("5")) || r.IsRejected([]byte("5")) || r.Pardon([]byte("5")) {
		t.Error("no pardon")
	}
	r.Drop(func(k []byte) bool { return true })
	if len(r.List) != 0 {
		t.Error("not dropped")
	}
}

// TestRequestNumbers: people approve by number; it must not come to mean another
// home while they look.
func TestRequestNumbers(t *testing.T) {
	var r Requests
	m := strangerRequest()
	first, _ := r.Note([]byte("first"), m, from(1, 1, 1, 1), noon)
	number := first.Number
	for i := range 3000 {
		p, _ := r.Note(fmt.Append(nil, i), m, from(2, 2, 2, 2), noon)
		if p.Number == number || p.Number < 1 || p.Number > 999 {
			t.Fatal(p.Number)
		}
		r.Drop(func(k []byte) bool { return string(k) != "first" })
	}
}

// TestFloodOfRequests: whoever has few networks, however many keys, pushes
// nobody out whose neighbourhood sent fewer.
func TestFloodOfRequests(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var r Requests
		m := strangerRequest()
		// The flooder has up to six neighbourhoods with all their networks.
		wides := rapid.IntRange(1, 6).Draw(t, "neighbourhoods")
		flood := func(what string) {
			for i := range rapid.IntRange(0, 100).Draw(t, what) {
				w := rapid.IntRange(0, wides-1).Draw(t, "which")
				r.Note(fmt.Appendf(nil, "%s %d", what, i), m, from(66, byte(w), byte(rapid.IntRange(0, 255).Draw(t, "net")), 1), noon)
			}
		}
		flood("before")
		var honest []string
		for i := range rapid.IntRange(1, 6).Draw(t, "honest") { // each of its own neighbourhood
			key := fmt.Sprint("honest ", i)
			honest = append(honest, key)
			if _, isNew := r.Note([]byte(key), m, from(9, byte(i), 0, 1), noon); !isNew {
				t.Fatalf("honest home %d is not taken:\n%+v", i, r.List)
			}
		}
		flood("after")
		for _, key := range honest {
			if r.index([]byte(key)) < 0 {
				t.Fatalf("%s was pushed out", key)
			}
		}
		if len(r.List) > MaxPending {
			t.Fatal(len(r.List))
		}
		nets := map[netip.Prefix]int{}
		for _, p := range r.List {
			if nets[network(p.From)]++; nets[network(p.From)] > pendingNetwork {
				t.Fatalf("%d of %v", nets[network(p.From)], network(p.From))
			}
		}
	})
	// Sixteen neighbourhoods with one each: the new one is not taken.
	var r Requests
	for i := range MaxPending {
		r.Note([]byte{byte(i)}, strangerRequest(), from(byte(i), 1, 1, 1), noon)
	}
	if _, isNew := r.Note([]byte("late"), strangerRequest(), from(99, 1, 1, 1), noon); isNew || len(r.List) != MaxPending {
		t.Error("pushed somebody out")
	}
	if network(netip.MustParseAddr("2001:db8:1:2::3")) != px("2001:db8:1::/48") || wide(netip.MustParseAddr("::ffff:1.2.3.4")) != px("1.2.0.0/16") {
		t.Error("networks")
	}
}

// TestTurn: a stranger is told the reason and nothing else.
func TestTurn(t *testing.T) {
	m := strangerRequest()
	m.Invite = Proof{ID: InviteID{1}}
	b, err := Turn(m, ReasonApproval, "wait").Encode()
	if err != nil {
		t.Fatal(err)
	}
	if want := unhex(t, "0103 001f 0000000000000007 000a0002 0004 000b0001 01 000d0004 77616974"); !bytes.Equal(b, want) {
		t.Errorf("%x", b)
	}
}

// TestDeafGateway: with option accept 'none' only we ask.
func TestDeafGateway(t *testing.T) {
	w, ns := homes(t, "alice", "bob")
	a, b := ns["alice"], ns["bob"]
	b.SetDeaf(true)
	w.handle(a, "bob", Connect{})
	if st := a.Status()[0]; st.State != Idle || st.Reason != ReasonRefused || b.state("alice") != Idle {
		t.Errorf("%+v, there %v", st, b.state("alice"))
	}
	w.handle(b, "alice", Connect{})
	w.mustBeUp(a, b)
	b.SetDeaf(false)
	w.handle(b, "alice", Disconnect{ReasonUser})
	w.handle(a, "bob", Connect{})
	w.mustBeUp(a, b)
}

// TestUnwanted: a home with which there never was a tunnel, and which does not
// want one, is not asked again, however much we want it; nor is one that does
// not take our invite.
func TestUnwanted(t *testing.T) {
	for _, r := range []Reason{ReasonRefused, ReasonInvite, ReasonInviteExpired, ReasonInviteUsed} {
		a, m := asking(t)
		a.SetAuto("bob", true)
		a.Handle("bob", Received{Conn: 7, Msg: &Message{Type: Nak, Talk: m.Talk, Refused: Request, Reason: r, Text: "no"}})
		if a.state("bob") != Idle {
			t.Errorf("%v: %v", r, a.state("bob"))
		}
		if !r.Permanent() {
			t.Errorf("%v is not permanent", r)
		}
	}
	// But a home that we had a tunnel with may have lost its configuration.
	a, m := asking(t)
	a.SetAuto("bob", true)
	a.peers["bob"].before = Record{Own: []Mapping{{px("10.0.0.0/24"), px("10.0.1.0/24")}}}
	a.Handle("bob", Received{Conn: 7, Msg: &Message{Type: Nak, Talk: m.Talk, Refused: Request, Reason: ReasonRefused}})
	if a.state("bob") != Waiting {
		t.Error(a.state("bob"))
	}
}

// TestApprovalForEver: where somebody waits for it, a home is asked until its
// people decide, after an hour ever ten minutes.
func TestApprovalForEver(t *testing.T) {
	for _, r := range []Reason{ReasonApproval, ReasonUnauthorized} {
		w, ns := homes(t, "alice", "bob")
		a := ns["alice"]
		a.SetAuto("bob", true)
		w.drop = func(from string, m *Message) bool {
			if m.Type == Request {
				w.later(a, "bob", Received{Conn: a.peers["bob"].conn, Msg: &Message{Type: Nak, Talk: m.Talk, Refused: Request, Reason: r}})
			}
			return true
		}
		w.handle(a, "bob", Connect{})
		var waited time.Duration
		asked := 0
		for waited < 7*24*time.Hour {
			if a.state("bob") != Waiting {
				t.Fatalf("%v after %v", a.state("bob"), waited)
			}
			if waited > 2*time.Hour && a.limit("bob") != ApprovalPause {
				t.Fatalf("asks again after %v", a.limit("bob"))
			}
			waited += a.limit("bob")
			asked++
			w.fire(a, "bob")
		}
		if asked > 1200 {
			t.Errorf("asked %d times in a week", asked)
		}
	}
}
