package htip

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// whole is a message of each type with everything that it may carry.
func whole() map[Type]*Message {
	n, s := px("10.0.0.0/24"), px("10.0.1.0/24")
	one := []Protocol{L2TP}
	offers := []Offer{{n, []netip.Prefix{n, s}}}
	ms := []Mapping{{n, s}}
	gw := n.Addr().Next()
	return map[Type]*Message{
		Request:   {Type: Request, Talk: 1, Features: FeatureThreeMessages, Domain: "a.example", Protocols: []Protocol{L2TP, WireGuard}, Offers: offers, Gateway: gw, Replaces: 5, Invite: Proof{ID: InviteID{1}, MAC: [32]byte{2}}, Ends: Ends{gw, gw}},
		Response:  {Type: Response, Talk: 1, Features: FeatureThreeMessages, Domain: "b.example", Protocols: one, Offers: offers, Gateway: gw, Initiator: ms, TunnelID: 7, Port: 17010},
		Nak:       {Type: Nak, Talk: 1, Reason: ReasonStands, Refused: Request, Offers: []Offer{{Network: n}}, Avoid: []netip.Prefix{s}, Text: "why", Replaces: 5},
		Ack:       {Type: Ack, Talk: 1, Protocols: one, Initiator: ms, Responder: ms},
		Ready:     {Type: Ready, Talk: 1, Protocols: one, Initiator: ms, Responder: ms, TunnelID: 7, Port: 17010},
		Close:     {Type: Close, Talk: 1, TunnelID: 7, Reason: ReasonUser, Text: "why"},
		Keepalive: {Type: Keepalive, Talk: 1, TunnelID: 7},
	}
}

// params cuts a message into its parameters.
func params(b []byte) (out [][]byte) {
	for b = b[HeaderSize:]; len(b) > 0; {
		n := 4 + int(binary.BigEndian.Uint16(b[2:]))
		out = append(out, b[:n])
		b = b[n:]
	}
	return out
}

