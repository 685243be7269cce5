package sim

import (
	"net/netip"
	"slices"
	"time"

	"htip/src/htip"
)

type connID = htip.ConnID

// node is one gateway: the process that runs, or does not, the files it keeps
// and its kernel. What it does is what src/daemon does.
type node struct {
	w        *World
	id       int
	name     string
	key      []byte
	domain   string
	rand     *Rand // the gateway's own random numbers
	home     htip.Home
	seenHome htip.Home  // what the gateway was last told
	wan      netip.Addr // private address on the Internet side; zero: a public one
	three    bool       // talks of three messages are possible
	liar     bool       // sends what it should not
	twin     *node      // this is a second gateway with that one's key

	slots  []*slot // everybody ever known
	order  []*slot // those configured now, as configured
	byName map[string]*slot
	byKey  map[string]*slot

	// The process. boot tells one from the next.
	up       bool
	boot     uint32
	gw       Gateway
	byConn   map[connID]*end
	lastConn connID
	dials    uint64
	applying bool
	dirty    bool
	leaving  *end // about to be forgotten

	lastWrite func() // undoes the last write to flash
	writtenAt time.Duration

	timed *slot         // of whose events the gateway's own time is taken
	busy  time.Duration // that time

	homeAt  time.Duration // when the addresses last changed
	peersAt time.Duration // when the peers last changed
}

// slot is what a node has to do with one peer.
type slot struct {
	peer htip.Peer
	at   *node // whose
	node *node // whom the domain name leads to
	gone bool  // not configured now
	// Another home's key stands in the configuration under this name.
	strange bool

	// In the process.
	timer  uint32
	timing bool // the timer runs
	dial   uint64
	ends   []*end
	tun    *tunnel
	asked  bool
	ended  bool
	told   bool   // a user at the other end has ended it
	wait   uint64 // who waits for the tunnel, 0: nobody
	waits  uint64

	sent, naks int    // messages of talks sent in this step; of these, those that make another round
	noStart    uint32 // the tunnel of which StartFailed is on its way

	// On flash.
	record htip.Record
	wanted bool

	file *tunnel // in RAM, outlives the process
	dev  *device // in the kernel, outlives it, too

	seen    seen
	agreed  htip.Record // what the checker remembers of the last tunnel
	mirrors []*slot     // what may be the other end of a tunnel
}

func (n *node) addSlot(to *node, domain string, auto bool) {
	s := &slot{at: n, node: to, peer: htip.Peer{Name: to.name, Domain: domain, Key: to.key, Protocols: []htip.Protocol{htip.L2TP}, Auto: auto}}
	n.slots = append(n.slots, s)
	n.order = append(n.order, s)
	n.byName[to.name] = s
	n.byKey[string(to.key)] = s
}

// owner is the slot of the peer with a key, nil when there is none.
func (n *node) owner(key []byte) *slot {
	if s := n.byKey[string(key)]; s != nil && !s.gone && !s.strange {
		return s
	}
	return nil
}

// handle gives the gateway an event of a peer and does what it says.
func (n *node) handle(s *slot, ev htip.Event) {
	n.w.Stats.Steps++
	tracing := n.w.opt.Trace != nil
	if tracing {
		n.w.traceEvent(n, s, ev)
	}
	s.sent, s.naks = 0, 0
	var start time.Time
	if s == n.timed {
		start = time.Now()
	}
	as := n.gw.Handle(s.peer.Name, ev)
	if s == n.timed {
		n.busy += time.Since(start)
	}
	n.act(as, s)
	n.check(s)
}

// act carries actions out. A process may die between any two of them.
func (n *node) act(as []htip.Action, about *slot) {
	w := n.w
	if w.opt.Bend != nil {
		as = w.opt.Bend(n.id, as)
	}
	if len(as) > 0 && w.gone(Halfway, 0.002) {
		as = as[:w.net.Intn(len(as)+1)]
		defer n.killed()
	}
	for _, a := range as {
		if w.opt.Trace != nil {
			w.traceAction(n, about, a)
		}
		switch a := a.(type) {
		case htip.Dial:
			n.dialOut(n.byName[a.Peer])
		case htip.Send:
			if e := n.byConn[a.Conn]; e != nil {
				e.send(a.Msg)
			}
		case htip.CloseConn:
			if e := n.byConn[a.Conn]; e != nil {
				e.close()
			}
		case htip.SetTimer:
			s := n.byName[a.Peer]
			s.timer, s.timing = a.Seq, a.After > 0
			if s.timing {
				e := w.after(a.After, evTimer)
				e.node, e.boot, e.slot, e.n = n, n.boot, s, uint64(a.Seq)
				w.q.push(e)
			}
		case htip.StartServer:
			n.startTunnel(a.Entry, a.Conn)
		case htip.StartClient:
			n.startTunnel(a.Entry, a.Conn)
		case htip.Agreed:
			if s := n.byName[a.Entry.Peer]; s.tun != nil && s.tun.entry.TunnelID == a.Entry.TunnelID {
				n.agreed(s.tun, a.Entry)
			}
		case htip.StopTunnel:
			if s := n.byName[a.Entry.Peer]; s.tun != nil && s.tun.entry.TunnelID == a.Entry.TunnelID {
				s.tun = nil
				n.tunnelsChanged()
			}
		case htip.Prove:
			if s := n.byName[a.Entry.Peer]; s.dev != nil {
				n.probeSoon(s, w.now+htip.ProveLimit)
			}
		case htip.Save:
			s := n.byName[a.Peer]
			s.seen.freed = n.w.now // what it had before is no longer kept for it
			n.write(s, func() { s.record = a.Record })
		case htip.Progress:
			n.progressed(n.byName[a.Peer], a)
		}
	}
}

