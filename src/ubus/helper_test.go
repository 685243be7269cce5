package ubus_test

import (
	"bytes"
	"context"
	"htip/src/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"htip/src/ubus"
	"htip/tests/ubusd"
)

// patience is how long a test waits for what should come at once.
const patience = 10 * time.Second

// lines collects what is logged.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) count(part string) int { return strings.Count(l.String(), part) }

func (l *lines) logger() *slog.Logger {
	level := &slog.LevelVar{}
	level.Set(slog.LevelDebug)
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: level}))
}

func quiet() *slog.Logger { return new(lines).logger() }

func socket(t testing.TB) string { return filepath.Join(t.TempDir(), "ubus.sock") }

// bus is what the tests talk to: the broker of tests/ubusd, or the real ubusd
// whose program the variable UBUSD names.
type bus interface {
	Close() error
	KickAll() // ends all connections
}

// broker starts a bus that lets everybody do all.
func broker(t testing.TB, path string) bus {
	t.Helper()
	if program := os.Getenv("UBUSD"); program != "" {
		r := &realUbusd{t: t, program: program, path: path}
		r.start()
		t.Cleanup(func() { r.Close() })
		return r
	}
	b, err := ubusd.Listen(ubusd.Config{Socket: path, Policy: ubusd.Everyone{}, Log: quiet()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return b
}

// realUbusd runs OpenWrt's own broker. It needs root, as we have no ACL files.
type realUbusd struct {
	t             testing.TB
	program, path string
	cmd           *exec.Cmd
}

func (r *realUbusd) start() {
	cmd := exec.Command(r.program, "-s", r.path)
	if err := cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	r.cmd = cmd
	eventually(r.t, "real ubusd listens", func() bool {
		c, err := net.Dial("unix", r.path)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (r *realUbusd) KickAll() {
	r.Close()
	r.start()
}

func (r *realUbusd) Close() error {
	if r.cmd == nil {
		return nil
	}
	r.cmd.Process.Kill()
	r.cmd.Wait() // says that it was killed
	r.cmd = nil
	return os.Remove(r.path)
}

func within(t testing.TB, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func dial(t testing.TB, path string, o ubus.Options) *ubus.Conn {
	t.Helper()
	if o.Log == nil {
		o.Log = quiet()
	}
	c, err := o.Dial(within(t, patience), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// eventually waits until ok.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("never happened: %s", what)
		}
	}
}

func receive[T any](t testing.TB, what string, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatalf("never came: %s", what)
		panic("unreachable")
	}
}

// testObject has the methods of the recorded object, and some that misbehave.
func testObject() *ubus.Object {
	args := []ubus.Arg{{Name: "s", Type: ubus.TypeString}, {Name: "i", Type: ubus.TypeInt32}, {Name: "b", Type: ubus.TypeBool},
		{Name: "t", Type: ubus.TypeTable}, {Name: "a", Type: ubus.TypeArray}, {Name: "l", Type: ubus.TypeInt64},
		{Name: "h", Type: ubus.TypeInt16}, {Name: "d", Type: ubus.TypeDouble}, {Name: "any", Type: ubus.TypeAny}}
	return &ubus.Object{Name: "rig.test", Methods: []ubus.Method{
		{Name: "echo", Args: args, Handler: func(_ context.Context, r *ubus.Request) (ubus.Table, error) {
			return append(ubus.Table{ubus.F("method", r.Method)}, r.Args...), nil
		}},
		{Name: "fail", Args: []ubus.Arg{{Name: "code", Type: ubus.TypeInt32}}, Handler: func(_ context.Context, r *ubus.Request) (ubus.Table, error) {
			code, ok := r.Args.GetInt("code")
			if !ok {
				return nil, ubus.ErrInvalidArgument
			}
			return nil, ubus.Status(code)
		}},
		{Name: "slow", Args: []ubus.Arg{{Name: "ms", Type: ubus.TypeInt32}, {Name: "parts", Type: ubus.TypeInt32}}, Handler: slow},
		{Name: "who", Handler: func(_ context.Context, r *ubus.Request) (ubus.Table, error) {
			return ubus.Table{ubus.F("session", r.Session), ubus.F("user", r.User), ubus.F("caller", int64(r.Caller)),
				ubus.F("args", len(r.Args))}, nil
		}},
		{Name: "nothing", Handler: func(context.Context, *ubus.Request) (ubus.Table, error) { return nil, nil }},
		{Name: "panic", Handler: func(context.Context, *ubus.Request) (ubus.Table, error) { panic("on purpose") }},
		{Name: "huge", Handler: func(context.Context, *ubus.Request) (ubus.Table, error) {
			return ubus.Table{ubus.F("x", strings.Repeat("x", ubus.MaxMessage))}, nil
		}},
	}}
}

func slow(ctx context.Context, r *ubus.Request) (ubus.Table, error) {
	ms, _ := r.Args.GetInt("ms")
	parts, _ := r.Args.GetInt("parts")
	select {
	case <-time.After(time.Duration(ms) * time.Millisecond):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	for i := range parts {
		if err := r.Reply(ubus.Table{ubus.F("part", int(i))}); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// serve publishes testObject on a connection of its own.
func serve(t testing.TB, path string, o ubus.Options) *ubus.Conn {
	t.Helper()
	c := dial(t, path, o)
	if err := c.Publish(within(t, patience), testObject()); err != nil {
		t.Fatal(err)
	}
	return c
}
