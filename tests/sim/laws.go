package sim

import (
	"net/netip"
	"slices"
	"time"

	"htip/src/htip"
)

// The laws of the address plan. They are written down here once more, with
// nothing of the code that is to obey them.

// checkPlan: laws 2 and 3 at this gateway.
func (n *node) checkPlan(s *slot) {
	w := n.w
	e := &s.seen.entry
	h := &n.seenHome
	who := []*node{n, s.node}
	if !sameNetworks(e.Own, h.Networks) {
		w.fail("law 2", who, "%s has %v, its tunnel with %s knows %v", n.name, h.Networks, s.peer.Name, e.Own)
	}
	for _, l := range [][]htip.Mapping{e.Own, e.Theirs} {
		for i, m := range l {
			if m.Network.Bits() != m.Substitute.Bits() || m.Substitute != m.Substitute.Masked() {
				w.fail("law 3", who, "%s: %v is no substitute of %v", n.name, m.Substitute, m.Network)
			}
			for _, o := range l[:i] {
				if o.Substitute.Overlaps(m.Substitute) || o.Network.Overlaps(m.Network) {
					w.fail("law 2", who, "%s: %v and %v overlap", n.name, o, m)
				}
			}
		}
	}
	for _, m := range e.Theirs {
		if !insidePrivate(m.Substitute) {
			w.fail("law 2", who, "%s: %v of %s is not private", n.name, m.Substitute, s.peer.Name)
		}
		if overlapsAny(m.Substitute, h.Networks) || overlapsAny(m.Substitute, h.Occupied) || overlapsAny(m.Substitute, htip.Substitutes(e.Own)) {
			w.fail("law 2", who, "%s: %v of %s is not free among %v, %v, %v", n.name, m.Substitute, s.peer.Name, h.Networks, h.Occupied, e.Own)
		}
	}
	for _, m := range e.Own {
		if overlapsAny(m.Substitute, h.Occupied) || m.NAT() && overlapsAny(m.Substitute, h.Networks) {
			w.fail("law 2", who, "%s: its own %v for %s is not free among %v, %v", n.name, m.Substitute, s.peer.Name, h.Networks, h.Occupied)
		}
	}
	if g := move(h.Gateway, e.Own); g != e.OwnGateway {
		w.fail("law 3", who, "%s is %v, its tunnel with %s says %v", n.name, g, s.peer.Name, e.OwnGateway)
	}
	for _, o := range n.order {
		if o == s || o.seen.state < htip.Connecting {
			continue
		}
		f := &o.seen.entry
		if crosses(e.Theirs, f.Theirs) || crosses(e.Theirs, f.Own) || crosses(e.Own, f.Theirs) {
			w.fail("law 2", append(who, o.node), "%s: the tunnels with %s (%v, %v) and %s (%v, %v) cross", n.name, s.peer.Name, e.Own, e.Theirs, o.peer.Name, f.Own, f.Theirs)
		}
	}
}

// checkMirror: law 1. Whoever is at the other end of the same tunnel sees the
// same, from the other side.
func (n *node) checkMirror(s *slot) {
	e := &s.seen.entry
	for _, o := range s.mirrors {
		f := &o.seen.entry
		if o.gone || o.seen.state < htip.Connecting || f.TunnelID != e.TunnelID || n.liar || o.at.liar {
			continue
		}
		server, client := e, f
		if e.Role == htip.Initiator {
			server, client = f, e
		}
		if !slices.Equal(e.Own, f.Theirs) || !slices.Equal(e.Theirs, f.Own) || e.OwnGateway != f.PeerGateway || e.PeerGateway != f.OwnGateway ||
			e.Role == f.Role || e.Protocol != f.Protocol || client.PeerPort != server.LocalPort {
			n.w.fail("law 1", []*node{n, o.at}, "%s and %s disagree on %08x: %+v, %+v", n.name, o.at.name, e.TunnelID, *e, *f)
		}
	}
}

