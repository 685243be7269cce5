package htip

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// reboot makes a gateway forget all but what Save gave it, and connections and
// tunnels end.
func (w *world) reboot(name string) *node {
	old := w.nodes[name]
	n := w.add(name, old.home.Order, "")
	n.home, n.saved = old.home, old.saved
	n.SetHome(n.home)
	for c, ends := range w.conns {
		for i := range ends {
			if ends[i] == name {
				delete(w.conns, c)
				w.later(w.nodes[ends[1-i]], name, Closed{Conn: c})
			}
		}
	}
	for _, m := range w.nodes {
		if p := m.peers[name]; p != nil && p.running {
			w.later(m, name, LinkDown{p.entry.TunnelID, "peer gone"})
		}
	}
	w.friends()
	w.drain()
	return n
}

// plan says who is known how to whom.
func (w *world) plan() map[string]string {
	out := map[string]string{}
	for _, n := range w.nodes {
		for _, e := range n.Entries() {
			out[n.name+" at "+e.Peer] = fmt.Sprint(e.Own)
		}
	}
	return out
}

// TestSubstitutesStay: law 5. Reboots, broken links, tunnels that come and go in
// any order, in a circle of friends of which none is called by its own address:
// nobody is ever called otherwise than the first time, and what is saved is
// saved once.
func TestSubstitutesStay(t *testing.T) {
	names := []string{"alice", "bob", "carol", "dave"}
	for _, order := range []Order{Derived, Sequential} {
		for seed := range uint64(40) {
			r := rand.New(rand.NewPCG(seed, 1))
			w := newWorld(t)
			for _, n := range names {
				w.add(n, order, "", "192.168.1.0/24", "172.20.0.0/16")
			}
			w.friends()
			first := map[string]string{}
			for range 60 {
				a := names[r.IntN(4)]
				b := names[(slices.Index(names, a)+1+r.IntN(3))%4]
				n := w.nodes[a]
				switch {
				case r.IntN(8) == 0:
					w.reboot(a)
				case r.IntN(4) == 0:
					w.handle(n, b, Disconnect{ReasonUser})
				case r.IntN(4) == 0 && n.state(b) == Up:
					id := n.entry(b).TunnelID
					w.act(n, n.Handle(b, LinkDown{id, "gone"}))
					w.handle(w.nodes[b], a, LinkDown{id, "gone"})
				default:
					w.handle(n, b, Connect{})
				}
				w.agree()
				for k, v := range w.plan() {
					if was, ok := first[k]; ok && was != v {
						t.Fatalf("order %d seed %d: %s was %s and is %s", order, seed, k, was, v)
					}
					first[k] = v
				}
			}
			for _, n := range w.nodes {
				if max := len(names) - 1; n.saves > max {
					t.Errorf("order %d seed %d: %s wrote %d times", order, seed, n.name, n.saves)
				}
			}
		}
	}
}

// TestTheSameToEverybody: a home that once had to take another substitute than
// its first is known by that one to whoever comes later.
func TestTheSameToEverybody(t *testing.T) {
	w, n := homes(t, "alice", "bob", "carol", "dave")
	a := n["alice"]
	first := a.home.Offers(Bounds{})[0].Candidates[1]
	b := n["bob"]
	b.home.Occupied = []netip.Prefix{first} // something of bob's is just there
	b.SetHome(b.home)
	for _, peer := range []string{"bob", "carol", "dave"} {
		w.handle(a, peer, Connect{})
		w.mustBeUp(a, n[peer])
		if got := a.entry(peer).Own[0].Substitute; got == first || got != a.entry("bob").Own[0].Substitute {
			t.Errorf("alice is %v to bob and %v to %s", a.entry("bob").Own, got, peer)
		}
	}
	// The most usual goes before the one that a single home needs.
	w, n = homes(t, "alice", "bob", "carol", "dave", "erin")
	a, b = n["alice"], n["bob"]
	w.handle(a, "carol", Connect{})
	w.handle(a, "erin", Connect{})
	b.home.Occupied = []netip.Prefix{first}
	b.SetHome(b.home)
	w.handle(a, "bob", Connect{})
	w.handle(a, "dave", Connect{})
	if x, y := a.entry("dave").Own[0].Substitute, a.entry("carol").Own[0].Substitute; x != y || x != first {
		t.Errorf("alice is %v to dave and %v to carol", x, y)
	}
}

