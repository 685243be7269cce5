package sim

import (
	"net/netip"
	"slices"
	"time"

	"htip/src/htip"
)

// churn plans the next thing that a user or a fault does to a gateway.
func (n *node) churn() {
	w := n.w
	if w.quiet {
		return
	}
	e := w.after(w.users.Between(0, 2*w.sc.busy), evChurn)
	e.node = n
	w.q.push(e)
}

// churned does it.
func (n *node) churned() {
	w := n.w
	if w.quiet {
		return
	}
	n.churn()
	if !n.up || len(n.slots) == 0 {
		return
	}
	r := w.users
	s := pick(r, n.slots)
	if r.Chance(0.65) { // people
		switch {
		case s.gone:
		case r.Chance(0.6):
			n.connect(s)
			if o := s.node.owner(n.key); o != nil && s.node.up && r.Chance(0.1) {
				s.node.connect(o) // both at once
			}
		default:
			n.disconnect(s)
		}
		return
	}
	f := Fault(1) << r.Intn(len(faultNames))
	if !w.has(f) {
		return
	}
	switch f {
	case Cuts:
		if len(s.ends) > 0 {
			pick(r, s.ends).conn.breaks()
		}
	case Links:
		if s.dev != nil {
			w.Stats.Links++
			w.tracef(n, "LINK to %s breaks", s.peer.Name)
			s.dev.breaks()
		}
	case Crashes:
		n.killed()
		if r.Chance(0.1) && s.node.up { // both at once
			s.node.killed()
		}
	case Reboots:
		n.powerless()
	case Stops:
		n.stops()
	case Renumber:
		n.renumber()
	case Networks:
		n.network()
	case WAN:
		n.beside(s)
	case Peers:
		n.peer(s)
	}
}

// move gives the home other addresses, at once or while the process is down.
func (n *node) move(h htip.Home) {
	n.w.Stats.Moves++
	n.home = h
	n.homeChanged()
	if n.w.users.Chance(0.1) {
		n.killed()
	}
}

func (n *node) renumber() {
	h := n.home
	if n.w.users.Chance(0.3) { // only the gateway's own address
		h.Gateway = h.Gateway.Next()
		if h.Gateway.Next() == lastAddr(h.Networks[0]) || !h.Networks[0].Contains(h.Gateway.Next()) {
			h.Gateway = gatewayOf(h.Networks)
		}
	} else {
		st := n.w.sc.style
		if st.kind == same {
			st.kind = usual
		}
		h.Networks = st.networks(n.w.users)
		h.Gateway = gatewayOf(h.Networks)
		h.Occupied = occupyAgain(h)
	}
	if n.w.users.Chance(0.2) { // while nobody looks
		n.killed()
	}
	if n.up {
		n.move(h)
	} else {
		n.home = h
	}
}

func lastAddr(p netip.Prefix) netip.Addr {
	a := p.Addr().As4()
	for i := p.Bits(); i < 32; i++ {
		a[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(a)
}

// occupyAgain leaves out what lies within the networks.
func occupyAgain(h htip.Home) []netip.Prefix {
	old := h.Occupied
	h.Occupied = nil
	for _, p := range old {
		h.Occupied = occupy(h, p)
	}
	return h.Occupied
}

// network adds a network or takes one away.
func (n *node) network() {
	h := n.home
	r := n.w.users
	if len(h.Networks) > 1 && r.Chance(0.5) {
		h.Networks = slices.Delete(slices.Clone(h.Networks), 1, 2)
	} else if x := pick(r, rooms); !overlapsAny(x, h.Networks) && len(h.Networks) < htip.MaxNetworks {
		h.Networks = append(slices.Clone(h.Networks), x)
		h.Occupied = occupyAgain(h)
	}
	n.move(h)
}

// beside connects something that overlaps a substitute, or what homes use, or
// takes it away.
func (n *node) beside(s *slot) {
	h := n.home
	r := n.w.users
	if len(h.Occupied) > 0 && r.Chance(0.5) {
		h.Occupied = slices.Delete(slices.Clone(h.Occupied), 0, 1)
	} else {
		p := pick(r, beside)
		if e := &s.seen.entry; len(e.Theirs) > 0 && r.Chance(0.7) {
			p = pick(r, append(htip.Substitutes(e.Theirs), htip.Substitutes(e.Own)...))
			if r.Chance(0.3) && p.Bits() > 17 {
				p, _ = p.Addr().Prefix(p.Bits() - 1)
			}
		}
		h.Occupied = occupy(h, p)
	}
	n.move(h)
}

// peer removes a peer, adds it again, or allows it other protocols.
func (n *node) peer(s *slot) {
	r := n.w.users
	n.w.Stats.Peers++
	switch {
	case s.gone:
		s.gone = false
		n.order = append(n.order, s)
		n.byName[s.peer.Name] = s
	case s.strange || r.Chance(0.2):
		s.strange = !s.strange
	case r.Chance(0.5):
		s.gone = true
		n.order = slices.DeleteFunc(slices.Clone(n.order), func(x *slot) bool { return x == s })
	case r.Chance(0.5):
		if s.peer.Protocols = []htip.Protocol{htip.L2TP}; r.Chance(0.5) {
			s.peer.Protocols = []htip.Protocol{htip.WireGuard}
		}
	default:
		s.peer.Auto = !s.peer.Auto
	}
	n.reload()
}

// reload takes a changed list of peers over.
func (n *node) reload() {
	n.setPeers()
	if n.up {
		n.check(nil)
		n.connectWanted()
	}
}

// heal ends all that was left standing wrong on purpose.
func (n *node) heal() {
	for _, s := range n.slots {
		s.peer.Protocols, s.strange = []htip.Protocol{htip.L2TP}, false
		if s.gone {
			s.gone = false
			n.order = append(n.order, s)
		}
	}
	if n.up {
		n.reload()
	}
}

// quieten ends all faults.
func (w *World) quieten() {
	w.quiet = true
	for _, n := range w.nodes {
		if n.twin != nil {
			n.ends(false)
			n.clean()
		}
	}
	for _, n := range w.nodes {
		if n.twin == nil {
			n.heal()
			if !n.up {
				n.boots(w.life.Between(0, time.Second))
			}
		}
	}
}
