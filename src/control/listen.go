package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits of connections whose key has not been proven yet. Such a connection
// costs about 30 kB.
const (
	maxPending        = 24
	maxPendingPerHost = 4
)

// Server accepts control connections.
type Server struct {
	Identity *Identity
	// Known tells whether a key belongs to a peer. Called from many goroutines.
	Known func(key []byte) bool
	// Accepted is given every connection of a known peer and owns it.
	Accepted func(*Conn)
	Log      *slog.Logger

	mu      sync.Mutex
	pending map[netip.Addr]int
	total   int
	told    time.Time // when a refusal was last logged
	untold  int       // refusals since
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
		host := raw.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
		if !s.enter(host) {
			raw.Close()
			continue
		}
		wg.Go(func() {
			conn, err := s.handshake(ctx, raw)
			s.leave(host)
			if err != nil {
				raw.Close()
				s.refused(host, err)
				return
			}
			s.Accepted(conn)
		})
	}
}

func (s *Server) enter(host netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == nil {
		s.pending = map[netip.Addr]int{}
	}
	if s.total >= maxPending || s.pending[host] >= maxPendingPerHost {
		return false
	}
	s.total++
	s.pending[host]++
	return true
}

func (s *Server) leave(host netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.total--
	if s.pending[host]--; s.pending[host] == 0 {
		delete(s.pending, host)
	}
}

func (s *Server) handshake(ctx context.Context, raw net.Conn) (*Conn, error) {
	var key []byte
	config := s.Identity.config()
	config.VerifyConnection = func(st tls.ConnectionState) (err error) {
		if key, err = peerKey(st); err != nil {
			return err
		}
		if !s.Known(key) {
			return fmt.Errorf("unknown key, fingerprint %s", Fingerprint(key))
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	c := tls.Server(raw, config)
	if err := c.HandshakeContext(ctx); err != nil {
		return nil, err
	}
	return newConn(c, key), nil
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
	s.Log.Warn("control connection refused", "from", host, "err", err, "count", n)
}