// TestOwnSubstituteOfAnAbsentHome: the place by which an absent home knows us is
// not given to the next one who asks.
func TestOwnSubstituteOfAnAbsentHome(t *testing.T) {
	w, n := homes(t, "alice", "bob", "carol")
	a, c := n["alice"], n["carol"]
	w.handle(a, "bob", Connect{})
	was := a.entry("bob").Own
	w.handle(a, "bob", Disconnect{ReasonUser})
	c.home.Pool = Substitutes(was) // carol can propose nothing else
	c.SetHome(c.home)
	w.handle(c, "alice", Connect{})
	if c.state("alice") == Up {
		t.Fatalf("carol is %v", c.entry("alice").Own)
	}
	w.handle(a, "bob", Connect{})
	if got := a.entry("bob").Own; !slices.Equal(got, was) {
		t.Errorf("%v became %v", was, got)
	}
}

// TestNetworksChange: after a change of networks what still collides keeps its
// substitute, and what does no longer gets its own address back (law 4).
func TestNetworksChange(t *testing.T) {
	lan, iot := px("192.168.1.0/24"), px("172.20.0.0/24")
	for _, c := range []struct {
		name string
		a, b []netip.Prefix // the networks afterwards
		own  map[netip.Prefix]bool
	}{
		{"one is added", []netip.Prefix{lan, iot}, []netip.Prefix{lan}, map[netip.Prefix]bool{iot: true}},
		{"one is added in front", []netip.Prefix{iot, lan}, []netip.Prefix{lan}, map[netip.Prefix]bool{iot: true}},
		{"the other home renumbers", []netip.Prefix{lan}, []netip.Prefix{iot}, map[netip.Prefix]bool{lan: true}},
		{"this home renumbers", []netip.Prefix{iot}, []netip.Prefix{lan}, map[netip.Prefix]bool{iot: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, n := homes(t, "alice", "bob")
			a, b := n["alice"], n["bob"]
			w.handle(a, "bob", Connect{})
			was := a.entry("bob").Own[0]
			change := func(n *node, nets []netip.Prefix) {
				h := n.home
				h.Networks, h.Gateway = nets, nets[0].Addr().Next()
				w.act(n, n.SetHome(h))
				w.drain()
				if a.state("bob") == Waiting {
					w.fire(a, "bob")
				}
				w.mustBeUp(a, b)
			}
			change(a, c.a)
			change(b, c.b)
			for _, m := range a.entry("bob").Own {
				if m.NAT() == c.own[m.Network] || m.Network == lan && m.NAT() && m != was {
					t.Errorf("%v, was %v", m, was)
				}
			}
		})
	}
}

