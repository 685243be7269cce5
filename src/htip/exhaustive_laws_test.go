package htip

import (
	"errors"
	"fmt"
	"slices"
)

// good: both gateways are up with the same tunnel, and it carries packets.
func (a *xstate) good() bool {
	s, o := &a.s[0], &a.s[1]
	return s.up && o.up && s.p.state == Up && o.p.state == Up && s.p.entry.TunnelID == o.p.entry.TunnelID &&
		s.dev == o.dev && s.dev == s.p.entry.TunnelID && s.devConn == o.devConn && s.devConn != 0
}

// end says what is wrong with a state in which nothing more happens.
func (a *xstate) end() error {
	for i := range a.s {
		s := &a.s[i]
		switch {
		case s.p.state != Idle:
			return fmt.Errorf("nothing more happens and %s is %v, %s is %v", xKeys[0], a.s[0].p.state, xKeys[1], a.s[1].p.state)
		case s.wanted:
			return fmt.Errorf("nothing more happens, and %s wants a tunnel", xKeys[i])
		case s.asked:
			return fmt.Errorf("nothing more happens, and somebody at %s waits", xKeys[i])
		case s.tun != 0 || s.dev != 0 || s.dial || s.noStart != 0 || s.armed:
			return fmt.Errorf("nothing more happens, and %s has kept something: %+v", xKeys[i], *s)
		}
	}
	if a.owed {
		return errors.New("somebody asked for a tunnel, nothing has gone wrong since, and there is none")
	}
	if len(a.conns) > 0 {
		return fmt.Errorf("nothing more happens, and %d connections are open", len(a.conns))
	}
	return nil
}

// safe says what is wrong with a state, whatever comes.
func (a *xstate) safe() error {
	for i := range a.s {
		if err := a.safeSide(i); err != nil {
			return err
		}
	}
	s, o := &a.s[0], &a.s[1]
	if s.up && o.up && s.p.state >= Connecting && o.p.state >= Connecting && s.p.entry.TunnelID == o.p.entry.TunnelID {
		e, f := &s.p.entry, &o.p.entry
		if !slices.Equal(e.Own, f.Theirs) || !slices.Equal(e.Theirs, f.Own) || e.OwnGateway != f.PeerGateway || e.PeerGateway != f.OwnGateway || e.Role == f.Role {
			return fmt.Errorf("law 1: %+v, %+v", *e, *f)
		}
	}
	return nil
}

func (a *xstate) safeSide(i int) error {
	s := &a.s[i]
	if !s.up {
		return nil
	}
	p := &s.p
	e := &p.entry
	name := xKeys[i]
	switch {
	case s.tun != 0 && (s.tun != e.TunnelID || !p.running):
		return fmt.Errorf("leak: %s runs a program for %d and is %v with %d", name, s.tun, p.state, e.TunnelID)
	case p.state >= Preparing && s.tun == 0 && s.noStart != e.TunnelID:
		return fmt.Errorf("%s is %v and runs no program", name, p.state)
	case p.conn != 0 && (a.conn(p.conn) == nil || !a.conn(p.conn).open[i]):
		return fmt.Errorf("%s counts on connection %d, which is gone", name, p.conn)
	case !s.armed && p.state != Idle && (p.state != Up || p.role == Initiator):
		return fmt.Errorf("half-open: %s is %v for ever", name, p.state)
	case p.state == Up && s.dev != e.TunnelID:
		return fmt.Errorf("%s is up without a device", name)
	case p.rounds > MaxRounds+1:
		return fmt.Errorf("%s is in round %d", name, p.rounds)
	case p.state == Idle && (e.TunnelID != 0 || len(e.Theirs) > 0 || p.conn != 0 || p.running):
		return fmt.Errorf("%s is idle and keeps %+v, connection %d", name, *e, p.conn)
	}
	for c := range a.conns {
		if x := &a.conns[c]; x.open[i] && int(x.by) == i && x.id != p.conn {
			return fmt.Errorf("%s has forgotten connection %d", name, x.id)
		}
	}
	if p.state < Connecting {
		return nil
	}
	lan := px("192.168.1.0/24")
	if len(e.Own) != 1 || len(e.Theirs) != 1 || e.Own[0].Network != lan || e.Theirs[0].Network != lan {
		return fmt.Errorf("law 2: %s has agreed on %v, %v", name, e.Own, e.Theirs)
	}
	x, y := e.Own[0].Substitute, e.Theirs[0].Substitute
	if x.Overlaps(y) || y.Overlaps(lan) || x.Overlaps(lan) || x.Bits() != 24 || y.Bits() != 24 || !insideAny(y, Private) {
		return fmt.Errorf("law 2: %s has agreed on %v, %v", name, e.Own, e.Theirs)
	}
	if len(p.before.Own) > 0 && p.state == Up && !p.before.Equal(Record{Own: e.Own, Theirs: e.Theirs}) {
		return fmt.Errorf("law 5: %s remembers %v and is up with %v, %v", name, p.before, e.Own, e.Theirs)
	}
	return nil
}
