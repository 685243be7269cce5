package daemon

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"htip/src/control"
	"htip/src/htip"
)

// conn is an open control connection and whose it is.
type conn struct {
	*control.Conn
	peer string
	way  int // see lostWay
}

// ends are the addresses of the connection as we see them.
func (c *conn) ends() htip.Ends { return htip.Ends{Own: c.Local(), Other: c.Remote().Addr()} }

// accepted takes a connection that a peer has opened.
func (d *Daemon) accepted(c *control.Conn) {
	if !d.post(func() {
		name, ok := d.owner(c)
		if !ok || !d.rate(name).calls.Take(control.Now(), callBurst, callEvery) { // removed while it shook hands; or it connects in a loop
			c.Close()
			return
		}
		// A peer needs one connection, and a second while it changes over.
		var others []htip.ConnID
		for id, x := range d.conns {
			if x.peer == name && id != d.gw.Conn(name) {
				others = append(others, id)
			}
		}
		if len(others) >= maxConns-1 {
			d.act([]htip.Action{htip.CloseConn{Conn: slices.Min(others)}})
		}
		id := d.newConn(name, c)
		time.AfterFunc(silentLimit, func() {
			d.post(func() {
				if _, open := d.conns[id]; open && d.gw.Conn(name) != id {
					d.act([]htip.Action{htip.CloseConn{Conn: id}})
				}
			})
		})
	}) {
		c.Close()
	}
}

// owner is the peer that has the connection's key now.
func (d *Daemon) owner(c *control.Conn) (string, bool) {
	v, ok := d.keys.Load(string(c.Key()))
	if !ok {
		return "", false
	}
	return v.(string), true
}

// newConn gives a connection its number and reads from it, not faster than an
// honest peer writes: whoever sends more waits in its own TCP.
func (d *Daemon) newConn(peer string, c *control.Conn) htip.ConnID {
	d.lastConn++
	id := d.lastConn
	d.conns[id] = conn{c, peer, d.opt.Way(c.Local(), c.Remote().Addr())}
	d.friends.add(c.Remote().Addr(), peer)
	if d.crowd != nil {
		d.kick() // its next connection does not count at the door
	}
	if c.Remote().Addr().IsPrivate() {
		d.homeChanged()
	}
	pace := &d.rate(peer).pace
	d.tasks.Go(func() {
		stop := context.AfterFunc(d.ctx, c.Close)
		defer stop()
		for {
			m, err := c.Receive()
			if err != nil {
				// The loop closes it: an answer may still have to leave.
				if !d.post(func() { d.lost(peer, id, err) }) {
					c.Close()
				}
				return
			}
			d.post(func() { d.receive(peer, id, m) })
			pace.wait(d.ctx)
		}
	})
	return id
}

// receive hands a message to the protocol, unless its sender has lost its name
// or its key since it connected.
func (d *Daemon) receive(peer string, id htip.ConnID, m *htip.Message) {
	c, ok := d.conns[id]
	if !ok {
		return
	}
	if name, ok := d.owner(c.Conn); !ok || name != peer {
		d.act([]htip.Action{htip.CloseConn{Conn: id}})
		return
	}
	d.handle(peer, htip.Received{Conn: id, Msg: m, Ends: c.ends()})
}

// rates bound what a peer can make us do.
type rates struct {
	pace   pace
	starts control.Rate // of servers, see startServer
	saves  control.Rate // of what is on flash, see saveRecord
	calls  control.Rate // connections that it opens
}

func (d *Daemon) rate(peer string) *rates {
	r := d.rates[peer]
	if r == nil {
		if d.rates == nil {
			d.rates = map[string]*rates{}
		}
		r = &rates{}
		d.rates[peer] = r
	}
	return r
}

// pace lets a burst of a peer's messages through, as a talk with all its rounds
// needs it, and then a few a second, over however many connections they come.
type pace struct {
	mu   sync.Mutex
	rate control.Rate
}

const (
	callBurst = 16
	callEvery = 2 * time.Second
	paceBurst = 32
	paceEvery = 250 * time.Millisecond
)

func (p *pace) wait(ctx context.Context) {
	for {
		p.mu.Lock()
		ok := p.rate.Take(control.Now(), paceBurst, paceEvery)
		p.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-time.After(paceEvery):
		case <-ctx.Done():
			return
		}
	}
}

// lost tells the protocol why nothing more will come on a connection.
func (d *Daemon) lost(peer string, id htip.ConnID, err error) {
	var malformed *htip.MalformedError
	var version htip.VersionError
	switch {
	case errors.As(err, &malformed), errors.As(err, &version):
		d.log.Warn("junk on the control channel", "peer", peer, "err", err)
		d.handle(peer, htip.Malformed{Conn: id, Talk: control.TalkOf(err), Err: err})
	case errors.Is(err, control.ErrNotKnown):
		d.handle(peer, htip.Closed{Conn: id, Reason: htip.ReasonUnauthorized, Text: err.Error() + ": add it there (htip key prints it)"})
	default:
		d.handle(peer, htip.Closed{Conn: id, Reason: htip.ReasonUnreachable, Text: err.Error()})
	}
	if c, ok := d.conns[id]; ok {
		c.Close()
		delete(d.conns, id)
	}
}
