package ubusd

import (
	"context"
	"encoding/hex"
	"errors"
	"htip/src/slog"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"htip/src/ubus"
	"htip/tests/ubusd/recording"
)

const patience = 10 * time.Second

func start(t testing.TB, cfg Config) string {
	t.Helper()
	cfg.Socket = filepath.Join(t.TempDir(), "ubus.sock")
	if cfg.Policy == nil {
		cfg.Policy = Everyone{}
	}
	cfg.Log = slog.New(slog.DiscardHandler)
	b, err := Listen(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return cfg.Socket
}

// raw is a hand-made client.
type raw struct {
	t  testing.TB
	uc *net.UnixConn
	id uint32
}

func connect(t testing.TB, socket string) *raw {
	t.Helper()
	uc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { uc.Close() })
	r := &raw{t: t, uc: uc}
	hello := r.read()
	if hello.Type != ubus.MsgHello || len(hello.Body) != 0 {
		t.Fatalf("greeting: %+v", hello)
	}
	r.id = hello.Peer
	return r
}

func (r *raw) write(b []byte) {
	r.t.Helper()
	if _, err := r.uc.Write(b); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) send(b *ubus.Builder) {
	r.t.Helper()
	msg, err := b.Bytes()
	if err != nil {
		r.t.Fatal(err)
	}
	r.write(msg)
}

func (r *raw) read() ubus.Message {
	r.t.Helper()
	r.uc.SetReadDeadline(time.Now().Add(patience))
	head := make([]byte, ubus.HeaderLen)
	if _, err := io.ReadFull(r.uc, head); err != nil {
		r.t.Fatal(err)
	}
	m, n, err := ubus.DecodeHeader(head)
	if err != nil {
		r.t.Fatal(err)
	}
	m.Body = make([]byte, n)
	if _, err := io.ReadFull(r.uc, m.Body); err != nil {
		r.t.Fatal(err)
	}
	return m
}

// closed wants the broker to have closed the connection.
func (r *raw) closed(why string) {
	r.t.Helper()
	r.uc.SetReadDeadline(time.Now().Add(patience))
	if n, err := r.uc.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		r.t.Errorf("%s: the connection is open: %d, %v", why, n, err)
	}
}

// ping wants the broker to be well.
func (r *raw) ping() {
	r.t.Helper()
	r.send(ubus.NewMessage(ubus.MsgPing, 77, 0))
	if m := r.read(); m.Type != ubus.MsgData || m.Seq != 77 {
		r.t.Errorf("ping: %+v", m)
	}
	if m := r.read(); m.Type != ubus.MsgStatus || m.Seq != 77 {
		r.t.Errorf("ping: %+v", m)
	}
}

// object publishes an object without methods and gives its id.
func (r *raw) object(path string) uint32 {
	r.t.Helper()
	b := ubus.NewMessage(ubus.MsgAddObject, 1, 0)
	if path != "" {
		b.Text(ubus.AttrPath, path).Table(ubus.AttrSignature, ubus.Table{})
	}
	r.send(b)
	m := r.read()
	a := ubus.ParseAttrs(m.Body)
	if m.Type != ubus.MsgData || !a.Has(ubus.AttrObjID) {
		r.t.Fatalf("ADD_OBJECT %s: %+v %+v", path, m, a)
	}
	r.read()
	return a.ObjID
}

// TestLengths says the messages of recording 16 that ubusd answers by closing.
func TestLengths(t *testing.T) {
	s, err := recording.Load(filepath.Join(wireDir, "16-raw-lengths.txt"))
	if err != nil {
		t.Fatal(err)
	}
	path := start(t, Config{})
	n := 0
	for _, step := range s.Steps {
		if step.ToUbus && !step.Closed && step.Conn != "split1" {
			r := connect(t, path)
			r.write(step.Bytes)
			r.closed(step.Conn)
			n++
		}
	}
	if n != 2 {
		t.Errorf("%d messages", n)
	}
	// The last length that is taken.
	r := connect(t, path)
	r.write([]byte{0, 3, 0, 1, 0, 0, 0, 0, 0, 0x10, 0, 0})
	r.write(make([]byte, ubus.MaxMessage-4))
	if m := r.read(); m.Type != ubus.MsgData || len(m.Body) != ubus.MaxMessage-4 {
		t.Errorf("1 MiB: %s of %d", m.Type, len(m.Body))
	}
}

