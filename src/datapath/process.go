package datapath

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// processes is the part of the process table that concerns us. It is looked up
// by what stands in the command lines, which survives every crash; pid files
// alone may lie.
type processes struct {
	proc string // "/proc"
	kill func(pid int, sig syscall.Signal) error
}

// find lists the processes whose command line pleases.
func (p processes) find(pleases func(argv []string) bool) ([]int, error) {
	return p.with("cmdline", pleases)
}

// with lists the processes of which a file with words pleases.
func (p processes) with(file string, pleases func(words []string) bool) ([]int, error) {
	dirs, err := os.ReadDir(p.proc)
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var pids []int
	for _, d := range dirs {
		pid, err := strconv.Atoi(d.Name())
		if err != nil {
			continue
		}
		if words := p.words(pid, file); len(words) > 0 && pleases(words) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// argv is the command line of a process, nil if there is none or it is a
// zombie. It is read by system calls alone: os.ReadFile makes three times as
// many for each of the hundred processes of a router.
func (p processes) argv(pid int) []string { return p.words(pid, "cmdline") }

func (p processes) words(pid int, file string) []string {
	fd, err := syscall.Open(p.proc+"/"+strconv.Itoa(pid)+"/"+file, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer syscall.Close(fd)
	var buf [2048]byte
	n, err := syscall.Read(fd, buf[:])
	if err != nil || n <= 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(buf[:n]), "\x00"), "\x00")
}

// pidFile is the number in a pid file, 0 (nobody's) without one.
func pidFile(path string) int {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// started is when a process began, in the system's present idea of time.
func (p processes) started(pid int) (time.Time, error) {
	stat, err := os.ReadFile(filepath.Join(p.proc, strconv.Itoa(pid), "stat"))
	if err != nil {
		return time.Time{}, err
	}
	uptime, err := os.ReadFile(filepath.Join(p.proc, "uptime"))
	if err != nil {
		return time.Time{}, err
	}
	age, err := processAge(string(stat), string(uptime))
	if err != nil {
		return time.Time{}, err
	}
	return time.Now().Add(-age), nil
}

// processAge computes how long a process runs from /proc/<pid>/stat and
// /proc/uptime. The kernel counts in hundredths of a second for user space on
// every architecture.
func processAge(stat, uptime string) (time.Duration, error) {
	// The command's name may contain spaces and parentheses.
	_, rest, ok := cutLast(stat, ")")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 20 {
		return 0, errors.New("process statistics: too few fields")
	}
	ticks, err := strconv.ParseUint(fields[19], 10, 63)
	if err != nil {
		return 0, fmt.Errorf("process statistics: start time: %w", err)
	}
	now, err := strconv.ParseFloat(strings.TrimSpace(strings.SplitN(uptime, " ", 2)[0]), 64)
	if err != nil {
		return 0, fmt.Errorf("uptime: %w", err)
	}
	age := time.Duration(now*float64(time.Second)) - time.Duration(ticks)*(time.Second/100)
	return max(age, 0), nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// stop ends all processes that find gives, politely for as long as patience
// lasts, then by force, and returns when none is left.
func (p processes) stop(ctx context.Context, patience time.Duration, find func() ([]int, error)) (int, error) {
	const tick = 20 * time.Millisecond
	asked := map[int]bool{}
	deadline := time.Now().Add(patience)
	for {
		pids, err := find()
		if err != nil {
			return len(asked), err
		}
		if len(pids) == 0 {
			return len(asked), nil
		}
		late := time.Now().After(deadline)
		for _, pid := range pids {
			sig := syscall.SIGTERM
			if late {
				sig = syscall.SIGKILL
			} else if asked[pid] {
				continue
			}
			asked[pid] = true
			if err := p.kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
				return len(asked), fmt.Errorf("end process %d: %w", pid, err)
			}
		}
		if time.Since(deadline) > 2*time.Second {
			return len(asked), fmt.Errorf("process %d does not end", pids[0])
		}
		select {
		case <-ctx.Done():
			return len(asked), ctx.Err()
		case <-time.After(tick):
		}
	}
}

// hasPair tells whether argv contains the two words one behind the other.
func hasPair(argv []string, a, b string) bool {
	for i := 0; i+1 < len(argv); i++ {
		if argv[i] == a && argv[i+1] == b {
			return true
		}
	}
	return false
}

// children are programs that live on when we die: own session, no pipe to us.
// Those that end in our lifetime are reaped by whoever looks next. Waiting for
// one would hold a thread for as long as it lives, which costs 40 kB a tunnel.
type children struct {
	mu   sync.Mutex
	pids []int
}

// start starts a program, its output appended to a new logfile. No env:
// ours, with messages in English.
func (c *children) start(path string, args []string, logfile string, env ...string) (int, error) {
	if len(env) == 0 {
		env = english()
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	log, err := os.OpenFile(logfile, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|os.O_APPEND, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	p, err := os.StartProcess(path, append([]string{path}, args...), &os.ProcAttr{
		Dir: "/", Env: env, Files: []*os.File{null, log, log}, Sys: &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, err
	}
	pid := p.Pid
	c.mu.Lock()
	c.pids = append(c.pids, pid)
	c.mu.Unlock()
	return pid, p.Release()
}

// reap lets go of those that have ended and tells whether pid is not among
// those that run.
func (c *children) reap(pid int) (ended bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.pids = slices.DeleteFunc(c.pids, func(pid int) bool {
		got, err := syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
		return got == pid || errors.Is(err, syscall.ECHILD) // somebody else's by now
	})
	return !slices.Contains(c.pids, pid)
}

// english is our environment with messages in English: logs are read by us.
func english() []string {
	return append(slices.DeleteFunc(os.Environ(), func(e string) bool { return strings.HasPrefix(e, "LC_ALL=") }), "LC_ALL=C")
}

// runner runs a program to its end. The default is run; tests count and fake.
type runner func(ctx context.Context, stdin string, path string, args ...string) (string, error)

// run executes with English messages and gives stdout and stderr together on
// failure, stdout alone otherwise.
func run(ctx context.Context, stdin, path string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = english()
	cmd.Stdin = strings.NewReader(stdin)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	if err := cmd.Run(); err != nil {
		return out.String() + errOut.String(), fmt.Errorf("%s: %w", filepath.Base(path), err)
	}
	return out.String(), nil
}
