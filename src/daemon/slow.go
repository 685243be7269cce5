package daemon

import (
	"context"
	"errors"
	"sync"

	"htip/src/ubus"
)

// maxSlow is how many calls that take seconds are served at a time, of the 32 that
// ubus.Conn serves: who may only look could keep everybody else out otherwise.
const maxSlow = 8

var errSlow = errors.New("too much is being asked of other homes at the moment: try again in some seconds")

// slow serves a call that may take seconds; one too many is told so at once.
func (d *Daemon) slow(f ubus.Handler) ubus.Handler {
	return func(ctx context.Context, r *ubus.Request) (ubus.Table, error) {
		defer d.slowCalls.Add(-1)
		if d.slowCalls.Add(1) > maxSlow {
			return sorry(errSlow), nil
		}
		// Answered before the bus goes: ubusd tells nobody that we are gone.
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(d.ctx, cancel)()
		return f(ctx, r)
	}
}

// shared is an answer that takes seconds, and traffic to other homes: all who ask
// while it is being made get the same one.
type shared struct {
	mu   sync.Mutex
	made *made // nil while nobody asks
}

type made struct {
	done chan struct{} // closed when there is an answer
	t    ubus.Table
	err  error
}

func (s *shared) get(ctx context.Context, run func() (ubus.Table, error)) (ubus.Table, error) {
	s.mu.Lock()
	m := s.made
	if m == nil {
		m = &made{done: make(chan struct{})}
		s.made = m
		go func() {
			m.t, m.err = run()
			s.mu.Lock()
			s.made = nil
			s.mu.Unlock()
			close(m.done)
		}()
	}
	s.mu.Unlock()
	select {
	case <-m.done:
		return m.t, m.err
	case <-ctx.Done():
		return nil, ubus.ErrTimeout
	}
}
