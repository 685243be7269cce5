package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"time"

	"htip/src/control"
	"htip/src/datapath"
	"htip/src/dns"
	"htip/src/htip"
)

const (
	maxSteps  = 16               // of an attempt that are kept
	showSteps = 60 * time.Second // after its end, for who looks now and then
)

// Progress is a thing that happened to a peer's tunnel.
type Progress struct {
	Step   string
	Reason htip.Reason
	Text   string
	Retry  time.Duration
	Time   time.Time
	Took   time.Duration // since the attempt began

	began time.Time
}

// handle gives the protocol an event and does what it says.
func (d *Daemon) handle(peer string, ev htip.Event) { d.act(d.gw.Handle(peer, ev)) }

func (d *Daemon) act(actions []htip.Action) {
	for _, a := range actions {
		switch a := a.(type) {
		case htip.Dial:
			d.dial(a.Peer)
		case htip.Send:
			d.send(a)
		case htip.CloseConn:
			if c, ok := d.conns[a.Conn]; ok {
				c.Close()
				delete(d.conns, a.Conn)
			}
		case htip.SetTimer:
			d.setTimer(a)
		case htip.StartServer:
			d.startServer(a.Entry, a.Conn)
		case htip.StartClient:
			d.startTunnel(a.Entry, a.Conn)
		case htip.Agreed:
			if t := d.tunnels[a.Entry.Peer]; t != nil && t.Entry.TunnelID == a.Entry.TunnelID {
				t.Entry = a.Entry
				d.tunnelsChanged()
				peer := a.Entry.Peer
				go d.post(func() { d.linkUp(peer, t) }) // should its link have come first
			}
		case htip.StopTunnel:
			if t := d.tunnels[a.Entry.Peer]; t != nil && t.Entry.TunnelID == a.Entry.TunnelID {
				delete(d.tunnels, a.Entry.Peer)
				d.tunnelsChanged()
			}
		case htip.Prove:
			d.prove(a.Entry)
		case htip.Save:
			d.saveRecord(a.Peer, a.Record)
		case htip.Progress:
			d.progressed(a)
		}
	}
}

func (d *Daemon) send(a htip.Send) {
	c, ok := d.conns[a.Conn]
	if !ok {
		return // its end is on the way as an event
	}
	var err error
	if a.Msg.Type == htip.Request {
		err = d.showInvite(c, a.Msg)
	}
	if err == nil {
		err = c.Send(a.Msg)
	}
	if err != nil {
		d.log.Warn("message not sent", "peer", c.peer, "type", a.Msg.Type, "err", err)
		go d.post(func() { d.lost(c.peer, a.Conn, err) })
	}
}

func (d *Daemon) setTimer(a htip.SetTimer) {
	if t := d.timers[a.Peer]; t != nil {
		t.Stop()
		delete(d.timers, a.Peer)
	}
	if a.After > 0 {
		d.timers[a.Peer] = time.AfterFunc(a.After, func() {
			d.post(func() { d.handle(a.Peer, htip.Timeout{Seq: a.Seq}) })
		})
	}
}

// Servers that a peer may have started without a tunnel coming of it: some at
// once, then one in a while. Starting one is work for a router, and a REQUEST is
// none for a peer.
const (
	startBurst = 6
	startEvery = 10 * time.Second
)

// startServer is startTunnel for a peer that asked for it.
func (d *Daemon) startServer(e htip.Entry, conn htip.ConnID) {
	if !d.rate(e.Peer).starts.Take(control.Now(), startBurst, startEvery) {
		go d.post(func() {
			d.handle(e.Peer, htip.StartFailed{TunnelID: e.TunnelID, Text: "too many attempts within a short time; wait a minute"})
		})
		return
	}
	d.startTunnel(e, conn)
}

