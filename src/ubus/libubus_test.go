package ubus_test

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"htip/src/ubus"
	"htip/tests/ubusd/recording"
)

// listenRaw makes a socket whose connections are served one by one.
func listenRaw(t testing.TB, path string, serve func(uc *net.UnixConn)) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			uc, err := l.AcceptUnix()
			if err != nil {
				return
			}
			serve(uc)
			uc.Close()
		}
	}()
}

// recordedObject is the object of the recordings: it says what the recorded one
// said.
func recordedObject() *ubus.Object {
	o := testObject()
	o.Methods = o.Methods[:3]
	echo := o.Methods[0].Handler
	o.Methods[0].Handler = func(ctx context.Context, r *ubus.Request) (ubus.Table, error) {
		out, err := echo(ctx, r)
		return append(out, ubus.F("my16", int16(4660)), ubus.F("my64", int64(1234605616436508552)),
			ubus.F("mydbl", 1.5), ubus.F("mybool", true)), err
	}
	o.Methods[2].Handler = func(ctx context.Context, r *ubus.Request) (ubus.Table, error) {
		if _, ok := r.Args.GetInt("parts"); !ok {
			r.Args.Set("parts", int32(1))
		}
		return slow(ctx, r)
	}
	return o
}

// TestSpeakLikeLibubus plays the recorded ubusd to our client, which does what
// the recorded program did, and wants the same bytes that libubus sent.
func TestSpeakLikeLibubus(t *testing.T) {
	publish := func(c *ubus.Conn) error { return c.Publish(context.Background(), recordedObject()) }
	call := func(object, method, args string, want ubus.Status) func(*ubus.Conn) error {
		return func(c *ubus.Conn) error {
			table := ubus.Table{}
			if args != "" {
				var err error
				if table, err = ubus.ParseJSON([]byte(args)); err != nil {
					return err
				}
			}
			_, err := c.Call(context.Background(), object, method, table)
			if want != ubus.StatusOK && errors.Is(err, want) {
				return nil
			}
			return err
		}
	}
	listen := func(pattern string) func(*ubus.Conn) error {
		return func(c *ubus.Conn) error {
			_, err := c.Listen(context.Background(), pattern, func(string, ubus.Table) {})
			return err
		}
	}
	subscribe := func(c *ubus.Conn) error {
		_, err := c.Subscribe(context.Background(), "rig.test", func(string, ubus.Table) {})
		return err
	}
	for _, tc := range []struct {
		scenario, conn string
		do             func(c *ubus.Conn) error
		// How many of libubus' messages are compared; 0 is all. What follows is
		// something that we do in another way, for the reason given.
		first int
		why   string
	}{
		{"02-publish", "server1", publish, 1, "we send a second object's signature rather than its type"},
		{"03-list", "client3", func(c *ubus.Conn) error { _, err := c.Lookup(context.Background(), "rig.test"); return err }, 0, ""},
		{"03-list", "client1", func(c *ubus.Conn) error { _, err := c.Lookup(context.Background(), ""); return err }, 0, ""},
		{"04-call", "server1", publish, 5, "we refuse arguments that the signature does not have"},
		{"04-call", "client1", call("rig.test", "echo", `{"s":"hello","i":-2,"b":true,"t":{"k":"v","n":{"deep":[1,2,{"x":false}]}},"a":["one",2,true,[3,4],{"y":"z"}]}`, 0), 0, ""},
		{"04-call", "client2", call("rig.test", "echo", "", 0), 0, ""},
		{"04-call", "client3", call("rig.test", "echo", `{"l":4294967296,"i":2147483648,"d":1.25,"any":null,"s":"","t":{},"a":[],"long key with spaces":"\u00e9\u4e16"}`, 0), 0, ""},
		{"05-call-error", "server1", publish, 0, ""},
		{"05-call-error", "client1", call("rig.test", "fail", `{"code":4}`, ubus.StatusNotFound), 0, ""},
		{"05-call-error", "client3", call("rig.test", "fail", `{"code":99}`, 99), 0, ""},
		{"05-call-error", "client5", call("rig.test", "nomethod", "", ubus.StatusMethodNotFound), 0, ""},
		{"05-call-error", "client6", call("rig.none", "x", "", ubus.StatusNotFound), 0, ""},
		{"06-deferred", "server1", publish, 0, ""},
		{"06-deferred", "client1", call("rig.test", "slow", `{"ms":200,"parts":3}`, 0), 0, ""},
		{"08-remove", "server1", func(c *ubus.Conn) error {
			return errors.Join(publish(c), c.Unpublish(context.Background(), "rig.test"))
		}, 0, ""},
		{"09-subscribe-notify", "client1", subscribe, 4, "we remove our object instead of unsubscribing it"},
		{"10-subscribe-gone", "client2", subscribe, 0, ""},
		{"11-event", "listen-all1", listen("*"), 0, ""},
		{"11-event", "send1", func(c *ubus.Conn) error {
			data, err := ubus.ParseJSON([]byte(`{"a":1,"b":"two","c":[true,{"d":null}]}`))
			return errors.Join(err, c.SendEvent(context.Background(), "foo.bar", data))
		}, 0, ""},
		{"11-event", "send2", func(c *ubus.Conn) error { return c.SendEvent(context.Background(), "other", nil) }, 0, ""},
		{"12-object-events", "listen1", listen("ubus.object.*"), 0, ""},
		{"18-acl-none", "server1", func(c *ubus.Conn) error { return errors.Join(publish(c), listen("ubus.acl.sequence")(c)) }, 3, "we do not ask for rules"},
		{"23-rpcd-session", "client1", call("session", "access", `{"ubus_rpc_session": "50f63879a40243856b4e4dfde1a318f7", "scope": "ubus", "object": "rig.test", "function": "echo"}`, 0), 0, ""},
		{"23-rpcd-session", "client2", call("session", "get", `{"ubus_rpc_session": "50f63879a40243856b4e4dfde1a318f7", "keys": ["username"]}`, 0), 0, ""},
		{"23-rpcd-session", "client3", call("uci", "get", `{"config":"system","section":"@system[0]","option":"hostname"}`, 0), 0, ""},
		{"23-rpcd-session", "client4", call("service", "event", `{"type":"config.change","data":{"package":"network"}}`, 0), 0, ""},
	} {
		t.Run(tc.scenario+" "+tc.conn, func(t *testing.T) {
			s, err := recording.Load(filepath.Join("testdata/wire", tc.scenario+".txt"))
			if err != nil {
				t.Fatal(err)
			}
			path, result := socket(t), make(chan error, 1)
			listenRaw(t, path, func(uc *net.UnixConn) { result <- play(uc, s, tc.conn, tc.first) })
			c := dial(t, path, ubus.Options{})
			done := make(chan error, 1)
			go func() { done <- tc.do(c) }()
			if err := receive(t, "end of the recording", result); err != nil {
				t.Error(err)
			}
			err = receive(t, "end of what the client does", done)
			if err != nil && !(tc.first > 0 && errors.Is(err, ubus.ErrConnectionFailed)) {
				t.Error(err)
			}
		})
	}
}