func rebuild(header []byte, ps [][]byte) []byte {
	b := append(slices.Clone(header[:HeaderSize]), slices.Concat(ps...)...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// TestWhatEachMessageNeeds is the table of docs/protocol.md: "m" for a parameter
// without which the message is malformed, "o" for one that may be left out.
func TestWhatEachMessageNeeds(t *testing.T) {
	table := map[Type]string{ // parameters 1 to 16
		Request:   "oommm........ooo",
		Response:  "oommmm.mm.......", // 8 and 9 with feature bit 0, as here
		Nak:       "...o.....mmoom..", // 14 with reason 19, as here
		Ack:       "..m..mm.........",
		Ready:     "..m..mmmm.......",
		Close:     ".......m.m..o...",
		Keepalive: ".......m........",
	}
	for typ, m := range whole() {
		b, err := m.Encode()
		if err != nil {
			t.Fatalf("%v: %v", typ, err)
		}
		ps := params(b)
		got := []byte(strings.Repeat(".", paramLast))
		for i, p := range ps {
			without := rebuild(b, slices.Concat(ps[:i:i], ps[i+1:]))
			got[binary.BigEndian.Uint16(p)-1] = 'o'
			if _, err := Decode(without); err != nil {
				got[binary.BigEndian.Uint16(p)-1] = 'm'
			}
			// A second one of it: only what may come often.
			twice := slices.Concat(ps[:i+1:i+1], [][]byte{p}, ps[i+1:])
			_, err := Decode(rebuild(b, twice))
			often := p[1] == paramOffer || p[1] == paramInitiator || p[1] == paramResponder
			if dup := err != nil && strings.Contains(err.Error(), "comes twice"); dup == often {
				t.Errorf("%v with parameter %d twice: %v", typ, p[1], err)
			}
			// Without a value, none is well formed.
			empty := slices.Concat(ps[:i:i], [][]byte{{p[0], p[1], 0, 0}}, ps[i+1:])
			if _, err := Decode(rebuild(b, empty)); err == nil {
				t.Errorf("%v with an empty parameter %d is accepted", typ, p[1])
			}
		}
		if string(got) != table[typ] {
			t.Errorf("%v: %s, not %s", typ, got, table[typ])
		}
		// Order does not matter, nor does something unknown in between.
		slices.Reverse(ps)
		ps = slices.Insert(ps, 1, []byte{0x7f, 0xff, 0, 1, 0})
		again, err := Decode(rebuild(b, ps))
		if err != nil || fmt.Sprint(again.Type, again.Reason, again.TunnelID, again.Offers) != fmt.Sprint(m.Type, m.Reason, m.TunnelID, m.Offers) {
			t.Errorf("%v in another order: %+v, %v", typ, again, err)
		}
	}
}

// TestWhatIsAbsurd: values that are well formed and can't be true.
func TestWhatIsAbsurd(t *testing.T) {
	for _, c := range []struct {
		name   string
		typ    Type
		change func(*Message)
		want   string
	}{
		{"no network at all", Request, func(m *Message) { m.Offers = nil }, "no network"},
		{"IPv6 gateway", Request, func(m *Message) { m.Gateway = netip.MustParseAddr("fe80::1") }, "no gateway address"},
		{"gateway is the network's first address", Request, func(m *Message) { m.Gateway = netip.MustParseAddr("10.0.0.0") }, "no host address"},
		{"gateway is the network's last address", Request, func(m *Message) { m.Gateway = netip.MustParseAddr("10.0.0.255") }, "no host address"},
		{"network without candidates", Request, func(m *Message) { m.Offers[0].Candidates = nil }, "no candidates"},
		{"network too small", Request, func(m *Message) {
			m.Offers = []Offer{{px("10.0.0.0/31"), []netip.Prefix{px("10.0.0.0/31")}}}
		}, "not in 8..30"},
		{"two protocols chosen", Response, func(m *Message) { m.Protocols = []Protocol{L2TP, PPTP} }, "2 VPN protocols instead of one"},
		{"nine networks", Response, func(m *Message) { m.Initiator = slices.Repeat(m.Initiator, 9) }, "more than 8 networks"},
		{"a substitute of another length", Ready, func(m *Message) { m.Responder = []Mapping{{px("10.0.0.0/24"), px("10.0.0.0/23")}} }, "differ in length"},
		{"an IPv6 prefix", Nak, func(m *Message) { m.Avoid = []netip.Prefix{px("fe80::/64")} }, "no prefix"},
		{"a label that ends with a hyphen", Request, func(m *Message) { m.Domain = "a-.b" }, "no domain name"},
		{"a label that begins with one", Request, func(m *Message) { m.Domain = "a.-b" }, "no domain name"},
		{"a name that ends with one", Request, func(m *Message) { m.Domain = "a.b-" }, "no domain name"},
		{"a name that ends with a dot", Request, func(m *Message) { m.Domain = "a.b." }, "no domain name"},
		{"a long label", Request, func(m *Message) { m.Domain = strings.Repeat("a", 64) + ".b" }, "no domain name"},
		{"a long name", Request, func(m *Message) { m.Domain = strings.Repeat("a.", 127) + "b" }, "no domain name"},
		{"an underscore", Request, func(m *Message) { m.Domain = "a_b" }, "no domain name"},
		{"a broken character", Nak, func(m *Message) { m.Text = "\xff" }, "no printable"},
		{"a line break", Close, func(m *Message) { m.Text = "a\nb" }, "no printable"},
		{"too many to avoid", Nak, func(m *Message) { m.Avoid = slices.Repeat(m.Avoid, 33) }, "no list of"},
	} {
		m := whole()[c.typ]
		c.change(m)
		if b, err := m.Encode(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %x, %v", c.name, b, err)
		}
	}
	big := whole()[Request]
	big.Offers[0].Candidates = slices.Repeat([]netip.Prefix{px("10.0.0.0/24")}, 2000)
	if _, err := big.Encode(); err == nil || !strings.Contains(err.Error(), "octets, at most") {
		t.Errorf("a message of more than %d octets: %v", MaxMessage, err)
	}
}

// TestMappingsOnTheWire: 10 octets each.
func TestMappingsOnTheWire(t *testing.T) {
	for v, want := range map[string]string{
		"180a0000":               "4 octets, not 10",
		"180a000000210a000000":   "no prefix",
		"180a000000180a00000000": "11 octets, not 10",
	} {
		b := unhex(t, "0104000c0000000000000001"+"0006"+fmt.Sprintf("%04x", len(v)/2)+v)
		b[3] = byte(len(b))
		if _, err := Decode(b); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", v, err)
		}
	}
}

// TestNamesOfThings: what people and configurations read.
func TestNamesOfThings(t *testing.T) {
	for _, p := range []Protocol{L2TP, WireGuard, L2TPESP, PPTP} {
		if ParseProtocol(p.String()) != p {
			t.Errorf("%v is read as %v", p, ParseProtocol(p.String()))
		}
		if p.Encrypted() != (p == WireGuard || p == L2TPESP) {
			t.Errorf("%v: encrypted %v", p, p.Encrypted())
		}
	}
	if ParseProtocol("") != 0 || ParseProtocol("ipsec") != 0 {
		t.Error("a protocol that is none")
	}
	seen := map[string]bool{}
	for _, s := range []fmt.Stringer{Type(99), Protocol(99), Reason(99), State(99), Step(99), Role(99), Initiator, Responder} {
		if seen[s.String()] || s.String() == "" {
			t.Errorf("%#v is called %q", s, s)
		}
		seen[s.String()] = true
	}
	for r := ReasonClash; r <= ReasonAddresses; r++ {
		if seen[r.String()] || strings.HasPrefix(r.String(), "reason ") {
			t.Errorf("reason %d is called %q", r, r)
		}
		seen[r.String()] = true
	}
	for s := Idle; s <= Up; s++ {
		if seen[s.String()] || strings.HasPrefix(s.String(), "state ") {
			t.Errorf("state %d is called %q", s, s)
		}
		seen[s.String()] = true
	}
	if (&Message{}).Protocol() != 0 {
		t.Error("no protocol is one")
	}
}

// TestWhatPeopleAreTold: errors that name what is missing.
func TestWhatPeopleAreTold(t *testing.T) {
	w, n := homes(t, "alice", "bob")
	a := n["alice"]
	h := a.home
	h.Networks, h.Gateway = nil, netip.Addr{}
	a.SetHome(h)
	w.handle(a, "bob", Connect{})
	if st := a.Status()[0]; st.Reason != ReasonExhausted || st.Text != "there is no network to share" {
		t.Errorf("%+v", st)
	}
	_, n = homes(t, "alice", "bob")
	n["bob"].cfg.Protocols, n["bob"].cfg.Lacks = nil, "l2tp is not possible: xl2tpd is missing"
	m := sent(t, n["bob"].Handle("alice", Received{Conn: 7, Msg: requestOf(1, 0)}))
	if m.Reason != ReasonNoProtocol || !strings.Contains(m.Text, "xl2tpd is missing") {
		t.Errorf("%+v", m)
	}
}

// TestPoolOfSeveralRanges: Derived counts the places of all of them, and leaves
// out those that are too small.
func TestPoolOfSeveralRanges(t *testing.T) {
	h := Home{Networks: []netip.Prefix{px("192.168.1.0/24")}, Pool: []netip.Prefix{px("10.1.0.0/25"), px("10.2.0.0/24"), px("10.3.0.0/23")}, Seed: key("x")}
	places := map[netip.Prefix]bool{}
	for i := range uint64(4) {
		if p := h.slot(i, 24); p.IsValid() {
			places[p] = true
		}
	}
	if len(places) != 3 || !places[px("10.2.0.0/24")] || !places[px("10.3.0.0/24")] || !places[px("10.3.1.0/24")] {
		t.Errorf("%v", places)
	}
	o := h.Offers(Bounds{Peer: h.Networks})[0]
	for _, c := range o.Candidates {
		if !insideAny(c, h.Pool) || c.Bits() > 24 {
			t.Errorf("%v is not of the pool", c)
		}
	}
}

// TestKeepaliveOfAnotherTunnel: on the connection in use it means that the peer
// is not where we think; the tunnel is left alone.
func TestKeepaliveOfAnotherTunnel(t *testing.T) {
	w, n := homes(t, "alice", "bob")
	a := n["alice"]
	w.handle(a, "bob", Connect{})
	c := a.Conn("bob")
	if c == 0 || a.Conn("nobody") != 0 {
		t.Fatal(c)
	}
	m := sent(t, a.Handle("bob", Received{Conn: c, Msg: &Message{Type: Keepalive, TunnelID: 99}}))
	if m.Type != Close || m.Reason != ReasonUnknown || m.TunnelID != 99 || a.state("bob") != Up || a.Conn("bob") != 0 {
		t.Errorf("%+v, %v", m, a.state("bob"))
	}
	// Before a tunnel stands, it is no way to talk.
	a, _ = asking(t)
	a.Handle("bob", Received{Conn: 7, Msg: &Message{Type: Keepalive, TunnelID: 99}})
	if st := a.Status()[0]; st.State != Idle || st.Reason != ReasonUnknown {
		t.Errorf("%+v", st)
	}
}
