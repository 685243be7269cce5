package htip

import (
	"net/netip"
	"slices"
)

func pxList(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, px(s))
	}
	return out
}

// do carries a move out on a state that is the caller's own.
func (w *xworld) do(a *xstate, m xmove) {
	i := int(m.side)
	s, o := &a.s[i], &a.s[1-i]
	if m.kind == xConnect && !a.ended && !a.owed { // after a fault: a new attempt, when its consequences are there
		_, quiet := a.moves(nil)
		a.owed = !a.wrong || quiet && s.p.state <= Waiting
	}
	switch m.kind {
	case xConnect:
		s.connects--
		if s.p.state == Up {
			s.wanted, s.p.Auto = true, true
		} else {
			s.asked = true
		}
		w.handle(a, i, Connect{})
	case xDisconnect:
		s.disconnects--
		s.asked, s.wanted, s.p.Auto = false, false, false
		w.handle(a, i, Disconnect{ReasonUser})
	case xDialed:
		s.dial = false
		a.next++
		id := ConnID(a.next)
		a.conns = append(a.conns, xconn{id: id, by: m.side, open: [2]bool{true, true}})
		w.handle(a, i, Opened{Conn: id})
		if s.p.conn != id {
			a.close(i, id)
		}
	case xNoDial, xLoseDial:
		s.dial = false
		w.handle(a, i, DialFailed{ReasonUnreachable, "no answer"})
	case xDeliver:
		c := &a.conns[m.conn]
		x := c.q[i][0]
		c.q[i] = c.q[i][1:]
		id := c.id
		if x == nil {
			w.lost(a, i, id)
		} else {
			w.handle(a, i, Received{Conn: id, Msg: x.Message})
		}
	case xNotice:
		w.lost(a, i, a.conns[m.conn].id)
	case xStarted:
		s.started = true
		s.dev, s.devConn, s.devUp = s.tun, s.tunConn, false
		w.handle(a, i, Started{s.tun})
	case xStartFails:
		w.handle(a, i, StartFailed{s.tun, "no kernel module"})
	case xNoStart:
		id := s.noStart
		s.noStart = 0
		w.handle(a, i, StartFailed{id, "the control connection is gone"})
	case xLinkUp:
		s.devUp = true
		w.linkUp(a, i)
	case xLinkDown:
		s.devUp = false
		if s.up && s.tun == s.dev && s.started {
			w.handle(a, i, LinkDown{s.tun, "no echo"})
		}
	case xProven:
		s.proving = 0
		w.handle(a, i, Proven{s.tun})
	case xRestart:
		w.boot(a, i)
	case xTimeout, xEarly:
		s.armed = false
		w.handle(a, i, Timeout{s.p.timer})
	case xSilent:
		a.close(i, a.conns[m.conn].id)
	case xCut:
		c := &a.conns[m.conn]
		c.dead, c.cut, c.q = true, c.open, [2][]*xmsg{}
	case xBreak:
		s.devConn, o.devConn = 0, 0
	case xKill:
		s.file, s.fileConn = Entry{}, 0
		if s.since {
			s.file, s.fileConn = s.p.entry, s.tunConn
		}
		for _, c := range slices.Clone(a.conns) {
			a.close(i, c.id)
		}
		w.dies(a, i)
	case xPower:
		for c := range a.conns {
			x := &a.conns[c]
			if x.open[i] {
				x.dead, x.q = true, [2][]*xmsg{}
				x.open[i], x.cut[i] = false, false
				x.cut[1-i] = x.open[1-i]
			}
		}
		a.sweep()
		s.dev, s.devConn, s.devUp, s.file, s.fileConn = 0, 0, false, Entry{}, 0
		w.dies(a, i)
	}
	switch {
	case m.kind == xDisconnect:
		a.owed, a.ended = false, true
	case m.kind == xNoDial: // who is not there can't be reached
		a.owed = false
	case m.kind == xKill || m.kind == xPower:
		a.crashes--
		a.owed, a.wrong = false, true
	case m.fault():
		a.losses--
		a.owed, a.wrong = false, true
	}
}

func (w *xworld) linkUp(a *xstate, i int) {
	s := &a.s[i]
	if s.up && s.tun == s.dev && s.started && s.devUp && !s.linked && s.agreed {
		s.linked = true
		w.handle(a, i, LinkUp{s.tun})
	}
}

// lost is what the daemon does when a connection is gone: the protocol hears of
// it before it is forgotten.
func (w *xworld) lost(a *xstate, i int, id ConnID) {
	w.handle(a, i, Closed{id, ReasonUnreachable, "connection lost"})
	if c := a.conn(id); c != nil {
		c.open[i], c.cut[i], c.q[i] = false, false, nil
		if c.open[1-i] && !c.dead {
			c.q[1-i] = append(c.q[1-i], nil)
		}
		a.sweep()
	}
}

// dies ends a process. Flash, kernel and the table in RAM stay.
func (w *xworld) dies(a *xstate, i int) {
	s := &a.s[i]
	*s = xside{
		wanted: s.wanted, record: s.record, file: s.file, fileConn: s.fileConn,
		dev: s.dev, devConn: s.devConn, devUp: s.devUp, connects: s.connects, disconnects: s.disconnects,
	}
}

// xThree and actMore are what a talk of three messages needs.
func xThree(c *Config) { c.ThreeMessages, c.EarlyServers = true, []Protocol{L2TP} }

func (w *xworld) actMore(a *xstate, i int, x Action) {
	if x, ok := x.(Agreed); ok && a.s[i].tun == x.Entry.TunnelID {
		a.s[i].agreed = true
		w.linkUp(a, i)
	}
}

// close closes an end; what is under way to it is lost, what it has sent is
// not.
func (a *xstate) close(i int, id ConnID) {
	c := a.conn(id)
	if c == nil || !c.open[i] {
		return
	}
	c.open[i], c.cut[i], c.q[i] = false, false, nil
	if c.open[1-i] && !c.dead {
		c.q[1-i] = append(c.q[1-i], nil)
	}
	a.sweep()
}

// sweep forgets connections that are over at both ends.
func (a *xstate) sweep() {
	a.conns = slices.DeleteFunc(a.conns, func(c xconn) bool { return !c.open[0] && !c.open[1] })
}
