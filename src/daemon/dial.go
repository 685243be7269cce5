package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"htip/src/control"
	"htip/src/htip"
)

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
			d.handle(peer, htip.Opened{Conn: id, Ends: (&conn{Conn: c}).ends()})
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
