package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"htip/src/config"
	"htip/src/control"
	"htip/src/htip"
	"htip/src/ubus"
)

// RequestNotification is what subscribers get when a home that is no peer asks
// for a tunnel for the first time.
const RequestNotification = "request"

const (
	strangerLimit = 5 * time.Second  // from the end of the handshake to the whole REQUEST
	lobbySize     = 8                // strangers' connections at a time
	lobbyPerHost  = 2                // of one address
	tellEvery     = 10 * time.Second // between two notifications of new requests
	strangersFile = "strangers.json"
)

// lobby holds the connections of strangers until each has sent its REQUEST.
// When there are too many the oldest goes: who means it needs a fraction of a
// second.
type lobby struct {
	mu   sync.Mutex
	list []*control.Conn // oldest first
}

func (l *lobby) enter(c *control.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var same []int
	for i, x := range l.list {
		if x.Remote().Addr() == c.Remote().Addr() {
			same = append(same, i)
		}
	}
	out := -1
	if len(same) >= lobbyPerHost {
		out = same[0]
	} else if len(l.list) >= lobbySize {
		out = 0
	}
	if out >= 0 {
		l.list[out].Close()
		l.list = slices.Delete(l.list, out, out+1)
	}
	l.list = append(l.list, c)
}

func (l *lobby) leave(c *control.Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.list, c); i >= 0 {
		l.list = slices.Delete(l.list, i, i+1)
	}
}

// met takes a connection whose key no peer has. It may say one thing, and soon.
func (d *Daemon) met(c *control.Conn) {
	d.lobby.enter(c)
	d.tasks.Go(func() {
		stop := context.AfterFunc(d.ctx, c.Close)
		limit := time.AfterFunc(strangerLimit, c.Close)
		m, err := c.Receive()
		d.lobby.leave(c)
		stop()
		if !limit.Stop() || err != nil {
			d.turnMalformed(c, err)
			c.Close()
			return
		}
		if !d.post(func() { d.stranger(c, m) }) {
			c.Close()
		}
	})
}

// turnMalformed tells who speaks another version so.
func (d *Daemon) turnMalformed(c *control.Conn, err error) {
	var malformed *htip.MalformedError
	var version htip.VersionError
	m := &htip.Message{Talk: control.TalkOf(err)}
	switch {
	case errors.As(err, &version):
		d.turn(c, m, htip.ReasonVersion, err.Error())
	case errors.As(err, &malformed):
		d.turn(c, m, htip.ReasonMalformed, err.Error())
	}
}

// turn answers a stranger and closes the connection.
func (d *Daemon) turn(c *control.Conn, m *htip.Message, r htip.Reason, text string) {
	if err := c.Send(htip.Turn(m, r, text)); err != nil {
		d.log.Debug("stranger not answered", "err", err)
	}
	c.Close()
}

// stranger answers what a stranger has sent.
func (d *Daemon) stranger(c *control.Conn, m *htip.Message) {
	key, now := c.Key(), time.Now()
	name, known := d.owner(c)
	switch {
	case m.Type != htip.Request:
		c.Close()
	case known: // became a peer meanwhile
		d.goOn(name, c, m)
	case bytes.Equal(key, d.id.Public()):
		d.turn(c, m, htip.ReasonLoop, "this gateway has the same key")
	case m.Invite != (htip.Proof{}) && d.cfg.Main.Accept != config.AcceptNone:
		d.invited(c, m)
	case d.cfg.Main.Accept != config.AcceptAsk || d.requests.IsRejected(key):
		d.turn(c, m, htip.ReasonRefused, "this home does not want a tunnel with yours")
	default:
		p, isNew := d.requests.Note(key, m, c.Remote().Addr(), now)
		d.turn(c, m, htip.ReasonApproval, "somebody at the other home has to approve it")
		if isNew {
			d.tellRequest(p, now)
		}
	}
	d.setOpen()
}

// goOn makes a stranger's connection a peer's.
func (d *Daemon) goOn(peer string, c *control.Conn, m *htip.Message) {
	d.receive(peer, d.newConn(peer, c), m)
}

// tellRequest tells who watches, not too often: strangers come as they like.
func (d *Daemon) tellRequest(p *htip.Pending, now time.Time) {
	if !d.requestTold.IsZero() && now.Sub(d.requestTold) < tellEvery {
		return
	}
	d.requestTold = now
	d.log.Info("a home that is no peer asks for a tunnel", "fingerprint", control.Fingerprint(p.Key), "claims", claimed(p.Domain), "from", p.From)
	if err := d.bus.Notify(ObjectName, RequestNotification, d.requestTable(p, now)); err != nil && !errors.Is(err, ubus.ErrConnectionFailed) {
		d.log.Debug("request not told", "err", err)
	}
}

// claimed is the public name that a stranger claims, "" when it can't be one.
func claimed(domain string) string {
	s, _ := config.PublicName(domain)
	return s
}

// setOpen says who gets through a handshake.
func (d *Daemon) setOpen() {
	now := time.Now()
	open := d.cfg.Main.Accept == config.AcceptAsk
	if d.cfg.Main.Accept == config.AcceptKnown { // but whoever was invited is to get in
		open = slices.ContainsFunc(d.invites, func(i htip.Issued) bool { return i.State == htip.InviteClaimed || i.Open(now) })
	}
	d.open.Store(open)
	d.gw.SetDeaf(d.cfg.Main.Accept == config.AcceptNone)
}

