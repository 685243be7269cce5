package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"htip/src/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Limits of connections whose key has not been proven yet. When there are too
// many, the oldest goes: a friend's handshake takes well under a second, a
// stranger's may last for ever.
const (
	maxPending        = 24
	maxPendingPerHost = 4
	// maxHandshake is how many octets a handshake may have. Ours has about
	// 1,900; crypto/tls by itself would buffer 256 kB of a stranger's.
	maxHandshake = 8 << 10
	maxLogged    = 160 // octets of an error in the log
)

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

	mu      sync.Mutex
	pending []*pending // oldest first
	told    time.Time  // when a refusal was last logged
	untold  int        // refusals since
}

// Serve accepts until ctx is done or the listener fails for good. It closes the
// listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	defer l.Close()
	var wg sync.WaitGroup
	defer wg.Wait()
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
		s.enter(p)
		wg.Go(func() {
			conn, known, err := s.handshake(ctx, p)
			s.leave(p)
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

var errTooLong = errors.New("handshake is too long")

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

// enter makes room for a connection, at the cost of the oldest of its host, or
// of all.
func (s *Server) enter(p *pending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	same, oldest := 0, -1
	for i, q := range s.pending {
		if q.host == p.host {
			if same++; oldest < 0 {
				oldest = i
			}
		}
	}
	if same < maxPendingPerHost {
		oldest = 0
	}
	if same >= maxPendingPerHost || len(s.pending) >= maxPending {
		s.pending[oldest].Close()
		s.pending = slices.Delete(s.pending, oldest, oldest+1)
	}
	s.pending = append(s.pending, p)
}

func (s *Server) leave(p *pending) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.pending, p); i >= 0 {
		s.pending = slices.Delete(s.pending, i, i+1)
	}
}

// handshake proves the key of whoever is there; known tells whether it is a
// peer's.
func (s *Server) handshake(ctx context.Context, raw *pending) (conn *Conn, known bool, err error) {
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
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	c := tls.Server(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, false, err
	}
	raw.left = -1
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