// TestSplitWrites says the third message of recording 16 byte by byte.
func TestSplitWrites(t *testing.T) {
	r := connect(t, start(t, Config{}))
	msg, err := hex.DecodeString("000300010000000000000008" + "07000004")
	if err != nil {
		t.Fatal(err)
	}
	for i := range msg {
		r.write(msg[i : i+1])
		time.Sleep(time.Millisecond)
	}
	if m := r.read(); m.Type != ubus.MsgData || m.Seq != 1 || len(m.Body) != 4 {
		t.Errorf("%+v", m)
	}
	if m := r.read(); m.Type != ubus.MsgStatus {
		t.Errorf("%+v", m)
	}
}

// Junk ends the connection that it comes on, and no other.
func TestJunk(t *testing.T) {
	path := start(t, Config{})
	good := connect(t, path)
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		r := connect(t, path)
		junk := make([]byte, 1+rnd.IntN(200))
		for i := range junk {
			junk[i] = byte(rnd.Uint32())
		}
		if rnd.IntN(2) == 0 && len(junk) > 12 {
			// A good frame around junk.
			copy(junk, []byte{0, byte(rnd.IntN(13)), 0, 1, 0, 0, 0, byte(rnd.IntN(5)), 0, 0, 0, byte(len(junk) - 8)})
		}
		r.write(junk)
		r.uc.Close()
	}
	good.ping()
}

// A client that does not read stops nobody. What does not fit into its queue is
// dropped, whole messages at a time.
func TestSlowReader(t *testing.T) {
	path := start(t, Config{QueueLimit: 64 << 10})
	slow, good := connect(t, path), connect(t, path)
	id := slow.object("slow")
	const calls = 3000
	for i := range calls {
		good.send(ubus.NewMessage(ubus.MsgInvoke, uint16(i), id).U32(ubus.AttrObjID, id).Text(ubus.AttrMethod, "m").
			Table(ubus.AttrData, ubus.Table{ubus.F("x", strings.Repeat("x", 1000))}))
	}
	good.ping()
	// It reads at last: what it gets is whole and in order.
	last, n := -1, 0
	slow.send(ubus.NewMessage(ubus.MsgPing, calls, 0))
	for {
		m := slow.read()
		if m.Seq >= calls {
			break
		}
		if m.Type != ubus.MsgInvoke || int(m.Seq) <= last {
			t.Fatalf("%s %d after %d", m.Type, m.Seq, last)
		}
		last = int(m.Seq)
		n++
		if n%100 == 0 {
			slow.send(ubus.NewMessage(ubus.MsgPing, calls, 0)) // the first may have been dropped
		}
	}
	if n == 0 || n == calls {
		t.Errorf("%d of %d calls came", n, calls)
	}
}

// A client that nobody can name is not greeted.
func TestNoName(t *testing.T) {
	path := start(t, Config{Cred: func(*net.UnixConn) (Cred, error) { return Cred{}, errors.New("no name") }})
	uc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	(&raw{t: t, uc: uc}).closed("no name")
}

