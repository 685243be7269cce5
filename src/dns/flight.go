package dns

import (
	"context"
	"sync"
)

// flights lets equal questions wait for one answer. That saves work, and ends
// any circle of questions that a strange set-up of other name servers could
// make: the question that comes round again waits for itself, until time is
// over.
type flights[K comparable, V any] struct {
	mu   sync.Mutex
	open map[K]*flight[V]
}

type flight[V any] struct {
	done  chan struct{}
	value V
	err   error
}

// do gives what find finds, which runs once for all who ask the same while it
// runs; spawn starts it, or tells that it is too late for that. Who waits no
// longer than ctx goes away with the context's error; find goes on for the
// others.
func (fs *flights[K, V]) do(ctx context.Context, k K, spawn func(func()) bool, find func() V) (V, error) {
	fs.mu.Lock()
	f, ok := fs.open[k]
	if !ok {
		f = &flight[V]{done: make(chan struct{})}
		if fs.open == nil {
			fs.open = make(map[K]*flight[V])
		}
		fs.open[k] = f
	}
	fs.mu.Unlock()
	if !ok && !spawn(func() { f.value = find(); fs.land(k, f) }) {
		f.err = ErrClosed
		fs.land(k, f)
	}
	select {
	case <-f.done:
		return f.value, f.err
	case <-ctx.Done():
		var none V
		return none, ctx.Err()
	}
}

func (fs *flights[K, V]) land(k K, f *flight[V]) {
	fs.mu.Lock()
	delete(fs.open, k)
	fs.mu.Unlock()
	close(f.done)
}
