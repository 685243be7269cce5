package sim

import (
	"slices"
	"time"

	"htip/src/htip"
)

// seen is what the checker saw of a slot after the last step.
type seen struct {
	state  htip.State
	role   htip.Role
	conn   connID
	entry  htip.Entry
	try    time.Duration // when the present attempt began
	before htip.Record   // what was remembered then
	freed  time.Duration // when something that it had taken last became free
	sent   int           // messages of talks sent in the present attempt
	naks   int           // of these, those that made another round
}

const (
	tryLimit  = 5 * time.Minute  // no attempt takes longer, however many rounds
	waitLimit = 15 * time.Minute // for an answer to somebody who asked, while things go wrong
	fairLimit = 4 * time.Minute  // and when nothing does
	maxSent   = 2*(htip.MaxRounds+1) + 4
)

// check looks at the gateway after a step. touched is the slot the step was
// about; nil: all of them.
func (n *node) check(touched *slot) {
	w := n.w
	if !n.up || w.wrong != nil {
		return
	}
	sts := n.gw.Status()
	if len(sts) != len(n.order) {
		w.fail("peers", []*node{n}, "%s lists %d peers, %d are configured", n.name, len(sts), len(n.order))
		return
	}
	for i, s := range n.order {
		st := &sts[i]
		old := &s.seen
		if touched != nil && s != touched {
			if st.State != old.state || st.Entry.TunnelID != old.entry.TunnelID {
				w.fail("steady", []*node{n, s.node, touched.node}, "an event of %s moved %s at %s from %v to %v", touched.peer.Name, s.peer.Name, n.name, old.state, st.State)
			}
			continue
		}
		n.checkSlot(s, st)
	}
	if touched == nil { // addresses or peers have changed: everything is looked at again
		for i, s := range n.order {
			if sts[i].State >= htip.Connecting {
				n.checkPlan(s)
			}
		}
	}
}

// checkSlot compares a slot with what it was, and what the driver has for it.
func (n *node) checkSlot(s *slot, st *htip.Status) {
	w := n.w
	old := s.seen
	e := &st.Entry
	if st.Peer != s.peer.Name {
		w.fail("peers", []*node{n}, "%s has %s where %s is configured", n.name, st.Peer, s.peer.Name)
		return
	}
	x := &s.seen
	x.state, x.role, x.conn, x.entry = st.State, st.Role, n.gw.Conn(s.peer.Name), *e
	if !keeps(old.entry.Own, e.Own) || !keeps(old.entry.Theirs, e.Theirs) {
		x.freed = w.now
	}
	if began(&old, x) {
		x.try, x.before, x.sent, x.naks = w.now, st.Before, 0, 0
	}
	x.sent += s.sent
	x.naks += s.naks
	s.sent, s.naks = 0, 0

	n.checkTimer(s)
	n.checkTunnel(s)
	n.checkConns(s)
	if talking(x.state) && w.now-x.try > tryLimit {
		w.fail("half-open", []*node{n, s.node}, "%s is talking with %s since %v, now %v", n.name, s.peer.Name, x.try, x.state)
	}
	if x.sent > maxSent && w.sc.faults&(hostile|SameKey) == 0 {
		w.fail("bounded", []*node{n, s.node}, "%s has sent %d messages to %s in one attempt", n.name, x.sent, s.peer.Name)
	}
	if x.state < htip.Connecting {
		return
	}
	if old.state >= htip.Connecting && old.entry.TunnelID == e.TunnelID {
		if !slices.Equal(old.entry.Own, e.Own) || !slices.Equal(old.entry.Theirs, e.Theirs) {
			w.fail("steady", []*node{n, s.node}, "%s's tunnel %08x with %s changed from %v, %v to %v, %v", n.name, e.TunnelID, s.peer.Name, old.entry.Own, old.entry.Theirs, e.Own, e.Theirs)
		}
	} else {
		n.checkPlan(s)
		n.checkPorts(s)
		if talking(old.state) {
			n.checkAbsent(s)
		}
	}
	n.checkMirror(s)
	if x.state == htip.Up && old.state != htip.Up {
		n.checkUp(s, old.state == htip.Proving)
	}
}