// checkUp looks at a tunnel that has come up here; fresh is false for one that
// was adopted.
func (n *node) checkUp(s *slot, fresh bool) {
	w := n.w
	e := &s.seen.entry
	if now := (htip.Record{Own: e.Own, Theirs: e.Theirs}); !s.record.Equal(now) {
		w.fail("law 5", []*node{n, s.node}, "%s is up with %s as %v, %v and has saved %v", n.name, s.peer.Name, e.Own, e.Theirs, s.record)
	}
	for _, o := range s.mirrors {
		if o.gone || o.seen.state != htip.Up || o.seen.entry.TunnelID != e.TunnelID || !fresh || n.liar || o.at.liar {
			continue
		}
		w.Stats.setUp(n, s, o)
		n.checkSteady(s, o)
		s.agreed, o.agreed = s.record, o.record
	}
}

// checkSteady: laws 4 and 5 of a pair whose tunnel has just come up at both
// ends. They hold when nothing has become free meanwhile that was not when the
// proposals were made.
func (n *node) checkSteady(s, o *slot) {
	since := min(s.seen.try, o.seen.try)
	m := o.at
	if n.freedSince(s, since) || m.freedSince(o, since) {
		return
	}
	w := n.w
	e := &s.seen.entry
	a, b := s.agreed, o.agreed
	valid := func(r htip.Record) bool {
		return sameNetworks(r.Own, networks(e.Own)) && sameNetworks(r.Theirs, networks(e.Theirs))
	}
	swapped := htip.Record{Own: b.Theirs, Theirs: b.Own}
	fresh := !valid(s.seen.before) && !valid(htip.Record{Own: o.seen.before.Theirs, Theirs: o.seen.before.Own})
	atN, atM := n.others(s), m.others(o)
	switch {
	case other(a, s.seen.before) || other(b, o.seen.before):
		// One end has had a tunnel since that never came up at the other.
		if fresh {
			w.checkOwn(s, o, atN, atM)
		}
	case valid(a) && valid(swapped) && same2(a.Own, swapped.Own) && same2(a.Theirs, swapped.Theirs):
		w.Stats.Again++
		for _, x := range a.Own {
			if !n.keepable(x, atN) || overlapsAny(x.Substitute, atM.all) || overlapsAny(x.Substitute, m.seenHome.Networks) {
				return
			}
		}
		for _, x := range a.Theirs {
			if !m.keepable(x, atM) || overlapsAny(x.Substitute, atN.all) || overlapsAny(x.Substitute, n.seenHome.Networks) {
				return
			}
		}
		if !same2(a.Own, e.Own) || !same2(a.Theirs, e.Theirs) {
			w.fail("law 5", []*node{n, m}, "%s and %s had %v, %v and now have %v, %v", n.name, m.name, a.Own, a.Theirs, e.Own, e.Theirs)
		}
	case fresh && !valid(a) && !valid(swapped):
		w.checkOwn(s, o, atN, atM)
	}
}

// checkOwn: law 4 of two homes that meet for the first time, or for the first
// time with these networks.
func (w *World) checkOwn(s, o *slot, atN, atM taken) {
	w.Stats.First++
	n, m, e := s.at, o.at, &s.seen.entry
	free := func(x htip.Mapping, here, there *node, atHere, atThere taken) bool {
		return insidePrivate(x.Network) && !overlapsAny(x.Network, there.seenHome.Networks) && !overlapsAny(x.Network, here.seenHome.Occupied) &&
			!overlapsAny(x.Network, atHere.theirs) && !overlapsAny(x.Network, atThere.all)
	}
	for _, x := range e.Own {
		if x.NAT() && free(x, n, m, atN, atM) {
			w.fail("law 4", []*node{n, m}, "%v of %s collides with nothing and is %v at %s", x.Network, n.name, x.Substitute, m.name)
		}
	}
	for _, x := range e.Theirs {
		if x.NAT() && free(x, m, n, atM, atN) {
			w.fail("law 4", []*node{n, m}, "%v of %s collides with nothing and is %v at %s", x.Network, m.name, x.Substitute, n.name)
		}
	}
}

