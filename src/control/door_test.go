package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"htip/src/htip"
	"htip/src/slog"
)

func TestRate(t *testing.T) {
	var r Rate
	now := 1000 * time.Hour
	take := func(n int) (got int) {
		for range n {
			if r.Take(now, 4, time.Second) {
				got++
			}
		}
		return got
	}
	for _, x := range []struct {
		later time.Duration
		want  int
	}{{0, 4}, {0, 0}, {time.Second, 1}, {500 * time.Millisecond, 0}, {500 * time.Millisecond, 1}, {2500 * time.Millisecond, 2}, {time.Hour, 4}, {-time.Hour, 0}, {time.Hour, 0}, {4 * time.Second, 4}} {
		now += x.later
		if got := take(10); got != x.want {
			t.Errorf("%v later: %d instead of %d", x.later, got, x.want)
		}
	}
}

// TestLanes: what is let in, from how many addresses whatever it comes.
func TestLanes(t *testing.T) {
	addr := func(i int) netip.Addr { return netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}) }
	for name, x := range map[string]struct {
		hosts    int // that take turns
		each     time.Duration
		tries    int
		from, to int // let in
	}{
		"one host":                 {1, time.Millisecond, 60_000, 16 + 18, 16 + 20},
		"one patient host":         {1, 3 * time.Second, 100, 100, 100},
		"two hosts":                {2, time.Millisecond, 60_000, 2 * 34, 2 * 36},
		"a thousand hosts":         {1000, time.Millisecond, 60_000, 16 + 59, 16 + 60},
		"a thousand hosts at once": {1000, 0, 1000, 16, 16},
	} {
		l := lane{limits: &anybody}
		now, in, most := time.Duration(0), 0, 0
		for i := range x.tries {
			a := addr(i % x.hosts)
			p := &pending{from: netip.AddrPortFrom(a, 1)}
			out, ok := l.enter(p.from.Addr(), now)
			if out != nil && out.from != p.from && len(l.open) < anybody.open-1 {
				t.Errorf("%s: another host's handshake ended although there was room", name)
			}
			if ok {
				in++
				l.open = append(l.open, p)
			}
			most = max(most, len(l.open))
			now += x.each
		}
		if in < x.from || in > x.to || most > anybody.open || len(l.hosts) > hostsKept {
			t.Errorf("%s: %d let in, %d open, %d hosts kept", name, in, most, len(l.hosts))
		}
		// Whoever comes once, while few others come in masses, gets in.
		if _, ok := l.enter(addr(5000), now+anybody.every); !ok && x.hosts < 3 {
			t.Errorf("%s: nobody else gets in", name)
		}
	}
	// The oldest goes, of the same host first.
	l := lane{limits: &anybody}
	now := time.Duration(0)
	open := func(host, n int) (out *pending) {
		now += time.Minute
		p := &pending{from: netip.AddrPortFrom(addr(host), 1), left: n}
		out, ok := l.enter(p.from.Addr(), now)
		if !ok {
			t.Fatal("not let in")
		}
		l.open = append(l.open, p)
		return out
	}
	for i := range anybody.perHost {
		open(1, i)
	}
	if out := open(1, 9); out == nil || out.left != 0 {
		t.Errorf("%+v", out)
	}
	for i := len(l.open); i < anybody.open; i++ {
		open(100+i, i)
	}
	if out := open(200, 0); out == nil || out.left != 1 {
		t.Errorf("%+v", out)
	}
	for len(l.open) > 0 {
		l.leave(l.open[len(l.open)-1])
	}
	if l.leave(&pending{}); open(300, 0) != nil {
		t.Error("an empty lane is full")
	}
}

// from dials from an address of the loopback device; nil when it is turned away
// while it dials.
func from(t testing.TB, host string, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	for try := 0; ; try++ {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}, Timeout: 5 * time.Second}
		c, err := d.Dial("tcp", to.String())
		if err == nil {
			return c.(*net.TCPConn)
		}
		if errors.Is(err, syscall.ECONNRESET) {
			return nil
		}
		if try == 5 { // a full backlog looks like this
			t.Fatal(err)
		}
	}
}

// closed tells whether the other side has ended a connection.
func closed(c *net.TCPConn) bool {
	if c == nil {
		return true
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	_, err := c.Read(make([]byte, 1))
	return err != nil && !errors.Is(err, os.ErrDeadlineExceeded)
}

// leftOpen counts connections that the other side has not ended, once they are no
// more than limit or it has had time to look at the last of them.
func leftOpen(cs []*net.TCPConn, limit int) (open int) {
	for end := time.Now().Add(3 * time.Second); ; { // well before handshakes end by themselves
		time.Sleep(2 * crowdRest)
		open = 0
		for _, c := range cs {
			if !closed(c) {
				open++
			}
		}
		if open <= limit || time.Now().After(end) {
			return open
		}
	}
}

// flooded is a server that knows a, and expects it from 127.0.9.9.
func flooded(t *testing.T, a, b *Identity) (netip.AddrPort, chan *Conn, *logBuffer, *atomic.Int32) {
	t.Helper()
	l, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	log, conns, crowded := &logBuffer{}, make(chan *Conn, 100), &atomic.Int32{}
	s := &Server{
		Identity: b, Log: slog.New(slog.NewTextHandler(log, nil)), Accepted: func(c *Conn) { conns <- c },
		Known:    func(k []byte) bool { return bytes.Equal(k, a.Public()) },
		Expected: func(h netip.Addr) bool { return h == netip.MustParseAddr("127.0.9.9") },
		Crowded:  func() { crowded.Add(1) },
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(handshakeLimit / 2):
			t.Error("the server waits for strangers before it ends")
		}
	})
	return addrOf(l), conns, log, crowded
}

