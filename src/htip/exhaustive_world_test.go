package htip

import (
	"fmt"
	"slices"
)

// The world of the exhaustive check: two homes with the same network, what
// their daemons, kernels and the network between them may do. Time is not
// counted: what is under way happens in any order, and timers run out when
// nothing else is under way. A timer that runs out sooner is a loss, like a
// connection that breaks.

// xstate is a state of that world. It is copied for every step.
type xstate struct {
	s       [2]xside
	conns   []xconn
	next    uint64 // the next random number: always a fresh one
	crashes uint8  // that may still happen
	losses  uint8
	owed    bool // somebody has asked, and there has to be a tunnel
	wrong   bool // something has gone wrong
	ended   bool // somebody has ended something
}

// xside is a gateway with its daemon and its kernel.
type xside struct {
	p  peer // what the Gateway knows of the other one
	up bool // the process runs

	armed, dial      bool   // timer, dial under way
	tun              uint32 // wanted in the kernel
	tunConn          ConnID // its secret
	started, linked  bool
	agreed, since    bool // its addresses are known; it was up
	noStart, proving uint32
	asked, wanted    bool
	record           Record

	file     Entry // of a tunnel that was up, for the next process
	fileConn ConnID

	dev     uint32 // in the kernel
	devConn ConnID
	devUp   bool

	connects, disconnects uint8 // clicks that may still come
}

// xconn is a connection: q are the messages under way to an end, a nil one is
// the end of the stream.
type xconn struct {
	id   ConnID
	by   uint8 // who opened it
	open [2]bool
	dead bool    // nothing arrives any more
	cut  [2]bool // this end has still to notice
	q    [2][]*xmsg
}

// xmsg is a message and the number of its content.
type xmsg struct {
	*Message
	content uint32
}

type xkind uint8

const (
	xConnect xkind = iota
	xDisconnect
	xDialed
	xNoDial // the other process does not run
	xDeliver
	xNotice
	xStarted
	xNoStart
	xLinkUp
	xLinkDown
	xProven
	xRestart
	xTimeout
	xSilent
	// From here on they cost a loss or a crash.
	xCut
	xLoseDial
	xStartFails
	xBreak
	xEarly
	xKill
	xPower
)

var xNames = [...]string{"connect", "disconnect", "dial succeeds", "dial fails: the other is not running", "delivered", "notices the end of", "program runs", "secret is gone",
	"link up", "link down", "proven", "starts", "timeout", "closes what is not used:", "CUT", "DIAL LOST", "PROGRAM FAILS", "LINK BREAKS", "TIMEOUT, EARLY", "KILLED", "POWER CUT"}

// xmove is a step: which side, on which connection (index).
type xmove struct {
	kind xkind
	side uint8
	conn uint8
}

func (m xmove) environment() bool { return m.kind <= xDisconnect }
func (m xmove) fault() bool       { return m.kind >= xCut }

func (a *xstate) clone() *xstate {
	b := new(xstate)
	*b = *a
	b.conns = slices.Clone(a.conns)
	for i := range b.conns {
		for j, q := range b.conns[i].q {
			b.conns[i].q[j] = slices.Clip(q)
		}
	}
	return b
}

