package sim

import (
	"time"

	"htip/src/htip"
)

// tunnel is what the process wants to run for an agreement.
type tunnel struct {
	slot   *slot
	entry  htip.Entry
	secret *conn // the session that its secret comes from
	since  bool  // it was up

	started bool // its programs run
	link    bool // its device is up
	linked  bool // and the protocol knows
}

// device is the VPN program and the device of a tunnel in the kernel.
type device struct {
	node   *node
	slot   *slot
	entry  htip.Entry
	secret *conn
	peer   *device // at the other end of the link, nil: no link
	up     bool
}

// startTunnel wants the VPN program of an agreement to run.
func (n *node) startTunnel(e htip.Entry, id connID) {
	s := n.byName[e.Peer]
	end := n.byConn[id]
	if end == nil { // its secret is gone with it
		s.noStart = e.TunnelID
		x := n.w.after(0, evNoStart)
		x.node, x.boot, x.slot, x.n = n, n.boot, s, uint64(e.TunnelID)
		n.w.q.push(x)
		return
	}
	s.tun = &tunnel{slot: s, entry: e, secret: end.conn}
	n.tunnelsChanged()
}

func (n *node) noStart(s *slot, id uint32) {
	n.handle(s, htip.StartFailed{TunnelID: id, Text: "the control connection is gone"})
}

// tunnelsChanged writes the table and asks for the kernel to follow.
func (n *node) tunnelsChanged() {
	for _, s := range n.slots {
		s.file = nil
		if s.tun != nil {
			s.file = s.tun
		}
	}
	n.kick()
}

func (n *node) kick() {
	n.dirty = true
	if !n.applying {
		n.applying = true
		e := n.w.after(time.Millisecond, evApply)
		e.node, e.boot = n, n.boot
		n.w.q.push(e)
	}
}

// apply begins to bring the kernel in line with what is wanted now.
func (n *node) apply() {
	n.dirty = false
	e := n.w.after(n.w.programTime(), evApplied)
	e.node, e.boot = n, n.boot
	for _, s := range n.order {
		if s.tun != nil {
			e.wish = append(e.wish, s.tun)
		}
	}
	n.w.q.push(e)
}

func (w *World) programTime() time.Duration {
	if w.gone(Slow, 0.05) {
		return w.net.Between(time.Second, 28*time.Second)
	}
	return w.net.Between(30*time.Millisecond, 800*time.Millisecond)
}

// install makes the kernel what is wished, and says what failed.
func (n *node) install(wish []*tunnel) (failed map[*tunnel]bool) {
	w := n.w
	for _, s := range n.slots {
		if s.dev == nil {
			continue
		}
		keep := false
		for _, t := range wish {
			keep = keep || t.slot == s && t.entry.TunnelID == s.dev.entry.TunnelID && t.secret == s.dev.secret
		}
		if !keep {
			s.dev.remove()
		}
	}
	for _, t := range wish {
		switch {
		case t.slot.dev != nil:
		case w.gone(Programs, 0.1):
			if failed == nil {
				failed = map[*tunnel]bool{}
			}
			failed[t] = true
		default:
			t.slot.dev = &device{node: n, slot: t.slot, entry: t.entry, secret: t.secret}
			n.checkDevices(t.slot)
			t.slot.dev.meet()
		}
	}
	return failed
}

// applied tells the protocol what became of a wish.
func (n *node) applied(wish []*tunnel) {
	failed := n.install(wish)
	for _, t := range wish {
		s := t.slot
		switch {
		case s.tun != t:
		case failed[t] && !t.started:
			n.handle(s, htip.StartFailed{TunnelID: t.entry.TunnelID, Text: "the program ended"})
		case !t.started && s.dev != nil:
			t.started, t.link = true, s.dev.up
			n.handle(s, htip.Started{TunnelID: t.entry.TunnelID})
			if n.up {
				n.linkUp(t)
			}
		}
		if !n.up {
			return
		}
	}
	if n.applying = false; n.dirty {
		n.kick()
	}
}

