package sim

import (
	"slices"
	"time"

	"htip/src/htip"
)

const (
	silentLimit = 10 * time.Second  // for a connection that a peer opened to come into use
	idleLimit   = 100 * time.Second // silence of an open connection
	maxConns    = 3                 // of one peer
)

// conn is a control connection: TCP between two processes.
type conn struct {
	ends   [2]*end
	cut    bool // nothing arrives any more
	agreed int  // messages of talks, for the statistics
}

// end is one end of it, as a process knows it.
type end struct {
	conn   *conn
	node   *node
	boot   uint32
	slot   *slot
	id     connID
	open   bool
	dialed bool
	since  time.Duration
	last   time.Duration // nothing arrives at this end before what came earlier
}

func (e *end) other() *end {
	if e.conn.ends[0] == e {
		return e.conn.ends[1]
	}
	return e.conn.ends[0]
}

// delay is how long a message takes.
func (w *World) delay() time.Duration {
	if w.gone(Slow, 0.05) {
		return w.net.Between(time.Second, 12*time.Second)
	}
	return w.net.Between(2*time.Millisecond, 150*time.Millisecond)
}

// send puts a message on the way, through the real encoding.
func (e *end) send(m *htip.Message) {
	w := e.node.w
	b, err := m.Encode()
	if err != nil {
		w.fail("messages", []*node{e.node}, "%s can't send %v: %v", e.node.name, m.Type, err)
		return
	}
	w.count(e, m)
	o := e.other()
	if e.node.liar && w.gone(Liars, 0.3) {
		w.Stats.Lies++
		if b, err = w.twist(m).Encode(); err != nil { // not even a liar gets this through its own library
			return
		}
	}
	copies := 1
	switch {
	case e.conn.cut || w.gone(Drops, 0.05):
		w.Stats.Lost++
		return
	case w.gone(Doubles, 0.05):
		copies = 2
	case w.gone(Junk, 0.01):
		o.expectJunk(m.Talk)
		return
	}
	for range copies {
		got, err := htip.Decode(b)
		if err != nil && e.node.liar {
			o.expectJunk(m.Talk)
			return
		}
		if err != nil {
			w.fail("messages", []*node{e.node}, "%v of %s can't be read: %v", m.Type, e.node.name, err)
			return
		}
		x := w.after(w.delay(), evRecv)
		if !w.gone(Reorders, 0.3) {
			x.at = max(x.at, o.last)
			o.last = x.at
		}
		x.node, x.boot, x.end, x.msg = o.node, o.boot, o, got
		w.q.push(x)
	}
	if w.gone(Cuts, 0.01) {
		e.conn.breaks()
	}
}

func (e *end) arrived(m *htip.Message) {
	if e.conn.cut || !e.open {
		return
	}
	if o := e.node.owner(e.other().node.key); o != e.slot { // removed meanwhile
		e.close()
		return
	}
	e.node.handle(e.slot, htip.Received{Conn: e.id, Msg: m})
}

func (e *end) expectJunk(talk uint64) {
	w := e.node.w
	j := w.after(w.delay(), evJunk)
	j.node, j.boot, j.end, j.n = e.node, e.boot, e, talk
	w.q.push(j)
}

func (e *end) junk(talk uint64) {
	if e.conn.cut || !e.open {
		return
	}
	n := e.node
	n.leaving = e
	n.handle(e.slot, htip.Malformed{Conn: e.id, Talk: talk, Err: &htip.MalformedError{Type: htip.Request, What: "junk"}})
	n.leaving = nil
	if e.open {
		e.close()
	}
}

// close is this side's closing: the other one reads what came before it, unless
// a reset overtakes it.
func (e *end) close() {
	w := e.node.w
	if w.gone(Resets, 0.1) {
		e.conn.cut = true
	}
	e.drop()
	if e.conn.cut {
		return // the other end notices, or has been told to
	}
	o := e.other()
	x := w.after(w.delay(), evClosed)
	x.at = max(x.at, o.last)
	x.node, x.boot, x.end = o.node, o.boot, o
	w.q.push(x)
}

// drop forgets this end.
func (e *end) drop() {
	if !e.open {
		return
	}
	e.open = false
	delete(e.node.byConn, e.id)
	e.slot.ends = slices.DeleteFunc(e.slot.ends, func(x *end) bool { return x == e })
}

// lost is what a process does when it notices that a connection is gone.
func (e *end) lost() {
	if !e.open {
		return
	}
	// The loop forgets the connection after the protocol has heard of it: an
	// answer may still have to leave.
	e.leaves(htip.Closed{Conn: e.id, Reason: htip.ReasonUnreachable, Text: "connection lost"})
}

