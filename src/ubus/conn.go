package ubus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"htip/src/slog"
	"net"
	"sync"
	"time"
)

// DefaultSocket is where ubusd listens on OpenWrt.
const DefaultSocket = "/var/run/ubus/ubus.sock"

// Options tune a connection. The zero value is right for most.
type Options struct {
	Log *slog.Logger // slog.Default() when nil

	// CallTimeout bounds a request whose context has no deadline: ubusd never
	// tells that a callee died. Default 30 s.
	CallTimeout time.Duration
	// WriteTimeout is how long ubusd may take to read one message of ours, to
	// finish one of its own, and to take a new object, before the connection is
	// given up. Default 5 s.
	WriteTimeout time.Duration
	// HandlerTimeout ends the context of a handler. Default 2 min.
	HandlerTimeout time.Duration
	// MaxHandlers is how many calls are served at once; one more is answered
	// with ErrBusy. Default 32.
	MaxHandlers int
}

func (o Options) withDefaults() Options {
	o.CallTimeout = cmp.Or(o.CallTimeout, 30*time.Second)
	o.WriteTimeout = cmp.Or(o.WriteTimeout, 5*time.Second)
	o.HandlerTimeout = cmp.Or(o.HandlerTimeout, 2*time.Minute)
	o.MaxHandlers = cmp.Or(o.MaxHandlers, 32)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// ErrClosed is the reason of a connection that we closed ourselves.
var ErrClosed = errors.New("connection closed")

// Conn is a connection to ubusd. All methods may be called at the same time.
type Conn struct {
	opts Options
	conn *net.UnixConn
	id   uint32
	out  *outbox

	ctx  context.Context // of everything that lives as long as the connection
	stop context.CancelCauseFunc
	wg   sync.WaitGroup // reader and writer

	busy, dropped sparse // of the reader

	mu       sync.Mutex
	seq      uint16
	requests map[uint16]*request
	objects  map[uint32]receiver
	names    map[string]*published
	calls    map[callKey]*call
	slots    chan struct{}
}

// receiver is what ubusd may send messages to: one of our objects.
type receiver interface {
	// invoke handles an INVOKE. It runs in the reader and must not block.
	invoke(c *Conn, m Message, a *Attrs)
	// active tells that the object got its first or lost its last subscriber.
	active(on bool)
	// gone tells that the object this one was subscribed to is removed.
	gone(target uint32)
}

// Dial connects to ubusd with default options. ctx bounds the connecting only.
func Dial(ctx context.Context, socketPath string) (*Conn, error) {
	return Options{}.Dial(ctx, socketPath)
}

// Dial connects to ubusd and waits for its greeting. ctx bounds the connecting
// only. Errors are ErrConnectionFailed and what the system said.
func (o Options) Dial(ctx context.Context, socketPath string) (*Conn, error) {
	o = o.withDefaults()
	c, err := dial(ctx, o, socketPath)
	if err != nil {
		return nil, fmt.Errorf("ubus: %w at %s: %w", ErrConnectionFailed, socketPath, err)
	}
	return c, nil
}

func dial(ctx context.Context, o Options, socketPath string) (*Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, o.CallTimeout)
	defer cancel()
	if err := ctx.Err(); err != nil {
		return nil, err // DialUnix would connect before it looks
	}
	var d net.Dialer
	nc, err := d.DialUnix(ctx, "unix", nil, &net.UnixAddr{Net: "unix", Name: socketPath})
	if err != nil {
		return nil, err
	}
	c := &Conn{
		opts:     o,
		conn:     nc,
		out:      newOutbox(),
		requests: make(map[uint16]*request),
		objects:  make(map[uint32]receiver),
		names:    make(map[string]*published),
		calls:    make(map[callKey]*call),
		slots:    make(chan struct{}, o.MaxHandlers),
	}
	r := &reader{conn: c.conn, limit: o.WriteTimeout}
	// The greeting may be slow to come; a cancelled ctx must end the wait.
	unhook := context.AfterFunc(ctx, func() { c.conn.Close() })
	m, err := r.next()
	if !unhook() && err != nil {
		err = ctx.Err()
	}
	if err == nil && m.Type != MsgHello {
		err = malformed("%s where HELLO belongs", m.Type)
	}
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.conn.Close()
		return nil, fmt.Errorf("greeting: %w", err)
	}
	c.id = m.Peer
	c.ctx, c.stop = context.WithCancelCause(context.Background())
	c.wg.Go(func() { c.fail(c.read(r)) })
	c.wg.Go(func() { c.fail(c.out.run(c.conn, o.WriteTimeout, c.ctx.Done())) })
	return c, nil
}

// ID is the client id that ubusd gave to the connection.
func (c *Conn) ID() uint32 { return c.id }

// Done is closed when the connection has ended.
func (c *Conn) Done() <-chan struct{} { return c.ctx.Done() }

// Err is why the connection ended; nil while it lives.
func (c *Conn) Err() error { return context.Cause(c.ctx) }

// Close sends what is queued, for half a second at most, and ends the
// connection: requests fail, the contexts of handlers end, ubusd removes our
// objects. It always returns nil.
func (c *Conn) Close() error {
	c.out.flush(c.ctx.Done(), min(500*time.Millisecond, c.opts.WriteTimeout))
	c.fail(ErrClosed)
	c.wg.Wait()
	return nil
}

// fail ends the connection; the first reason counts.
func (c *Conn) fail(err error) {
	c.stop(err)
	c.conn.Close()
}

// lost is the error of what was under way when the connection ended.
func (c *Conn) lost() error {
	return fmt.Errorf("%w: %w", ErrConnectionFailed, c.Err())
}

// read handles what ubusd sends, until it sends no more. It never waits for
// anything else: what takes time is done by other goroutines.
func (c *Conn) read(r *reader) error {
	for {
		m, err := r.next()
		if err != nil {
			return err
		}
		a := ParseAttrs(m.Body)
		switch m.Type {
		case MsgStatus, MsgData:
			c.reply(m, &a)
		case MsgInvoke:
			if o := c.receiver(a.ObjID); o != nil {
				o.invoke(c, m, &a)
			} else {
				c.opts.Log.Debug("ubus: call of an object that is not ours", "object", a.ObjID)
			}
		case MsgNotify:
			if o := c.receiver(a.ObjID); o != nil && a.Has(AttrActive) {
				o.active(a.Active)
			}
		case MsgUnsubscribe:
			if o := c.receiver(a.ObjID); o != nil {
				o.gone(a.Target)
			}
		default:
			c.opts.Log.Debug("ubus: message of no use", "type", m.Type.String())
		}
	}
}

func (c *Conn) receiver(id uint32) receiver {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.objects[id]
}

// sendSoon queues a message without waiting; what does not fit is dropped, as
// ubusd does it too.
func (c *Conn) sendSoon(b *Builder) error {
	msg, err := b.Bytes()
	if err != nil {
		return err
	}
	if !c.out.tryPut(msg) {
		return fmt.Errorf("ubusd does not read: %w", ErrBusy)
	}
	return nil
}
