package ubus_test

import (
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"htip/src/ubus"
)

const hello = "000000006ff0732500000004"

// say writes messages given in hex.
func say(t testing.TB, uc *net.UnixConn, hexes ...string) {
	t.Helper()
	for _, h := range hexes {
		b, err := hex.DecodeString(strings.ReplaceAll(h, " ", ""))
		if err != nil {
			t.Error(err)
		}
		if _, err := uc.Write(b); err != nil {
			return // the client has closed already, and is right
		}
	}
}

// drain reads until the client closes.
func drain(uc *net.UnixConn) { io.Copy(io.Discard, uc) }

func TestDialBad(t *testing.T) {
	for name, greet := range map[string]func(*net.UnixConn){
		"closes at once":  func(uc *net.UnixConn) {},
		"half a greeting": func(uc *net.UnixConn) { say(t, uc, "00000000 6ff0") },
		"no greeting":     func(uc *net.UnixConn) { say(t, uc, "0001000100000000 0000000c 0100000800000000") },
		"text":            func(uc *net.UnixConn) { uc.Write([]byte("SSH-2.0-OpenSSH_9.2\r\n")); drain(uc) },
		"huge":            func(uc *net.UnixConn) { say(t, uc, "0000000000000000 00ffffff"); drain(uc) },
		"version 1":       func(uc *net.UnixConn) { say(t, uc, "01"+hello[2:]); drain(uc) },
		"silence":         drain,
	} {
		path := socket(t)
		listenRaw(t, path, greet)
		start := time.Now()
		c, err := ubus.Options{Log: quiet()}.Dial(within(t, 300*time.Millisecond), path)
		if !errors.Is(err, ubus.ErrConnectionFailed) || c != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "silence" && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: %v", name, err)
		}
		if d := time.Since(start); d > 3*time.Second {
			t.Errorf("%s: took %v", name, d)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := ubus.Dial(ctx, socket(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %v", err)
	}
}

// Junk after the greeting ends the connection, with what was under way.
func TestJunkFromUbusd(t *testing.T) {
	for name, junk := range map[string]string{
		"length 3":          "000100010000000000000003",
		"length over 1 MiB": "000100010000000000100001",
		"version 1":         "01010001000000000000000c 0100000800000000",
		"random":            "deadbeef0badf00ddeadbeef0badf00d",
		"cut":               "00010001000000000000000c 0100",
		"nothing":           "",
	} {
		path := socket(t)
		listenRaw(t, path, func(uc *net.UnixConn) { say(t, uc, hello, junk) })
		c := dial(t, path, ubus.Options{})
		if _, err := c.Lookup(within(t, patience), ""); !errors.Is(err, ubus.ErrConnectionFailed) {
			t.Errorf("%s: %v", name, err)
		}
		receive(t, name+": end of the connection", c.Done())
	}
	// A message that begins and never ends.
	path := socket(t)
	listenRaw(t, path, func(uc *net.UnixConn) { say(t, uc, hello, "00010001 00000000 00001000 01000008"); drain(uc) })
	c := dial(t, path, ubus.Options{WriteTimeout: 50 * time.Millisecond})
	receive(t, "end of the connection", c.Done())
	if !errors.Is(c.Err(), os.ErrDeadlineExceeded) {
		t.Error(c.Err())
	}
}

// What is well-formed but makes no sense is passed over.
func TestNonsenseFromUbusd(t *testing.T) {
	path := socket(t)
	listenRaw(t, path, func(uc *net.UnixConn) {
		say(t, uc, hello, hello,
			"0001 0007 00000000 0000000c 0100000800000000",              // STATUS that nobody asked for
			"0002 0001 00000000 00000004",                               // DATA before any request
			"0005 0001 00000000 00000004",                               // INVOKE of nothing
			"0005 0001 00000000 0000000c 03000008000004d2",              // INVOKE of somebody else
			"000a 0001 00000000 00000004",                               // NOTIFY of nothing
			"0009 0001 00000000 0000000c 03000008000004d2",              // UNSUBSCRIBE of somebody else
			"00c8 0001 00000000 00000004",                               // type 200
			"000b 0001 00000000 00000004", "0003 0001 0000000000000004") // MONITOR, PING
		request := make([]byte, 12)
		if _, err := io.ReadFull(uc, request); err != nil {
			t.Error(err)
		}
		say(t, uc, "0001 0001 00000001 0000000c 0100000800000006", // another peer's STATUS
			"0002 0001 00000000 00000004", // an object without anything
			"0001 0001 00000000 0000000c 0100000800000000")
		if _, err := io.ReadFull(uc, request); err != nil {
			t.Error(err)
		}
		say(t, uc, "0001 0002 00000000 00000004") // STATUS without a status
		if _, err := io.ReadFull(uc, request); err != nil {
			t.Error(err)
		}
		say(t, uc, "0002 0003 00000000 0000002c 02000006 61000000 03000008 00000400 06000010 8500000c 00016d00 00000001 05000008 00000007",
			"0001 0003 00000000 0000000c 0100000800000000") // a method that is no table
		if _, err := io.ReadFull(uc, request); err != nil {
			t.Error(err)
		}
		say(t, uc, "0001 0004 00000000 0000000c 0100000800000000")
		drain(uc)
	})
	c := dial(t, path, ubus.Options{})
	for i := range 2 {
		if got, err := c.Lookup(within(t, patience), ""); !errors.Is(err, ubus.ErrParse) {
			t.Errorf("lookup %d: %v, %v", i, got, err)
		}
	}
	got, err := c.Lookup(within(t, patience), "")
	if err != nil || len(got) != 1 || !errors.Is(got[0].Bad, ubus.ErrMalformed) {
		t.Errorf("somebody's bad signature: %v, %v", got, err)
	}
	if got, err := c.Lookup(within(t, patience), ""); err != nil || len(got) != 0 {
		t.Errorf("last lookup: %v, %v", got, err)
	}
}

// TestCallee holds the answers of a published object, byte for byte, to calls
// that no well-behaved caller makes.
func TestCallee(t *testing.T) {
	path := socket(t)
	type step struct{ say, want string }
	const id = "00001234"
	invoke := func(attrs string, n string) string { return "0005 0009 00000abc " + n + " 03000008" + id + attrs }
	const status = "0001 0009 00000abc 00000014 01000008 %% 03000008" + id
	ends := func(s string) string { return strings.ReplaceAll(status, "%%", s) }
	steps := map[string]step{
		"no method":            {invoke("07000004", "00000010"), ends("00000002")},
		"no data":              {invoke("04000009 6563686f 00000000", "00000018"), ends("00000002")},
		"unknown method":       {invoke("04000006 78000000 07000004", "00000018"), ends("00000003")},
		"junk data":            {invoke("04000009 6563686f 00000000 07000008 ffffffff", "00000020"), ends("00000002")},
		"value without a name": {invoke("04000009 6563686f 00000000 07000008 03000004", "00000020"), ends("00000002")},
		"wrong type":           {invoke("04000009 6563686f 00000000 07000010 8500000c 00017300 00000005", "00000028"), ends("00000002")},
		"no reply wanted, then a good one": {
			invoke("04000009 6563686f 00000000 0a000005 01000000 07000004", "00000024") +
				invoke("04000006 78000000 0a000005 01000000", "0000001c") +
				invoke("04000006 78000000 07000004", "00000018"), ends("00000003")},
		"attributes in another order": {
			"0005 0009 00000abc 00000018 07000004 04000006 78000000 03000008" + id, ends("00000003")},
	}
	result := make(chan error, 1)
	next := make(chan step)
	listenRaw(t, path, func(uc *net.UnixConn) {
		say(t, uc, hello)
		head := make([]byte, 12)
		if _, err := io.ReadFull(uc, head); err != nil {
			t.Error(err)
		}
		if _, err := io.CopyN(io.Discard, uc, int64(head[10])<<8+int64(head[11])-4); err != nil {
			t.Error(err)
		}
		say(t, uc, "0002 0001 00000000 0000000c 03000008"+id, "0001 0001 00000000 0000000c 0100000800000000")
		for s := range next {
			say(t, uc, s.say)
			want, err := hex.DecodeString(strings.ReplaceAll(s.want, " ", ""))
			got := make([]byte, len(want))
			if err == nil {
				_, err = io.ReadFull(uc, got)
			}
			if err == nil && string(got) != string(want) {
				err = errors.New("got " + hex.EncodeToString(got) + ", want " + hex.EncodeToString(want))
			}
			result <- err
		}
	})
	serve(t, path, ubus.Options{})
	for name, s := range steps {
		next <- s
		if err := receive(t, name, result); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	close(next)
}

// A caller that uses a number again has given its old call up: the old handler's
// context ends and its answer is not sent.
func TestNumberUsedAgain(t *testing.T) {
	path := socket(t)
	answers := make(chan string, 1)
	cancelled := make(chan error, 1)
	listenRaw(t, path, func(uc *net.UnixConn) {
		say(t, uc, hello)
		head := make([]byte, 12)
		io.ReadFull(uc, head)
		io.CopyN(io.Discard, uc, int64(head[10])<<8+int64(head[11])-4)
		say(t, uc, "0002 0001 00000000 0000000c 0300000800001234", "0001 0001 00000000 0000000c 0100000800000000")
		say(t, uc, "0005 0009 00000abc 00000018 0300000800001234 04000006 61000000 07000004")
		say(t, uc, "0005 0009 00000abc 00000018 0300000800001234 04000006 62000000 07000004")
		got := make([]byte, 28)
		io.ReadFull(uc, got)
		answers <- hex.EncodeToString(got)
		drain(uc)
	})
	c := dial(t, path, ubus.Options{})
	err := c.Publish(within(t, patience), &ubus.Object{Name: "o", Methods: []ubus.Method{
		{Name: "a", Handler: func(ctx context.Context, r *ubus.Request) (ubus.Table, error) {
			<-ctx.Done()
			cancelled <- ctx.Err()
			if err := r.Reply(nil); err == nil {
				t.Error("a part of an abandoned call was taken")
			}
			return nil, ctx.Err()
		}},
		{Name: "b", Handler: func(context.Context, *ubus.Request) (ubus.Table, error) {
			<-cancelled
			return nil, ubus.Status(42)
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	if got := receive(t, "answer", answers); !strings.HasSuffix(got, "010000080000002a0300000800001234") {
		t.Error(got)
	}
}

// A ubusd that does not read is given up, and nobody waits for it longer than
// the write deadline.
func TestUbusdDoesNotRead(t *testing.T) {
	path := socket(t)
	stop := make(chan struct{})
	t.Cleanup(func() { close(stop) })
	listenRaw(t, path, func(uc *net.UnixConn) { say(t, uc, hello); <-stop })
	c := dial(t, path, ubus.Options{WriteTimeout: 200 * time.Millisecond})
	start := time.Now()
	results := make(chan error, 8)
	for range 8 {
		go func() {
			results <- c.SendEvent(context.Background(), "x", ubus.Table{ubus.F("x", strings.Repeat("x", 600<<10))})
		}()
	}
	for range 8 {
		if err := receive(t, "end of a request", results); !errors.Is(err, ubus.ErrConnectionFailed) {
			t.Error(err)
		}
	}
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("took %v", d)
	}
	if !errors.Is(c.Err(), os.ErrDeadlineExceeded) {
		t.Error(c.Err())
	}
}

// Calls that come while ubusd does not read the answers must not stop us from
// reading, nor pile up.
func TestFloodOfCalls(t *testing.T) {
	path := socket(t)
	reads := make(chan int, 1)
	listenRaw(t, path, func(uc *net.UnixConn) {
		say(t, uc, hello)
		head := make([]byte, 12)
		io.ReadFull(uc, head)
		io.CopyN(io.Discard, uc, int64(head[10])<<8+int64(head[11])-4)
		say(t, uc, "0002 0001 00000000 0000000c 0300000800001234", "0001 0001 00000000 0000000c 0100000800000000")
		msg, _ := hex.DecodeString("00050009" + "00000abc" + "00000018" + "0300000800001234" + "0400000678000000" + "07000004")
		n := 0
		for range 200_000 { // 7 MB: more than all buffers hold
			if _, err := uc.Write(msg); err != nil {
				break
			}
			n++
		}
		reads <- n
	})
	log := new(lines)
	c := serve(t, path, ubus.Options{WriteTimeout: 3 * time.Second, Log: log.logger()})
	if n := receive(t, "end of the flood", reads); n < 1000 {
		t.Errorf("we read only %d messages", n)
	}
	receive(t, "end of the connection", c.Done())
	if n := log.count("\n"); n > 20 {
		t.Errorf("%d lines in the log", n)
	}
}

// A descriptor that ubusd passes is closed at once.
func TestDescriptorsAreClosed(t *testing.T) {
	path := socket(t)
	const rounds = 100
	sent := make(chan error, 1)
	listenRaw(t, path, func(uc *net.UnixConn) {
		say(t, uc, hello)
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Error(err)
			return
		}
		defer f.Close()
		three := unix.UnixRights(int(f.Fd()), int(f.Fd()), int(f.Fd()))
		msg, _ := hex.DecodeString("000100070000000000000024" + "0100000800000000" + strings.Repeat("0e000004", 6))
		for i := range rounds {
			if _, _, err = uc.WriteMsgUnix(msg[:1+i%30], three, nil); err == nil {
				// The rest, with a descriptor where nobody looks for one.
				_, _, err = uc.WriteMsgUnix(msg[1+i%30:], three, nil)
			}
			if err != nil {
				break
			}
		}
		request := make([]byte, 12)
		if err == nil {
			_, err = io.ReadFull(uc, request)
		}
		say(t, uc, "0001 0001 00000000 0000000c 0100000800000000")
		sent <- err
		drain(uc)
	})
	c := dial(t, path, ubus.Options{})
	before := descriptors(t)
	if _, err := c.Lookup(within(t, patience), ""); err != nil {
		t.Fatal(err)
	}
	if err := receive(t, "end of the sender", sent); err != nil {
		t.Fatal(err)
	}
	// The sender's own file may be there still.
	if after := descriptors(t); after > before+3 {
		t.Errorf("%d descriptors were open, now %d", before, after)
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