// began tells whether a new attempt began between two looks.
func began(old, x *seen) bool {
	if !talking(x.state) {
		return false
	}
	switch {
	case !talking(old.state):
		return true
	case x.state == htip.Dialing:
		return old.state != htip.Dialing
	case x.role == htip.Responder:
		return old.role != htip.Responder || old.conn != x.conn && (x.state == htip.Refusing || x.state == htip.Listening || x.state == htip.Responded)
	}
	return false
}

func talking(s htip.State) bool { return s > htip.Waiting && s < htip.Up }

// keeps tells whether nothing of a is missing in b.
func keeps(a, b []htip.Mapping) bool {
	for _, m := range a {
		if !slices.Contains(b, m) {
			return false
		}
	}
	return true
}

func (n *node) checkTimer(s *slot) {
	x := &s.seen
	need := x.state != htip.Idle && (x.state != htip.Up || x.role == htip.Initiator)
	if need && !s.timing {
		n.w.fail("half-open", []*node{n, s.node}, "%s is %v with %s and no timer runs", n.name, x.state, s.peer.Name)
	}
}

// checkTunnel compares what runs with what is agreed.
func (n *node) checkTunnel(s *slot) {
	x := &s.seen
	if t := s.tun; t != nil && (x.state < htip.Listening || t.entry.TunnelID != x.entry.TunnelID) {
		n.w.fail("leak", []*node{n, s.node}, "%s runs %08x with %s, which is %v with %08x", n.name, t.entry.TunnelID, s.peer.Name, x.state, x.entry.TunnelID)
	} else if t == nil && (x.state >= htip.Preparing || x.state == htip.Listening) && s.noStart != x.entry.TunnelID {
		n.w.fail("leak", []*node{n, s.node}, "%s is %v with %s and runs nothing", n.name, x.state, s.peer.Name)
	}
}

// checkConns looks for connections that nobody uses.
func (n *node) checkConns(s *slot) {
	if !n.up || s.gone || n.w.wrong != nil {
		return
	}
	c := n.gw.Conn(s.peer.Name)
	if c != 0 && (n.byConn[c] == nil || n.byConn[c].slot != s) {
		n.w.fail("leak", []*node{n, s.node}, "%s counts on connection %d with %s, which is not open", n.name, c, s.peer.Name)
	}
	for _, e := range s.ends {
		if e.id != c && e != n.leaving && (e.dialed || n.w.now-e.since > silentLimit) {
			n.w.fail("leak", []*node{n, s.node}, "%s has forgotten connection %d with %s", n.name, e.id, s.peer.Name)
		}
	}
}

func (n *node) checkPorts(s *slot) {
	p := s.seen.entry.LocalPort
	for _, o := range n.order {
		if o != s && o.seen.state >= htip.Preparing && o.seen.entry.LocalPort == p {
			n.w.fail("ports", []*node{n, s.node, o.node}, "%s uses port %d for %s and %s", n.name, p, s.peer.Name, o.peer.Name)
		}
	}
}

// checkDevices: no two VPN programs of a kernel use one port.
func (n *node) checkDevices(s *slot) {
	for _, o := range n.slots {
		if o != s && o.dev != nil && o.dev.entry.LocalPort == s.dev.entry.LocalPort {
			n.w.fail("ports", []*node{n, s.node, o.node}, "programs for %s and %s run with port %d at %s", s.peer.Name, o.peer.Name, s.dev.entry.LocalPort, n.name)
		}
	}
}

// waitFor notes that somebody waits for a tunnel.
func (n *node) waitFor(s *slot) {
	s.waits++
	s.wait = s.waits
	limit := waitLimit
	if n.w.quiet {
		limit = fairLimit
	}
	e := n.w.after(limit, evDeadline)
	e.node, e.boot, e.slot, e.n = n, n.boot, s, s.wait
	n.w.q.push(e)
}

func (n *node) deadline(s *slot, which uint64) {
	if s.wait == which && !s.gone {
		n.w.fail("answers", []*node{n, s.node}, "%s asked for a tunnel with %s and has had no answer; it is %v", n.name, s.peer.Name, s.seen.state)
	}
}

// progress is called for every end of an attempt or a tunnel.
func (w *World) progress(n *node, s *slot, a htip.Progress) {
	if a.Reason == 0 {
		w.fail("answers", []*node{n, s.node}, "%s says %v of %s without a reason", n.name, a.Step, s.peer.Name)
	}
	if a.Step == htip.StepFailed {
		w.Stats.Failed[a.Reason]++
	}
}