// checkAbsent: what a home had last time is kept for it while it is away, also
// from those who come meanwhile, and so is our own place with it.
func (n *node) checkAbsent(s *slot) {
	for _, o := range n.order {
		if o == s || o.strange || len(o.seen.entry.Theirs) > 0 || o.seen.freed >= s.seen.try || n.peersAt >= s.seen.try || n.homeAt >= s.seen.try {
			continue
		}
		for _, m := range s.seen.entry.Theirs {
			if overlapsAny(m.Substitute, htip.Substitutes(s.seen.before.Theirs)) { // it was there first
				continue
			}
			for _, x := range o.record.Theirs {
				if x.Substitute.Overlaps(m.Substitute) {
					n.w.fail("law 5", []*node{n, s.node, o.node}, "%s gives %v the place %v of %s, which is away", n.name, s.peer.Name, m.Substitute, o.peer.Name)
				}
			}
			for _, x := range o.record.Own {
				if x.NAT() && slices.Contains(n.seenHome.Networks, x.Network) && x.Substitute.Overlaps(m.Substitute) {
					n.w.fail("law 5", []*node{n, s.node, o.node}, "%s gives %v the place %v, by which %s knows it", n.name, s.peer.Name, m.Substitute, o.peer.Name)
				}
			}
		}
	}
}

// other tells whether a gateway remembers something, and something else. One
// that remembers nothing where it should has no excuse.
func other(agreed, before htip.Record) bool { return len(before.Own) > 0 && !before.Equal(agreed) }

// keepable tells whether an own substitute of last time is possible here.
func (n *node) keepable(x htip.Mapping, t taken) bool {
	return !overlapsAny(x.Substitute, n.seenHome.Occupied) && !overlapsAny(x.Substitute, t.theirs) && (!x.NAT() || !overlapsAny(x.Substitute, n.seenHome.Networks))
}

// taken is what the other peers of a node have.
type taken struct {
	theirs []netip.Prefix // substitutes of other homes, connected or remembered
	all    []netip.Prefix // these, our own for them, likewise, and what is connected or routed
}

func (n *node) others(s *slot) taken {
	var t taken
	t.all = slices.Clone(n.seenHome.Occupied)
	for _, o := range n.order {
		if o == s {
			continue
		}
		t.theirs = append(t.theirs, htip.Substitutes(o.seen.entry.Theirs)...)
		t.theirs = append(t.theirs, htip.Substitutes(o.record.Theirs)...)
		t.all = append(t.all, htip.Substitutes(o.seen.entry.Own)...)
		t.all = append(t.all, htip.Substitutes(o.record.Own)...)
	}
	t.all = append(t.all, t.theirs...)
	return t
}

// freedSince tells whether any address may have become free for a slot since a
// time.
func (n *node) freedSince(s *slot, t time.Duration) bool {
	if n.homeAt >= t || n.peersAt >= t {
		return true
	}
	for _, o := range n.order {
		if o != s && o.seen.freed >= t {
			return true
		}
	}
	return false
}

func crosses(a, b []htip.Mapping) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Substitute.Overlaps(y.Substitute) {
				return true
			}
		}
	}
	return false
}

func networks(ms []htip.Mapping) []netip.Prefix { return htip.Networks(ms) }

func sameNetworks(ms []htip.Mapping, nets []netip.Prefix) bool {
	if len(ms) != len(nets) {
		return false
	}
	for _, m := range ms {
		if !slices.Contains(nets, m.Network) {
			return false
		}
	}
	return true
}

// same2 tells whether two lists hold the same mappings, in whatever order.
func same2(a, b []htip.Mapping) bool { return len(a) == len(b) && keeps(a, b) }

func insidePrivate(p netip.Prefix) bool {
	for _, r := range pxs("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16") {
		if r.Bits() <= p.Bits() && r.Contains(p.Addr()) {
			return true
		}
	}
	return false
}

// move is an address of a network as it is inside the tunnel.
func move(a netip.Addr, ms []htip.Mapping) netip.Addr {
	for _, m := range ms {
		if m.Network.Contains(a) {
			x, y, b := a.As4(), m.Substitute.Addr().As4(), m.Network.Bits()
			for i := range 32 {
				if i < b {
					mask := byte(0x80 >> (i % 8))
					x[i/8] = x[i/8]&^mask | y[i/8]&mask
				}
			}
			return netip.AddrFrom4(x)
		}
	}
	return netip.Addr{}
}