// moves lists what can happen. quiet tells whether nothing is under way.
func (a *xstate) moves(out []xmove) (moves []xmove, quiet bool) {
	out = out[:0]
	quiet = true
	add := func(k xkind, side, conn int) { out = append(out, xmove{k, uint8(side), uint8(conn)}) }
	for i := range a.s {
		s, o := &a.s[i], &a.s[1-i]
		n := len(out)
		if s.dial && o.up {
			add(xDialed, i, 0)
		}
		if s.dial && !o.up {
			add(xNoDial, i, 0)
		}
		if s.tun != 0 && !s.started {
			add(xStarted, i, 0)
		}
		if s.noStart != 0 {
			add(xNoStart, i, 0)
		}
		match := s.dev != 0 && s.dev == o.dev && s.devConn == o.devConn && s.devConn != 0
		if match && !s.devUp {
			add(xLinkUp, i, 0)
		}
		if s.devUp && !match {
			add(xLinkDown, i, 0)
		}
		if match && s.proving != 0 && s.proving == s.tun && s.devUp && o.devUp && o.linked {
			add(xProven, i, 0)
		}
		if !s.up {
			add(xRestart, i, 0)
		}
		quiet = quiet && n == len(out)
		if s.up && s.connects > 0 {
			add(xConnect, i, 0)
		}
		if s.up && s.disconnects > 0 {
			add(xDisconnect, i, 0)
		}
		if a.losses > 0 {
			if s.dial && o.up {
				add(xLoseDial, i, 0)
			}
			if s.tun != 0 && !s.started {
				add(xStartFails, i, 0)
			}
			if match && i == 0 {
				add(xBreak, i, 0)
			}
		}
		if a.crashes > 0 && s.up {
			add(xKill, i, 0)
			add(xPower, i, 0)
		}
	}
	for c := range a.conns {
		x := &a.conns[c]
		for i := range x.open {
			if x.open[i] && (len(x.q[i]) > 0 || x.cut[i]) {
				k := xDeliver
				if x.cut[i] {
					k = xNotice
				}
				add(k, i, c)
				quiet = false
			}
		}
		if a.losses > 0 && !x.dead {
			add(xCut, 0, c)
		}
	}
	for i := range a.s {
		s := &a.s[i]
		if s.armed && quiet {
			add(xTimeout, i, 0)
		} else if s.armed && a.losses > 0 {
			add(xEarly, i, 0)
		}
		for c := range a.conns {
			if x := &a.conns[c]; quiet && x.open[i] && int(x.by) != i && s.p.conn != x.id {
				add(xSilent, i, c)
			}
		}
	}
	return out, quiet
}

// xworld carries moves out. It holds the two gateways, whose peers are replaced
// by those of a state before each step.
type xworld struct {
	g       [2]*Gateway
	random  *uint64
	content map[string]uint32
	buf     []byte
	tell    func(format string, a ...any) // nil: silence
	bend    func(as []Action) []Action    // what a bug would do to the answers; nil: nothing
}

const xPeer = "peer"

var xKeys = [2]string{"alice", "bob"}

func newXWorld(three bool) *xworld {
	w := &xworld{content: map[string]uint32{}}
	for i, name := range xKeys {
		h := Home{Networks: pxList("192.168.1.0/24"), Pool: pxList("10.0.0.0/8"), Order: Sequential, Seed: key(name)}
		h.Gateway = h.Networks[0].Addr().Next()
		c := Config{Key: key(name), Domain: name, Protocols: []Protocol{L2TP}, PortBase: 17010, Ports: 4, Random: func() uint64 { *w.random++; return *w.random }}
		if three {
			xThree(&c)
		}
		w.g[i] = NewGateway(c, h)
	}
	return w
}

// start is the state before anything has happened.
func (w *xworld) start(connects, disconnects [2]uint8, crashes, losses uint8) *xstate {
	a := &xstate{crashes: crashes, losses: losses}
	for i := range a.s {
		a.s[i].connects, a.s[i].disconnects = connects[i], disconnects[i]
		w.boot(a, i)
	}
	return a
}

func (w *xworld) configured(a *xstate, i int) []Peer {
	o := xKeys[1-i]
	return []Peer{{Name: xPeer, Domain: o, Key: key(o), Protocols: []Protocol{L2TP}, Auto: a.s[i].wanted}}
}

// boot starts a process: peers, tunnels of the former process, tunnels wanted.
func (w *xworld) boot(a *xstate, i int) {
	s := &a.s[i]
	g := w.g[i]
	g.peers, g.order = map[string]*peer{}, nil
	w.random = &a.next
	s.up, s.p = true, peer{}
	records := map[string]Record{}
	if len(s.record.Own) > 0 {
		records[xPeer] = s.record
	}
	as := g.SetPeers(w.configured(a, i), records)
	w.save(a, i)
	w.act(a, i, as)
	if e := s.file; e.TunnelID != 0 && s.dev == e.TunnelID && s.devUp {
		s.tun, s.tunConn, s.started, s.linked, s.agreed, s.since = e.TunnelID, s.fileConn, true, true, true, true
		s.file = Entry{}
		w.load(a, i)
		as := g.Adopt(e)
		w.save(a, i)
		w.act(a, i, as)
	} else {
		s.dev, s.devConn, s.devUp = 0, 0, false
	}
	s.file, s.fileConn = Entry{}, 0
	if s.wanted && s.tun == 0 {
		w.handle(a, i, Connect{})
	}
}

