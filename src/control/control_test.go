package control

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"htip/src/slog"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"htip/src/htip"
)

func identity(t testing.TB) *Identity {
	t.Helper()
	id, made, err := LoadIdentity(filepath.Join(t.TempDir(), "sub", "key"))
	if err != nil || !made {
		t.Fatal(made, err)
	}
	return id
}

type logBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *logBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.String()
}

// serve starts a server that knows the given keys.
func serve(t testing.TB, id *Identity, known ...[]byte) (netip.AddrPort, chan *Conn, *logBuffer) {
	t.Helper()
	l, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	conns := make(chan *Conn, 100)
	log := &logBuffer{}
	s := &Server{Identity: id, Log: slog.New(slog.NewTextHandler(log, nil)), Accepted: func(c *Conn) { conns <- c }, Known: func(k []byte) bool {
		for _, x := range known {
			if bytes.Equal(x, k) {
				return true
			}
		}
		return false
	}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return addrOf(l), conns, log
}

func TestIdentityFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "key")
	for name, content := range map[string]string{"empty": "", "short": "AAAA\n", "junk": "!!!!", "long": strings.Repeat("A", 300)} {
		os.WriteFile(path, []byte(content), 0o600)
		if _, _, err := LoadIdentity(path); err == nil || !strings.Contains(err.Error(), "damaged") {
			t.Errorf("%s: %v", name, err)
		}
		if now, _ := os.ReadFile(path); string(now) != content {
			t.Errorf("%s: the file was replaced", name)
		}
	}
	os.Remove(path)
	a, made, err := LoadIdentity(path)
	if err != nil || !made {
		t.Fatal(err)
	}
	os.Chmod(path, 0o644)
	b, made, err := LoadIdentity(path)
	if err != nil || made || !bytes.Equal(a.Public(), b.Public()) {
		t.Fatal("the second start has another key: ", err)
	}
	if st, _ := os.Stat(path); st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v", st.Mode())
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	if f := Fingerprint(a.Public()); len(f) != 19 || f != Fingerprint(b.Public()) {
		t.Error(f)
	}
	if len(EncodeKey(a.Public())) != 44 {
		t.Error(EncodeKey(a.Public()))
	}
	if _, _, err := LoadIdentity("/proc/none/key"); err == nil {
		t.Error("made a key where none can be")
	}
}

func TestTalk(t *testing.T) {
	a, b := identity(t), identity(t)
	addr, conns, _ := serve(t, b, a.Public())
	c, err := Dial(context.Background(), a, addr, b.Public())
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := c.Send(&htip.Message{Type: htip.Keepalive, Talk: uint64(i), TunnelID: 5}); err != nil {
			t.Fatal(err)
		}
	}
	c.Close() // what was sent still leaves
	s := <-conns
	if !bytes.Equal(s.Key(), a.Public()) || !s.Remote().Addr().IsLoopback() {
		t.Error(s.Key(), s.Remote())
	}
	k1, err1 := c.Export("l2tp", []byte{1}, 32)
	k2, err2 := s.Export("l2tp", []byte{1}, 32)
	k3, _ := s.Export("l2tp", []byte{2}, 32)
	if err1 != nil || err2 != nil || !bytes.Equal(k1, k2) || bytes.Equal(k1, k3) {
		t.Error("exporter: ", err1, err2)
	}
	// Tunnels take their keys from here: a recording shall be of no use later.
	if curve := c.tls.ConnectionState().CurveID; curve != tls.X25519MLKEM768 {
		t.Errorf("keys were agreed on by %v", curve)
	}
	for i := range 3 {
		m, err := s.Receive()
		if err != nil || m.Talk != uint64(i) {
			t.Fatal(m, err)
		}
	}
	if _, err := s.Receive(); err == nil || !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	if err := c.Send(&htip.Message{Type: htip.Keepalive, TunnelID: 5}); err == nil {
		t.Error("sent on a closed connection")
	}
	s.Close()
}