// agreed completes the entry of a server that listens already. What the
// protocol says of its link has to wait until its answer is carried out.
func (n *node) agreed(t *tunnel, e htip.Entry) {
	t.entry = e
	if d := t.slot.dev; d != nil && d.entry.TunnelID == e.TunnelID {
		d.entry = e
	}
	if t.link {
		t.slot.dev.schedule(true, 0)
	}
}

// linkUp tells the protocol of a link that is up, once its addresses are known.
func (n *node) linkUp(t *tunnel) {
	if t.started && t.link && !t.linked && t.slot.tun == t && len(t.entry.Own) > 0 {
		t.linked = true
		n.handle(t.slot, htip.LinkUp{TunnelID: t.entry.TunnelID})
	}
}

// meet looks for the device at the other end: when both run with the secret and
// ID of the same agreement, the link comes up.
func (d *device) meet() {
	w := d.node.w
	for _, n := range w.byKey[string(d.slot.peer.Key)] {
		s := n.owner(d.node.key)
		if s == nil || s.dev == nil || s.dev.peer != nil || s.dev.secret != d.secret || s.dev.entry.TunnelID != d.entry.TunnelID {
			continue
		}
		o := s.dev
		d.peer, o.peer = o, d
		took := w.programTime()
		for _, x := range []*device{d, o} {
			x.schedule(true, took+w.net.Between(0, 300*time.Millisecond))
		}
	}
}

func (d *device) schedule(up bool, after time.Duration) {
	e := d.node.w.after(after, evLink)
	e.node, e.dev, e.up = d.node, d, up
	d.node.w.q.push(e)
}

// remove ends the program; the other end's echoes find out.
func (d *device) remove() {
	d.up, d.slot.dev = false, nil
	d.part()
}

// breaks ends the link: both ends find out, neither heals it.
func (d *device) breaks() {
	d.schedule(false, d.node.w.net.Between(0, 9*time.Second))
	d.part()
}

func (d *device) part() {
	if o := d.peer; o != nil {
		d.peer, o.peer = nil, nil
		if o.slot.dev == o {
			o.schedule(false, o.node.w.net.Between(0, 9*time.Second))
		}
	}
}

// changed is what the kernel says of a device.
func (d *device) changed(up bool) {
	if d.slot.dev != d || up && d.peer == nil || up == d.up && (!up || d.slot.tun == nil || d.slot.tun.linked) {
		return
	}
	d.up = up
	n, t := d.node, d.slot.tun
	n.w.tracef(n, "device to %s up %v", d.slot.peer.Name, up)
	if !n.up || t == nil || !t.started || t.entry.TunnelID != d.entry.TunnelID {
		return
	}
	if up {
		t.link = true
		n.linkUp(t)
	} else if t.link {
		t.link = false
		n.handle(d.slot, htip.LinkDown{TunnelID: t.entry.TunnelID, Text: "no echo"})
	}
}

func (n *node) probeSoon(s *slot, until time.Duration) {
	d := n.w.net.Between(10*time.Millisecond, 300*time.Millisecond)
	if n.w.gone(Probes, 0.3) {
		d = n.w.net.Between(time.Second, 17*time.Second)
	}
	e := n.w.after(d, evProbe)
	e.node, e.boot, e.slot, e.dev, e.n = n, n.boot, s, s.dev, uint64(until)
	n.w.q.push(e)
}

// probe asks the other end's names proxy through the tunnel: it answers when it
// knows of the link, too.
func (n *node) probe(s *slot, d *device, until time.Duration) {
	t := s.tun
	if s.dev != d || t == nil || t.entry.TunnelID != d.entry.TunnelID || n.w.now > until {
		return
	}
	if o := d.peer; o != nil && d.up && o.up && o.slot.tun != nil && o.slot.tun.linked && o.node.up {
		n.handle(s, htip.Proven{TunnelID: t.entry.TunnelID})
		return
	}
	n.probeSoon(s, until)
}