// TestOnlyTheAffectedTunnels: point 6 of a change while tunnels are up. A
// substitute that something new at home overlaps moves; the others carry on
// without a message.
func TestOnlyTheAffectedTunnels(t *testing.T) {
	sub := func(e Entry) netip.Prefix { return e.Theirs[0].Substitute }
	for _, c := range []struct {
		name     string
		occupied func(bob, carol Entry) netip.Prefix
		affected []string
	}{
		{"nothing", func(b, c Entry) netip.Prefix { return px("192.168.77.0/24") }, nil},
		{"the WAN gets bob's substitute", func(b, c Entry) netip.Prefix { return sub(b) }, []string{"bob"}},
		{"a route into carol's", func(b, c Entry) netip.Prefix { return netip.PrefixFrom(sub(c).Addr(), 30) }, []string{"carol"}},
		{"a route over our own", func(b, c Entry) netip.Prefix { return b.Own[0].Substitute }, []string{"bob", "carol"}},
	} {
		for _, who := range []Role{Initiator, Responder} {
			t.Run(fmt.Sprint(c.name, " ", who), func(t *testing.T) {
				w, n := homes(t, "alice", "bob", "carol")
				a := n["alice"]
				for _, peer := range []string{"bob", "carol"} {
					if who == Initiator {
						w.handle(a, peer, Connect{})
					} else {
						w.handle(n[peer], "alice", Connect{})
					}
				}
				was := map[string]Entry{"bob": a.entry("bob"), "carol": a.entry("carol")}
				w.wire = nil
				h := a.home
				h.Occupied = []netip.Prefix{c.occupied(was["bob"], was["carol"])}
				w.act(a, a.SetHome(h))
				w.drain()
				for peer, e := range was {
					other := n[peer]
					if !slices.Contains(c.affected, peer) {
						if fmt.Sprint(a.entry(peer)) != fmt.Sprint(e) || len(other.stops) != 0 {
							t.Errorf("%s was touched", peer)
						}
						continue
					}
					if who == Responder {
						if other.state("alice") != Waiting || other.limit("alice") != backoff(0) {
							t.Fatalf("%s: %+v", peer, other.Status()[0])
						}
						w.fire(other, "alice")
					}
					w.mustBeUp(a, other)
					if overlap(append(Substitutes(a.entry(peer).Own), Substitutes(a.entry(peer).Theirs)...), h.Occupied) {
						t.Errorf("%s: %+v", peer, a.entry(peer))
					}
				}
				if len(c.affected) == 0 && len(w.wire) != 0 {
					t.Errorf("%v", w.wire)
				}
				if as := a.SetHome(h); len(as) != 0 {
					t.Errorf("the same once more: %v", as)
				}
			})
		}
	}
}

// TestAdoptionOfWhatNoLongerFits: the home was renumbered while the daemon was
// down.
func TestAdoptionOfWhatNoLongerFits(t *testing.T) {
	w, n := homes(t, "alice", "bob")
	a := n["alice"]
	w.handle(a, "bob", Connect{})
	e := a.entry("bob")
	a2 := w.add("alice", Derived, "", "192.168.1.0/24")
	a2.home.Occupied = Substitutes(e.Theirs)
	a2.SetHome(a2.home)
	w.act(a2, a2.SetPeers([]Peer{{Name: "bob", Domain: "bob.example.org", Key: key("bob"), Protocols: []Protocol{L2TP}}}, a.saved))
	w.act(a2, a2.Adopt(e))
	if len(a2.stops) != 1 || a2.state("bob") != Idle {
		t.Fatalf("stopped %v, %v", a2.stops, a2.state("bob"))
	}
	w.handle(a2, "bob", Connect{})
	w.mustBeUp(a2, n["bob"])

	// What is adopted and not remembered is remembered now.
	a3 := w.add("alice", Derived, "", "192.168.1.0/24")
	w.act(a3, a3.SetPeers([]Peer{{Name: "bob", Domain: "bob.example.org", Key: key("bob"), Protocols: []Protocol{L2TP}}}, nil))
	w.act(a3, a3.Adopt(a2.entry("bob")))
	if len(a3.saved) != 1 || a3.state("bob") != Up {
		t.Errorf("saved %v, %v", a3.saved, a3.state("bob"))
	}
	// Twice is once too often.
	w.act(a3, a3.Adopt(a2.entry("bob")))
	if len(a3.stops) != 1 {
		t.Errorf("stopped %v", a3.stops)
	}
}

// TestWhatIsNotAgreedEndsNothing: an agreement in the making that no longer fits
// our addresses, and what is remembered of absent homes, are no reason to touch
// a tunnel that stands.
func TestWhatIsNotAgreedEndsNothing(t *testing.T) {
	w, n := homes(t, "alice", "bob", "carol")
	a := n["alice"]
	w.handle(a, "bob", Connect{})
	e := a.entry("bob")
	stale := []Mapping{{px("172.20.0.0/24"), e.Theirs[0].Substitute}}
	h := a.home
	h.Occupied = []netip.Prefix{px("192.168.77.0/24")}
	c := a.peers["carol"]
	c.before = Record{stale, stale}
	if as := a.SetHome(h); len(as) != 0 {
		t.Errorf("for the sake of a memory: %v", as)
	}
	c.state, c.role, c.entry = Acked, Initiator, Entry{Peer: "carol", Own: stale, Theirs: stale}
	if as := a.Gateway.SetHome(h); len(as) != 0 {
		t.Errorf("for the sake of a talk: %v", as)
	}
}