// Only root may do anything, unless a policy says so.
func TestRootOnly(t *testing.T) {
	var nobody atomic.Bool
	path := start(t, Config{Policy: RootOnly{}, Cred: func(*net.UnixConn) (Cred, error) {
		if nobody.Load() {
			return Cred{UID: 65534, GID: 65534, User: "nobody", Group: "nogroup"}, nil
		}
		return Root, nil
	}})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	dial := func() *ubus.Conn {
		c, err := ubus.Options{Log: slog.New(slog.DiscardHandler)}.Dial(ctx, path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	root := dial()
	o := &ubus.Object{Name: "o", Methods: []ubus.Method{{Name: "m",
		Handler: func(_ context.Context, r *ubus.Request) (ubus.Table, error) {
			return ubus.Table{ubus.F("who", r.User+" "+r.Group)}, nil
		}}}}
	if err := root.Publish(ctx, o); err != nil {
		t.Fatal(err)
	}
	nobody.Store(true)
	c := dial()
	if got, err := c.Lookup(ctx, ""); err != nil || len(got) != 0 {
		t.Errorf("lookup of all: %v, %v", got, err)
	}
	if _, err := c.Call(ctx, "o", "m", nil); !errors.Is(err, ubus.ErrNotFound) {
		t.Errorf("call: %v", err)
	}
	if err := c.Publish(ctx, &ubus.Object{Name: "p"}); !errors.Is(err, ubus.ErrInvalidArgument) {
		t.Errorf("publish: %v", err)
	}
	if err := c.SendEvent(ctx, "e", nil); !errors.Is(err, ubus.ErrPermissionDenied) {
		t.Errorf("send: %v", err)
	}
	if _, err := c.Listen(ctx, "*", func(string, ubus.Table) {}); !errors.Is(err, ubus.ErrPermissionDenied) {
		t.Errorf("listen: %v", err)
	}
	nobody.Store(false)
	if got, err := dial().Call(ctx, "o", "m", nil); err != nil || len(got) != 1 || got[0].Value != "root root" {
		t.Errorf("root: %v, %v", got, err)
	}
}

// A descriptor goes with an INVOKE and with a STATUS, and with nothing else.
func TestDescriptors(t *testing.T) {
	path := start(t, Config{})
	callee, caller := connect(t, path), connect(t, path)
	id := callee.object("o")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	pass := func(from *raw, b *ubus.Builder) {
		t.Helper()
		msg, err := b.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := from.uc.WriteMsgUnix(msg, unix.UnixRights(int(w.Fd())), nil); err != nil {
			t.Fatal(err)
		}
	}
	pass(caller, ubus.NewMessage(ubus.MsgInvoke, 1, id).U32(ubus.AttrObjID, id).Text(ubus.AttrMethod, "m").Table(ubus.AttrData, nil))
	fd := callee.readFD()
	if fd == NoFD {
		t.Fatal("the descriptor did not come")
	}
	if n, err := unix.Write(fd, []byte("x")); n != 1 || err != nil {
		t.Error(err)
	}
	unix.Close(fd)
	if b := make([]byte, 1); true {
		if _, err := io.ReadFull(r, b); err != nil || b[0] != 'x' {
			t.Errorf("%q, %v", b, err)
		}
	}
	pass(callee, ubus.NewMessage(ubus.MsgData, 1, caller.id).U32(ubus.AttrObjID, id).Table(ubus.AttrData, nil))
	if fd := caller.readFD(); fd != NoFD {
		t.Error("a descriptor came with DATA")
	}
	pass(callee, ubus.NewMessage(ubus.MsgStatus, 1, caller.id).U32(ubus.AttrStatus, 0).U32(ubus.AttrObjID, id))
	if fd := caller.readFD(); fd == NoFD {
		t.Error("no descriptor came with STATUS")
	} else {
		unix.Close(fd)
	}
	// Those that go nowhere are closed: w is the last writer then.
	pass(caller, ubus.NewMessage(ubus.MsgPing, 2, 0))
	pass(caller, ubus.NewMessage(ubus.MsgInvoke, 3, 0x4242).U32(ubus.AttrObjID, 0x4242).Text(ubus.AttrMethod, "m"))
	pass(caller, ubus.NewMessage(ubus.MsgStatus, 4, 0x4242).U32(ubus.AttrStatus, 0).U32(ubus.AttrObjID, 0x4242))
	caller.read()
	caller.read()
	caller.read()
	caller.ping()
	w.Close()
	r.SetReadDeadline(time.Now().Add(patience))
	if n, err := r.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Errorf("somebody holds a descriptor: %d, %v", n, err)
	}
}

// readFD reads a message and gives the descriptor that came with it.
func (r *raw) readFD() int {
	r.t.Helper()
	c := &conn{uc: r.uc}
	r.uc.SetReadDeadline(time.Now().Add(patience))
	_, fd, err := c.read()
	if err != nil {
		r.t.Fatal(err)
	}
	return fd
}

// Two clients at once: what one is told about the other's end.
func TestEnd(t *testing.T) {
	path := start(t, Config{})
	owner, sub := connect(t, path), connect(t, path)
	target, own := owner.object("o"), sub.object("")
	sub.send(ubus.NewMessage(ubus.MsgSubscribe, 2, 0).U32(ubus.AttrObjID, own).U32(ubus.AttrTarget, target))
	if a := ubus.ParseAttrs(sub.read().Body); a.Status != 0 {
		t.Fatal(a.Status)
	}
	if m := owner.read(); m.Type != ubus.MsgNotify || !ubus.ParseAttrs(m.Body).Active {
		t.Errorf("%+v", m)
	}
	owner.uc.Close()
	m := sub.read()
	a := ubus.ParseAttrs(m.Body)
	if m.Type != ubus.MsgUnsubscribe || a.ObjID != own || a.Target != target {
		t.Errorf("%+v", m)
	}
}
