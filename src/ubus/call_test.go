package ubus_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"htip/src/ubus"
)

func TestCallErrors(t *testing.T) {
	path := socket(t)
	broker(t, path)
	log := new(lines)
	serve(t, path, ubus.Options{Log: log.logger()})
	c := dial(t, path, ubus.Options{})
	for _, tc := range []struct {
		object, method string
		args           ubus.Table
		want           ubus.Status
	}{
		{"rig.none", "echo", nil, ubus.StatusNotFound},
		{"rig.test", "nomethod", nil, ubus.StatusMethodNotFound},
		{"rig.test", "fail", nil, ubus.StatusInvalidArgument},
		{"rig.test", "fail", ubus.Table{ubus.F("code", 4)}, ubus.StatusNotFound},
		{"rig.test", "fail", ubus.Table{ubus.F("code", 6)}, ubus.StatusPermissionDenied},
		{"rig.test", "fail", ubus.Table{ubus.F("code", 99)}, 99},
		{"rig.test", "fail", ubus.Table{ubus.F("code", 0)}, ubus.StatusUnknownError},
		{"rig.test", "echo", ubus.Table{ubus.F("s", 5)}, ubus.StatusInvalidArgument},
		{"rig.test", "echo", ubus.Table{ubus.F("zzz", 5)}, ubus.StatusInvalidArgument},
		{"rig.test", "panic", nil, ubus.StatusUnknownError},
		{"rig.test", "huge", nil, ubus.StatusUnknownError},
	} {
		got, err := c.Call(within(t, patience), tc.object, tc.method, tc.args)
		if !errors.Is(err, tc.want) || got != nil {
			t.Errorf("%s %s %v: got %v, %v; want %v", tc.object, tc.method, tc.args, got, err, tc.want)
		}
		if err != nil && !strings.Contains(err.Error(), "ubus call "+tc.object+" "+tc.method) {
			t.Errorf("error does not say what failed: %v", err)
		}
	}
	if log.count("on purpose") != 1 {
		t.Errorf("panic in the log: %s", log)
	}
	// Arguments that fit no message never leave.
	if _, err := c.Call(within(t, patience), "rig.test", "echo", ubus.Table{ubus.F("s", strings.Repeat("s", ubus.MaxMessage))}); !errors.Is(err, ubus.ErrTooBig) {
		t.Errorf("big argument: %v", err)
	}
	if _, err := c.Call(within(t, patience), "rig.test", "echo", nil); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

func TestCall(t *testing.T) {
	path := socket(t)
	broker(t, path)
	serve(t, path, ubus.Options{})
	c := dial(t, path, ubus.Options{})
	args := ubus.Table{ubus.F("s", "hello"), ubus.F("i", int64(1<<31)), ubus.F("b", true), ubus.F("l", int32(1)), ubus.F("d", int32(2)),
		ubus.F("t", ubus.Table{ubus.F("n", nil)}), ubus.F("a", ubus.Array{"x", int32(1), 1.5}), ubus.F("any", int16(4)), ubus.F("h", nil)}
	got, err := c.Call(within(t, patience), "rig.test", "echo", args)
	if want := append(ubus.Table{ubus.F("method", "echo")}, args...); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, %v", got, err)
	}
	got, err = c.Call(within(t, patience), "rig.test", "slow", ubus.Table{ubus.F("ms", 1), ubus.F("parts", 3)})
	if err != nil || fmt.Sprint(got) != "[{part 0} {part 1} {part 2}]" {
		t.Errorf("parts joined: %v, %v", got, err)
	}
	got, err = c.Call(within(t, patience), "rig.test", "nothing", nil)
	if err != nil || got != nil {
		t.Errorf("nothing: %v, %v", got, err)
	}
	got, err = c.Call(within(t, patience), "rig.test", "who", ubus.Table{ubus.F(ubus.SessionArg, "50f6")})
	if err != nil {
		t.Fatal(err)
	}
	if s, _ := got.GetString("session"); s != "50f6" {
		t.Errorf("session: %v", got)
	}
	if n, _ := got.GetInt("caller"); uint32(n) != c.ID() {
		t.Errorf("caller: %v, I am %d", got, c.ID())
	}
	if n, _ := got.GetInt("args"); n != 0 {
		t.Errorf("the session is left in the arguments: %v", got)
	}
	big := strings.Repeat("x", 200<<10)
	got, err = c.Call(within(t, patience), "rig.test", "echo", ubus.Table{ubus.F("s", big)})
	if s, _ := got.GetString("s"); err != nil || s != big {
		t.Errorf("200 kB: %d bytes back, %v", len(s), err)
	}
}

