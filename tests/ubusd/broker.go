package ubusd

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"htip/src/slog"
	"io"
	"net"
	"os"
	"os/user"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"htip/src/ubus"
)

// Config is what a [Broker] needs; only Socket must be set.
type Config struct {
	Socket string
	Policy Policy            // RootOnly when nil
	Log    *slog.Logger      // slog.Default() when nil
	NewID  func(Kind) uint32 // random when nil

	// QueueLimit is how many bytes may wait for a client, 1 MiB when 0; what
	// comes on top is dropped without a word, as the real one does it.
	QueueLimit int
	// Cred tells who a client is; by default the peer of the socket. An error
	// closes the connection.
	Cred func(*net.UnixConn) (Cred, error)
}

// Broker serves a [Core] on a Unix socket.
type Broker struct {
	cfg Config
	l   *net.UnixListener
	wg  sync.WaitGroup

	mu    sync.Mutex // guards core and what follows
	core  *Core
	conns map[uint32]*conn
	open  map[*net.UnixConn]bool
	done  bool
}

// Listen makes the socket, replacing one that is left over, and serves until
// Close.
func Listen(cfg Config) (*Broker, error) {
	if cfg.Policy == nil {
		cfg.Policy = RootOnly{}
	}
	if cfg.Log == nil {
		cfg.Log = slog.Default()
	}
	if cfg.NewID == nil {
		cfg.NewID = randomID
	}
	if cfg.Cred == nil {
		cfg.Cred = peerCred
	}
	cfg.QueueLimit = cmp.Or(cfg.QueueLimit, ubus.MaxMessage)
	if err := os.Remove(cfg.Socket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: cfg.Socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(cfg.Socket, 0o666); err != nil {
		l.Close()
		return nil, err
	}
	b := &Broker{cfg: cfg, l: l, conns: make(map[uint32]*conn), open: make(map[*net.UnixConn]bool)}
	b.core = NewCore(b, cfg.Policy, cfg.NewID)
	b.wg.Go(b.accept)
	return b, nil
}

// Close ends all connections and removes the socket.
func (b *Broker) Close() error {
	b.mu.Lock()
	b.done = true
	err := b.l.Close()
	for uc := range b.open {
		uc.Close()
	}
	b.mu.Unlock()
	b.wg.Wait()
	return err
}

// Clients is the number of connections.
func (b *Broker) Clients() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.conns)
}

// KickAll ends all connections, and goes on listening.
func (b *Broker) KickAll() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for uc := range b.open {
		uc.Close()
	}
}

func randomID(Kind) uint32 {
	var b [4]byte
	rand.Read(b[:]) // never fails, says its documentation
	return binary.BigEndian.Uint32(b[:])
}

// peerCred asks the kernel who is at the other end. Root needs no name file.
func peerCred(uc *net.UnixConn) (Cred, error) {
	raw, err := uc.SyscallConn()
	if err != nil {
		return Cred{}, err
	}
	var u *unix.Ucred
	var sockErr error
	if err := raw.Control(func(fd uintptr) {
		u, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}); err != nil {
		return Cred{}, err
	}
	if sockErr != nil {
		return Cred{}, sockErr
	}
	c := Cred{UID: u.Uid, GID: u.Gid, User: "root", Group: "root"}
	if u.Uid != 0 {
		name, err := user.LookupId(strconv.FormatUint(uint64(u.Uid), 10))
		if err != nil {
			return c, err
		}
		c.User = name.Username
	}
	if u.Gid != 0 {
		group, err := user.LookupGroupId(strconv.FormatUint(uint64(u.Gid), 10))
		if err != nil {
			return c, err
		}
		c.Group = group.Name
	}
	return c, nil
}

func (b *Broker) accept() {
	for {
		uc, err := b.l.AcceptUnix()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				b.cfg.Log.Error("accept", "err", err)
			}
			return
		}
		b.mu.Lock()
		if b.done {
			b.mu.Unlock()
			uc.Close()
			return
		}
		b.open[uc] = true
		b.mu.Unlock()
		b.wg.Go(func() {
			err := b.serve(uc)
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, unix.ECONNRESET) {
				b.cfg.Log.Info("client dropped", "err", err)
			}
			uc.Close()
			b.mu.Lock()
			delete(b.open, uc)
			b.mu.Unlock()
		})
	}
}

