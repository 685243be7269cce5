package control

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"htip/src/htip"
)

const (
	handshakeLimit = 8 * time.Second                        // a MIPS router at 580 MHz needs well under one
	messageLimit   = 10 * time.Second                       // for the rest of a message once it has begun, and for sending one
	idleLimit      = 3*htip.KeepaliveEvery + 10*time.Second // silence of an open connection
	queueLength    = 16                                     // messages waiting to be sent; the protocol never has more than a few
)

// Conn is a control connection to a peer whose key has been proven.
type Conn struct {
	tls *tls.Conn
	key []byte

	mu      sync.Mutex
	queue   [][]byte // waiting to be sent
	writing bool     // write runs; a connection is silent nearly always, and a goroutine costs more than its queue
	closing bool     // what is queued still leaves, nothing more is taken
}

func newConn(c *tls.Conn, key []byte) *Conn { return &Conn{tls: c, key: key} }

// Dial opens a control connection to the gateway at addr and proves that it
// owns the key. Errors: *WrongKeyError, or what the network said.
func Dial(ctx context.Context, id *Identity, addr netip.AddrPort, key []byte) (*Conn, error) {
	c, err := dial(ctx, addr, id.clientConfig(key))
	if err != nil {
		return nil, err
	}
	return newConn(c, key), nil
}

// Key is the peer's public key.
func (c *Conn) Key() []byte { return c.key }

// Remote is the peer's address on the Internet.
func (c *Conn) Remote() netip.AddrPort {
	a := c.tls.RemoteAddr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// Local is our own address of the connection.
func (c *Conn) Local() netip.Addr {
	return c.tls.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
}

// Export derives n octets of key material for a purpose from the TLS session
// (RFC 8446 §7.5). Both ends get the same, nobody else does.
func (c *Conn) Export(label string, context []byte, n int) ([]byte, error) {
	s := c.tls.ConnectionState()
	return s.ExportKeyingMaterial("EXPORTER-HTIP-"+label, context, n)
}

// Receive waits for the next message. Errors of the message itself are those of
// [htip.Decode]; after any error the connection is of no more use.
func (c *Conn) Receive() (*htip.Message, error) {
	header := make([]byte, htip.HeaderSize)
	c.tls.SetReadDeadline(time.Now().Add(idleLimit))
	if _, err := readFull(c.tls, header[:1]); err != nil {
		return nil, explain(err)
	}
	// Whoever begins a message has to finish it soon.
	c.tls.SetReadDeadline(time.Now().Add(messageLimit))
	if _, err := readFull(c.tls, header[1:]); err != nil {
		return nil, explain(err)
	}
	talk := binary.BigEndian.Uint64(header[4:])
	n, err := htip.Length(header)
	if err != nil {
		return nil, &talkError{talk, err}
	}
	b := make([]byte, n)
	copy(b, header)
	if _, err := readFull(c.tls, b[htip.HeaderSize:]); err != nil {
		return nil, explain(err)
	}
	m, err := htip.Decode(b)
	if err != nil {
		return nil, &talkError{talk, err}
	}
	return m, nil
}

// talkError is an error of a message and the talk that its header named, so
// that the answer can name it, too.
type talkError struct {
	talk uint64
	err  error
}

func (e *talkError) Error() string { return e.err.Error() }
func (e *talkError) Unwrap() error { return e.err }

// TalkOf is the talk of the message that an error of Receive is about, or 0.
func TalkOf(err error) uint64 {
	var e *talkError
	if errors.As(err, &e) {
		return e.talk
	}
	return 0
}

func readFull(c net.Conn, b []byte) (int, error) {
	n := 0
	for n < len(b) {
		k, err := c.Read(b[n:])
		if n += k; err != nil && n < len(b) {
			return n, err
		}
	}
	return n, nil
}

// Send queues a message; it never waits. Messages leave in order; if that fails
// the connection is closed and Receive says so.
func (c *Conn) Send(m *htip.Message) error {
	b, err := m.Encode()
	if err != nil {
		return fmt.Errorf("sending %v: %w", m.Type, err)
	}
	return c.SendRaw(b)
}

// SendRaw is Send for octets that are, or for a test are not, a message.
func (c *Conn) SendRaw(b []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closing:
		return net.ErrClosed
	case len(c.queue) == queueLength:
		c.abandon()
		return errors.New("the other gateway does not take our messages")
	}
	c.queue = append(c.queue, b)
	c.wake()
	return nil
}

// wake lets write run; mu is held.
func (c *Conn) wake() {
	if !c.writing {
		c.writing = true
		go c.write()
	}
}

// abandon closes the connection without sending what is queued; mu is held.
// The connection itself is closed by write, because that may take a while.
func (c *Conn) abandon() {
	c.closing, c.queue = true, nil
	c.tls.NetConn().Close() // a write that hangs ends now
	c.wake()
}

func (c *Conn) write() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.queue) > 0 {
		b := c.queue[0]
		c.queue = c.queue[1:]
		c.mu.Unlock()
		err := c.writeOne(b)
		c.mu.Lock()
		if err != nil {
			c.abandon()
		}
	}
	c.queue, c.writing = nil, false
	if c.closing {
		c.mu.Unlock()
		c.tls.Close()
		c.mu.Lock()
	}
}

func (c *Conn) writeOne(b []byte) error {
	c.tls.SetWriteDeadline(time.Now().Add(messageLimit))
	_, err := c.tls.Write(b)
	return err
}

// Close closes the connection after what was queued has left.
func (c *Conn) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closing {
		c.closing = true
		c.wake()
	}
}