func TestLookup(t *testing.T) {
	path := socket(t)
	broker(t, path)
	server := serve(t, path, ubus.Options{})
	other := &ubus.Object{Name: "rig.fd"}
	if err := server.Publish(within(t, patience), other); err != nil {
		t.Fatal(err)
	}
	c := dial(t, path, ubus.Options{})
	for pattern, want := range map[string]string{"": "rig.fd rig.test", "rig.test": "rig.test", "rig.*": "rig.fd rig.test"} {
		list, err := c.Lookup(within(t, patience), pattern)
		var names []string
		for _, o := range list {
			names = append(names, o.Path)
		}
		if err != nil || strings.Join(names, " ") != want {
			t.Errorf("%q: %v, %v", pattern, names, err)
		}
	}
	for _, pattern := range []string{"nope", "nope*"} {
		if _, err := c.Lookup(within(t, patience), pattern); !errors.Is(err, ubus.ErrNotFound) {
			t.Errorf("%q: %v", pattern, err)
		}
	}
	// Methods and arguments keep the order they were declared in.
	list, err := c.Lookup(within(t, patience), "rig.test")
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range testObject().Methods {
		if got := list[0].Methods[i]; got.Name != m.Name || fmt.Sprint(got.Args) != fmt.Sprint(m.Args) && len(m.Args) > 0 {
			t.Errorf("method %d: %v, want %s %v", i, got, m.Name, m.Args)
		}
	}
	if err := server.Publish(within(t, patience), other); !errors.Is(err, ubus.ErrInvalidArgument) {
		t.Errorf("twice on one connection: %v", err)
	}
	if err := c.Publish(within(t, patience), other); !errors.Is(err, ubus.ErrInvalidArgument) {
		t.Errorf("a path that another has: %v", err)
	}
	if err := server.Unpublish(within(t, patience), "rig.fd"); err != nil {
		t.Error(err)
	}
	if err := server.Unpublish(within(t, patience), "rig.fd"); !errors.Is(err, ubus.ErrNotFound) {
		t.Errorf("gone already: %v", err)
	}
	if err := c.Publish(within(t, patience), other); err != nil {
		t.Errorf("free again: %v", err)
	}
}

// Many calls at once over few connections: each gets its own answer. Callers on
// different connections use the same sequence numbers.
func TestConcurrentCalls(t *testing.T) {
	path := socket(t)
	broker(t, path)
	serve(t, path, ubus.Options{MaxHandlers: 200})
	var wg sync.WaitGroup
	for range 4 {
		c := dial(t, path, ubus.Options{})
		for g := range 10 {
			wg.Go(func() {
				for i := range 25 {
					s := fmt.Sprint(c.ID(), g, i)
					args := ubus.Table{ubus.F("s", s)}
					if i%5 == 0 {
						if got, err := c.Call(within(t, patience), "rig.test", "slow", ubus.Table{ubus.F("ms", 5), ubus.F("parts", 2)}); err != nil || len(got) != 2 {
							t.Errorf("slow: %v, %v", got, err)
						}
						continue
					}
					got, err := c.Call(within(t, patience), "rig.test", "echo", args)
					if back, _ := got.GetString("s"); err != nil || back != s {
						t.Errorf("sent %q, got %q, %v", s, back, err)
					}
				}
			})
		}
	}
	wg.Wait()
}

func TestTooManyCalls(t *testing.T) {
	path := socket(t)
	broker(t, path)
	gate := make(chan struct{})
	server := dial(t, path, ubus.Options{MaxHandlers: 2})
	err := server.Publish(within(t, patience), &ubus.Object{Name: "gate", Methods: []ubus.Method{
		{Name: "wait", Handler: func(context.Context, *ubus.Request) (ubus.Table, error) { <-gate; return nil, nil }}}})
	if err != nil {
		t.Fatal(err)
	}
	c := dial(t, path, ubus.Options{})
	results := make(chan error, 6)
	for range 6 {
		go func() {
			_, err := c.Call(within(t, patience), "gate", "wait", nil)
			results <- err
		}()
	}
	for range 4 {
		if err := receive(t, "refusal", results); !errors.Is(err, ubus.ErrBusy) {
			t.Errorf("one too many: %v", err)
		}
	}
	close(gate)
	for range 2 {
		if err := receive(t, "answer", results); err != nil {
			t.Error(err)
		}
	}
	if _, err := c.Call(within(t, patience), "gate", "wait", nil); err != nil {
		t.Errorf("afterwards: %v", err)
	}
}

