package ubus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"
)

// Request is one call of a method of ours.
type Request struct {
	Object string
	Method string
	Args   Table  // checked against the signature, without the session
	Caller uint32 // the caller's client id

	// Session is what uhttpd adds for a call from a browser, else "". User and
	// Group are the calling process's: root for everything that comes through
	// uhttpd.
	Session string
	User    string
	Group   string

	call *call
}

// Reply sends one part of the answer now; more may follow, and the end comes
// when the handler returns. It waits while ubusd is slow to read.
func (r *Request) Reply(part Table) error {
	if part == nil {
		part = Table{}
	}
	return r.call.data(part)
}

// callKey tells calls apart: a sequence number is unique for its caller only.
type callKey struct {
	peer uint32
	seq  uint16
}

// call is a call that we have not answered yet.
type call struct {
	conn    *Conn
	key     callKey
	object  uint32
	noReply bool
	ctx     context.Context
	cancel  context.CancelFunc

	mu    sync.Mutex
	ended bool
}

// errAnswered reports a part that comes after the end of its call.
var errAnswered = errors.New("the call has been answered")

func (k *call) data(part Table) error {
	msg, err := NewMessage(MsgData, k.key.seq, k.key.peer).U32(AttrObjID, k.object).Table(AttrData, part).Bytes()
	if err != nil {
		return err
	}
	return k.put(msg, false)
}

func (k *call) status(s Status) error {
	msg, err := NewMessage(MsgStatus, k.key.seq, k.key.peer).U32(AttrStatus, uint32(s)).U32(AttrObjID, k.object).Bytes()
	if err != nil {
		return err
	}
	return k.put(msg, true)
}

// put queues a message of the answer. The write deadline bounds the wait for
// room: ubusd reads, or the connection ends.
func (k *call) put(msg []byte, last bool) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.ended {
		return errAnswered
	}
	k.ended = last
	if k.noReply {
		return nil
	}
	return k.conn.out.put(k.conn.ctx, k.conn.ctx.Done(), msg)
}

// abandon makes a call silent.
func (k *call) abandon() {
	k.cancel()
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ended = true
}

// invoke starts a handler, or answers at once what needs none.
func (p *published) invoke(c *Conn, m Message, a *Attrs) {
	k := &call{conn: c, key: callKey{m.Peer, m.Seq}, object: a.ObjID, noReply: a.NoReply}
	k.ctx, k.cancel = context.WithTimeout(c.ctx, c.opts.HandlerTimeout)
	method := p.object.method(a.Method)
	status := StatusOK
	switch {
	case !a.Has(AttrMethod), !a.Has(AttrData):
		status = StatusInvalidArgument
	case method == nil:
		status = StatusMethodNotFound
	default:
		select {
		case c.slots <- struct{}{}:
		default:
			status = StatusNoMemory
			if quiet, ok := c.busy.speak(); ok {
				c.opts.Log.Warn("ubus: too many calls at once", "object", p.object.Name, "method", a.Method,
					"caller", m.Peer, "unsaid", quiet)
			}
		}
	}
	if status != StatusOK {
		k.cancel()
		c.answer(k, status)
		return
	}
	c.mu.Lock()
	older := c.calls[k.key]
	c.calls[k.key] = k
	c.mu.Unlock()
	if older != nil {
		// The caller has gone round its numbers, so it has long given up.
		go older.abandon()
	}
	r := &Request{Object: p.object.Name, Method: method.Name, Caller: m.Peer, User: a.User, Group: a.Group, call: k}
	go c.serve(k, method, r, a.Data)
}

// answer ends a call from the reader, which must not wait.
func (c *Conn) answer(k *call, s Status) {
	if k.noReply {
		return
	}
	err := c.sendSoon(NewMessage(MsgStatus, k.key.seq, k.key.peer).U32(AttrStatus, uint32(s)).U32(AttrObjID, k.object))
	if err == nil {
		return
	}
	if quiet, ok := c.dropped.speak(); ok {
		c.opts.Log.Warn("ubus: call not answered", "caller", k.key.peer, "err", err, "unsaid", quiet)
	}
}

// sparse keeps a line that a flood of calls would repeat to one a second. Only
// the reader uses it.
type sparse struct {
	last   time.Time
	unsaid int
}

// speak tells whether to log now, and how often it was not since the last time.
func (s *sparse) speak() (unsaid int, ok bool) {
	if now := time.Now(); now.Sub(s.last) >= time.Second {
		unsaid, s.last, s.unsaid = s.unsaid, now, 0
		return unsaid, true
	}
	s.unsaid++
	return 0, false
}

// serve runs one handler and answers its call.
func (c *Conn) serve(k *call, method *Method, r *Request, data []byte) {
	defer func() { <-c.slots }()
	defer k.cancel()
	out, err := c.handle(k, method, r, data)
	if err == nil && out != nil {
		err = k.data(out)
	}
	status := StatusOf(err)
	if status == StatusUnknownError && c.Err() == nil && !errors.Is(err, errPanicked) {
		c.opts.Log.Warn("ubus: call failed", "object", r.Object, "method", r.Method, "err", err)
	}
	// The number is free again before the caller can know.
	c.mu.Lock()
	if c.calls[k.key] == k {
		delete(c.calls, k.key)
	}
	c.mu.Unlock()
	if err := k.status(status); err != nil && c.Err() == nil && !errors.Is(err, errAnswered) {
		c.opts.Log.Warn("ubus: call not answered", "object", r.Object, "method", r.Method, "err", err)
	}
}

// settleLimit is how long handlers have for their answers before a connection is
// closed: ubusd would tell the callers nothing, and they would wait for their limit.
const settleLimit = time.Second

// settle waits until the calls under way have been answered, or are late.
func (c *Conn) settle() {
	for end := time.Now().Add(settleLimit); len(c.slots) > 0 && c.Err() == nil && time.Now().Before(end); {
		time.Sleep(5 * time.Millisecond)
	}
}

// errPanicked is the end of a call whose handler panicked; it is logged already.
var errPanicked = errors.New("handler panicked")

// handle decodes and checks the arguments and runs the handler. A panic costs
// the call, not the daemon.
func (c *Conn) handle(k *call, method *Method, r *Request, data []byte) (Table, error) {
	args, err := DecodeTable(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalidArgument, err)
	}
	if r.Args, r.Session, err = checkArgs(method.Args, args); err != nil {
		c.opts.Log.Debug("ubus: call refused", "object", r.Object, "method", r.Method, "err", err)
		return nil, err
	}
	out, err := Table(nil), errPanicked
	c.guard(r.Object+" "+r.Method, func() { out, err = method.Handler(k.ctx, r) })
	return out, err
}

// guard runs a callback and logs its panic.
func (c *Conn) guard(what string, f func()) {
	defer func() {
		if p := recover(); p != nil {
			c.opts.Log.Error("ubus: callback panicked", "callback", what,
				"panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		}
	}()
	f()
}
