package daemon

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"htip/src/ubus"
)

// TestShared: who asks at the same time gets one answer, who asks afterwards another one.
func TestShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s shared
		var runs atomic.Int32
		go1 := make(chan bool)
		run := func() (ubus.Table, error) {
			<-go1
			return ubus.T("run", int64(runs.Add(1))), nil
		}
		get := func() int64 {
			t.Helper()
			a, err := s.get(t.Context(), run)
			if err != nil {
				t.Error(err)
			}
			n, _ := a.GetInt("run")
			return n
		}
		var all sync.WaitGroup
		for range 20 {
			all.Go(func() {
				if n := get(); n != 1 {
					t.Errorf("the answer of run %d", n)
				}
			})
		}
		synctest.Wait() // all twenty
		impatient, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if _, err := s.get(impatient, run); err != ubus.ErrTimeout {
			t.Errorf("who does not wait: %v", err)
		}
		close(go1)
		all.Wait()
		if n := get(); n != 2 {
			t.Errorf("afterwards: run %d", n)
		}
	})
}

// TestSlowCallsAreFew: however many calls take seconds, there is room for others.
func TestSlowCallsAreFew(t *testing.T) {
	d := &Daemon{ctx: t.Context()}
	block := make(chan bool)
	slow := d.slow(func(context.Context, *ubus.Request) (ubus.Table, error) {
		<-block
		return ubus.T("done", true), nil
	})
	var done, refused atomic.Int32
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			a, _ := slow(t.Context(), nil)
			if s, _ := a.GetString("error"); s == errSlow.Error() {
				refused.Add(1)
			} else {
				done.Add(1)
			}
		})
	}
	for deadline := time.Now().Add(10 * time.Second); refused.Load() < 32-maxSlow && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	close(block)
	all.Wait()
	if done.Load() != maxSlow || refused.Load() != 32-maxSlow {
		t.Errorf("%d done, %d refused", done.Load(), refused.Load())
	}
	if a, _ := slow(t.Context(), nil); len(a) != 1 {
		t.Error("no more room afterwards")
	}
}

// TestEndsWithTheDaemon: what takes seconds is answered when the daemon ends, and what has
// ended it is told as done.
func TestEndsWithTheDaemon(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := &Daemon{ctx: ctx}
	slow := d.slow(func(ctx context.Context, _ *ubus.Request) (ubus.Table, error) {
		<-ctx.Done()
		return nil, ubus.ErrTimeout
	})
	answered := make(chan error, 1)
	go func() {
		_, err := slow(t.Context(), nil)
		answered <- err
	}()
	cancel()
	select {
	case err := <-answered:
		if err != ubus.ErrTimeout {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("no answer at the end of the daemon")
	}
	for range 3000 { // which of the two is seen first is chance
		ctx, cancel := context.WithCancel(t.Context())
		d := &Daemon{ctx: ctx, events: make(chan func())}
		go func() { (<-d.events)(); cancel() }()
		if !d.call(t.Context(), func() {}) {
			t.Fatal("done, and told as not done")
		}
	}
}
