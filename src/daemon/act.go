package daemon

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
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

// Progress is the last thing that happened to a peer's tunnel.
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
			d.remember(a.Peer, func(st *homeState) { st.Record = a.Record })
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
	if err := c.Send(a.Msg); err != nil {
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

// dial looks the peer's name up anew and connects to the first of its
// addresses that answers with the right key. A newer dial replaces an older.
func (d *Daemon) dial(peer string) {
	p := d.peer(peer)
	if p == nil {
		return
	}
	d.stopDial(peer)
	ctx, cancel := context.WithTimeout(d.ctx, htip.DialLimit)
	this := &dialing{cancel}
	d.dials[peer] = this
	domain, port, key := p.Domain, p.Port, p.Key
	quiet := d.tunnels[peer] != nil // only the control connection is renewed
	d.tasks.Go(func() {
		c, err := d.connect(ctx, domain, port, key[:], func(text string) {
			if !quiet {
				d.post(func() {
					if d.dials[peer] == this {
						d.publish(peer, Progress{Step: htip.StepConnecting.String(), Text: text})
					}
				})
			}
		})
		defer cancel()
		if !d.post(func() {
			if d.dials[peer] != this { // nobody waits for it any more
				if c != nil {
					c.Close()
				}
				return
			}
			delete(d.dials, peer)
			if err != nil {
				d.handle(peer, failed(domain, err))
				return
			}
			id := d.newConn(peer, c)
			d.handle(peer, htip.Opened{Conn: id})
			if d.gw.Conn(peer) != id {
				d.act([]htip.Action{htip.CloseConn{Conn: id}})
			}
		}) && c != nil {
			c.Close()
		}
	})
}

// dialing is a dial under way; its address tells it from an older one.
type dialing struct{ cancel context.CancelFunc }

func (d *Daemon) stopDial(peer string) {
	if x := d.dials[peer]; x != nil {
		x.cancel()
		delete(d.dials, peer)
	}
}

func (d *Daemon) connect(ctx context.Context, domain string, port uint16, key []byte, tell func(string)) (*control.Conn, error) {
	tell("looking up " + domain)
	addrs, err := d.names.Resolve(ctx, domain)
	if err != nil {
		return nil, &resolveError{err}
	}
	for _, a := range addrs {
		at := netip.AddrPortFrom(a, port)
		tell("connecting to " + at.String())
		c, e := control.Dial(ctx, d.id, at, key)
		if e == nil {
			return c, nil
		}
		if e = fmt.Errorf("%v: %w", at, e); err != nil {
			e = fmt.Errorf("%w; %w", err, e)
		}
		err = e
	}
	return nil, err
}

type resolveError struct{ err error }

func (e *resolveError) Error() string { return e.err.Error() }
func (e *resolveError) Unwrap() error { return e.err }

// failed says in words what a failed dial means to the person who waits.
func failed(domain string, err error) htip.DialFailed {
	var wrong *control.WrongKeyError
	var resolve *resolveError
	switch {
	case errors.As(err, &wrong):
		return htip.DialFailed{Reason: htip.ReasonUnauthorized, Text: fmt.Sprintf("%s: %v; not the key configured for this peer. If the other router was replaced, ask its owner for the new key (htip key)", domain, wrong)}
	case errors.As(err, &resolve):
		return htip.DialFailed{Reason: htip.ReasonUnreachable, Text: fmt.Sprintf("the name %s can't be found: %v. Is it spelled right, and is the other home's dynamic DNS up to date?", domain, err)}
	}
	return htip.DialFailed{Reason: htip.ReasonUnreachable, Text: fmt.Sprintf("%s does not answer: %v. Is HTIP running there, and its port open?", domain, err)}
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
	now := time.Now()
	from := d.starts[e.Peer] // when the burst would be whole again
	if from.Before(now) {
		from = now
	}
	if from = from.Add(startEvery); from.Sub(now) > startBurst*startEvery {
		go d.post(func() {
			d.handle(e.Peer, htip.StartFailed{TunnelID: e.TunnelID, Text: "too many attempts within a short time; wait a minute"})
		})
		return
	}
	d.starts[e.Peer] = from
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
	if e.Protocol == htip.WireGuard {
		n = datapath.WireGuardSecret
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
	t := &tunnel{Entry: e, Key: p.Key[:], Remote: c.Remote().Addr(), Secret: secret, MTU: d.cfg.Main.MTU}
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

// remember changes what is kept of a peer, and writes it only when it differs.
func (d *Daemon) remember(peer string, change func(*homeState)) {
	p := d.peer(peer)
	if p == nil {
		return
	}
	old := d.state[peer]
	st := old
	if !slices.Equal(st.Key, p.Key[:]) {
		st = homeState{Key: p.Key[:]}
	}
	change(&st)
	if st.Wanted == old.Wanted && st.Ended == old.Ended && st.Record.Equal(old.Record) && slices.Equal(st.Key, old.Key) {
		return
	}
	d.state[peer] = st
	if err := writeTable(filepath.Join(d.opt.StateDir, stateFile), encodeState(d.state)); err != nil {
		d.log.Error("what we know of a home is not saved", "peer", peer, "err", err)
	}
}

// progressed records a step and what follows from it outside the protocol.
func (d *Daemon) progressed(a htip.Progress) {
	switch a.Step {
	case htip.StepUp:
		if t := d.tunnels[a.Peer]; t != nil {
			if t.Since == 0 {
				t.Since = time.Now().Unix()
			}
			if d.asked[a.Peer] { // by a person: from now on it comes back by itself
				delete(d.asked, a.Peer)
				d.remember(a.Peer, func(st *homeState) { st.Wanted = true })
				d.gw.SetAuto(a.Peer, true)
			}
			delete(d.starts, a.Peer)
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

// isEnded tells whether a user of either home has ended the tunnel for now.
func (d *Daemon) isEnded(peer string) bool { return d.endedNow(peer) || d.known(peer).Ended }

// endedNow is isEnded as far as this process remembers.
func (d *Daemon) endedNow(peer string) bool {
	key, ok := d.ended[peer]
	p := d.peer(peer)
	return ok && p != nil && p.Key == key // another home under an old name is another home
}

func (d *Daemon) markEnded(peer string) {
	if p := d.peer(peer); p != nil {
		d.ended[peer] = p.Key
	}
}

// begun: a person here wants the tunnel again.
func (d *Daemon) begun(peer string) {
	delete(d.ended, peer)
	if d.known(peer).Ended {
		d.remember(peer, func(st *homeState) { st.Ended = false })
	}
}

func (d *Daemon) forget(peer string) {
	if d.wanted(peer) {
		d.remember(peer, func(st *homeState) { st.Wanted = false })
	}
	if p := d.peer(peer); p != nil {
		d.gw.SetAuto(peer, p.Auto)
	}
}

// publish shows a step to people: the log and whoever watches on ubus.
func (d *Daemon) publish(peer string, p Progress) {
	p.Time = time.Now()
	last := d.progress[peer]
	p.began = last.began
	if p.began.IsZero() || p.Step == htip.StepConnecting.String() && last.Step != p.Step || p.Step == htip.StepRequest.String() && last.ended() {
		p.began = p.Time
	}
	p.Took = p.Time.Sub(p.began)
	d.progress[peer] = p
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
