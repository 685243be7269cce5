package ubus

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
)

// maxReply bounds the bytes of all DATA parts of one reply.
const maxReply = 4 * MaxMessage

// request is one request of ours that ubusd has not ended yet.
type request struct {
	peer  uint32
	early func(a *Attrs) // sees DATA in the reader, before anything that follows it

	mu    sync.Mutex
	parts []Attrs       // DATA that has come and waits for the requester
	size  int           // bytes of all DATA so far
	wake  chan struct{} // capacity 1: a part has come
	done  chan struct{} // closed at the end; err is set before
	err   error
}

func newRequest(peer uint32) *request {
	return &request{peer: peer, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// add takes a DATA part; it runs in the reader.
func (r *request) add(m Message, a *Attrs) {
	if r.early != nil {
		r.early(a)
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.size += len(m.Body); r.size <= maxReply {
		r.parts = append(r.parts, *a)
	}
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// drain hands what has come to onData, in the requester's goroutine.
func (r *request) drain(onData func(*Attrs) error) error {
	r.mu.Lock()
	parts, size := r.parts, r.size
	r.parts = nil
	r.mu.Unlock()
	if size > maxReply {
		return fmt.Errorf("reply of more than %d bytes: %w", maxReply, ErrParse)
	}
	for i := range parts {
		if onData == nil {
			continue
		}
		if err := onData(&parts[i]); err != nil {
			return err
		}
	}
	return nil
}

// send makes a request and waits for its end. build gets the sequence number.
// onData, which may be nil, sees each DATA part. ctx is the only limit.
func (c *Conn) send(ctx context.Context, peer uint32, build func(seq uint16) *Builder, onData func(*Attrs) error) error {
	return c.do(ctx, newRequest(peer), build, onData)
}

func (c *Conn) do(ctx context.Context, r *request, build func(seq uint16) *Builder, onData func(*Attrs) error) error {
	seq, err := c.register(r)
	if err != nil {
		return err
	}
	defer c.forget(seq, r)
	msg, err := build(seq).Bytes()
	if err != nil {
		return err
	}
	if err := c.out.put(ctx, c.ctx.Done(), msg); err != nil {
		return c.ended(ctx, err)
	}
	for {
		select {
		case <-r.wake:
			if err := r.drain(onData); err != nil {
				return err
			}
			continue
		case <-r.done:
		case <-ctx.Done():
			return c.ended(ctx, ctx.Err())
		case <-c.ctx.Done():
			select {
			case <-r.done: // the answer came just before the end
			default:
				return c.lost()
			}
		}
		if err := r.drain(onData); err != nil {
			return err
		}
		return r.err
	}
}

// ended names why a request was given up.
func (c *Conn) ended(ctx context.Context, err error) error {
	switch {
	case c.Err() != nil && ctx.Err() == nil:
		return c.lost()
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w (%w)", ErrTimeout, err)
	}
	return err
}

func (c *Conn) register(r *request) (uint16, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.requests) >= math.MaxUint16 {
		return 0, fmt.Errorf("%d requests at once: %w", len(c.requests), ErrBusy)
	}
	for {
		c.seq++
		if _, taken := c.requests[c.seq]; !taken {
			c.requests[c.seq] = r
			return c.seq, nil
		}
	}
}

func (c *Conn) forget(seq uint16, r *request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.requests[seq] == r {
		delete(c.requests, seq)
	}
}

// reply gives a STATUS or DATA to the request it answers. Late answers, whose
// caller has given up, find none.
func (c *Conn) reply(m Message, a *Attrs) {
	c.mu.Lock()
	r := c.requests[m.Seq]
	if r == nil || r.peer != m.Peer {
		c.mu.Unlock()
		return
	}
	if m.Type == MsgStatus {
		delete(c.requests, m.Seq)
	}
	c.mu.Unlock()
	if m.Type == MsgData {
		r.add(m, a)
		return
	}
	switch {
	case !a.Has(AttrStatus):
		r.err = fmt.Errorf("STATUS without a status: %w", ErrParse)
	case a.Status != StatusOK:
		r.err = a.Status
	}
	close(r.done)
}

// limited gives a context without a deadline the default one.
func (c *Conn) limited(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, c.opts.CallTimeout)
}

// ObjectInfo is one object of the bus.
type ObjectInfo struct {
	Path    string
	ID      uint32
	Type    uint32
	Methods []MethodInfo
	Bad     error // why Methods is empty: the signature can't be read
}

// Lookup lists objects in the order of their paths: all for "", one, or all that
// begin alike for a path with a trailing "*". Nothing found is ErrNotFound,
// except for "".
func (c *Conn) Lookup(ctx context.Context, path string) ([]ObjectInfo, error) {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	out, err := c.lookup(ctx, path, true)
	if err != nil {
		return nil, fmt.Errorf("ubus lookup %q: %w", path, err)
	}
	return out, nil
}

func (c *Conn) lookup(ctx context.Context, path string, methods bool) (out []ObjectInfo, err error) {
	err = c.send(ctx, 0, func(seq uint16) *Builder {
		b := NewMessage(MsgLookup, seq, 0)
		if path != "" {
			b.Text(AttrPath, path)
		}
		return b
	}, func(a *Attrs) error {
		o := ObjectInfo{Path: a.Path, ID: a.ObjID, Type: a.ObjType}
		if !a.Has(AttrObjID) || !a.Has(AttrPath) {
			return fmt.Errorf("object without id or path: %w", ErrParse)
		}
		if methods {
			o.Methods, o.Bad = ParseSignature(a.Signature)
		}
		out = append(out, o)
		return nil
	})
	return out, err
}

// objectID finds one object. An object without a usable signature is hidden: it
// answers OK with nothing.
func (c *Conn) objectID(ctx context.Context, path string) (uint32, error) {
	list, err := c.lookup(ctx, path, false)
	if err != nil {
		return 0, err
	}
	if len(list) != 1 {
		return 0, ErrNotFound
	}
	return list[0].ID, nil
}

// Call calls a method and waits for its end: as long as ctx lasts, or
// [Options.CallTimeout] when it has no deadline. Several DATA parts of a reply
// are joined into one table, as uhttpd does it; a reply without any is nil. The
// error is the callee's [Status], ErrTimeout, ErrConnectionFailed, ErrParse or
// ctx's.
func (c *Conn) Call(ctx context.Context, object, method string, args Table) (Table, error) {
	var out Table
	err := c.CallParts(ctx, object, method, args, func(part Table) {
		if out == nil {
			out = part
			return
		}
		out = append(out, part...)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// CallParts is [Conn.Call] for a callee that answers in parts over time: each is
// shown as it comes, in the caller's goroutine.
func (c *Conn) CallParts(ctx context.Context, object, method string, args Table, onPart func(Table)) error {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	id, err := c.objectID(ctx, object)
	if err == nil {
		err = c.invoke(ctx, id, method, args, onPart)
	}
	if err != nil {
		return fmt.Errorf("ubus call %s %s: %w", object, method, err)
	}
	return nil
}

func (c *Conn) invoke(ctx context.Context, id uint32, method string, args Table, onPart func(Table)) error {
	return c.send(ctx, id, func(seq uint16) *Builder {
		return NewMessage(MsgInvoke, seq, id).U32(AttrObjID, id).Text(AttrMethod, method).Table(AttrData, args)
	}, func(a *Attrs) error {
		part, err := DecodeTable(a.Data)
		if err != nil {
			return fmt.Errorf("%w: %w", ErrParse, err)
		}
		if onPart != nil {
			onPart(part)
		}
		return nil
	})
}

// SendEvent sends an event to whoever listens to its id. Ids that begin with
// "ubus." are ubusd's own: ErrPermissionDenied.
func (c *Conn) SendEvent(ctx context.Context, id string, data Table) error {
	ctx, cancel := c.limited(ctx)
	defer cancel()
	if data == nil {
		data = Table{}
	}
	err := c.invoke(ctx, ObjectEvent, "send", Table{F("id", id), F("data", data)}, nil)
	if err != nil {
		return fmt.Errorf("ubus event %q: %w", id, err)
	}
	return nil
}
