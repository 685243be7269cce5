package main

import (
	"encoding/binary"
	"net"
	"strings"
	"testing"
	"time"

	"htip/tests/qemu/lab/frame"
)

// lab is the other end of an agent's port.
type lab struct {
	t    *testing.T
	conn net.Conn
}

func newLab(t *testing.T) *lab {
	here, there := net.Pipe()
	t.Cleanup(func() { here.Close(); there.Close() })
	a := &agent{port: there, commands: map[uint32]*command{}}
	go func() {
		for {
			f, err := frame.Read(there)
			if err != nil {
				return
			}
			a.handle(f)
		}
	}()
	here.SetDeadline(time.Now().Add(30 * time.Second))
	return &lab{t, here}
}

func (l *lab) send(id uint32, kind frame.Kind, payload string) {
	l.t.Helper()
	if err := frame.Write(l.conn, frame.Frame{ID: id, Kind: kind, Payload: []byte(payload)}); err != nil {
		l.t.Fatal(err)
	}
}

// result reads until the command's end.
func (l *lab) result(id uint32) (string, int) {
	l.t.Helper()
	var out strings.Builder
	for {
		f, err := frame.Read(l.conn)
		if err != nil {
			l.t.Fatal(err)
		}
		switch {
		case f.ID != id:
		case f.Kind == frame.Out:
			out.Write(f.Payload)
		case f.Kind == frame.Exit:
			return out.String(), int(int32(binary.BigEndian.Uint32(f.Payload)))
		}
	}
}

func TestCommands(t *testing.T) {
	l := newLab(t)
	for id, c := range []struct {
		shell, stdin, out string
		code              int
	}{
		{"exit 3", "", "", 3},
		{"kill -TERM $$", "", "", -15},
		{"echo a; echo b >&2; false", "", "a\nb\n", 1},
		{"cat", "x\x00\xffy", "x\x00\xffy", 0},
		{"exec <&-; echo does not read", strings.Repeat("x", frame.Max), "does not read\n", 0},
		{"sleep 2 & echo background goes on", "", "background goes on\n", 0},
	} {
		l.send(uint32(id), frame.Run, c.shell)
		l.send(uint32(id), frame.Stdin, c.stdin)
		l.send(uint32(id), frame.StdinEnd, "")
		if out, code := l.result(uint32(id)); out != c.out || code != c.code {
			t.Errorf("%s: got %q, %d, want %q, %d", c.shell, out, code, c.out, c.code)
		}
	}
}

func TestKill(t *testing.T) {
	l := newLab(t)
	l.send(7, frame.Kill, "") // of a command that is not there
	l.send(1, frame.Run, "sleep 1000; echo not reached")
	l.send(2, frame.Run, "echo another")
	if out, code := l.result(2); out != "another\n" || code != 0 {
		t.Errorf("got %q, %d", out, code)
	}
	l.send(1, frame.Kill, "")
	if out, code := l.result(1); out != "" || code != -9 {
		t.Errorf("got %q, %d", out, code)
	}
}