func (w *xworld) load(a *xstate, i int) {
	p := a.s[i].p
	w.g[i].peers = map[string]*peer{xPeer: &p}
	w.g[i].order = xOrder
	w.random = &a.next
}

var xOrder = []string{xPeer}

// save takes the peer out of the gateway. What grows by append must not be
// shared by two states.
func (w *xworld) save(a *xstate, i int) {
	p := *w.g[i].peers[xPeer]
	p.offers, p.theirs, p.nets, p.avoid = slices.Clip(p.offers), slices.Clip(p.theirs), slices.Clip(p.nets), slices.Clip(p.avoid)
	p.text = ""
	a.s[i].p = p
}

func (w *xworld) handle(a *xstate, i int, ev Event) {
	w.load(a, i)
	as := w.g[i].Handle(xPeer, ev)
	w.save(a, i)
	if w.tell != nil {
		w.tell("  %s: %T → %v", xKeys[i], ev, a.s[i].p.state)
	}
	w.act(a, i, as)
}

func (a *xstate) conn(id ConnID) *xconn {
	for c := range a.conns {
		if a.conns[c].id == id {
			return &a.conns[c]
		}
	}
	return nil
}

func (w *xworld) act(a *xstate, i int, as []Action) {
	s := &a.s[i]
	if w.bend != nil {
		as = w.bend(as)
	}
	for _, x := range as {
		if w.tell != nil {
			if m, ok := x.(Send); ok {
				w.tell("      send on %d: %v talk %d id %d reason %v replaces %d", m.Conn, m.Msg.Type, m.Msg.Talk, m.Msg.TunnelID, m.Msg.Reason, m.Msg.Replaces)
			} else {
				w.tell("      %T %+v", x, x)
			}
		}
		switch x := x.(type) {
		case Dial:
			s.dial = true
		case Send:
			if c := a.conn(x.Conn); c != nil && c.open[i] && c.open[1-i] && !c.dead {
				c.q[1-i] = append(c.q[1-i], &xmsg{x.Msg, w.contentOf(x.Msg)})
			}
		case CloseConn:
			a.close(i, x.Conn)
		case SetTimer:
			s.armed = x.After > 0
		case StartServer:
			w.program(a, i, x.Entry, x.Conn)
		case StartClient:
			w.program(a, i, x.Entry, x.Conn)
		case StopTunnel:
			if s.tun == x.Entry.TunnelID {
				s.tun, s.tunConn, s.started, s.linked, s.agreed, s.since, s.proving = 0, 0, false, false, false, false, 0
			}
			if s.dev == x.Entry.TunnelID {
				s.dev, s.devConn, s.devUp = 0, 0, false
			}
		case Prove:
			s.proving = x.Entry.TunnelID
		case Save:
			s.record = x.Record
		case Progress:
			w.progressed(a, i, x)
		default:
			w.actMore(a, i, x)
		}
	}
}

func (w *xworld) program(a *xstate, i int, e Entry, id ConnID) {
	s := &a.s[i]
	if c := a.conn(id); c == nil || !c.open[i] {
		s.noStart = e.TunnelID
		return
	}
	s.tun, s.tunConn, s.started, s.linked, s.since, s.agreed = e.TunnelID, id, false, false, false, len(e.Own) > 0
}

func (w *xworld) progressed(a *xstate, i int, x Progress) {
	s := &a.s[i]
	switch x.Step {
	case StepUp:
		if s.tun != 0 {
			s.since = true
			if s.asked {
				s.asked, s.wanted, s.p.Auto = false, true, true
			}
		}
	case StepDown, StepFailed:
		s.dial = false
		if x.Retry == 0 {
			s.asked = false
		}
		if x.Reason == ReasonUser {
			s.wanted, s.p.Auto = false, false
		}
		if x.Reason == 0 {
			panic(fmt.Sprintf("%v without a reason", x.Step))
		}
	}
}
