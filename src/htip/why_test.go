package htip

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// choice is two gateways with lists of their own that talk once.
type choice struct {
	can, may [2][]Protocol // possible at alice and bob, best first; allowed with the other one
}

var lackOf = map[Protocol]string{WireGuard: "kernel has no WireGuard: install kmod-wireguard", L2TPESP: "no ciphers; no keys", L2TP: "no xl2tpd", PPTP: "no pptpd"}

// made lets them talk and gives the nodes with what was sent.
func (c choice) made(t *testing.T) (w *world, a, b *node) {
	w, n := homes(t, "alice", "bob")
	a, b = n["alice"], n["bob"]
	w.wan = map[string]netip.Addr{"alice": netip.MustParseAddr("192.0.2.1"), "bob": netip.MustParseAddr("198.51.100.2")}
	for i, x := range []*node{a, b} {
		impossible := map[Protocol]string{}
		for p, why := range lackOf {
			if !slices.Contains(c.can[i], p) {
				impossible[p] = why
			}
		}
		x.SetProtocols(c.can[i], impossible)
		x.cfg.ESP = FeatureChaCha
		other := []string{"bob", "alice"}[i]
		w.act(x, x.SetPeers([]Peer{{Name: other, Domain: other + ".example.org", Key: key(other), Protocols: c.may[i]}}, nil))
	}
	w.handle(a, "bob", Connect{})
	return w, a, b
}

// TestWhy goes through everything that two homes can be able and allowed to do,
// in the usual order. What they come to is the best that both can and may; each
// says of each better protocol what is in the way, with the other home's words
// where it is at the other home.
func TestWhy(t *testing.T) {
	subset := func(bits int) (out []Protocol) {
		for i, x := range ranking {
			if bits>>i&1 != 0 {
				out = append(out, x)
			}
		}
		return out
	}
	// Not all 65536: at each home either the abilities or the permissions vary.
	for i := range 1 << 8 {
		for side := range 4 {
			c := choice{can: [2][]Protocol{ranking[:], ranking[:]}, may: [2][]Protocol{ranking[:], ranking[:]}}
			if x := subset(i & 15); side&1 == 0 {
				c.can[0] = x
			} else {
				c.may[0] = x
			}
			if x := subset(i >> 4); side&2 == 0 {
				c.can[1] = x
			} else {
				c.may[1] = x
			}
			checkChoice(t, c)
			if t.Failed() {
				t.Fatalf("%v", c)
			}
		}
	}
}

func checkChoice(t *testing.T, c choice) {
	usable := func(i int, x Protocol) bool { return slices.Contains(c.can[i], x) && slices.Contains(c.may[i], x) }
	best := slices.IndexFunc(ranking[:], func(x Protocol) bool { return usable(0, x) && usable(1, x) })
	_, a, b := c.made(t)
	if best < 0 {
		if st := a.Status()[0]; st.State != Idle || st.Reason != ReasonNoProtocol {
			t.Errorf("nothing in common: %+v", st)
		}
		return
	}
	for i, n := range []*node{a, b} {
		other := []string{"bob", "alice"}[i]
		e := n.entry(other)
		if e.Protocol != ranking[best] {
			t.Errorf("%s: %v, want %v", n.name, e.Protocol, ranking[best])
		}
		if !e.Protocol.Encrypted() != strings.Contains(e.Why, "not encrypted") {
			t.Errorf("%s: %v: %s", n.name, e.Protocol, e.Why)
		}
		for _, x := range ranking[:best] {
			want := ""
			switch lack := strings.ReplaceAll(lackOf[x], "; ", ", "); {
			case !slices.Contains(c.may[i], x):
				want = x.String() + " is not allowed here"
			case !slices.Contains(c.can[i], x):
				want = x.String() + " is not possible here (" + lackOf[x] + ")"
			case !slices.Contains(c.may[1-i], x):
				want = []string{"bob does not take ", "alice does not offer "}[i] + x.String()
			default:
				want = other + " can't use " + x.String() + " (" + lack + ")"
			}
			if !strings.Contains(e.Why, want) {
				t.Errorf("%s: no %q in %q", n.name, want, e.Why)
			}
		}
		if best == 0 && e.Why != "the best that there is, and both homes allow it" {
			t.Errorf("%s: %q", n.name, e.Why)
		}
	}
}