func TestWrongKeys(t *testing.T) {
	a, b, mallory := identity(t), identity(t), identity(t)
	addr, conns, log := serve(t, b, a.Public())
	var wrong *WrongKeyError
	if _, err := Dial(context.Background(), a, addr, mallory.Public()); !errors.As(err, &wrong) || !strings.Contains(err.Error(), Fingerprint(b.Public())) {
		t.Errorf("answered by another key: %v", err)
	}
	c, err := Dial(context.Background(), mallory, addr, b.Public())
	if err == nil { // a TLS 1.3 client is told with the first read
		_, err = c.Receive()
		c.Close()
	}
	if !errors.Is(err, ErrNotKnown) {
		t.Errorf("unknown to the server: %v", err)
	}
	for range 100 {
		if strings.Contains(log.text(), "refused") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if len(conns) != 0 || !strings.Contains(log.text(), "refused") {
		t.Errorf("%d connections, log %q", len(conns), log.text())
	}
	// Without a certificate, or with TLS 1.2.
	for _, cfg := range []*tls.Config{{InsecureSkipVerify: true, NextProtos: []string{alpn}}, {InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}} {
		c, err := tls.Dial("tcp", addr.String(), cfg)
		if err == nil {
			_, err = c.Read(make([]byte, 1))
			c.Close()
		}
		if err == nil || errors.Is(err, io.EOF) {
			t.Errorf("%+v was let in: %v", cfg.MaxVersion, err)
		}
	}
}

// TestLongHandshake: a stranger can't make us buffer a certificate of 200 kB.
func TestLongHandshake(t *testing.T) {
	b := identity(t)
	addr, _, log := serve(t, b)
	big := identity(t)
	for range 200 {
		big.cert.Certificate = append(big.cert.Certificate, big.cert.Certificate[0])
	}
	c, err := Dial(context.Background(), big, addr, b.Public())
	if err == nil {
		_, err = c.Receive()
		c.Close()
	}
	if err == nil {
		t.Fatal("let in")
	}
	for range 200 {
		if strings.Contains(log.text(), errTooLong.Error()) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("read to the end: %s", log.text())
}

// TestStrangerCantFillTheLog: what a stranger sends comes back in errors.
func TestStrangerCantFillTheLog(t *testing.T) {
	b := identity(t)
	addr, _, log := serve(t, b)
	var names []string
	for i := range 60 {
		names = append(names, strings.Repeat(string(rune('a'+i%26)), 100))
	}
	c, err := tls.Dial("tcp", addr.String(), &tls.Config{InsecureSkipVerify: true, NextProtos: names})
	if err == nil {
		c.Close()
	}
	for range 200 {
		if strings.Contains(log.text(), "refused") {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if n := len(log.text()); n == 0 || n > 400 {
		t.Errorf("%d octets were logged", n)
	}
}

func TestNobodyListens(t *testing.T) {
	a := identity(t)
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	l.Close()
	if _, err := Dial(context.Background(), a, addr, a.Public()); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Error(err)
	}
}

func BenchmarkHandshake(b *testing.B) {
	x, y := identity(b), identity(b)
	addr, conns, _ := serve(b, y, x.Public())
	for b.Loop() {
		c, err := Dial(context.Background(), x, addr, y.Public())
		if err != nil {
			b.Fatal(err)
		}
		(<-conns).Close()
		c.Close()
	}
}

// TestPortIsFreeAfterServe: a daemon that starts afresh listens at its port again as
// soon as the old one's Serve is over.
func TestPortIsFreeAfterServe(t *testing.T) {
	at := netip.MustParseAddrPort("127.0.0.1:0")
	for i := range 3000 {
		l, err := Listen(at)
		if err != nil {
			t.Fatalf("time %d: %v", i, err)
		}
		at = addrOf(l)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error)
		go func() { done <- (&Server{}).Serve(ctx, l) }()
		runtime.Gosched()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
}

// TestStranger: a key that nobody knows gets in where strangers are met, as a
// stranger, and nowhere else.
func TestStranger(t *testing.T) {
	a, b, c := identity(t), identity(t), identity(t)
	l, err := Listen(netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	met, accepted := make(chan *Conn, 1), make(chan *Conn, 1)
	s := &Server{
		Identity: b, Log: slog.New(slog.DiscardHandler), Known: func([]byte) bool { return false },
		Stranger: func(key []byte, from netip.Addr) bool { return bytes.Equal(key, a.Public()) && from.IsLoopback() },
		Met:      func(c *Conn) { met <- c }, Accepted: func(c *Conn) { accepted <- c },
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, l) }()
	addr := addrOf(l)
	x, err := Dial(ctx, a, addr, b.Public())
	if err != nil {
		t.Fatal(err)
	}
	m := <-met
	if !bytes.Equal(m.Key(), a.Public()) {
		t.Error(m.Key())
	}
	x.Close()
	m.Close()
	y, err := Dial(ctx, c, addr, b.Public())
	if err == nil {
		_, err = y.Receive()
		y.Close()
	}
	if !errors.Is(err, ErrNotKnown) || len(met)+len(accepted) > 0 {
		t.Error(err, len(met), len(accepted))
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
