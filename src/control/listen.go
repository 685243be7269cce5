package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"htip/src/slog"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

const (
	// maxHandshake is how many octets a handshake may have. Ours has about
	// 1,900; crypto/tls by itself would buffer 256 kB of a stranger's.
	maxHandshake = 8 << 10
	maxLogged    = 160 // octets of an error in the log
	// backlog is how many connections the kernel keeps for us, some 3 kB each.
	backlog = 256
)

// Listen opens the port of the control channel. address is like ":4847".
func Listen(address string) (net.Listener, error) {
	// KEEPALIVE is a message of ours, and no path but TCP's own is wanted:
	// each costs every stranger's connection some system calls.
	c := net.ListenConfig{KeepAlive: -1}
	c.SetMultipathTCP(false)
	l, err := c.Listen(context.Background(), "tcp4", address)
	if err != nil {
		return nil, err
	}
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { syscall.Listen(int(fd), backlog) }) // at the worst it keeps what it has
	}
	return l, err
}

// Server accepts control connections.
type Server struct {
	Identity *Identity
	// Known tells whether a key belongs to a peer. Called from many goroutines.
	Known func(key []byte) bool
	// Stranger, when set, decides about a key that is not known: true lets the
	// handshake end, and the connection is handed to Met, which owns it. The
	// number of those at a time is Met's to limit. Called from many goroutines.
	Stranger func(key []byte, from netip.Addr) bool
	Met      func(*Conn)
	// Accepted is given every connection of a known peer and owns it.
	Accepted func(*Conn)
	Log      *slog.Logger

	// Expected, when set, tells whether a peer may come from an address: then it
	// does not stand in line with strangers. Crowded is called when connections
	// are turned away, a thousand times a second if need be. Neither may wait.
	Expected func(netip.Addr) bool
	Crowded  func()

	mu     sync.Mutex
	lanes  [2]lane   // of anybody, and of addresses where peers are expected
	told   time.Time // when a refusal was last logged
	untold int       // refusals since
}

// Serve accepts until ctx is done or the listener fails for good. It closes the
// listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	s.lanes = [2]lane{{limits: &anybody}, {limits: &friends}}
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.dropAll()
	for {
		raw, err := l.Accept()
		if ctx.Err() != nil {
			if err == nil {
				raw.Close()
			}
			return nil
		}
		if err != nil {
			var ne net.Error
			if errors.As(err, &ne) && !errors.Is(err, net.ErrClosed) { // out of descriptors, say
				time.Sleep(100 * time.Millisecond)
				continue
			}
			return fmt.Errorf("accepting control connections: %w", err)
		}
		p := &pending{Conn: raw, host: raw.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(), left: maxHandshake}
		lane, ok := s.enter(p)
		if !ok {
			drop(raw)
			s.refused(p.host, errCrowded)
			if s.Crowded != nil {
				s.Crowded()
			}
			continue
		}
		wg.Go(func() {
			conn, known, err := s.handshake(p)
			s.mu.Lock()
			lane.leave(p)
			s.mu.Unlock()
			if err != nil {
				raw.Close()
				s.refused(p.host, err)
				return
			}
			if known {
				s.Accepted(conn)
			} else {
				s.Met(conn)
			}
		})
	}
}

// pending is a connection in its handshake: it ends with an error when more
// comes than a handshake has.
type pending struct {
	net.Conn
	host netip.Addr
	left int // octets; -1: the handshake is over
}

var (
	errTooLong = errors.New("handshake is too long")
	errCrowded = errors.New("too many connections")
)

// Read is called by one goroutine at a time.
func (p *pending) Read(b []byte) (int, error) {
	switch {
	case p.left < 0:
		return p.Conn.Read(b)
	case p.left == 0:
		return 0, errTooLong
	}
	n, err := p.Conn.Read(b[:min(len(b), p.left)])
	p.left -= n
	return n, err
}

// enter lets a connection into the lane of its address, if there is room.
func (s *Server) enter(p *pending) (*lane, bool) {
	expected := s.Expected != nil && s.Expected(p.host)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := &s.lanes[0]
	if expected {
		l = &s.lanes[1]
	}
	out, ok := l.enter(p.host, Now())
	if out != nil {
		drop(out.Conn)
	}
	if ok {
		l.open = append(l.open, p)
	}
	return l, ok
}

// dropAll ends what is open when nothing is served any more.
func (s *Server) dropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.lanes {
		for _, p := range s.lanes[i].open {
			drop(p.Conn)
		}
	}
}

// handshake proves the key of whoever is there; known tells whether it is a
// peer's.
func (s *Server) handshake(raw *pending) (conn *Conn, known bool, err error) {
	var key []byte
	config := s.Identity.config()
	config.VerifyConnection = func(st tls.ConnectionState) (err error) {
		if key, err = peerKey(st); err != nil {
			return err
		}
		known = s.Known(key)
		if !known && (s.Stranger == nil || !s.Stranger(key, raw.host)) {
			return fmt.Errorf("unknown key, fingerprint %s", Fingerprint(key))
		}
		return nil
	}
	c := tls.Server(raw, config)
	raw.SetDeadline(time.Now().Add(handshakeLimit)) // not by a context, which takes a goroutine
	if err := c.Handshake(); err != nil {
		return nil, false, err
	}
	raw.left = -1
	raw.SetDeadline(time.Time{})
	return newConn(c, key), known, nil
}

// refused logs at most one line in ten seconds: strangers must not fill the
// log.
func (s *Server) refused(host netip.Addr, err error) {
	s.mu.Lock()
	s.untold++
	n := s.untold
	if time.Since(s.told) < 10*time.Second {
		s.mu.Unlock()
		return
	}
	s.told, s.untold = time.Now(), 0
	s.mu.Unlock()
	text := err.Error() // may carry what a stranger sent
	s.Log.Warn("control connection refused", "from", host, "err", text[:min(len(text), maxLogged)], "count", n)
}