// leaves tells the protocol of the end of a connection, and forgets it.
func (e *end) leaves(ev htip.Event) {
	n := e.node
	n.leaving = e
	n.handle(e.slot, ev)
	n.leaving = nil
	if n.up && n.boot == e.boot {
		e.drop()
		n.checkConns(e.slot)
	}
}

// breaks cuts a connection. Each end notices in its own time.
func (c *conn) breaks() {
	if c.cut {
		return
	}
	c.cut = true
	for _, e := range c.ends {
		e.noticeLate()
	}
	c.ends[0].node.w.Stats.Cuts++
	c.ends[0].node.w.tracef(c.ends[0].node, "CUT connection with %s", c.ends[1].node.name)
}

func (e *end) noticeLate() {
	w := e.node.w
	d := w.net.Between(0, time.Second)
	if w.net.Chance(0.3) {
		d = w.net.Between(0, idleLimit)
	}
	x := w.after(d, evClosed)
	x.node, x.boot, x.end = e.node, e.boot, e
	w.q.push(x)
}

// dialOut opens a connection to where the peer's name leads.
func (n *node) dialOut(s *slot) {
	w := n.w
	n.dials++
	s.dial = n.dials
	d := w.net.Between(20*time.Millisecond, time.Second)
	ok := true
	switch {
	case w.gone(Dials, 0.15):
		ok = false
		if w.net.Chance(0.5) {
			d = htip.DialLimit + w.net.Between(-time.Second, time.Second)
		}
	case w.gone(Slow, 0.1):
		d = w.net.Between(time.Second, 19*time.Second)
	}
	e := w.after(d, evDialed)
	e.node, e.boot, e.slot, e.n, e.up = n, n.boot, s, s.dial, ok
	w.q.push(e)
}

// dialed is the end of a dial: n is which.
func (n *node) dialed(s *slot, which uint64, ok bool) {
	if s.dial != which || s.gone {
		return // nobody waits for it any more
	}
	s.dial = 0
	to := n.w.resolve(s.node)
	switch {
	case !ok || !to.up:
		n.handle(s, htip.DialFailed{Reason: htip.ReasonUnreachable, Text: "does not answer"})
		return
	case s.strange || string(to.key) != string(s.peer.Key):
		n.handle(s, htip.DialFailed{Reason: htip.ReasonUnauthorized, Text: "not the key configured"})
		return
	}
	c := &conn{}
	c.ends[0] = &end{conn: c, node: n, boot: n.boot, slot: s, dialed: true}
	c.ends[1] = &end{conn: c, node: to, boot: to.boot, slot: to.owner(n.key)}
	if theirs := c.ends[1].slot; theirs != nil {
		to.accepted(c.ends[1])
	}
	e := c.ends[0]
	n.leaving = e
	n.adoptEnd(e)
	n.leaving = nil
	if !n.up || n.boot != e.boot {
		return
	}
	n.leaving = e
	n.handle(s, htip.Opened{Conn: e.id})
	n.leaving = nil
	if !n.up || n.boot != e.boot {
		return
	}
	if e.open && n.gw.Conn(s.peer.Name) != e.id {
		e.close()
	}
	n.checkConns(s)
	if c.ends[1].slot == nil { // the other gateway does not know us
		e.refused()
	}
}

// refused is a TLS alert that comes after our side of the handshake.
func (e *end) refused() {
	if e.open {
		e.leaves(htip.Closed{Conn: e.id, Reason: htip.ReasonUnauthorized, Text: "our key is not known there"})
	}
}

// adoptEnd gives a connection its number.
func (n *node) adoptEnd(e *end) {
	n.lastConn++
	e.id, e.open, e.since = n.lastConn, true, n.w.now
	n.byConn[e.id] = e
	e.slot.ends = append(e.slot.ends, e)
	if n.w.sc.cgnat {
		n.homeChanged()
	}
}

// accepted takes a connection that a peer has opened.
func (n *node) accepted(e *end) {
	var others []*end
	for _, x := range e.slot.ends {
		if x.id != n.gw.Conn(e.slot.peer.Name) {
			others = append(others, x)
		}
	}
	if len(others) >= maxConns-1 {
		others[0].close()
	}
	n.adoptEnd(e)
	x := n.w.after(silentLimit, evSilent)
	x.node, x.boot, x.end = n, e.boot, e
	n.w.q.push(x)
}

func (e *end) silent() {
	if e.open && e.node.gw.Conn(e.slot.peer.Name) != e.id {
		e.close()
	}
}

// resolve is where a name leads: with two gateways of one name to either.
func (w *World) resolve(n *node) *node {
	if same := w.byKey[string(n.key)]; len(same) > 1 && same[1].up && (w.net.Chance(0.5) || !same[0].up) {
		return same[1]
	}
	return n
}
