package ubus_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"htip/src/ubus"
)

type told struct {
	name string
	data ubus.Table
}

func collect(n int) (chan told, func(string, ubus.Table)) {
	ch := make(chan told, n)
	return ch, func(name string, data ubus.Table) { ch <- told{name, data} }
}

func TestEvents(t *testing.T) {
	path := socket(t)
	broker(t, path)
	c, sender := dial(t, path, ubus.Options{}), dial(t, path, ubus.Options{})
	all, onAll := collect(10)
	foo, onFoo := collect(10)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	subAll, err := c.Listen(ctx, "*", onAll)
	if err != nil {
		t.Fatal(err)
	}
	subFoo, err := c.Listen(context.Background(), "foo.*", onFoo)
	if err != nil {
		t.Fatal(err)
	}
	if err := sender.SendEvent(within(t, patience), "ubus.fake", nil); !errors.Is(err, ubus.ErrPermissionDenied) {
		t.Errorf("an event of ubusd's own: %v", err)
	}
	data := ubus.Table{ubus.F("a", int32(1)), ubus.F("c", ubus.Array{true, nil})}
	for _, id := range []string{"foo.bar", "other"} {
		if err := sender.SendEvent(within(t, patience), id, data); err != nil {
			t.Fatal(err)
		}
	}
	if got := fmt.Sprint(receive(t, "event", all), receive(t, "event", all)); got != fmt.Sprint(told{"foo.bar", data}, told{"other", data}) {
		t.Errorf("all: %s", got)
	}
	if got := receive(t, "event", foo); got.name != "foo.bar" {
		t.Errorf("foo.*: %v", got)
	}
	// Our own do not come back, and nothing comes after the end.
	if err := c.SendEvent(within(t, patience), "foo.own", nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	receive(t, "end of the listener", subAll.Done())
	if !errors.Is(subAll.Err(), context.Canceled) || subFoo.Err() != nil {
		t.Errorf("reasons: %v, %v", subAll.Err(), subFoo.Err())
	}
	if err := sender.SendEvent(within(t, patience), "foo.last", nil); err != nil {
		t.Fatal(err)
	}
	if got := receive(t, "event", foo); got.name != "foo.last" || len(all) != 0 {
		t.Errorf("foo.*: %v, all: %d more", got, len(all))
	}
	subFoo.Close()
	if !errors.Is(subFoo.Err(), ubus.ErrClosed) {
		t.Error(subFoo.Err())
	}
	// ubusd tells of objects that come and go.
	obj, onObj := collect(10)
	if _, err := c.Listen(context.Background(), "ubus.object.*", onObj); err != nil {
		t.Fatal(err)
	}
	server := serve(t, path, ubus.Options{})
	if got := receive(t, "event", obj); got.name != "ubus.object.add" {
		t.Errorf("%v", got)
	}
	server.Close()
	got := receive(t, "event", obj)
	if p, _ := got.data.GetString("path"); got.name != "ubus.object.remove" || p != "rig.test" {
		t.Errorf("%v", got)
	}
}

func TestSubscribe(t *testing.T) {
	path := socket(t)
	b := broker(t, path)
	server := serve(t, path, ubus.Options{})
	c := dial(t, path, ubus.Options{})
	if err := server.Notify("rig.test", "nobody", nil); err != nil {
		t.Errorf("nobody listens: %v", err)
	}
	if err := server.Notify("rig.none", "x", nil); !errors.Is(err, ubus.ErrNotFound) {
		t.Errorf("not ours: %v", err)
	}
	ch, on := collect(200)
	if _, err := c.Subscribe(within(t, patience), "rig.none", on); !errors.Is(err, ubus.ErrNotFound) {
		t.Errorf("no such object: %v", err)
	}
	if _, err := server.Subscribe(within(t, patience), "rig.test", on); !errors.Is(err, ubus.ErrInvalidArgument) {
		t.Errorf("our own object: %v", err)
	}
	sub, err := c.Subscribe(context.Background(), "rig.test", on)
	if err != nil {
		t.Fatal(err)
	}
	// Whoever calls after subscribing finds the owner knowing of it.
	if _, err := c.Call(within(t, patience), "rig.test", "nothing", nil); err != nil {
		t.Fatal(err)
	}
	if !server.Subscribed("rig.test") || server.Subscribed("rig.none") {
		t.Error("the owner does not know")
	}
	for i := range 100 {
		if err := server.Notify("rig.test", "changed", ubus.Table{ubus.F("n", i)}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 100 {
		got := receive(t, "notification", ch)
		if n, _ := got.data.GetInt("n"); got.name != "changed" || n != int64(i) {
			t.Fatalf("notification %d: %v", i, got)
		}
	}
	second, err := c.Subscribe(context.Background(), "rig.test", func(string, ubus.Table) {})
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	if _, err := c.Call(within(t, patience), "rig.test", "nothing", nil); err != nil || !server.Subscribed("rig.test") {
		t.Errorf("one of two has left: %v, %v", err, server.Subscribed("rig.test"))
	}
	if err := server.Notify("rig.test", "last", nil); err != nil {
		t.Fatal(err)
	}
	if err := server.Unpublish(within(t, patience), "rig.test"); err != nil {
		t.Fatal(err)
	}
	receive(t, "end of the subscription", sub.Done())
	if !errors.Is(sub.Err(), ubus.ErrGone) {
		t.Error(sub.Err())
	}
	if got := receive(t, "what came before the end", ch); got.name != "last" {
		t.Error(got)
	}
	if err := server.Publish(within(t, patience), testObject()); err != nil {
		t.Fatal(err)
	}
	sub, err = c.Subscribe(context.Background(), "rig.test", on)
	if err != nil {
		t.Fatal(err)
	}
	b.KickAll()
	receive(t, "end of the subscription", sub.Done())
	if !errors.Is(sub.Err(), ubus.ErrConnectionFailed) {
		t.Error(sub.Err())
	}
}

func TestOnActive(t *testing.T) {
	path := socket(t)
	broker(t, path)
	active := make(chan bool, 2)
	server := dial(t, path, ubus.Options{})
	o := &ubus.Object{Name: "o", OnActive: func(on bool) { active <- on; panic("must not matter") }}
	if err := server.Publish(within(t, patience), o); err != nil {
		t.Fatal(err)
	}
	c := dial(t, path, ubus.Options{})
	if _, err := c.Subscribe(context.Background(), "o", func(string, ubus.Table) {}); err != nil {
		t.Fatal(err)
	}
	if !receive(t, "first subscriber", active) {
		t.Error("told of none")
	}
	c.Close()
	if receive(t, "last subscriber", active) {
		t.Error("told of some")
	}
}

// A callback that hangs holds up neither other callbacks nor calls; what it
// misses is counted, and a panic costs one event.
func TestSlowCallback(t *testing.T) {
	path := socket(t)
	broker(t, path)
	log := new(lines)
	c, sender := dial(t, path, ubus.Options{Log: log.logger()}), dial(t, path, ubus.Options{})
	gate, seen := make(chan struct{}), make(chan string, 1000)
	_, err := c.Listen(context.Background(), "slow", func(string, ubus.Table) {
		seen <- "slow"
		<-gate
		panic("on purpose")
	})
	if err != nil {
		t.Fatal(err)
	}
	ch, on := collect(1000)
	if _, err := c.Listen(context.Background(), "fast", on); err != nil {
		t.Fatal(err)
	}
	if err := sender.SendEvent(within(t, patience), "slow", nil); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the callback hangs", func() bool { return len(seen) == 1 })
	for range 399 {
		if err := sender.SendEvent(within(t, patience), "slow", nil); err != nil {
			t.Fatal(err)
		}
	}
	if err := sender.SendEvent(within(t, patience), "fast", nil); err != nil {
		t.Fatal(err)
	}
	receive(t, "fast event", ch)
	close(gate)
	eventually(t, "what was kept is delivered", func() bool { return len(seen) == 257 && log.count("on purpose") == 257 })
	time.Sleep(20 * time.Millisecond)
	if len(seen) != 257 || log.count("dropped=143") != 1 || log.count("on purpose") != 257 {
		t.Errorf("%d delivered, log has %d panics and %d drops", len(seen), log.count("on purpose"), log.count("dropped="))
	}
}