// startTunnel wants the VPN program of an agreement to run. Its secret comes
// from the TLS session in which it was agreed.
func (d *Daemon) startTunnel(e htip.Entry, conn htip.ConnID) {
	failed := func(err error) {
		d.log.Error("tunnel can't be started", "peer", e.Peer, "err", err)
		go d.post(func() { d.handle(e.Peer, htip.StartFailed{TunnelID: e.TunnelID, Text: err.Error()}) })
	}
	c, ok := d.conns[conn]
	if !ok {
		failed(errors.New("the control connection is gone"))
		return
	}
	n := 16
	switch e.Protocol {
	case htip.WireGuard:
		n = datapath.WireGuardSecret
	case htip.L2TPESP:
		n = datapath.ESPSecret
	}
	secret, err := c.Export(e.Protocol.String(), binary.BigEndian.AppendUint32(nil, e.TunnelID), n)
	if err != nil {
		failed(fmt.Errorf("deriving the tunnel's secret: %w", err))
		return
	}
	p := d.peer(e.Peer)
	if p == nil {
		failed(errors.New("the peer is no longer configured"))
		return
	}
	t := &tunnel{Entry: e, Key: p.Key[:], Local: c.Local(), Remote: c.Remote().Addr(), Secret: secret, MTU: d.cfg.Main.MTU, way: c.way}
	d.tunnels[e.Peer] = t
	d.tunnelsChanged()
}

// tunnelsChanged brings everything that follows from the table up to date.
func (d *Daemon) tunnelsChanged() {
	if err := d.saveTunnels(); err != nil {
		d.log.Error("table of tunnels not written: they can't be taken over after a crash", "err", err)
	}
	d.setNames()
	d.kick()
}

