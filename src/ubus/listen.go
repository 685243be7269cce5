package ubus

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A subscription keeps at most this much that its callback has not taken yet;
// what comes on top is dropped and counted in the log.
const (
	backlogItems = 256
	backlogBytes = MaxMessage
)

// ErrGone is the end of a subscription whose object was removed.
var ErrGone = errors.New("the object is gone")

// Subscription is a running Listen or Subscribe. Its callback is never called
// twice at once, nor after Done.
type Subscription struct {
	conn *Conn
	what string // for messages
	fn   func(name string, data Table)
	obj  uint32 // of our own anonymous object

	stop context.CancelCauseFunc
	ctx  context.Context
	done chan struct{}

	mu      sync.Mutex
	queue   []delivery
	size    int
	dropped int
	wake    chan struct{} // capacity 1
}

type delivery struct {
	name string
	data []byte
}

// Done is closed when the subscription has ended and its callback has returned.
func (s *Subscription) Done() <-chan struct{} { return s.done }

// Err is why it ended: the context's error, ErrClosed, ErrGone when the object
// was removed, or ErrConnectionFailed. nil while it runs.
func (s *Subscription) Err() error {
	select {
	case <-s.done:
	default:
		return nil
	}
	err := context.Cause(s.ctx)
	if s.conn.Err() != nil && errors.Is(err, s.conn.Err()) {
		return s.conn.lost()
	}
	return err
}

// Close ends the subscription, waits for its callback and returns nil. It must
// not be called from the callback.
func (s *Subscription) Close() error {
	s.stop(ErrClosed)
	<-s.done
	return nil
}

// Listen calls fn for each event whose id is pattern, or begins with it when it
// ends in "*". When it returns without error the listening has begun; it goes on
// until ctx ends, Close, or the end of the connection. Events of one listener
// come in order; a callback that is slow misses some, and holds up nothing else.
// Our own events do not come back to us.
func (c *Conn) Listen(ctx context.Context, pattern string, fn func(event string, data Table)) (*Subscription, error) {
	s, err := c.subscription(ctx, "listener to "+pattern, fn, func(id uint32) error {
		wait, cancel := c.limited(ctx)
		defer cancel()
		return c.invoke(wait, ObjectEvent, "register", Table{F("object", int32(id)), F("pattern", pattern)}, nil)
	})
	if err != nil {
		return nil, fmt.Errorf("ubus listen %q: %w", pattern, err)
	}
	return s, nil
}

// Subscribe calls fn for each notification of an object, like [Conn.Listen] for
// events. It ends with ErrGone when the object is removed.
func (c *Conn) Subscribe(ctx context.Context, object string, fn func(notification string, data Table)) (*Subscription, error) {
	s, err := c.subscription(ctx, "subscription to "+object, fn, func(id uint32) error {
		wait, cancel := c.limited(ctx)
		defer cancel()
		target, err := c.objectID(wait, object)
		if err != nil {
			return err
		}
		return c.send(wait, 0, func(seq uint16) *Builder {
			return NewMessage(MsgSubscribe, seq, 0).U32(AttrObjID, id).U32(AttrTarget, target)
		}, nil)
	})
	if err != nil {
		return nil, fmt.Errorf("ubus subscribe %s: %w", object, err)
	}
	return s, nil
}

// subscription makes an anonymous object, lets start tie it to a source, and
// runs it.
func (c *Conn) subscription(ctx context.Context, what string, fn func(string, Table), start func(id uint32) error) (*Subscription, error) {
	s := &Subscription{conn: c, what: what, fn: fn, done: make(chan struct{}), wake: make(chan struct{}, 1)}
	s.ctx, s.stop = context.WithCancelCause(ctx)
	err := c.addObject(ctx, s, func(id uint32) { s.obj = id }, func(b *Builder) *Builder { return b })
	if err != nil {
		s.stop(err)
		return nil, err
	}
	if err := start(s.id()); err != nil {
		s.stop(err)
		if e := s.remove(); e != nil {
			c.opts.Log.Warn("ubus: listener not removed", "what", what, "err", e)
		}
		return nil, err
	}
	unhook := context.AfterFunc(c.ctx, func() { s.stop(c.Err()) })
	go func() {
		s.run()
		unhook()
		if err := s.remove(); err != nil {
			c.opts.Log.Warn("ubus: listener not removed", "what", what, "err", err)
		}
		close(s.done)
	}()
	return s, nil
}

func (s *Subscription) id() uint32 {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.obj
}

// remove takes our anonymous object away, unless the connection has done it.
func (s *Subscription) remove() error {
	if s.conn.Err() != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.ctx), s.conn.opts.WriteTimeout)
	defer cancel()
	err := s.conn.removeObject(ctx, s.id())
	if s.conn.Err() != nil {
		return nil
	}
	return err
}

// run hands deliveries to the callback until the subscription ends. What came
// before the end is still delivered, unless it was us who ended it.
func (s *Subscription) run() {
	for ended := false; !ended; {
		select {
		case <-s.ctx.Done():
			ended = true
		case <-s.wake:
		}
		for s.wanted() {
			d, dropped, ok := s.next()
			if dropped > 0 {
				s.conn.opts.Log.Warn("ubus: callback too slow", "what", s.what, "dropped", dropped)
			}
			if !ok {
				break
			}
			data, err := DecodeTable(d.data)
			if err != nil {
				s.conn.opts.Log.Warn("ubus: event not understood", "what", s.what, "name", d.name, "err", err)
				continue
			}
			s.conn.guard(s.what, func() { s.fn(d.name, data) })
		}
	}
}

// wanted tells whether the callback may still be called.
func (s *Subscription) wanted() bool {
	switch err := context.Cause(s.ctx); err {
	case nil, ErrGone:
		return true
	case ErrClosed:
		return false
	default:
		return err == s.conn.Err()
	}
}

func (s *Subscription) next() (d delivery, dropped int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	dropped, s.dropped = s.dropped, 0
	if len(s.queue) == 0 {
		s.queue = nil
		return d, dropped, false
	}
	d, s.queue = s.queue[0], s.queue[1:]
	s.size -= len(d.data)
	return d, dropped, true
}

// invoke queues a delivery. ubusd counts on an answer unless it says NO_REPLY.
func (s *Subscription) invoke(c *Conn, m Message, a *Attrs) {
	k := &call{key: callKey{m.Peer, m.Seq}, object: a.ObjID, noReply: a.NoReply}
	if !a.Has(AttrMethod) {
		c.answer(k, StatusInvalidArgument)
		return
	}
	s.mu.Lock()
	if len(s.queue) >= backlogItems || s.size+len(a.Data) > backlogBytes && len(s.queue) > 0 {
		s.dropped++
	} else {
		s.queue = append(s.queue, delivery{a.Method, a.Data})
		s.size += len(a.Data)
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
	c.answer(k, StatusOK)
}

func (s *Subscription) active(bool) {}

func (s *Subscription) gone(uint32) { s.stop(ErrGone) }
