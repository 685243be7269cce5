package sim

import (
	"slices"
	"time"

	"htip/src/htip"
)

// boots starts the gateway after a while.
func (n *node) boots(after time.Duration) {
	e := n.w.after(after, evBoot)
	e.node = n
	n.w.q.push(e)
}

// start is the daemon's start: protocol, peers, tunnels of a former process,
// tunnels that are wanted.
func (n *node) start() {
	w := n.w
	if n.up || n.twin != nil && w.quiet {
		return
	}
	n.boot++
	n.up, n.lastConn, n.applying, n.dirty = true, 0, false, false
	n.homeAt = w.now
	for _, s := range n.slots {
		s.timing, s.dial, s.ends, s.tun, s.asked, s.ended, s.wait, s.seen = false, 0, nil, nil, false, false, 0, seen{}
	}
	clear(n.byConn)
	w.tracef(n, "STARTS with %v, gateway %v, besides %v", n.home.Networks, n.home.Gateway, n.home.Occupied)
	n.seenHome = n.home
	c := htip.Config{Key: n.key, Domain: n.domain, Protocols: []htip.Protocol{htip.L2TP}, PortBase: 17010, Ports: w.sc.ports, Random: n.rand.Uint64}
	if n.three {
		c.ThreeMessages, c.EarlyServers = true, c.Protocols
	}
	g := Gateway(htip.NewGateway(c, n.home))
	if w.opt.Wrap != nil {
		g = w.opt.Wrap(n.id, g)
	}
	n.gw = g
	n.setPeers()
	n.adopt()
	boot := n.boot
	if n.up {
		n.check(nil)
		n.kick()
	}
	if n.boot == boot {
		n.connectWanted()
	}
}

// connectWanted starts the tunnels that shall be up without being asked.
func (n *node) connectWanted() {
	boot := n.boot
	for _, s := range slices.Clone(n.order) {
		if n.boot != boot {
			return
		}
		if s.peer.Domain != "" && (s.peer.Auto || s.wanted) && s.tun == nil && !s.ended {
			s.told = false
			n.waitFor(s)
			n.handle(s, htip.Connect{})
		}
	}
}

// adopt takes over the tunnels of a former process that the kernel says are up.
func (n *node) adopt() {
	var left []*tunnel
	for _, s := range n.slots {
		if t := s.file; t != nil && t.since && !s.gone && !s.strange && allowed(s, t.entry.Protocol) {
			left = append(left, t)
		}
	}
	shuffle(n.w.life, left)
	for _, s := range n.slots { // the kernel is brought in line: what is not to be taken over ends
		keep := false
		for _, t := range left {
			keep = keep || t.slot == s && s.dev != nil && s.dev.entry.TunnelID == t.entry.TunnelID && s.dev.secret == t.secret
		}
		if s.dev != nil && !keep {
			s.dev.remove()
		}
		s.file = nil
	}
	for _, t := range left {
		s := t.slot
		if s.dev == nil || !s.dev.up || !n.up {
			continue
		}
		t = &tunnel{slot: s, entry: t.entry, secret: t.secret, since: true, started: true, link: true, linked: true}
		s.tun, s.file = t, t
		n.w.Stats.Adopted++
		n.w.tracef(n, "adopts %08x with %s", t.entry.TunnelID, s.peer.Name)
		n.act(n.gw.Adopt(t.entry), s)
	}
}

func allowed(s *slot, p htip.Protocol) bool {
	for _, x := range s.peer.Protocols {
		if x == p {
			return true
		}
	}
	return false
}

// ends is what every end of a process has in common; late says that the peers
// are not told of the connections' end.
func (n *node) ends(late bool) {
	for _, s := range n.slots {
		for _, e := range s.ends {
			e.open = false
			o := e.other()
			if late {
				e.conn.cut = true
				o.noticeLate()
			} else {
				x := n.w.after(n.w.delay(), evClosed)
				x.at = max(x.at, o.last)
				x.node, x.boot, x.end = o.node, o.boot, o
				n.w.q.push(x)
			}
		}
		s.ends = nil
	}
	clear(n.byConn)
	n.up = false
	n.boot++
}

// killed is kill -9: files and programs stay. What the applier was about to do
// is done or not.
func (n *node) killed() {
	if !n.up {
		return
	}
	n.w.Stats.Crashes++
	n.w.tracef(n, "KILLED")
	if n.applying && n.w.life.Chance(0.5) {
		var wish []*tunnel
		for _, s := range n.order {
			if s.tun != nil {
				wish = append(wish, s.tun)
			}
		}
		n.install(wish)
	}
	n.ends(false)
	n.afterDeath()
}

// powerless is a power cut: programs and what is in RAM are gone, and perhaps
// the last write to flash.
func (n *node) powerless() {
	if !n.up {
		return
	}
	n.w.Stats.Crashes++
	n.w.tracef(n, "POWER CUT")
	if n.lastWrite != nil && n.w.now-n.writtenAt < 5*time.Second && n.w.life.Chance(0.5) {
		n.w.tracef(n, "the last write is lost")
		n.lastWrite()
	}
	n.lastWrite = nil
	n.ends(true)
	n.clean()
	n.afterDeath()
}

// stops is a proper stop.
func (n *node) stops() {
	if !n.up {
		return
	}
	n.w.tracef(n, "STOPPED")
	boot := n.boot
	for _, s := range n.order {
		n.handle(s, htip.Disconnect{Reason: htip.ReasonShutdown})
		if n.boot != boot {
			return
		}
	}
	n.ends(false)
	n.clean()
	n.afterDeath()
}

// clean removes what the process and the kernel had of tunnels.
func (n *node) clean() {
	for _, s := range n.slots {
		s.file = nil
		if s.dev != nil {
			s.dev.remove()
		}
	}
}

func (n *node) afterDeath() {
	d := n.w.life.Between(200*time.Millisecond, 20*time.Second)
	if n.w.life.Chance(0.2) {
		d = n.w.life.Between(20*time.Second, 200*time.Second)
	}
	if n.w.quiet {
		d = time.Second
	}
	n.boots(d)
	for _, s := range n.slots {
		s.tun, s.timing, s.seen = nil, false, seen{}
	}
}
