package ubus_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"htip/src/ubus"
	"htip/tests/ubusd"
)

// run starts a server and stops it at the end of the test.
func run(t testing.TB, cfg ubus.ServerConfig) *ubus.Server {
	t.Helper()
	if cfg.Log == nil {
		cfg.Log = quiet()
	}
	if cfg.FirstRetry == 0 {
		cfg.FirstRetry, cfg.LastRetry = 5*time.Millisecond, 50*time.Millisecond
	}
	s, err := ubus.NewServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := receive(t, "end of Run", ended); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
	return s
}

func TestNewServerBad(t *testing.T) {
	for name, objects := range map[string][]*ubus.Object{
		"no name": {{}},
		"twice":   {{Name: "a"}, {Name: "a"}},
	} {
		if _, err := ubus.NewServer(ubus.ServerConfig{Objects: objects}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

// TestEndAnswers: ubusd does not tell a caller that its callee is gone, so a server
// that ends answers first what it has been asked. It does not wait for long.
func TestEndAnswers(t *testing.T) {
	path := socket(t)
	broker(t, path)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	began := make(chan bool, 2)
	wait := func(until func(ctx context.Context)) ubus.Handler {
		return func(own context.Context, _ *ubus.Request) (ubus.Table, error) {
			began <- true
			until(own)
			return nil, ubus.ErrTimeout
		}
	}
	s, err := ubus.NewServer(ubus.ServerConfig{Socket: path, Options: ubus.Options{Log: quiet()}, Objects: []*ubus.Object{{Name: "ending", Methods: []ubus.Method{
		{Name: "soon", Handler: wait(func(context.Context) { <-ctx.Done(); time.Sleep(5 * time.Millisecond) })},
		{Name: "never", Handler: wait(func(own context.Context) { <-own.Done() })},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	receive(t, "publishing", s.Ready())
	answered := make(chan error, 2)
	for _, method := range []string{"soon", "never"} {
		c := dial(t, path, ubus.Options{})
		go func() {
			_, err := c.Call(within(t, patience), "ending", method, nil)
			if method == "soon" {
				answered <- err
			}
		}()
		receive(t, "call", began)
	}
	cancel()
	stopping := time.Now()
	if err := receive(t, "answer", answered); !errors.Is(err, ubus.ErrTimeout) || errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := receive(t, "end of Run", ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if took := time.Since(stopping); took > patience/2 {
		t.Errorf("the end took %v", took)
	}
}

// ubusd is not there yet, comes, goes, and comes again.
func TestReconnect(t *testing.T) {
	path := socket(t)
	log := new(lines)
	events := make(chan string, 10)
	s := run(t, ubus.ServerConfig{Socket: path, Objects: []*ubus.Object{testObject(), {Name: "rig.two"}},
		Options: ubus.Options{Log: log.logger()},
		OnConnect: func(ctx context.Context, c *ubus.Conn) error {
			_, err := c.Listen(ctx, "hi", func(event string, _ ubus.Table) { events <- event })
			return err
		}})
	time.Sleep(30 * time.Millisecond)
	if _, err := s.Conn(); !errors.Is(err, ubus.ErrConnectionFailed) || !errors.Is(err, ubus.ErrNoConnection) {
		t.Errorf("no ubusd yet: %v", err)
	}
	if err := s.Notify("rig.test", "x", nil); err != nil {
		t.Errorf("nobody to notify: %v", err)
	}
	if _, err := s.Call(within(t, patience), "x", "y", nil); !errors.Is(err, ubus.ErrConnectionFailed) {
		t.Error(err)
	}
	for i := range 3 {
		b := broker(t, path)
		c := dial(t, path, ubus.Options{})
		eventually(t, "object published", func() bool {
			got, err := c.Lookup(within(t, patience), "rig.*")
			return err == nil && len(got) == 2
		})
		receive(t, "ready", s.Ready())
		got, err := c.Call(within(t, patience), "rig.test", "echo", ubus.Table{ubus.F("i", i)})
		if n, _ := got.GetInt("i"); err != nil || n != int64(i) {
			t.Errorf("life %d: %v, %v", i, got, err)
		}
		ch, on := collect(10)
		if _, err := c.Subscribe(within(t, patience), "rig.test", on); err != nil {
			t.Fatal(err)
		}
		eventually(t, "subscriber", func() bool { return s.Subscribed("rig.test") })
		if err := s.Notify("rig.test", "state", nil); err != nil {
			t.Error(err)
		}
		if got := receive(t, "notification", ch); got.name != "state" {
			t.Error(got)
		}
		eventually(t, "listener", func() bool {
			if err := c.SendEvent(within(t, patience), "hi", nil); err != nil {
				t.Fatal(err)
			}
			return len(events) > 0
		})
		for len(events) > 0 {
			<-events
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the end is noticed", func() bool { _, err := s.Conn(); return err != nil })
		if s.Subscribed("rig.test") {
			t.Error("subscribed by nobody")
		}
	}
	if n := log.count("ubus connected"); n != 3 {
		t.Errorf("%d times connected: %s", n, log)
	}
	// One line for each reason, not one for each attempt.
	if n := log.count("level=WARN"); n > 12 {
		t.Errorf("%d warnings: %s", n, log)
	}
}

// Whatever ubusd says, the server tries again until it talks to a good one.
func TestJunkThenGood(t *testing.T) {
	path, behind := socket(t), socket(t)
	broker(t, behind)
	answer := func(hexes ...string) func(*net.UnixConn) {
		return func(uc *net.UnixConn) {
			say(t, uc, hello)
			if _, err := io.ReadFull(uc, make([]byte, 12)); err != nil {
				t.Error(err)
			}
			say(t, uc, hexes...)
			if len(hexes) < 3 {
				drain(uc)
			}
		}
	}
	junk := []func(*net.UnixConn){
		func(*net.UnixConn) {},
		func(uc *net.UnixConn) { uc.Write([]byte("HTTP/1.1 400 Bad Request\r\n\r\n")); drain(uc) },
		func(uc *net.UnixConn) { say(t, uc, hello, "ffffffffffffffffffffffff"); drain(uc) },
		answer("0001 0001 00000000 0000000c 0100000800000002"), // the path is taken
		answer("0001 0001 00000000 0000000c 0100000800000000"), // no id
		answer("0002 0001 00000000 0000000c 0300000800001234", "0001 0001 00000000 0000000c 0100000800000000", "00"),
		answer(), // silence
	}
	i := 0
	listenRaw(t, path, func(uc *net.UnixConn) {
		if i < len(junk) {
			i++
			junk[i-1](uc)
			return
		}
		back, err := net.Dial("unix", behind)
		if err != nil {
			t.Error(err)
			return
		}
		var wg sync.WaitGroup
		wg.Go(func() { io.Copy(back, uc); back.Close() })
		wg.Go(func() { io.Copy(uc, back); uc.Close() })
		wg.Wait()
	})
	log := new(lines)
	run(t, ubus.ServerConfig{Socket: path, Objects: []*ubus.Object{testObject()},
		Options: ubus.Options{Log: log.logger(), WriteTimeout: 200 * time.Millisecond}})
	c := dial(t, behind, ubus.Options{})
	eventually(t, "object published", func() bool {
		_, err := c.Lookup(within(t, patience), "rig.test")
		return err == nil
	})
	if _, err := c.Call(within(t, patience), "rig.test", "echo", nil); err != nil {
		t.Error(err)
	}
	for _, part := range []string{"malformed", "invalid argument", "parse error"} {
		if log.count(part) == 0 {
			t.Errorf("the log says nothing of %q: %s", part, log)
		}
	}
}

// Ten restarts under load: no descriptor and no goroutine stays.
func TestNoLeaks(t *testing.T) {
	path := socket(t)
	b, ours := broker(t, path).(*ubusd.Broker)
	if !ours {
		t.Skip("counts the connections inside our own broker")
	}
	var set atomic.Int32 // times that all was set up
	s := run(t, ubus.ServerConfig{Socket: path, Objects: []*ubus.Object{testObject()},
		OnConnect: func(ctx context.Context, c *ubus.Conn) error {
			_, err := c.Listen(ctx, "*", func(string, ubus.Table) {})
			set.Add(1)
			return err
		}})
	receive(t, "ready", s.Ready())
	// A call that comes to an object just before its connection goes is never
	// answered, as by ubusd: the next one is.
	const soon = patience / 10
	work := func() {
		c, err := ubus.Options{Log: quiet()}.Dial(within(t, patience), path)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		eventually(t, "an answer", func() bool {
			_, err := c.Call(within(t, soon), "rig.test", "echo", nil)
			return err == nil
		})
		go c.Call(within(t, patience), "rig.test", "slow", ubus.Table{ubus.F("ms", 60_000)})
		if _, err := c.Subscribe(within(t, patience), "rig.test", func(string, ubus.Table) {}); err != nil {
			t.Fatal(err)
		}
	}
	work()
	settle := func() (int, int) { time.Sleep(50 * time.Millisecond); return descriptors(t), runtime.NumGoroutine() }
	// Everything of the server runs again when its object answers; what is
	// counted before that on a busy machine is too little.
	restart := func() {
		before := set.Load()
		b.KickAll()
		eventually(t, "an answer after the restart", func() bool {
			c, err := ubus.Options{Log: quiet()}.Dial(within(t, patience), path)
			if err != nil {
				return false
			}
			defer c.Close()
			_, err = c.Call(within(t, soon), "rig.test", "echo", nil)
			return err == nil
		})
		eventually(t, "connected again", func() bool {
			_, err := s.Conn()
			return err == nil && b.Clients() == 1 && set.Load() > before
		})
	}
	restart()
	fds, routines := settle()
	for range 10 {
		work()
		restart()
	}
	eventually(t, fmt.Sprintf("back to %d descriptors and %d goroutines", fds, routines), func() bool {
		f, r := settle()
		return f <= fds && r <= routines
	})
}

func TestRunEndsWhileWaiting(t *testing.T) {
	s, err := ubus.NewServer(ubus.ServerConfig{Socket: socket(t), Options: ubus.Options{Log: quiet()}, FirstRetry: time.Hour, LastRetry: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasPrefix(s.String(), "ubus /") {
		t.Error(s)
	}
	if err := s.Run(within(t, 50*time.Millisecond)); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	select {
	case <-s.Ready():
		t.Error("ready without ubusd")
	default:
	}
	if _, err := os.Stat(s.String()[5:]); err == nil {
		t.Error("who made the socket?")
	}
}
