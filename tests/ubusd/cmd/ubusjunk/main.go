// Command ubusjunk is what a published object has to live with on a bad day:
//
//	ubusjunk -s SOCKET call OBJECT   a client that calls every method of the object with junk
//	ubusjunk -s SOCKET serve         a ubusd that talks junk to whoever connects
//
// It ends with exit code 0 when all its junk is out, and prints how much that
// was. It says nothing of what became of the object.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"time"

	"htip/src/ubus"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ubusjunk:", err)
		os.Exit(1)
	}
}

func run() error {
	socket := flag.String("s", ubus.DefaultSocket, "ubusd's Unix `socket`")
	count := flag.Int("n", 200, "how many calls, or connections served")
	seed := flag.Uint64("seed", 1, "of the random numbers")
	limit := flag.Duration("limit", time.Minute, "when to stop at the latest")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	j := &junk{socket: *socket, count: *count, r: rand.New(rand.NewPCG(*seed, 0))}
	switch {
	case flag.NArg() == 2 && flag.Arg(0) == "call":
		return j.call(ctx, flag.Arg(1))
	case flag.NArg() == 1 && flag.Arg(0) == "serve":
		return j.serve(ctx)
	}
	return errors.New("want: call OBJECT | serve")
}

type junk struct {
	socket string
	count  int
	r      *rand.Rand
}

func (j *junk) bytes(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(j.r.Uint32())
	}
	return b
}

// call sends INVOKEs whose arguments are no blobmsg, of wrong types, too many,
// too deep and too long, and messages that are no INVOKE at all.
func (j *junk) call(ctx context.Context, object string) error {
	c, err := ubus.Dial(ctx, j.socket)
	if err != nil {
		return err
	}
	defer c.Close()
	found, err := c.Lookup(ctx, object)
	if err != nil {
		return err
	}
	if len(found) != 1 {
		return fmt.Errorf("%d objects are called %s", len(found), object)
	}
	methods := []string{"", "no such method", strings.Repeat("m", 4000), "\xff\xfe"}
	for _, m := range found[0].Methods {
		methods = append(methods, m.Name)
	}
	answers := map[string]int{}
	for i := range j.count {
		method := methods[i%len(methods)]
		if i%2 == 0 {
			_, err := c.Call(ctx, object, method, j.table(0))
			answers[word(err)]++
			continue
		}
		if err := j.raw(found[0].ID, method); err != nil {
			return err
		}
	}
	fmt.Printf("%d calls with junk in tables, answers %v, and %d of raw junk\n", (j.count+1)/2, answers, j.count/2)
	return nil
}

// word is the sort of an answer.
func word(err error) string {
	if err == nil {
		return "ok"
	}
	s := err.Error()
	return s[strings.LastIndex(s, ": ")+1:]
}

// table is well-formed and senseless.
func (j *junk) table(depth int) ubus.Table {
	names := []string{"peer", "timeout", "json", "", "\x01", strings.Repeat("n", 300)}
	var t ubus.Table
	for range j.r.IntN(6) {
		var v any
		switch k := j.r.IntN(7); {
		case k == 0 && depth < 20:
			v = j.table(depth + 1)
		case k == 1 && depth < 20:
			v = ubus.Array{j.table(depth + 1), int32(1), "x"}
		case k == 2:
			v = int64(j.r.Uint64())
		case k == 3:
			v = strings.Repeat("x", j.r.IntN(60_000))
		case k == 4:
			v = j.r.Float64()
		case k == 5:
			v = "../../etc/passwd; reboot $(reboot) 'x'"
		default:
			v = j.r.IntN(2) == 0
		}
		t = append(t, ubus.F(names[j.r.IntN(len(names))], v))
	}
	return t
}

// raw sends one INVOKE, with random contents where its arguments belong, on a
// connection of its own, and hangs up at some point.
func (j *junk) raw(id uint32, method string) error {
	conn, err := net.Dial("unix", j.socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(200 * time.Millisecond)) // half of this junk gets no answer
	hello := make([]byte, ubus.HeaderLen)
	if _, err := io.ReadFull(conn, hello); err != nil {
		return fmt.Errorf("greeting: %w", err)
	}
	data := j.bytes(j.r.IntN(3000))
	if len(data) >= 4 && j.r.IntN(2) == 0 { // as if it began right
		binary.BigEndian.PutUint32(data, 0x83000000|uint32(j.r.IntN(len(data)+8)))
	}
	b, err := ubus.NewMessage(ubus.MsgInvoke, uint16(j.r.Uint32()), id).U32(ubus.AttrObjID, id).Text(ubus.AttrMethod, method).Raw(ubus.AttrData, data).Bytes()
	if err != nil {
		return err
	}
	if j.r.IntN(3) == 0 {
		b = b[:j.r.IntN(len(b))]
	}
	if j.r.IntN(3) == 0 {
		b[j.r.IntN(max(1, min(len(b), 24)))] ^= byte(1 << j.r.IntN(8))
	}
	conn.Write(b) // ubusd may have hung up already
	if j.r.IntN(2) == 0 {
		io.CopyN(io.Discard, conn, 16)
	}
	return nil
}

// serve is a ubusd out of its mind.
func (j *junk) serve(ctx context.Context) error {
	l, err := net.Listen("unix", j.socket)
	if err != nil {
		return err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	served := 0
	for ; served < j.count; served++ {
		conn, err := l.Accept()
		if err != nil {
			break // the time is over
		}
		conn.SetDeadline(time.Now().Add(300 * time.Millisecond))
		hello, err := ubus.NewMessage(ubus.MsgHello, 0, j.r.Uint32()).Bytes()
		if err != nil {
			return err
		}
		if j.r.IntN(4) > 0 {
			conn.Write(hello)
		}
		for range j.r.IntN(5) {
			b := j.bytes(j.r.IntN(4000))
			if len(b) >= ubus.HeaderLen && j.r.IntN(3) > 0 { // a good header
				b[0], b[1] = 0, byte(j.r.IntN(14))
				binary.BigEndian.PutUint32(b[8:], uint32(len(b)-8))
			}
			conn.Write(b)
		}
		io.CopyN(io.Discard, conn, int64(j.r.IntN(200)))
		conn.Close()
	}
	fmt.Printf("%d connections heard junk\n", served)
	if served == 0 {
		return errors.New("nobody came")
	}
	return nil
}