// letIn decides in a handshake about a key that is no peer's. It is called from
// many goroutines.
func (d *Daemon) letIn(key []byte) bool {
	_, usable := config.KeyOf(key)
	return usable && d.open.Load()
}

// addPeer makes a home a peer: in the file, and here. It is the same one when
// the key is there already. p.Name may be empty; claim then suggests one.
func (d *Daemon) addPeer(p config.Peer, claim string) (name string, added bool, err error) {
	cfg, _, err := config.Load(d.opt.Config) // may have changed since it was taken over
	if err != nil {
		return "", false, err
	}
	for _, q := range cfg.Peers {
		switch {
		case q.Key == p.Key && !q.Enabled:
			return "", false, fmt.Errorf("peer %s has this key and is disabled: set option enabled '1' in its section", q.Name)
		case q.Key == p.Key:
			if d.peer(q.Name) == nil {
				d.takeOver()
			}
			return q.Name, false, nil
		case p.Domain != "" && q.Domain == p.Domain:
			return "", false, fmt.Errorf("peer %s has the domain %s, but another key, fingerprint %s. If its router was replaced, remove that peer first", q.Name, q.Domain, control.Fingerprint(q.Key[:]))
		}
	}
	if p.Name == "" {
		p.Name = cfg.FreeName(claim)
	}
	if p.Name, err = d.newName(cfg, p.Name); err != nil {
		return "", false, err
	}
	if err := config.SetPeer(d.opt.Config, p); err != nil {
		return "", false, err
	}
	d.takeOver()
	if d.peer(p.Name) == nil && !d.restart {
		return "", false, errors.New("the peer is in the configuration, but that can't be taken over: htip status says why")
	}
	d.log.Info("peer added", "peer", p.Name, "fingerprint", control.Fingerprint(p.Key[:]))
	return p.Name, true, nil
}

func (d *Daemon) newName(cfg config.Config, want string) (string, error) {
	name, ok := config.PeerName(want)
	if !ok {
		return "", errors.New("the name of a peer is a word of a-z, 0-9 and hyphens other than all, such as bobs-home")
	}
	if q, ok := cfg.Like(name); ok {
		return "", fmt.Errorf("there is a peer %s already, with another key, fingerprint %s: choose another name", q.Name, control.Fingerprint(q.Key[:]))
	}
	return name, nil
}

// takeOver is reload for a change of our own.
func (d *Daemon) takeOver() {
	if d.reload() {
		d.restart = true
	}
}

// confirmAfter are the pauses before each look whether a new peer's gateway
// answers at the name that it claims.
var confirmAfter = []time.Duration{0, 5 * time.Second, 30 * time.Second, 2 * time.Minute}

// confirm takes a new peer's public name into the configuration once its gateway
// has answered there with its key, and connects. The names below a peer's domain
// are asked at the peer: nobody gets "co.uk" for the asking.
func (d *Daemon) confirm(peer, claim string) {
	p, domain := d.peer(peer), claimed(claim)
	if p == nil || p.Domain != "" || domain == "" {
		return
	}
	key, port := p.Key, p.Port
	d.tasks.Go(func() {
		var err error
		for _, pause := range confirmAfter {
			select {
			case <-time.After(pause):
			case <-d.ctx.Done():
				return
			}
			ctx, cancel := context.WithTimeout(d.ctx, htip.DialLimit)
			var c *control.Conn
			c, err = d.connect(ctx, domain, port, key[:], func(string) {})
			cancel()
			if err == nil {
				c.Close()
				d.post(func() { d.confirmed(peer, key, domain) })
				return
			}
		}
		d.log.Info("the domain that a peer claims is not confirmed: only the peer can connect", "peer", peer, "domain", domain, "err", err)
	})
}

func (d *Daemon) confirmed(peer string, key config.Key, domain string) {
	cfg, _, err := config.Load(d.opt.Config)
	p, ok := cfg.Peer(peer)
	if err != nil || !ok || p.Key != key || p.Domain != "" {
		return
	}
	p.Domain = domain
	if err := config.SetPeer(d.opt.Config, p); err != nil {
		d.log.Warn("a peer's domain is not taken over", "peer", peer, "domain", domain, "err", err)
		return
	}
	d.takeOver()
	if s := d.stateOf(peer).State; (s == htip.Idle || s == htip.Waiting) && d.peer(peer) != nil && !d.isEnded(peer) {
		d.handle(peer, htip.Connect{})
	}
}

// loadStrangers reads what survives a reboot of invites and rejections.
func (d *Daemon) loadStrangers() {
	t, err := readTable(filepath.Join(d.opt.StateDir, strangersFile))
	if err == nil {
		d.invites, d.requests.Rejected, err = decodeStrangers(t)
	}
	if err != nil {
		d.log.Error("invites or rejections are lost; issue new ones", "err", err)
	}
}

// saveStrangers writes them; after that they hold over a power cut.
func (d *Daemon) saveStrangers() error {
	return writeTable(filepath.Join(d.opt.StateDir, strangersFile), encodeStrangers(d.invites, d.requests.Rejected))
}

// settle ends the claims of invites whose homes are peers by now, and forgets
// their requests.
func (d *Daemon) settle() {
	peer := func(key []byte) bool { _, ok := d.keys.Load(string(key)); return ok }
	d.requests.Drop(peer)
	if d.invites.Settle(peer) {
		if err := d.saveStrangers(); err != nil {
			d.log.Error("invites not saved", "err", err) // the claim is on flash: no other home can use it
		}
	}
	d.setOpen()
}
