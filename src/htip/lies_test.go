package htip

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestLyingPeer: what the peer chooses is held against what was offered.
func TestLyingPeer(t *testing.T) {
	lie := func(name string, change func(m *Message), of Type) {
		w, n := homes(t, "alice", "bob")
		a, b := n["alice"], n["bob"]
		w.drop = func(_ string, m *Message) bool {
			if m.Type == of {
				change(m)
				bytes, err := m.Encode()
				if err != nil {
					t.Fatal(err)
				}
				m2, _ := Decode(bytes)
				to, from := a, "bob"
				if of == Ack {
					to, from = b, "alice"
				}
				w.later(to, from, Received{Conn: to.peers[from].conn, Msg: m2})
				return true
			}
			return false
		}
		w.handle(a, "bob", Connect{})
		if a.state("bob") == Up || b.state("alice") == Up {
			t.Errorf("%s: accepted", name)
		}
	}
	lie("our LAN as A'", func(m *Message) {
		m.Initiator[0].Substitute = px("10.250.250.0/24")
		m.Initiator[0].Network = px("10.1.1.0/24")
	}, Response)
	lie("a substitute never offered", func(m *Message) { m.Initiator[0].Substitute = px("172.40.0.0/24") }, Response)
	lie("the Internet as its network", func(m *Message) {
		m.Offers = []Offer{{px("8.8.8.0/24"), []netip.Prefix{px("8.8.8.0/24")}}}
		m.Gateway = netip.MustParseAddr("8.8.8.1")
	}, Response)
	lie("another protocol", func(m *Message) { m.Protocols = []Protocol{PPTP} }, Response)
	lie("another A' in ACK", func(m *Message) { m.Initiator[0].Substitute = px("10.250.250.0/24") }, Ack)
	lie("B' outside the offer", func(m *Message) { m.Responder[0].Substitute = px("172.40.0.0/24") }, Ack)
	lie("B' equal to A'", func(m *Message) { m.Responder[0].Substitute = m.Initiator[0].Substitute }, Ack)
	lie("other substitutes in READY", func(m *Message) { m.Responder[0].Substitute = px("10.250.250.0/24") }, Ready)
}

func TestJunk(t *testing.T) {
	w, n := homes(t, "alice", "bob")
	a, b := n["alice"], n["bob"]
	w.handle(a, "bob", Connect{})
	// On a stray connection: the tunnel stays, the sender is told.
	w.last++
	w.conns[w.last] = [2]string{"alice", "bob"}
	w.handle(b, "alice", Malformed{Conn: w.last, Err: errors.New("junk")})
	w.mustBeUp(a, b)
	w.last++
	w.conns[w.last] = [2]string{"alice", "bob"}
	w.handle(b, "alice", Malformed{Conn: w.last, Err: VersionError(9)})
	if last := w.wire[len(w.wire)-1]; !strings.Contains(last, "NAK") {
		t.Error(last)
	}
	// On the control connection: only that connection is lost.
	w.handle(a, "bob", Malformed{Conn: a.peers["bob"].conn, Err: errors.New("junk")})
	w.mustBeUpAt(a, "bob")
	w.fire(a, "bob")
	w.mustBeUp(a, b)
	// Messages of other talks and states change nothing.
	for _, m := range []*Message{
		{Type: Ready, Talk: 1}, {Type: Ack, Talk: 1}, {Type: Nak, Refused: Request, Reason: ReasonRefused},
		{Type: Close, TunnelID: 1, Reason: ReasonUser}, {Type: Response, Talk: a.peers["bob"].talk},
	} {
		w.handle(a, "bob", Received{Conn: a.peers["bob"].conn, Msg: m})
		w.mustBeUp(a, b)
	}
	w.handle(a, "bob", Received{Conn: 99, Msg: &Message{Type: Keepalive, TunnelID: 77}})
	w.handle(a, "nobody", Connect{})
	w.mustBeUp(a, b)
}

