package htip

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// TestCipher: both ends come to the same cipher, whatever each of them can do,
// and AES is for those who are both fast with it or have nothing else.
func TestCipher(t *testing.T) {
	for a := range Features(16) {
		for b := range Features(16) {
			got := a.cipher(b)
			if got != b.cipher(a) {
				t.Errorf("%04b and %04b: %v here, %v there", a, b, got, b.cipher(a))
			}
			both := a & b
			aes, chacha, fast := both&FeatureAES != 0, both&FeatureChaCha != 0, both&FeatureFastAES != 0
			want := NoCipher
			switch {
			case aes && (fast || !chacha):
				want = AES
			case chacha:
				want = ChaCha
			}
			if got != want {
				t.Errorf("%04b and %04b: %v, not %v", a, b, got, want)
			}
		}
	}
	for _, c := range []Cipher{NoCipher, AES, ChaCha} {
		if ParseCipher(c.String()) != c {
			t.Errorf("%d is %q and back %v", c, c, ParseCipher(c.String()))
		}
	}
	if ParseCipher("rot13") != NoCipher || Cipher(7).String() != "cipher 7" {
		t.Error("a cipher nobody knows")
	}
}

func ends(own, other string) Ends {
	return Ends{netip.MustParseAddr(own), netip.MustParseAddr(other)}
}

// espHomes are two homes that can L2TP in ESP and the protocols given.
func espHomes(t *testing.T, esp [2]Features, more ...Protocol) (w *world, a, b *node) {
	w = newWorld(t)
	a, b = w.add("alice", 0, "", "10.0.0.0/24"), w.add("bob", 0, "", "10.0.1.0/24")
	w.friends()
	for i, n := range []*node{a, b} {
		n.cfg.Protocols, n.cfg.ESP = append([]Protocol{L2TPESP}, more...), esp[i]
		for _, p := range n.peers {
			p.Protocols = []Protocol{WireGuard, L2TPESP, L2TP}
		}
	}
	return w, a, b
}

// TestESPIsChosen is who gets L2TP in ESP and who does not.
func TestESPIsChosen(t *testing.T) {
	good := ends("192.0.2.1", "198.51.100.2")
	back := ends("198.51.100.2", "192.0.2.1")
	all := FeatureAES | FeatureChaCha
	for _, c := range []struct {
		name string
		esp  [2]Features
		a, b Ends // as alice and as bob see the connection
		want Protocol
		why  string
	}{
		{"alice is behind NAT", [2]Features{all, all}, ends("192.168.7.2", "198.51.100.2"), back, WireGuard, "address translation"},
		{"bob is behind NAT", [2]Features{all, all}, good, ends("192.168.7.2", "192.0.2.1"), WireGuard, "address translation"},
		{"alice does not know her address", [2]Features{all, all}, Ends{}, back, WireGuard, "not known whether"},
		{"bob does not", [2]Features{all, all}, good, Ends{}, WireGuard, "not known whether"},
		{"no cipher in common", [2]Features{FeatureAES, FeatureChaCha}, good, back, WireGuard, "no cipher in common"},
		{"alice is of an older version", [2]Features{0, all}, good, back, WireGuard, "no cipher in common"},
		{"nothing in the way", [2]Features{all, all}, good, back, L2TPESP, ""},
	} {
		for _, more := range [][]Protocol{{WireGuard}, nil} {
			t.Run(fmt.Sprint(c.name, more), func(t *testing.T) {
				_, a, b := espHomes(t, c.esp, more...)
				a.Handle("bob", Connect{})
				req := sent(t, a.Handle("bob", Opened{Conn: 7, Ends: c.a}))
				raw, err := req.Encode()
				if err != nil {
					t.Fatal(err)
				}
				if req, err = Decode(raw); err != nil || req.Ends != c.a {
					t.Fatalf("%+v, %v", req, err)
				}
				as := b.Handle("alice", Received{Conn: 7, Msg: req, Ends: c.b})
				m := sent(t, as)
				if c.want != L2TPESP && more == nil {
					if m.Type != Nak || m.Reason != ReasonNoProtocol || !strings.Contains(m.Text, c.why) || b.state("alice") != Idle {
						t.Errorf("%+v", m)
					}
					if p := as[len(as)-1].(Progress); !strings.Contains(p.Text, c.why) {
						t.Errorf("bob's people are told %q", p.Text)
					}
					return
				}
				if m.Type != Response || m.Protocol() != c.want {
					t.Fatalf("%+v", m)
				}
				as = a.Handle("bob", Received{Conn: 7, Msg: m, Ends: c.a})
				if ack := sent(t, as); ack.Type != Ack || ack.Protocol() != c.want {
					t.Fatalf("%+v", ack)
				}
				want := NoCipher
				if c.want == L2TPESP {
					want = ChaCha
				}
				if x, y := a.peers["bob"].entry.Cipher, b.peers["alice"].entry.Cipher; x != want || y != want {
					t.Errorf("alice has %v, bob %v, want %v", x, y, want)
				}
			})
		}
	}
}