// A callee that dies says nothing; the time-out ends the call, and the
// connection is as good as before. A late answer belongs to nobody.
func TestTimeout(t *testing.T) {
	path := socket(t)
	broker(t, path)
	server := serve(t, path, ubus.Options{})
	c := dial(t, path, ubus.Options{CallTimeout: 80 * time.Millisecond})
	_, err := c.Call(context.Background(), "rig.test", "slow", ubus.Table{ubus.F("ms", 160), ubus.F("parts", 1)})
	if !errors.Is(err, ubus.ErrTimeout) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("late answer: %v", err)
	}
	time.Sleep(120 * time.Millisecond)
	if got, err := c.Call(within(t, patience), "rig.test", "echo", ubus.Table{ubus.F("s", "x")}); err != nil || len(got) != 2 {
		t.Errorf("after a late answer: %v, %v", got, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if _, err := dial(t, path, ubus.Options{}).Call(ctx, "rig.test", "slow", ubus.Table{ubus.F("ms", 5000)}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	server.Close()
	began := make(chan bool, 1)
	dying := dial(t, path, ubus.Options{})
	if err := dying.Publish(within(t, patience), &ubus.Object{Name: "dying", Methods: []ubus.Method{{Name: "wait", Handler: func(ctx context.Context, _ *ubus.Request) (ubus.Table, error) {
		began <- true
		<-ctx.Done()
		return nil, ctx.Err()
	}}}}); err != nil {
		t.Fatal(err)
	}
	go func() { <-began; dying.Close() }()
	c = dial(t, path, ubus.Options{CallTimeout: time.Second})
	if _, err := c.Call(context.Background(), "dying", "wait", nil); !errors.Is(err, ubus.ErrTimeout) {
		t.Errorf("callee died: %v", err)
	}
	eventually(t, "callee gone", func() bool {
		_, err := c.Call(context.Background(), "dying", "wait", nil)
		return errors.Is(err, ubus.ErrNotFound)
	})
}

func TestConnectionLost(t *testing.T) {
	path := socket(t)
	b := broker(t, path)
	serve(t, path, ubus.Options{})
	c := dial(t, path, ubus.Options{})
	kicked := make(chan bool, 1)
	time.AfterFunc(20*time.Millisecond, func() { b.KickAll(); kicked <- true })
	_, err := c.Call(within(t, patience), "rig.test", "slow", ubus.Table{ubus.F("ms", 5000)})
	receive(t, "end of the kick", kicked)
	if !errors.Is(err, ubus.ErrConnectionFailed) {
		t.Errorf("under way: %v", err)
	}
	receive(t, "end of the connection", c.Done())
	if c.Err() == nil {
		t.Error("no reason")
	}
	if _, err := c.Lookup(within(t, patience), ""); !errors.Is(err, ubus.ErrConnectionFailed) {
		t.Errorf("afterwards: %v", err)
	}
	c2 := dial(t, path, ubus.Options{})
	c2.Close()
	if _, err := c2.Lookup(within(t, patience), ""); !errors.Is(err, ubus.ErrConnectionFailed) || !errors.Is(err, ubus.ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	b.Close()
	_, err = ubus.Dial(within(t, patience), path)
	if !errors.Is(err, ubus.ErrConnectionFailed) || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no ubusd: %v", err)
	}
}

// The contexts of handlers end with the connection, and after their time.
func TestHandlerContext(t *testing.T) {
	path := socket(t)
	b := broker(t, path)
	began, ended := make(chan bool, 2), make(chan error, 2)
	object := &ubus.Object{Name: "wait", Methods: []ubus.Method{{Name: "wait", Handler: func(ctx context.Context, r *ubus.Request) (ubus.Table, error) {
		began <- true
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}}}}
	server := dial(t, path, ubus.Options{HandlerTimeout: 30 * time.Millisecond})
	if err := server.Publish(within(t, patience), object); err != nil {
		t.Fatal(err)
	}
	c := dial(t, path, ubus.Options{})
	if _, err := c.Call(within(t, patience), "wait", "wait", nil); !errors.Is(err, ubus.ErrTimeout) {
		t.Errorf("status of a handler that took too long: %v", err)
	}
	receive(t, "begin of the handler", began)
	if err := receive(t, "end of the handler", ended); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	server.Close()
	server = dial(t, path, ubus.Options{})
	eventually(t, "the path is free again", func() bool { return server.Publish(within(t, patience), object) == nil })
	kicked := make(chan bool, 1)
	go func() { <-began; b.KickAll(); kicked <- true }()
	if _, err := c.Call(within(t, patience), "wait", "wait", nil); !errors.Is(err, ubus.ErrConnectionFailed) {
		t.Error(err)
	}
	receive(t, "end of the kick", kicked)
	if err := receive(t, "end of the handler", ended); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
