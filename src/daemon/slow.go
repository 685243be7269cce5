package daemon

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

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
		return f(ctx, r)
	}
}

// shared is an answer that takes seconds, and traffic to other homes: all who ask
// while it is being made get the same one, and so do those who ask a moment later.
type shared struct {
	stale atomic.Bool // something has happened: the answer would be another one

	mu   sync.Mutex
	done chan struct{} // closed when there is an answer
	at   time.Time
	t    ubus.Table
	err  error
}

const sharedFor = 3 * time.Second

func (s *shared) get(ctx context.Context, run func() (ubus.Table, error)) (ubus.Table, error) {
	s.mu.Lock()
	done := s.done
	if done == nil || !s.at.IsZero() && (s.stale.Load() || time.Since(s.at) > sharedFor) {
		done = make(chan struct{})
		s.done, s.at = done, time.Time{}
		s.stale.Store(false)
		go func() {
			t, err := run()
			s.mu.Lock()
			s.t, s.err, s.at = t, err, time.Now()
			s.mu.Unlock()
			close(done)
		}()
	}
	s.mu.Unlock()
	select {
	case <-done:
	case <-ctx.Done():
		return nil, ubus.ErrTimeout
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.t, s.err
}