// handshake is an honest client's.
func handshake(raw *net.TCPConn, a, b *Identity) (*tls.Conn, error) {
	if raw == nil {
		return nil, syscall.ECONNRESET
	}
	c := tls.Client(raw, a.clientConfig(b.Public()))
	c.SetDeadline(time.Now().Add(5 * time.Second))
	return c, c.Handshake()
}

// TestJunkAndSilence: connections that say nothing, or junk, are few at a time;
// the others are cut off at once and cost no goroutine. A friend gets in at
// once, from where it is expected and from anywhere.
func TestJunkAndSilence(t *testing.T) {
	a, b := identity(t), identity(t)
	addr, conns, log, crowded := flooded(t, a, b)
	before := runtime.NumGoroutine()
	var idle []*net.TCPConn
	defer func() {
		for _, c := range idle {
			if c != nil {
				c.Close()
			}
		}
	}()
	for i := range 600 {
		c := from(t, fmt.Sprintf("127.0.1.%d", 1+i%2), addr)
		idle = append(idle, c)
		if i%5 == 0 && c != nil {
			c.Write(bytes.Repeat([]byte("junk"), 1000))
		}
	}
	if n := runtime.NumGoroutine() - before; n > anybody.open+8 {
		t.Errorf("%d goroutines more", n)
	}
	if open := leftOpen(idle, anybody.open); open > anybody.open {
		t.Errorf("%d connections of strangers are open", open)
	}
	if crowded.Load() == 0 || strings.Count(log.text(), "\n") > 2 {
		t.Errorf("crowded %d times; log: %s", crowded.Load(), log.text())
	}
	for _, host := range []string{"127.0.9.9", "127.0.5.5"} {
		if host == "127.0.5.5" {
			time.Sleep(crowd.every) // two hosts can't take all that there is for anybody
		}
		f, err := handshake(from(t, host, addr), a, b)
		if err != nil {
			t.Fatalf("a friend from %s among strangers: %v", host, err)
		}
		s := <-conns
		if s.Local() != addr.Addr() || s.Remote().Addr().String() != host {
			t.Errorf("from %v to %v", s.Remote(), s.Local())
		}
		if host == "127.0.9.9" { // junk from a friend is an error that names itself
			f.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
			var v htip.VersionError
			if _, err := s.Receive(); !errors.As(err, &v) {
				t.Error(err)
			}
		}
		s.Close()
		f.Close()
	}
}

// TestFloodFromAFriendsAddress: whoever shares it with others shares its limits,
// and nobody else is kept out.
func TestFloodFromAFriendsAddress(t *testing.T) {
	a, b := identity(t), identity(t)
	addr, conns, _, _ := flooded(t, a, b)
	var idle []*net.TCPConn
	for range 300 {
		idle = append(idle, from(t, "127.0.9.9", addr))
	}
	if open := leftOpen(idle, friends.perHost); open > friends.perHost {
		t.Errorf("%d connections are open", open)
	}
	f, err := handshake(from(t, "127.0.5.5", addr), a, b)
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	(<-conns).Close()
	for _, c := range idle {
		if c != nil {
			c.Close()
		}
	}
}

// TestSlowHandshake: byte by byte, a handshake ends at its limit.
func TestSlowHandshake(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the limit")
	}
	a, b := identity(t), identity(t)
	addr, _, _, _ := flooded(t, a, b)
	c := from(t, "127.0.5.5", addr)
	defer c.Close()
	begin := time.Now()
	for i := 0; ; i++ {
		x := byte(1)
		if i < 5 {
			x = []byte{22, 3, 1, 16, 0}[i]
		}
		if _, err := c.Write([]byte{x}); err != nil || closed(c) {
			break
		}
		if time.Since(begin) > 2*handshakeLimit {
			t.Fatal("still open")
		}
		time.Sleep(100 * time.Millisecond)
	}
	if d := time.Since(begin); d < handshakeLimit/2 {
		t.Errorf("ended after %v already: nothing was shown", d)
	}
}

// TestOutOfDescriptors: a process that has no descriptors left goes on when it
// has some again.
func TestOutOfDescriptors(t *testing.T) {
	a, b := identity(t), identity(t)
	l, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	var fails atomic.Int32
	accept = func(fd, flags int) (int, syscall.Sockaddr, error) {
		if fails.Add(1) <= 3 {
			return 0, nil, syscall.EMFILE
		}
		return syscall.Accept4(fd, flags)
	}
	defer func() { accept = syscall.Accept4 }()
	in := make(chan *Conn, 1)
	s := &Server{Identity: b, Log: slog.New(slog.DiscardHandler), Accepted: func(c *Conn) { in <- c }, Known: func([]byte) bool { return true }}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	c, err := Dial(ctx, a, addrOf(l), b.Public())
	if err != nil {
		t.Fatal(err)
	}
	(<-in).Close()
	c.Close()
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// addrOf is where a listener listens.
func addrOf(l Listener) (at netip.AddrPort) {
	raw, err := l.SyscallConn()
	if err == nil {
		raw.Control(func(fd uintptr) {
			at, _ = sockname(fd)
		})
	}
	if err != nil {
		panic(err)
	}
	return at
}