// TestPPTPBehindNAT: GRE has no ports either.
func TestPPTPBehindNAT(t *testing.T) {
	for _, c := range []struct {
		a, b Ends
		want Type
	}{
		{ends("192.168.7.2", "198.51.100.2"), ends("198.51.100.2", "192.0.2.1"), Nak},
		{ends("192.0.2.1", "198.51.100.2"), ends("198.51.100.2", "192.0.2.1"), Response},
		{Ends{}, Ends{}, Response},
	} {
		_, a, b := espHomes(t, [2]Features{})
		for _, n := range []*node{a, b} {
			n.cfg.Protocols = []Protocol{PPTP}
			for _, p := range n.peers {
				p.Protocols = n.cfg.Protocols
			}
		}
		a.Handle("bob", Connect{})
		req := sent(t, a.Handle("bob", Opened{Conn: 7, Ends: c.a}))
		m := sent(t, b.Handle("alice", Received{Conn: 7, Msg: req, Ends: c.b}))
		if m.Type != c.want || c.want == Nak && !strings.Contains(m.Text, "pptp does not pass through it") {
			t.Errorf("%v, %v: %+v", c.a, c.b, m)
		}
	}
}

// TestESPWithoutCipher: a responder that chooses what can't be is refused.
func TestESPWithoutCipher(t *testing.T) {
	_, a, b := espHomes(t, [2]Features{FeatureAES, FeatureAES})
	a.Handle("bob", Connect{})
	req := sent(t, a.Handle("bob", Opened{Conn: 7, Ends: ends("192.0.2.1", "198.51.100.2")}))
	m := sent(t, b.Handle("alice", Received{Conn: 7, Msg: req, Ends: ends("198.51.100.2", "192.0.2.1")}))
	if m.Type != Response || m.Features&featuresESP != FeatureAES {
		t.Fatalf("%+v", m)
	}
	m.Features = FeatureChaCha
	if n := sent(t, a.Handle("bob", Received{Conn: 7, Msg: m})); n.Type != Nak || n.Refused != Response || n.Reason != ReasonNoProtocol || a.state("bob") != Idle {
		t.Errorf("%+v, %v", n, a.state("bob"))
	}
}

// TestESPBeforeAddresses: in a talk of three messages the server that starts
// upon REQUEST knows its cipher.
func TestESPBeforeAddresses(t *testing.T) {
	_, a, b := espHomes(t, [2]Features{FeatureAES, FeatureAES})
	for _, n := range []*node{a, b} {
		n.cfg.ThreeMessages, n.cfg.EarlyServers = true, []Protocol{L2TPESP}
	}
	a.Handle("bob", Connect{})
	req := sent(t, a.Handle("bob", Opened{Conn: 7, Ends: ends("192.0.2.1", "198.51.100.2")}))
	var e Entry
	for _, x := range b.Handle("alice", Received{Conn: 7, Msg: req, Ends: ends("198.51.100.2", "192.0.2.1")}) {
		if s, ok := x.(StartServer); ok {
			e = s.Entry
		}
	}
	if e.Protocol != L2TPESP || e.Cipher != AES {
		t.Fatalf("%+v", e)
	}
	m := sent(t, b.Handle("alice", Started{e.TunnelID}))
	if m.Features != FeatureThreeMessages|FeatureAES {
		t.Errorf("%+v", m)
	}
	for _, x := range a.Handle("bob", Received{Conn: 7, Msg: m}) {
		if s, ok := x.(StartClient); ok && s.Entry.Cipher == AES {
			return
		}
	}
	t.Error("no client with the cipher")
}
