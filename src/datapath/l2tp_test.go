package datapath

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fakeXl2tpd is what the test binary does when it is started as xl2tpd: it
// reads its configuration, binds its port, answers on its control pipe and ends
// when it is told to. HTIP_FAKE_XL2TPD says how else it behaves.
func fakeXl2tpd(mode string, args []string) int {
	option := func(name string) string {
		if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	if mode == "fails" {
		fmt.Fprintln(os.Stderr, "xl2tpd[1]: init_network: Unable to bind socket: Address already in use. Terminating.")
		return 1
	}
	config, err := os.ReadFile(option("-c"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	_, port, _ := strings.Cut(string(config), "port = ")
	port, _, _ = strings.Cut(port, "\n")
	conn, err := net.ListenPacket("udp4", "0.0.0.0:"+port)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer conn.Close()
	if mode == "mute" { // never ready
		time.Sleep(time.Minute)
	}
	if mode == "slow" {
		time.Sleep(300 * time.Millisecond)
	}
	control := option("-C")
	if err := syscall.Mkfifo(control, 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	if mode == "deaf" {
		signal.Ignore(syscall.SIGTERM)
	}
	go func() {
		for {
			request, err := os.ReadFile(control)
			answer, command, ok := strings.Cut(strings.TrimPrefix(string(request), "@"), " ")
			if err != nil || !ok || command != "x" {
				continue
			}
			// As xl2tpd: the answer's reader is there already.
			if f, err := os.OpenFile(answer, os.O_WRONLY, 0); err == nil {
				fmt.Fprint(f, "00 OK\n00 AVAILABLE lns.count=1\n")
				f.Close()
			}
		}
	}()
	<-term
	os.Remove(control)
	return 1
}

// ourselves is this program, to be started as another one.
func ourselves(t *testing.T) string {
	t.Helper()
	startsPrograms(t)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return exe
}

// newL2TP is a driver whose xl2tpd is fakeXl2tpd, in a short directory: file
// names have a limit.
func newL2TP(t *testing.T, mode string) *l2tp {
	t.Helper()
	exe := ourselves(t)
	dir, err := os.MkdirTemp("/tmp", "dp")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("HTIP_FAKE_XL2TPD", mode)
	l := &l2tp{
		runDir: filepath.Join(dir, "run"), xl2tpd: exe, pppd: exe, plugins: exe, varRun: dir,
		proc:   processes{proc: "/proc", kill: syscall.Kill},
		kernel: func(context.Context) error { return nil },
		gates:  map[string]context.CancelFunc{},
	}
	t.Cleanup(func() {
		devices, err := l.held()
		for _, d := range devices {
			err = errors.Join(err, l.end(context.Background(), d))
		}
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	return l
}

func freePort(t *testing.T) uint16 {
	t.Helper()
	c, err := net.ListenPacket("udp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
}

func server(t *testing.T) Tunnel {
	tun := homeB()
	tun.LocalPort = freePort(t)
	return tun
}

func TestL2TPLife(t *testing.T) {
	for _, mode := range []string{"usual", "slow", "deaf"} {
		t.Run(mode, func(t *testing.T) {
			l, tun, ctx := newL2TP(t, mode), server(t), context.Background()
			if ok, err := l.runs(tun); ok || err != nil {
				t.Fatalf("runs before the start: %t, %v", ok, err)
			}
			if err := l.start(ctx, tun); err != nil {
				t.Fatal(err)
			}
			// Clients can call: the port is there.
			if taken, err := l.portTaken(tun.LocalPort); !taken || err != nil {
				t.Errorf("port: %t, %v", taken, err)
			}
			if ok, err := l.runs(tun); !ok || err != nil {
				t.Errorf("runs: %t, %v", ok, err)
			}
			// A new life finds it, and finds a difference.
			again := newL2TP(t, mode)
			again.runDir = l.runDir
			if ok, err := again.runs(tun); !ok || err != nil {
				t.Errorf("a new life: %t, %v", ok, err)
			}
			other := tun
			other.MTU = 1300
			if ok, err := again.runs(other); ok || err != nil {
				t.Errorf("another MTU: %t, %v", ok, err)
			}
			if held, err := again.held(); err != nil || len(held) != 1 {
				t.Errorf("held: %v, %v", held, err)
			}
			if s, err := l.state(tun); err != nil || !s.running || s.ended || s.kernel || !s.since.IsZero() {
				t.Errorf("%+v, %v", s, err)
			}
			if _, err := os.Stat(filepath.Join(l.dir(tun.Device), fileAnswer)); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("answer pipe: %v", err)
			}
			if err := again.end(ctx, tun.Device); err != nil {
				t.Fatal(err)
			}
			if s, err := l.state(tun); err != nil || s.running || !s.ended || s.reason == "" {
				t.Errorf("after the end: %+v, %v", s, err)
			}
			if held, err := l.held(); err != nil || len(held) != 0 {
				t.Errorf("held after the end: %v, %v", held, err)
			}
			if err := again.end(ctx, tun.Device); err != nil {
				t.Errorf("end of nothing: %v", err)
			}
			if err := l.sweep(); err != nil {
				t.Error(err)
			}
			if entries, err := os.ReadDir(l.runDir); err != nil || len(entries) != 0 {
				t.Errorf("left: %v, %v", entries, err)
			}
		})
	}
}

// A server may listen before the addresses are agreed on (¶94). A caller's
// pppd waits at the gate until they are.
func TestL2TPListens(t *testing.T) {
	l, full, ctx := newL2TP(t, "usual"), server(t), context.Background()
	early := full
	early.LocalAddr, early.PeerAddr, early.Own, early.Peer = netip.Addr{}, netip.Addr{}, nil, nil
	if err := early.check(); err != nil {
		t.Fatal(err)
	}
	client := early
	client.Server = false
	if client.check() == nil {
		t.Error("a client needs addresses")
	}
	if err := l.start(ctx, early); err != nil {
		t.Fatal(err)
	}
	if taken, err := l.portTaken(early.LocalPort); !taken || err != nil {
		t.Errorf("port: %t, %v", taken, err)
	}
	read := make(chan string, 1)
	go func() {
		b, err := os.ReadFile(filepath.Join(l.dir(early.Device), fileGate))
		read <- fmt.Sprint(string(b), err)
	}()
	for range 2 {
		if ok, err := l.runs(early); !ok || err != nil {
			t.Fatalf("does not listen: %v", err)
		}
		if err := l.adopt(early); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(2*gateSoon + gateDelay)
	if len(read) > 0 {
		t.Fatalf("a call got %q before anything was agreed on", <-read)
	}
	other := full
	other.LocalPort++
	if ok, _ := l.runs(other); ok {
		t.Error("runs on another port, too")
	}
	if ok, err := l.runs(full); !ok || err != nil {
		t.Fatalf("can't be completed: %v", err)
	}
	if err := l.adopt(full); err != nil {
		t.Fatal(err)
	}
	if got := <-read; got != "<nil>" { // the gate carries nothing
		t.Errorf("pppd got %q", got)
	}
	if b, err := os.ReadFile(filepath.Join(l.dir(full.Device), fileOptions)); err != nil || string(b) != pppOptions(full, l.dir(full.Device)) {
		t.Errorf("behind the gate pppd finds %q, %v", b, err)
	}
	if ok, err := l.runs(full); !ok || err != nil {
		t.Errorf("runs: %t, %v", ok, err)
	}
	if ok, err := l.runs(early); ok || err != nil {
		t.Errorf("it listens only, after its addresses are known: %v", err)
	}
}

func TestL2TPStartFails(t *testing.T) {
	ctx := context.Background()
	check := func(name string, err error, permanent bool, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) || IsPermanent(err) != permanent {
			t.Errorf("%s: %v, permanent %t", name, err, IsPermanent(err))
		}
	}
	l, tun := newL2TP(t, "fails"), server(t)
	check("ends at once", l.start(ctx, tun), false, "already in use")
	if entries, err := os.ReadDir(l.runDir); err != nil || len(entries) != 1 || entries[0].Name() != fileOurs {
		t.Errorf("left: %v, %v", entries, err)
	}

	l = newL2TP(t, "usual")
	l.xl2tpd = "/no/such/xl2tpd"
	check("no program", l.start(ctx, tun), true, "not installed")
	if m := l.missing(ctx); len(m) != 1 || !strings.Contains(m[0], "package xl2tpd") {
		t.Errorf("missing: %q", m)
	}
	l.plugins, l.kernel = "/no/such/*", func(context.Context) error { return errors.New("protocol not supported") }
	if m := l.missing(ctx); len(m) != 3 || !strings.Contains(m[1], "ppp-mod-pppol2tp") || !strings.Contains(m[2], "kmod-pppol2tp") {
		t.Errorf("missing: %q", m)
	}

	l = newL2TP(t, "usual")
	c, err := net.ListenPacket("udp4", fmt.Sprintf("0.0.0.0:%d", tun.LocalPort))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	check("port in use", l.start(ctx, tun), false, "already in use")

	l.runDir = "/tmp/" + strings.Repeat("x", 90)
	check("long name", l.start(ctx, tun), true, "too long")
	l.runDir = "/tmp/a b"
	check("odd name", l.start(ctx, tun), true, "can't stand")
}

func TestHousekeep(t *testing.T) {
	l := newL2TP(t, "usual")
	if err := l.housekeep("htip-bob"); err != nil {
		t.Errorf("no log: %v", err)
	}
	if err := os.MkdirAll(l.dir("htip-bob"), 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(l.dir("htip-bob"), fileLog)
	line := strings.Repeat("x", 98) + "\n"
	if err := os.WriteFile(path, []byte(strings.Repeat(line, 1000)+"last line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	// The writer has it open and goes on afterwards.
	w, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	if err := l.housekeep("htip-bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := w.WriteString("next\n"); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil || len(b) > keepLog+10 || !strings.HasPrefix(string(b), line) || !strings.HasSuffix(string(b), line+"last line\nnext\n") {
		t.Errorf("%d bytes, %v", len(b), err)
	}
}

// Every pppd that waits at the gate is let through, however many there are, and
// none of them is given anything there: what only one of them got, the others
// would run without.
func TestGate(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), fileGate)
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	const callers = 4
	passed := make(chan error, callers)
	for range callers { // all of them before anybody opens
		go func() {
			b, err := os.ReadFile(pipe)
			if err == nil && len(b) > 0 {
				err = fmt.Errorf("got %q", b)
			}
			passed <- err
		}()
	}
	time.Sleep(2 * gateSoon)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { serveGate(ctx, pipe); close(done) }()
	for range callers {
		select {
		case err := <-passed:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("left at the gate")
		}
	}
	for range 2 { // and later ones
		begin := time.Now()
		b, err := os.ReadFile(pipe)
		if took := time.Since(begin); err != nil || len(b) != 0 || took > gateDelay+2*time.Second {
			t.Errorf("%q, %v, after %s", b, err, took)
		}
	}
	// One that is killed while it waits.
	f, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * gateSoon)
	f.Close()
	cancel()
	<-done
	// The pipe is gone: so is the gate.
	if err := os.Remove(pipe); err != nil {
		t.Fatal(err)
	}
	serveGate(context.Background(), pipe)
}