// TestNotifyLikeLibubus is the same for a notification, which has to wait for the
// news that somebody is subscribed.
func TestNotifyLikeLibubus(t *testing.T) {
	s, err := recording.Load("testdata/wire/09-subscribe-notify.txt")
	if err != nil {
		t.Fatal(err)
	}
	path, result := socket(t), make(chan error, 1)
	listenRaw(t, path, func(uc *net.UnixConn) { result <- play(uc, s, "server1", 2) })
	c := dial(t, path, ubus.Options{})
	if err := c.Publish(within(t, patience), recordedObject()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "subscriber", func() bool { return c.Subscribed("rig.test") })
	if err := c.Notify("rig.test", "changed", ubus.Table{ubus.F("what", "changed"), ubus.F("n", 7)}); err != nil {
		t.Error(err)
	}
	if err := receive(t, "end of the recording", result); err != nil {
		t.Error(err)
	}
}

// play is ubusd's side of one recorded connection: it says what ubusd said and
// wants to hear what the client said, up to its first messages if first is not 0.
func play(uc *net.UnixConn, s recording.Scenario, conn string, first int) error {
	heard := 0
	if err := uc.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	for _, step := range s.Steps {
		switch {
		case step.Conn != conn:
		case step.Closed:
			return nil
		case !step.ToUbus:
			if _, err := uc.Write(step.Bytes); err != nil {
				return err
			}
		default:
			got := make([]byte, len(step.Bytes))
			if n, err := io.ReadFull(uc, got); err != nil || string(got) != string(step.Bytes) {
				return errors.Join(err, errors.New("line "+strconv.Itoa(step.Line)+":\n got "+hex.EncodeToString(got[:n])+
					"\nwant "+hex.EncodeToString(step.Bytes)))
			}
			if heard++; heard == first {
				return nil
			}
		}
	}
	return nil
}
