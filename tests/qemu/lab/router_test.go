package lab

import (
	"bytes"
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"htip/tests/qemu/lab/frame"
)

func TestAddRouterRefuses(t *testing.T) {
	l := &Lab{arch: Mipsel, routers: []*Router{{Name: "a"}}}
	for name, c := range map[string]RouterConfig{
		"no name":       {},
		"capital":       {Name: "Bob"},
		"long name":     {Name: "abcdefghi"},
		"name used":     {Name: "a"},
		"WAN elsewhere": {Name: "b", WAN: netip.MustParsePrefix("198.51.100.1/24")},
		"WAN length":    {Name: "b", WAN: netip.MustParsePrefix("192.88.99.1/25")},
	} {
		if _, err := l.AddRouter(context.Background(), c); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	r := &Router{Name: "b"}
	for name, lan := range map[string]LAN{
		"no host":        {Router: netip.MustParsePrefix("10.0.0.1/24")},
		"host elsewhere": {Router: netip.MustParsePrefix("10.0.0.1/24"), Host: netip.MustParseAddr("10.0.1.4")},
	} {
		if err := r.addLAN(context.Background(), 0, lan); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestOverlay(t *testing.T) {
	r := &Router{Name: "bob", arch: Mipsel, config: RouterConfig{
		WAN: wanAddress(2),
		LAN: []LAN{
			{Router: netip.MustParsePrefix("10.0.0.1/24"), Names: map[string]netip.Addr{"nas": netip.MustParseAddr("10.0.0.5")}},
			{Router: netip.MustParsePrefix("172.16.0.1/16"), Names: map[string]netip.Addr{"cam": netip.MustParseAddr("172.16.0.9")}},
		},
		Files: map[string]File{"/etc/firewall": Text("other")},
	}}
	b, err := r.overlay([]byte("agent"))
	if err != nil {
		t.Fatal(err)
	}
	all := strings.Join(readCPIO(t, b), "\n")
	for _, want := range []string{
		`100644 etc/firewall "other"`,
		`100755 usr/sbin/lab-agent "agent"`,
		`100644 tmp/hosts/lan "10.0.0.5 nas\n172.16.0.9 cam\n"`,
		`NAME=bob\nWAN=192.88.99.2/24\nGATEWAY=192.88.99.254\nWAN2=''\nGATEWAY2=192.88.98.254\nLANS='10.0.0.1/24 172.16.0.1/16'\n`,
		`ttyS0::respawn:-/bin/dash`,
	} {
		if !strings.Contains(all, want) {
			t.Errorf("no %s in\n%s", want, all)
		}
	}
}

func TestQuote(t *testing.T) {
	if got := quote("it's $x"); got != `'it'\''s $x'` {
		t.Errorf("got %s", got)
	}
}

func TestReadModuleDeps(t *testing.T) {
	name := filepath.Join(t.TempDir(), "modules.dep")
	if err := os.WriteFile(name, []byte("a.ko:\nb.ko: a.ko c.ko\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	deps, err := readModuleDeps(name)
	if err != nil || len(deps) != 2 || strings.Join(deps["b.ko"], " ") != "a.ko c.ko" {
		t.Errorf("got %v, %v", deps, err)
	}
}

// agentEnd plays the agent of a console.
func agentEnd(t *testing.T) (*console, net.Conn) {
	here, there := net.Pipe()
	t.Cleanup(func() { here.Close(); there.Close() })
	there.SetDeadline(time.Now().Add(10 * time.Second))
	return newConsole(here), there
}

// next reads the agent's next frame of a kind.
func next(t *testing.T, conn net.Conn, kind frame.Kind) frame.Frame {
	t.Helper()
	for {
		f, err := frame.Read(conn)
		if err != nil {
			t.Fatal(err)
		}
		if f.Kind == kind {
			return f
		}
	}
}

func send(t *testing.T, conn net.Conn, id uint32, kind frame.Kind, payload string) {
	t.Helper()
	if err := frame.Write(conn, frame.Frame{ID: id, Kind: kind, Payload: []byte(payload)}); err != nil {
		t.Fatal(err)
	}
}

type outcome struct {
	Result
	err error
}

func runOn(ctx context.Context, con *console, shell string, stdin []byte) chan outcome {
	c := make(chan outcome, 1)
	go func() {
		res, err := (&Router{Name: "a", con: con}).runInput(ctx, shell, stdin)
		c <- outcome{res, err}
	}()
	return c
}

func TestConsole(t *testing.T) {
	con, agent := agentEnd(t)
	stdin := bytes.Repeat([]byte("x"), frame.Max+1)
	result := runOn(context.Background(), con, "cmd", stdin)
	run := next(t, agent, frame.Run)
	if string(run.Payload) != "cmd" {
		t.Errorf("got %q", run.Payload)
	}
	if n := len(next(t, agent, frame.Stdin).Payload) + len(next(t, agent, frame.Stdin).Payload); n != len(stdin) {
		t.Errorf("%d bytes of input instead of %d", n, len(stdin))
	}
	next(t, agent, frame.StdinEnd)
	send(t, agent, run.ID+100, frame.Out, "of a command that nobody waits for")
	send(t, agent, run.ID, frame.Out, "a")
	send(t, agent, run.ID, frame.Out, "b")
	send(t, agent, run.ID, frame.Exit, "\xff\xff\xff\xf7")
	if got := <-result; got.err != nil || got.Output != "ab" || got.Code != -9 {
		t.Errorf("got %+v", got)
	}
}

func TestConsoleTimeout(t *testing.T) {
	con, agent := agentEnd(t)
	ctx, cancel := context.WithCancelCause(context.Background())
	result := runOn(ctx, con, "cmd", nil)
	run := next(t, agent, frame.Run)
	next(t, agent, frame.StdinEnd)
	send(t, agent, run.ID, frame.Out, "begun")
	reason := errors.New("no more time")
	time.AfterFunc(50*time.Millisecond, func() { cancel(reason) })
	if kill := next(t, agent, frame.Kill); kill.ID != run.ID {
		t.Errorf("command %d killed instead of %d", kill.ID, run.ID)
	}
	if got := <-result; !errors.Is(got.err, reason) || got.Output != "begun" {
		t.Errorf("got %+v", got)
	}
}

func TestConsoleAgentGone(t *testing.T) {
	for name, end := range map[string]func(net.Conn){
		"power":     func(agent net.Conn) { agent.Close() },
		"new agent": func(agent net.Conn) { send(t, agent, 0, frame.Hello, "") },
		"junk":      func(agent net.Conn) { agent.Write(bytes.Repeat([]byte{0xff}, 20)) },
	} {
		con, agent := agentEnd(t)
		result := runOn(context.Background(), con, "cmd", nil)
		next(t, agent, frame.StdinEnd)
		end(agent)
		if got := <-result; !errors.Is(got.err, errAgentGone) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}
