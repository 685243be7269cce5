package control

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"htip/src/slog"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
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

	// Expected, when set, tells whether a peer may come from an address: then it
	// does not stand in line with strangers. Crowded is called while connections
	// are turned away in masses. Neither may wait.
	Expected func(netip.Addr) bool
	Crowded  func()

	mu     sync.Mutex
	lanes  [2]lane       // of anybody, and of addresses where peers are expected
	away   Rate          // connections that are turned away without being a crowd
	until  time.Duration // when a crowd is forgotten; 0: none
	told   time.Time     // when a refusal was last logged
	untold int           // refusals since
}

// Serve accepts until ctx is done or the listener fails for good. It closes the
// listener: when it returns, the port is free again.
func (s *Server) Serve(ctx context.Context, l Listener) error {
	s.lanes = [2]lane{{limits: &anybody}, {limits: &friends}}
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() { l.Close(); close(closed) })
	defer func() {
		if l.Close(); !stop() {
			<-closed // that Close was the first, and alone waits for the end
		}
	}()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer s.dropAll()
	raw, err := l.SyscallConn()
	for err == nil {
		crowded := false
		if err = raw.Read(func(fd uintptr) bool { return s.acceptAll(fd, &wg, &crowded) }); ctx.Err() != nil {
			return nil
		}
		if crowded {
			if s.Crowded != nil {
				s.Crowded()
			}
			time.Sleep(crowdRest)
		}
	}
	return fmt.Errorf("accepting control connections: %w", err)
}

// acceptAll takes what waits in the kernel, one backlog at a time, so that it
// ends. It is false when there was nothing.
// In net.Conn's own way a connection that is turned away would cost three times
// as much.
func (s *Server) acceptAll(listener uintptr, wg *sync.WaitGroup, crowded *bool) bool {
	for n := range backlog {
		fd, from, err := accept(int(listener), syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC)
		switch err {
		case nil:
		case syscall.EAGAIN:
			return n > 0
		case syscall.ECONNABORTED, syscall.EINTR:
			continue
		default: // out of descriptors, say
			*crowded = true
			return true
		}
		p := &pending{left: maxHandshake}
		p.from, _ = addrPort(from)
		lane, away := s.enter(p, fd)
		if lane == nil {
			syscall.Close(fd)
			s.refused(p.from.Addr(), errCrowded)
			*crowded = *crowded || away
			continue
		}
		wg.Go(func() { s.begin(p, lane) })
	}
	return true
}

// begin shakes hands and gives the connection away.
func (s *Server) begin(p *pending, l *lane) {
	conn, known, err := s.handshake(p)
	s.mu.Lock()
	l.leave(p)
	s.mu.Unlock()
	if err != nil {
		p.Close()
		s.refused(p.from.Addr(), err)
		return
	}
	if known {
		s.Accepted(conn)
	} else {
		s.Met(conn)
	}
}

var errCrowded = errors.New("too many connections")

// enter lets a connection into the lane of its address. It is nil when there is
// no room; crowded, when that is so for many.
func (s *Server) enter(p *pending, fd int) (l *lane, crowded bool) {
	addr := p.from.Addr()
	expected := s.Expected != nil && s.Expected(addr)
	s.mu.Lock()
	defer s.mu.Unlock()
	now := Now()
	if l = &s.lanes[0]; expected {
		l = &s.lanes[1]
	} else if l.limits = &anybody; now < s.until {
		l.limits = &crowd
	}
	out, ok := l.enter(addr, now)
	if !ok {
		if crowded = !s.away.Take(now, crowdBurst, crowdEvery); crowded {
			s.until = now + crowdFor
		}
		return nil, crowded
	}
	if out != nil {
		out.drop()
	}
	linger(fd, 0)
	p.File = os.NewFile(uintptr(fd), p.from.String())
	l.open = append(l.open, p)
	return l, false
}

// dropAll ends what is open when nothing is served any more.
func (s *Server) dropAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.lanes {
		for _, p := range s.lanes[i].open {
			p.drop()
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
		if !known && (s.Stranger == nil || !s.Stranger(key, raw.from.Addr())) {
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
