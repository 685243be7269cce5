package dns

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

// How long an asker waits for a tunnel, how long the tunnel may take, and how
// long after a failure nothing new is tried.
const (
	connectWithin = 4 * time.Second
	connectLimit  = 30 * time.Second
	connectAgain  = 5 * time.Second
)

// call is one attempt to bring a tunnel up, shared by all who wait for it.
type call struct {
	done  chan struct{}
	err   error // valid after done
	ended time.Time
}

var errStillComing = errors.New("the tunnel is coming up; ask again in a moment")

// connect brings the tunnel to a peer up and gives the peer as it is then. The
// attempt goes on when the asker's time is over, so that the next one finds the
// tunnel.
func (p *Proxy) connect(ctx context.Context, name string) (*peer, error) {
	if p.opt.Connect == nil {
		return nil, errTunnelDown
	}
	ctx, cancel := context.WithTimeoutCause(ctx, connectWithin, errStillComing)
	defer cancel()
	c, err := p.call(name)
	if err != nil {
		return nil, err
	}
	done := c.done
	for {
		p.mu.Lock()
		changed := p.changed
		p.mu.Unlock()
		peer, err := p.find(name)
		if err != nil {
			return nil, err
		}
		if peer.Up { // perhaps in another way than by this attempt
			return peer, nil
		}
		select {
		case <-done:
			if c.err != nil {
				return nil, fmt.Errorf("the tunnel can't be set up: %w", c.err)
			}
			done = nil // the attempt may be over before Set has been told
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// call is the attempt under way, the one that failed just now, or a new one. A
// peer that has come up meanwhile needs none: what is given then is nothing to
// wait for.
func (p *Proxy) call(name string) (*call, error) {
	k := strings.ToLower(name)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base.Err() != nil {
		return nil, ErrClosed
	}
	if peer := p.tbl.Load().peers[k]; peer != nil && peer.Up {
		return &call{}, nil
	}
	if c := p.calls[k]; c != nil {
		select {
		case <-c.done:
			if c.err != nil && p.now().Sub(c.ended) < connectAgain {
				return c, nil
			}
		default:
			return c, nil
		}
	}
	c := &call{done: make(chan struct{})}
	p.calls[k] = c
	p.stats.connects.Add(1)
	p.wg.Go(func() { // not spawn: mu is held
		ctx, cancel := context.WithTimeout(p.base, connectLimit)
		defer cancel()
		c.err = p.opt.Connect(ctx, name)
		c.ended = p.now()
		close(c.done)
	})
	return c, nil
}
