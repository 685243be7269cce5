package datapath

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestProcessAge(t *testing.T) {
	const stat = "812 (pp pd) (x) S 790 790 790 0 -1 4194560 233 0 0 0 2 3 0 0 20 0 1 0 4500 2744320 310 2147483647 1 1 0"
	for name, c := range map[string][2]string{
		"no parenthesis": {"812 pppd S 1", "60 1"},
		"too few fields": {"812 (pppd) S 1 2 3", "60 1"},
		"no uptime":      {stat, "sixty"},
		"start time":     {strings.Replace(stat, " 4500 ", " x ", 1), "60 1"},
	} {
		if _, err := processAge(c[0], c[1]); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if age, err := processAge(stat, "60.25 100.00\n"); err != nil || age != 15250*time.Millisecond {
		t.Errorf("got %v, %v", age, err)
	}
	if age, err := processAge(stat, "44.00 1\n"); err != nil || age != 0 {
		t.Errorf("clock behind: got %v, %v", age, err)
	}
}

// fakeProc is a process table of files.
func fakeProc(t *testing.T, commands map[int]string) string {
	t.Helper()
	proc := t.TempDir()
	for pid, c := range commands {
		dir := filepath.Join(proc, strconv.Itoa(pid))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "cmdline"), []byte(strings.ReplaceAll(c, " ", "\x00")), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return proc
}

func TestFindTellsOursFromOthers(t *testing.T) {
	proc := fakeProc(t, map[int]string{
		1:  "/sbin/init ",
		2:  "", // a kernel thread or a zombie
		10: "xl2tpd -D -c /run/htip/htip-bob/xl2tpd.conf -s /run/htip/htip-bob/secrets ",
		11: "xl2tpd -D -c /etc/xl2tpd/xl2tpd.conf ",
		12: "/usr/sbin/pppd plugin pppol2tp.so pppol2tp 7 passive nodetach : file /run/htip/htip-bob/ppp.options ",
		13: "/usr/sbin/pppd passive file /run/htip/htip-carol/ppp.gate ",
		14: "/usr/sbin/pppd file /etc/ppp/options.xl2tpd ",
		15: "vi /run/htip/htip-bob/xl2tpd.conf ",
	})
	l := &l2tp{runDir: "/run/htip", proc: processes{proc: proc}}
	check := func(what string, got []int, err error, want ...int) {
		t.Helper()
		if err != nil || len(got) != len(want) || len(want) > 0 && got[0] != want[0] {
			t.Errorf("%s: %v, %v, want %v", what, got, err, want)
		}
	}
	d, err := l.daemons("htip-bob")
	check("xl2tpd of bob", d, err, 10)
	d, err = l.daemons("htip-carol")
	check("xl2tpd of carol", d, err)
	p, err := l.ppps("htip-bob")
	check("pppd of bob", p, err, 12)
	p, err = l.ppps("htip-carol")
	check("pppd of carol", p, err, 13)
	held, err := l.held()
	if err != nil || strings.Join(held, " ") != "htip-bob htip-carol" {
		t.Errorf("held: %v, %v", held, err)
	}
}

func TestStopInsists(t *testing.T) {
	var signals []syscall.Signal
	alive := true
	p := processes{kill: func(pid int, sig syscall.Signal) error {
		signals = append(signals, sig)
		alive = sig != syscall.SIGKILL
		return nil
	}}
	n, err := p.stop(context.Background(), 50*time.Millisecond, func() ([]int, error) {
		if alive {
			return []int{7}, nil
		}
		return nil, nil
	})
	if n != 1 || err != nil || len(signals) != 2 || signals[0] != syscall.SIGTERM || signals[1] != syscall.SIGKILL {
		t.Errorf("%d, %v, %v", n, err, signals)
	}
	if n, err := p.stop(context.Background(), time.Second, func() ([]int, error) { return nil, nil }); n != 0 || err != nil {
		t.Errorf("nobody there: %d, %v", n, err)
	}
	gone := processes{kill: func(int, syscall.Signal) error { return syscall.ESRCH }}
	asked := 0
	if _, err := gone.stop(context.Background(), time.Second, func() ([]int, error) {
		if asked++; asked > 1 {
			return nil, nil
		}
		return []int{7}, nil
	}); err != nil {
		t.Errorf("ended between look and signal: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	stuck := processes{kill: func(int, syscall.Signal) error { return nil }}
	if _, err := stuck.stop(ctx, time.Hour, func() ([]int, error) { return []int{7}, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// What is started must not be ended by our end, nor wait for it, nor stay
// behind as a zombie, nor hold a thread of ours.
func TestChildren(t *testing.T) {
	startsPrograms(t)
	log := filepath.Join(t.TempDir(), "log")
	var c children
	pid, err := c.start("/bin/sh", []string{"-c", "echo out; echo err >&2; ps -o sid= -p $$ 2>/dev/null || echo $$"}, log)
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); !c.reap(pid); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("does not end")
		}
	}
	b, err := os.ReadFile(log)
	if err != nil || !strings.HasPrefix(string(b), "out\nerr\n") || !strings.Contains(string(b), strconv.Itoa(pid)) {
		t.Errorf("%d: %q, %v", pid, b, err)
	}
	if info, err := os.Stat(log); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("process %d is still there: %v", pid, err)
	}
	if _, err := c.start("/no/such/program", nil, log); err == nil {
		t.Error("started nothing")
	}

	threads := func() int {
		d, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(d)
	}
	before := threads()
	var pids []int
	for range 30 {
		pid, err := c.start("/bin/sleep", []string{"60"}, log)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	if now := threads(); now > before+10 {
		t.Errorf("%d threads, %d before 30 programs ran", now, before)
	}
	for _, pid := range pids {
		if c.reap(pid) {
			t.Errorf("%d has ended", pid)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	for end := time.Now().Add(10 * time.Second); len(c.pids) > 0; time.Sleep(5 * time.Millisecond) {
		if c.reap(0); time.Now().After(end) {
			t.Fatalf("%d programs are not reaped", len(c.pids))
		}
	}
}