func (d *Daemon) saveTunnels() error {
	path := filepath.Join(d.opt.RunDir, tunnelsFile)
	if len(d.tunnels) > 0 {
		return writeTable(path, encodeTunnels(d.tunnels))
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

// setNames tells the names proxy who can be asked.
func (d *Daemon) setNames() {
	up := map[string]bool{}
	for _, s := range d.gw.Status() {
		up[s.Peer] = s.State == htip.Up
	}
	var peers []dns.Peer
	for _, p := range d.cfg.Peers {
		if !p.Enabled {
			continue
		}
		x := dns.Peer{Name: p.Name, Domain: p.Domain}
		if t := d.tunnels[p.Name]; t != nil && t.linked {
			x.Up, x.Device, x.Server, x.Substitutes = up[p.Name], device(p.Name), t.Entry.PeerGateway, htip.Substitutes(t.Entry.Theirs)
			for _, m := range t.Entry.Own {
				x.Own = append(x.Own, dns.Mapping(m))
			}
		}
		peers = append(peers, x)
	}
	if err := d.names.Set(peers); err != nil {
		d.log.Warn("names of a peer are not served", "err", err)
	}
}

// prove asks the peer's names proxy through the tunnel until it answers: then a
// packet has passed both ways. The first questions are given little time: the
// other end may have its addresses, and its proxy, a moment later than we.
func (d *Daemon) prove(e htip.Entry) {
	ctx, cancel := context.WithTimeout(d.ctx, htip.ProveLimit)
	d.tasks.Go(func() {
		defer cancel()
		var last error
		for limit := probeFirst; ctx.Err() == nil; limit = min(2*limit, probeLimit) {
			try, stop := context.WithTimeout(ctx, limit)
			err := d.names.Probe(try, e.Peer)
			stop()
			if err == nil {
				d.post(func() { d.handle(e.Peer, htip.Proven{TunnelID: e.TunnelID}) })
				return
			}
			last = err
			select {
			case <-time.After(probeInterval):
			case <-ctx.Done():
			}
		}
		d.log.Warn("no packet came back through the tunnel", "peer", e.Peer, "err", last)
	})
}

// progressed records a step and what follows from it outside the protocol.
func (d *Daemon) progressed(a htip.Progress) {
	switch a.Step {
	case htip.StepUp:
		if t := d.tunnels[a.Peer]; t != nil {
			if t.Since == 0 {
				t.Since = int64(uptime() / time.Second)
			}
			if d.asked[a.Peer] { // by a person: from now on it comes back by itself
				delete(d.asked, a.Peer)
				d.remember(a.Peer, func(st *homeState) { st.Wanted = true })
				d.gw.SetAuto(a.Peer, true)
			}
			if d.known(a.Peer).Invite != nil {
				d.remember(a.Peer, func(st *homeState) { st.Invite = nil })
			}
			d.rate(a.Peer).starts = 0
			delete(d.ended, a.Peer) // what our own user has ended stays so for names, until a person here connects
			d.tunnelsChanged()
		}
	case htip.StepReady:
		d.kick() // from now on its substitutes are guarded
	case htip.StepDown, htip.StepFailed:
		d.stopDial(a.Peer)
		if a.Retry == 0 {
			delete(d.asked, a.Peer)
		}
		if a.Reason.Invite() {
			d.remember(a.Peer, func(st *homeState) { st.Invite = nil })
		}
		if a.Retry == 0 && (a.Reason.Invite() || a.Reason == htip.ReasonRefused) { // they don't want it: it is not asked for again after a reboot
			d.forget(a.Peer)
		}
		if a.Reason == htip.ReasonUser { // ended at either end on purpose: neither by itself nor by a name does it come back
			d.forget(a.Peer)
			d.markEnded(a.Peer) // in memory only: a friend must not wear our flash out
		}
		// Another device has our key: a name must not take the tunnel back from
		// it. (Without a text it is the peer that replaces its own tunnel.)
		if a.Reason == htip.ReasonSuperseded && a.Text != "" {
			d.markEnded(a.Peer)
		}
		if known := fmt.Sprint(d.gw.Known()); known != d.guarded {
			d.guarded = known
			d.kick()
		}
	}
	d.publish(a.Peer, Progress{Step: a.Step.String(), Reason: a.Reason, Text: a.Text, Retry: a.Retry})
}

// publish shows a step to people: the log and whoever watches on ubus.
func (d *Daemon) publish(peer string, p Progress) {
	p.Time = time.Now()
	all := d.progress[peer]
	var last Progress
	if len(all) > 0 {
		last = all[len(all)-1]
	}
	p.began = last.began
	if p.began.IsZero() || p.Step == htip.StepConnecting.String() && last.Step != p.Step || p.Step == htip.StepRequest.String() && last.ended() {
		p.began = p.Time
	}
	p.Took = p.Time.Sub(p.began)
	if p.began == p.Time {
		all = nil
	} else if len(all) == maxSteps {
		all = slices.Delete(all, 1, 2) // the first one says how it began
	}
	d.progress[peer] = append(all, p)
	args := []any{"peer", peer, "step", p.Step}
	if p.Reason != 0 {
		args = append(args, "reason", p.Reason.String())
	}
	if p.Text != "" {
		args = append(args, "text", p.Text)
	}
	if p.Retry > 0 {
		args = append(args, "retry", p.Retry)
	}
	d.log.Info("tunnel", args...)
	d.notify(peer, p)
	if p.ended() {
		d.trimSoon()
	}
}

// trimSoon gives memory back a moment from now: handshakes and looks at the
// kernel leave garbage behind, and the router has better use for it.
func (d *Daemon) trimSoon() {
	if d.trim != nil {
		d.trim.Stop()
	}
	d.trim = time.AfterFunc(trimAfter, func() {
		trim()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		d.log.Debug("memory", "heap", m.HeapAlloc, "spans", m.HeapInuse, "stacks", m.StackInuse,
			"released", m.HeapReleased, "sys", m.Sys, "goroutines", runtime.NumGoroutine())
	})
}

// ended tells whether nothing more comes after this step.
func (p Progress) ended() bool {
	return p.Step == htip.StepUp.String() || p.Step == htip.StepDown.String() || p.Step == htip.StepFailed.String()
}