// TestAckOfSomethingElse: ACK must name what RESPONSE did, in the long talk and
// in the short one, where nobody would notice later.
func TestAckOfSomethingElse(t *testing.T) {
	for name, change := range map[string]func(m *Message){
		"another protocol":   func(m *Message) { m.Protocols = []Protocol{PPTP} },
		"another A'":         func(m *Message) { m.Initiator[0].Substitute = px("10.250.250.0/24") },
		"no A'":              func(m *Message) { m.Initiator = nil },
		"another network A":  func(m *Message) { m.Initiator[0].Network = px("10.250.250.0/24") },
		"B' not offered":     func(m *Message) { m.Responder[0].Substitute = px("172.40.0.0/24") },
		"B' is A'":           func(m *Message) { m.Responder[0].Substitute = m.Initiator[0].Substitute },
		"another network B":  func(m *Message) { m.Responder[0].Network = px("10.250.250.0/24") },
		"one network twice":  func(m *Message) { m.Responder = append(m.Responder, m.Responder[0]) },
		"all of it is right": func(m *Message) {},
	} {
		for _, three := range []bool{false, true} {
			_, ns := homes(t, "alice", "bob")
			b, req := ns["bob"], requestOf(4711, 0)
			if three {
				threeMessages(b)
				req.Features = FeatureThreeMessages
			}
			as := b.Handle("alice", Received{Conn: 7, Msg: req})
			if three {
				as = b.Handle("alice", Started{b.entry("alice").TunnelID})
			}
			resp := sent(t, as)
			ack := &Message{Type: Ack, Talk: 4711, Protocols: []Protocol{L2TP}, Initiator: slices.Clone(resp.Initiator),
				Responder: []Mapping{{resp.Offers[0].Network, resp.Offers[0].Candidates[0]}}}
			change(ack)
			as = b.Handle("alice", Received{Conn: 7, Msg: ack})
			if name == "all of it is right" {
				if s := b.state("alice"); s != Preparing && s != Connecting {
					t.Errorf("%s: %v", name, s)
				}
				continue
			}
			if m := sent(t, as); m.Type != Nak || m.Reason != ReasonMalformed || m.Refused != Ack || b.state("alice") != Idle {
				t.Errorf("%s, three messages %v: %+v, %v", name, three, m, b.state("alice"))
			}
		}
	}
}

// TestResponseOfSomethingElse: what the responder chose is held against what
// was proposed, before anything goes back.
func TestResponseOfSomethingElse(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *Message)
		reason Reason
	}{
		"a protocol that was not proposed": {func(m *Message) { m.Protocols = []Protocol{PPTP} }, ReasonNoProtocol},
		"no A'":                            {func(m *Message) { m.Initiator = nil }, ReasonMalformed},
		"an A' that was not offered":       {func(m *Message) { m.Initiator[0].Substitute = px("172.40.0.0/24") }, ReasonMalformed},
		"another network A":                {func(m *Message) { m.Initiator[0].Network = px("10.250.250.0/24") }, ReasonMalformed},
	} {
		a, req := asking(t)
		m := &Message{Type: Response, Talk: req.Talk, Protocols: []Protocol{L2TP}, Gateway: netip.MustParseAddr("10.9.9.1"),
			Offers:    []Offer{{px("10.9.9.0/24"), []netip.Prefix{px("10.9.9.0/24")}}},
			Initiator: []Mapping{{px("192.168.1.0/24"), px("192.168.1.0/24")}}}
		c.change(m)
		if n := sent(t, a.Handle("bob", Received{Conn: 7, Msg: m})); n.Type != Nak || n.Refused != Response || n.Reason != c.reason || a.state("bob") != Idle {
			t.Errorf("%s: %+v, %v", name, n, a.state("bob"))
		}
	}
}

// TestHostileNak: what a NAK names costs us one attempt with its sender and a
// bounded list, and nothing of it is kept.
func TestHostileNak(t *testing.T) {
	full := func(ps []netip.Prefix) []Offer {
		var out []Offer
		for _, p := range ps[:MaxNetworks] {
			out = append(out, Offer{Network: p})
		}
		return out
	}
	var everything, junk []netip.Prefix
	for i := range maxAvoid {
		everything = append(everything, netip.PrefixFrom(netip.IPv4Unspecified(), 0))
		junk = append(junk, netip.PrefixFrom(fromUint(uint32(i)<<27), 30))
	}
	for name, avoid := range map[string][]netip.Prefix{"everything": everything, "junk": junk} {
		t.Run(name, func(t *testing.T) {
			w, ns := homes(t, "alice", "bob", "carol")
			a := ns["alice"]
			w.handle(a, "carol", Connect{})
			stands := fmt.Sprint(a.entry("carol"))
			w.drop = func(from string, m *Message) bool {
				if from == "alice" && m.Type == Request {
					nak := &Message{Type: Nak, Talk: m.Talk, Refused: Request, Reason: ReasonClash, Avoid: avoid, Offers: full(avoid)}
					b, err := nak.Encode()
					if err != nil {
						t.Fatal(err)
					}
					nak, _ = Decode(b)
					w.later(a, "bob", Received{Conn: a.peers["bob"].conn, Msg: nak})
					return true
				}
				return false
			}
			w.handle(a, "bob", Connect{})
			if st := a.Status()[0]; st.State != Idle || st.Reason != ReasonExhausted {
				t.Errorf("%+v", st)
			}
			if n := len(a.peers["bob"].avoid); n > (1+MaxRounds)*maxAvoid {
				t.Errorf("%d prefixes kept", n)
			}
			w.drop = nil
			if fmt.Sprint(a.entry("carol")) != stands {
				t.Error("another tunnel was touched")
			}
			w.handle(a, "bob", Connect{})
			w.mustBeUp(a, ns["bob"])
			if a.entry("bob").Own[0] != a.entry("carol").Own[0] {
				t.Errorf("alice is %v and %v", a.entry("bob").Own, a.entry("carol").Own)
			}
		})
	}
}