// TestWhyByOrder: what people prefer is a reason, too.
func TestWhyByOrder(t *testing.T) {
	l2tpFirst, all := []Protocol{L2TP, WireGuard}, ranking[:]
	_, a, b := choice{[2][]Protocol{l2tpFirst, all}, [2][]Protocol{all, all}}.made(t)
	for n, want := range map[*node]string{
		a: "not encrypted, which option encryption 'off' allows; l2tp comes before wireguard in the list here; l2tp-esp is not possible here (no ciphers; no keys)",
		b: "not encrypted, which option encryption 'off' allows; alice prefers l2tp to wireguard; alice can't use l2tp-esp (no ciphers, no keys)",
	} {
		if got := n.Status()[0].Entry.Why; got != want {
			t.Errorf("%s: %q", n.name, got)
		}
	}
	// The responder's order is not asked for.
	_, a, b = choice{[2][]Protocol{all, l2tpFirst}, [2][]Protocol{all, all}}.made(t)
	for _, n := range []*node{a, b} {
		if e := n.Status()[0].Entry; e.Protocol != WireGuard || e.Why != "the best that there is, and both homes allow it" {
			t.Errorf("%s: %v, %s", n.name, e.Protocol, e.Why)
		}
	}
}

// TestWhyTwoFaced: a peer that says one thing and does another can't make us say
// what is not so, and its words are marked as its own.
func TestWhyTwoFaced(t *testing.T) {
	_, n := homes(t, "alice", "bob")
	b := n["bob"]
	b.SetProtocols([]Protocol{L2TP}, nil)
	req := requestOf(1, 0)
	req.Text = "wireguard is not possible: x; wireguard is not possible: y; l2tp is not possible: z"
	p := b.peers["alice"]
	p.Protocols = ranking[:]
	b.Handle("alice", Received{Conn: 7, Msg: req})
	if p.entry.Protocol != L2TP || p.entry.Why != "not encrypted, which option encryption 'off' allows; wireguard is not possible here; l2tp-esp is not possible here" {
		t.Errorf("%v: %q", p.entry.Protocol, p.entry.Why)
	}
	// A responder that passes over what we would both have had.
	g := n["alice"]
	g.SetProtocols(ranking[:], nil)
	q := g.peers["bob"]
	q.Protocols, q.role = ranking[:], Initiator
	if got := g.why(q, L2TP, ranking[:], "no clause at all"); got != "not encrypted, which option encryption 'off' allows; bob does not take wireguard; bob does not take l2tp-esp" {
		t.Errorf("%q", got)
	}
	q.role = Responder
	if got := g.why(q, L2TP, ranking[:], ""); !strings.Contains(got, "wireguard is not possible between the two homes") {
		t.Errorf("%q", got)
	}
}

// TestLacking: what a message says of the sender is whole clauses of what is
// asked for, within a message's limit.
func TestLacking(t *testing.T) {
	_, n := homes(t, "alice", "bob")
	g := n["alice"]
	p := g.peers["bob"]
	long := strings.Repeat("xyz ", 70)
	for _, c := range []struct {
		may  []Protocol
		lack map[Protocol]string
		want string
	}{
		{nil, lackOf, ""},
		{ranking[:], nil, ""},
		{[]Protocol{L2TP, L2TPESP}, lackOf, "l2tp-esp is not possible: no ciphers, no keys; l2tp is not possible: no xl2tpd"},
		{ranking[:], map[Protocol]string{WireGuard: "a\nb\u200b", PPTP: "c"}, "wireguard is not possible: a b ; pptp is not possible: c"},
		{ranking[:], map[Protocol]string{WireGuard: "a", L2TPESP: long, PPTP: "c"}, "wireguard is not possible: a; pptp is not possible: c"},
		{ranking[:], map[Protocol]string{WireGuard: long, PPTP: "c"}, ("wireguard is not possible: " + long)[:maxText]},
	} {
		p.Protocols = c.may
		g.SetProtocols(nil, c.lack)
		got := g.lacking(p)
		if got != c.want || len(got) > maxText {
			t.Errorf("%v of %v: %q, want %q", c.may, c.lack, got, c.want)
		}
	}
}

// TestNothingInCommon: both homes read what each of them lacks.
func TestNothingInCommon(t *testing.T) {
	_, a, b := choice{[2][]Protocol{{L2TP}, {WireGuard, L2TP}}, [2][]Protocol{ranking[:], {WireGuard}}}.made(t)
	for n, want := range map[*node]string{
		a: "the other gateway says: this gateway allows you wireguard",
		b: "the other gateway proposed l2tp and says: wireguard is not possible: kernel has no WireGuard: install kmod-wireguard; l2tp-esp is not possible: no ciphers, no keys; pptp is not possible: no pptpd; allowed here: wireguard",
	} {
		if st := n.Status()[0]; st.Reason != ReasonNoProtocol || st.Text != want {
			t.Errorf("%s: %v, %q", n.name, st.Reason, st.Text)
		}
	}
	_, a, _ = choice{[2][]Protocol{{L2TP}, ranking[:]}, [2][]Protocol{{WireGuard}, ranking[:]}}.made(t)
	want := fmt.Sprint("allowed with this home here: none, because none of those possible (l2tp) is encrypted or otherwise permitted for this peer; ",
		"wireguard is not possible: kernel has no WireGuard: install kmod-wireguard")
	if st := a.Status()[0]; st.Text != want {
		t.Errorf("%q", st.Text)
	}
}
