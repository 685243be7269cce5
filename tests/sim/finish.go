package sim

import (
	"time"

	"htip/src/htip"
)

const (
	settleTime = 10 * time.Minute // after the last fault: holds, silent connections, pauses are over
	asksTime   = fairLimit + time.Minute
	downTime   = 10 * time.Minute
)

// finish is the fair end: nothing goes wrong any more, so everything has to
// come right.
func (w *World) finish() {
	if w.wrong != nil {
		return
	}
	w.tracef(nil, "QUIET")
	w.quieten()
	w.until(w.now + settleTime)
	if w.wrong == nil {
		w.settled()
	}
	if w.wrong == nil {
		w.asksAll()
	}
	if w.wrong == nil {
		w.takeDown()
	}
}

// pairs calls f for every pair of honest friends, once.
func (w *World) pairs(f func(a, b *slot)) {
	for _, n := range w.nodes {
		for _, s := range n.slots {
			if n.twin == nil && s.node.id > n.id {
				if o := s.node.byKey[string(n.key)]; o != nil && w.wrong == nil && !n.liar && !s.node.liar {
					f(s, o)
				}
			}
		}
	}
}

// settled: after a while of quiet both ends of every pair are of one mind, and
// what is wanted is up.
func (w *World) settled() {
	w.tracef(nil, "SETTLED?")
	w.pairs(func(a, b *slot) {
		who := []*node{a.at, b.at}
		upA, upB := a.seen.state == htip.Up, b.seen.state == htip.Up
		switch {
		case upA != upB || upA && a.seen.entry.TunnelID != b.seen.entry.TunnelID:
			w.fail("one mind", who, "%s is %v, %s is %v", a.at.name, a.seen.state, b.at.name, b.seen.state)
		case upA && (a.dev == nil || !a.dev.up || a.dev.peer != b.dev):
			w.fail("one mind", who, "%s and %s call a tunnel up that has no link", a.at.name, b.at.name)
		case upA || !w.possible(a, b):
		case wanted(a) || wanted(b):
			w.fail("liveness", who, "%s and %s want a tunnel and are %v and %v", a.at.name, b.at.name, a.seen.state, b.seen.state)
		case talking(a.seen.state) || talking(b.seen.state):
			w.fail("liveness", who, "%s and %s don't want a tunnel and are %v and %v", a.at.name, b.at.name, a.seen.state, b.seen.state)
		}
	})
}

func wanted(s *slot) bool {
	return s.peer.Domain != "" && (s.peer.Auto || s.wanted) && !s.ended && !s.told
}

// possible tells whether the tunnel of a pair has no excuse for being down.
func (w *World) possible(a, b *slot) bool {
	for _, n := range []*node{a.at, b.at} {
		if !roomy(&n.seenHome) || len(n.order) > int(w.sc.ports) {
			return false
		}
		for _, s := range n.order { // large homes may leave no room for others
			if !roomy(&s.node.seenHome) || s.node.liar {
				return false
			}
		}
	}
	return w.sc.style.kind != sequence && !w.sc.style.tight
}

// asksAll: every pair that is not up is asked for, from one end or both.
func (w *World) asksAll() {
	w.tracef(nil, "ASK FOR ALL")
	end := w.now + asksTime
	w.pairs(func(a, b *slot) {
		if a.seen.state == htip.Up {
			return
		}
		if w.users.Chance(0.7) || b.peer.Domain == "" {
			a.at.connect(a)
		}
		if w.users.Chance(0.3) || a.peer.Domain == "" {
			b.at.connect(b)
		}
		if a.seen.state <= htip.Waiting && b.seen.state <= htip.Waiting {
			a.at.connect(a)
			b.at.connect(b)
		}
		// In a crowd not all click at once.
		w.until(w.now + w.users.Between(0, 300*time.Millisecond))
	})
	w.until(max(end, w.now+asksTime))
	w.tracef(nil, "ALL UP?")
	w.pairs(func(a, b *slot) {
		switch up := a.seen.state == htip.Up && b.seen.state == htip.Up && a.seen.entry.TunnelID == b.seen.entry.TunnelID; {
		case up:
			w.Stats.Fair++
		case a.seen.state == htip.Up || b.seen.state == htip.Up:
			w.fail("one mind", []*node{a.at, b.at}, "%s is %v, %s is %v", a.at.name, a.seen.state, b.at.name, b.seen.state)
		case w.possible(a, b) && (a.peer.Domain != "" || b.peer.Domain != ""):
			w.fail("liveness", []*node{a.at, b.at}, "%s and %s were asked for a tunnel and are %v and %v", a.at.name, b.at.name, a.seen.state, b.seen.state)
		}
	})
}

// takeDown: a user at one end of each pair ends the tunnel, and nothing is left.
func (w *World) takeDown() {
	w.tracef(nil, "TAKE ALL DOWN")
	for _, n := range w.nodes {
		for _, s := range n.slots {
			s.peer.Auto = false
		}
		if n.up {
			n.setPeers()
			n.check(nil)
		}
	}
	for _, n := range w.nodes {
		for _, s := range n.slots { // first all that are not up: nobody else can tell them
			if n.up && (s.seen.state != htip.Up || n.liar || s.node.liar) {
				n.disconnect(s)
			}
		}
	}
	w.pairs(func(a, b *slot) {
		if w.users.Chance(0.5) {
			a, b = b, a
		}
		a.at.disconnect(a)
	})
	w.until(w.now + downTime)
	w.tracef(nil, "ALL DOWN?")
	for _, n := range w.nodes {
		if n.twin != nil {
			continue
		}
		for _, s := range n.slots {
			x := &s.seen
			if x.state == htip.Up {
				w.fail("ended", []*node{n, s.node}, "%s is up with %s again after a user has ended the tunnel", n.name, s.peer.Name)
			}
			if x.state != htip.Idle || s.timing || s.tun != nil || s.dev != nil || len(s.ends) > 0 || s.dial != 0 || s.wait != 0 || x.entry.TunnelID != 0 {
				w.fail("leak", []*node{n, s.node}, "%s keeps of %s, when all is down: state %v, timer %v, tunnel %v, device %v, connections %d, dial %d, somebody waiting %v",
					n.name, s.peer.Name, x.state, s.timing, s.tun != nil, s.dev != nil, len(s.ends), s.dial, s.wait != 0)
			}
		}
	}
	if len(w.q.heap) > 0 && w.wrong == nil {
		w.until(w.now + time.Hour)
		if len(w.q.heap) > 0 {
			w.fail("leak", nil, "%d events are left of kind %v", len(w.q.heap), w.q.heap[0].kind)
		}
	}
}