func (n *node) timeout(s *slot, seq uint32) {
	if s.timing && s.timer == seq {
		s.timing = false
		n.handle(s, htip.Timeout{Seq: seq})
	}
}

// progressed is what follows from a step outside the protocol.
func (n *node) progressed(s *slot, a htip.Progress) {
	switch a.Step {
	case htip.StepUp:
		if s.tun != nil {
			s.tun.since = true
			if s.asked {
				s.asked = false
				n.want(s, true)
				n.gw.SetAuto(s.peer.Name, true)
			}
			s.ended = false
			n.tunnelsChanged()
		}
		s.wait, s.told = 0, false
	case htip.StepDown, htip.StepFailed:
		s.dial = 0
		if a.Retry == 0 {
			s.asked = false
		}
		if a.Reason == htip.ReasonUser {
			n.forget(s)
			s.told = true
		}
		if a.Reason == htip.ReasonSuperseded && n.w.sc.faults&SameKey != 0 {
			s.told = true // by another device with this one's key: a person has to do something
		}
		n.w.progress(n, s, a)
		s.wait = 0
	}
}

func (n *node) want(s *slot, on bool) {
	if s.wanted != on {
		n.write(s, func() { s.wanted = on })
	}
}

func (n *node) forget(s *slot) {
	n.want(s, false)
	n.gw.SetAuto(s.peer.Name, s.peer.Auto)
}

// write changes what is kept on flash. The power may go before it is there.
func (n *node) write(s *slot, change func()) {
	record, wanted := s.record, s.wanted
	agreed := s.agreed
	n.lastWrite = func() { s.record, s.wanted, s.agreed = record, wanted, agreed }
	n.writtenAt = n.w.now
	change()
	n.w.Stats.Writes++
}

// connect is what a user's click does.
func (n *node) connect(s *slot) {
	if s.peer.Domain == "" {
		return
	}
	s.ended, s.told = false, false
	if s.seen.state == htip.Up {
		n.want(s, true)
		n.gw.SetAuto(s.peer.Name, true)
	} else {
		s.asked = true
	}
	n.waitFor(s)
	n.handle(s, htip.Connect{})
}

// disconnect is what the other click does.
func (n *node) disconnect(s *slot) {
	s.ended, s.asked = true, false
	n.forget(s)
	n.handle(s, htip.Disconnect{Reason: htip.ReasonUser})
}

// setPeers tells the gateway who is configured.
func (n *node) setPeers() {
	records := map[string]htip.Record{}
	var peers []htip.Peer
	for _, s := range n.order {
		p := s.peer
		p.Auto = p.Auto || s.wanted
		if s.strange {
			p.Key = make([]byte, 32)
			p.Key[0] = 1
		} else if len(s.record.Own) > 0 {
			records[p.Name] = s.record
		}
		peers = append(peers, p)
	}
	n.peersAt = n.w.now
	n.w.tracef(n, "SetPeers %d", len(peers))
	n.act(n.gw.SetPeers(peers, records), nil)
	for _, s := range n.slots {
		if s.gone {
			s.dial, s.asked, s.ended, s.wait, s.timing = 0, false, false, 0, false
		}
		for (s.gone || s.strange) && len(s.ends) > 0 { // whose they are is no peer any more
			s.ends[0].close()
		}
	}
}

// elsewhere are private addresses on the Internet side that no tunnel may take
// over: other gateways behind the same carrier's NAT.
func (n *node) occupied() htip.Home {
	h := n.home
	if !n.w.sc.cgnat {
		return h
	}
	for _, s := range n.slots {
		if s.tun != nil || len(s.ends) > 0 {
			h.Occupied = occupy(h, netip.PrefixFrom(s.node.wan, 32))
		}
	}
	slices.SortFunc(h.Occupied, func(a, b netip.Prefix) int { return a.Addr().Compare(b.Addr()) })
	return h
}

// homeChanged looks at the own addresses again.
func (n *node) homeChanged() {
	h := n.occupied()
	if slices.Equal(h.Networks, n.seenHome.Networks) && h.Gateway == n.seenHome.Gateway && slices.Equal(h.Occupied, n.seenHome.Occupied) {
		return
	}
	n.seenHome = h
	n.homeAt = n.w.now
	n.w.tracef(n, "SetHome %v, gateway %v, besides %v", h.Networks, h.Gateway, h.Occupied)
	n.act(n.gw.SetHome(h), nil)
	n.check(nil)
	n.kick()
}

func wanAddress(id int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 111, byte(id >> 8), byte(id)})
}