// serve is the life of one client.
func (b *Broker) serve(uc *net.UnixConn) error {
	cred, err := b.cfg.Cred(uc)
	if err != nil {
		return fmt.Errorf("a client without a name: %w", err)
	}
	c := &conn{uc: uc, limit: b.cfg.QueueLimit, wake: make(chan struct{}, 1), done: make(chan struct{})}
	b.mu.Lock()
	id := b.core.Connect(cred, func(id uint32) { b.conns[id] = c })
	b.mu.Unlock()
	b.wg.Go(c.write)
	defer func() {
		b.mu.Lock()
		delete(b.conns, id)
		b.core.Disconnect(id)
		b.mu.Unlock()
		close(c.done)
	}()
	for {
		m, fd, err := c.read()
		if err != nil {
			return err
		}
		b.mu.Lock()
		b.core.Handle(id, m, fd)
		b.mu.Unlock()
	}
}

// Send queues a message for a client; the core calls it.
func (b *Broker) Send(to uint32, msg []byte, fd int) {
	c := b.conns[to]
	if c == nil || !c.put(packet{msg, fd}) {
		b.CloseFD(fd)
	}
}

// CloseFD closes a descriptor that nobody gets; the core calls it.
func (b *Broker) CloseFD(fd int) {
	if fd == NoFD {
		return
	}
	if err := unix.Close(fd); err != nil {
		b.cfg.Log.Error("close a descriptor", "err", err)
	}
}

// packet is a message with the descriptor that goes with it, or NoFD.
type packet struct {
	msg []byte
	fd  int
}

// conn is the socket of a client.
type conn struct {
	uc    *net.UnixConn
	limit int
	head  [ubus.HeaderLen]byte

	mu     sync.Mutex
	queue  []packet
	size   int
	closed bool

	wake chan struct{} // capacity 1
	done chan struct{}
}

func (c *conn) put(p packet) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.size+len(p.msg) > c.limit+ubus.HeaderLen {
		return false
	}
	c.queue = append(c.queue, p)
	c.size += len(p.msg)
	select {
	case c.wake <- struct{}{}:
	default:
	}
	return true
}

func (c *conn) take() (packet, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.queue) == 0 {
		return packet{}, false
	}
	p := c.queue[0]
	c.queue = c.queue[1:]
	return p, true
}

// write sends what is queued until the client is gone. A client that does not
// read keeps its own messages only.
func (c *conn) write() {
	defer c.closeQueue()
	for {
		select {
		case <-c.wake:
		case <-c.done:
			return
		}
		for p, ok := c.take(); ok; p, ok = c.take() {
			err := send(c.uc, p)
			c.mu.Lock()
			c.size -= len(p.msg)
			c.mu.Unlock()
			if err != nil {
				c.uc.Close() // and the reader ends
				return
			}
		}
	}
}

// closeQueue closes the descriptors that did not get out.
func (c *conn) closeQueue() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, p := range c.queue {
		if p.fd != NoFD {
			unix.Close(p.fd)
		}
	}
	c.queue = nil
}

// send writes one message; the descriptor goes with its first byte.
func send(uc *net.UnixConn, p packet) error {
	if p.fd == NoFD {
		_, err := uc.Write(p.msg)
		return err
	}
	defer unix.Close(p.fd)
	n, _, err := uc.WriteMsgUnix(p.msg, unix.UnixRights(p.fd), nil)
	if err == nil && n < len(p.msg) {
		_, err = uc.Write(p.msg[n:])
	}
	return err
}

// read takes one message off the socket, and the first descriptor that comes
// with its header.
func (c *conn) read() (m ubus.Message, fd int, err error) {
	fd = NoFD
	defer func() {
		if err != nil && fd != NoFD {
			unix.Close(fd)
			fd = NoFD
		}
	}()
	oob := make([]byte, unix.CmsgSpace(4*8))
	for n := 0; n < len(c.head); {
		k, oobn, _, _, err := c.uc.ReadMsgUnix(c.head[n:], oob)
		if oobn > 0 {
			fd = takeFD(oob[:oobn], fd)
		}
		if err == nil && k == 0 {
			err = io.EOF
		}
		if err != nil {
			return m, fd, err
		}
		n += k
	}
	m, size, err := ubus.DecodeHeader(c.head[:])
	if err != nil {
		return m, fd, err
	}
	m.Body = make([]byte, size)
	// A message that has begun must end; the real one waits longer.
	if err := c.uc.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return m, fd, err
	}
	if _, err := io.ReadFull(c.uc, m.Body); err != nil {
		return m, fd, err
	}
	return m, fd, c.uc.SetReadDeadline(time.Time{})
}

// takeFD picks the first descriptor of the control messages and closes the rest.
func takeFD(oob []byte, have int) int {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return have
	}
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if have == NoFD {
				have = fd
			} else {
				unix.Close(fd)
			}
		}
	}
	return have
}
