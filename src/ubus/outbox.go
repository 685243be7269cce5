package ubus

import (
	"context"
	"net"
	"sync"
	"time"
)

// outboxLimit bounds the bytes that wait to be written to ubusd. One message of
// any size fits into an empty outbox.
const outboxLimit = MaxMessage + 64<<10

// outbox is the queue of a connection's writer. Handlers wait for room in it,
// the reader never does: so a ubusd that does not read can stop neither.
type outbox struct {
	mu    sync.Mutex
	queue [][]byte
	size  int
	busy  bool          // the writer has messages that are not out yet
	wake  chan struct{} // capacity 1: something was queued
	room  chan struct{} // closed and replaced when the queue was taken or written
}

func newOutbox() *outbox {
	return &outbox{wake: make(chan struct{}, 1), room: make(chan struct{})}
}

// tryPut queues a message unless the outbox is full.
func (o *outbox) tryPut(b []byte) bool {
	ok, _ := o.add(b)
	return ok
}

// put queues a message, waiting for room until ctx or done ends.
func (o *outbox) put(ctx context.Context, done <-chan struct{}, b []byte) error {
	for {
		ok, room := o.add(b)
		if ok {
			return nil
		}
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		case <-done:
			return ErrConnectionFailed
		}
	}
}

func (o *outbox) add(b []byte) (bool, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.size > 0 && o.size+len(b) > outboxLimit {
		return false, o.room
	}
	o.queue = append(o.queue, b)
	o.size += len(b)
	select {
	case o.wake <- struct{}{}:
	default:
	}
	return true, nil
}

// next takes the oldest message; nil when there is none.
func (o *outbox) next() []byte {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.busy = len(o.queue) > 0
	if !o.busy {
		o.queue = nil
		o.signal()
		return nil
	}
	b := o.queue[0]
	o.queue[0] = nil
	o.queue = o.queue[1:]
	return b
}

// wrote gives the room of a written message back.
func (o *outbox) wrote(b []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.size -= len(b)
	o.signal()
}

func (o *outbox) signal() {
	close(o.room)
	o.room = make(chan struct{})
}

// flush waits until everything queued was written, or until done or the time is
// over.
func (o *outbox) flush(done <-chan struct{}, limit time.Duration) {
	end := time.NewTimer(limit)
	defer end.Stop()
	for {
		o.mu.Lock()
		idle, room := !o.busy && len(o.queue) == 0, o.room
		o.mu.Unlock()
		if idle {
			return
		}
		select {
		case <-room:
		case <-done:
			return
		case <-end.C:
			return
		}
	}
}

// run writes what is queued until done is closed or a write fails. A write that
// does not finish in time is a failure: half a message is out, and nothing can
// follow it.
func (o *outbox) run(c net.Conn, limit time.Duration, done <-chan struct{}) error {
	for {
		select {
		case <-o.wake:
		case <-done:
			return nil
		}
		for b := o.next(); b != nil; b = o.next() {
			if err := c.SetWriteDeadline(time.Now().Add(limit)); err != nil {
				return err
			}
			if _, err := c.Write(b); err != nil {
				return err
			}
			o.wrote(b)
		}
	}
}
