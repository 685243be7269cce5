// Command agent runs inside a router of the lab and executes the lab's commands.
package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"htip/tests/qemu/lab/frame"
)

// settle is how long a command's last output is waited for after its end, unless it ends
// before: this machine's port is slow when the host is busy. What it leaves running in the
// background may go on writing: that is read and thrown away.
const settle = 2 * time.Second

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func run() error {
	for name, value := range map[string]string{
		"PATH": "/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/busybox", "HOME": "/root", "LC_ALL": "C",
	} {
		if err := os.Setenv(name, value); err != nil {
			return err
		}
	}
	name, err := findPort()
	if err != nil {
		return err
	}
	port, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	a := &agent{port: port, commands: map[uint32]*command{}}
	if err := a.send(0, frame.Hello, nil); err != nil {
		return err
	}
	in := bufio.NewReaderSize(port, frame.Max)
	for {
		f, err := frame.Read(in)
		if err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
		a.handle(f)
	}
}

// findPort finds the device of the port by its name.
func findPort() (string, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return "", err
	}
	for _, n := range names {
		if b, err := os.ReadFile(n); err == nil && strings.TrimSpace(string(b)) == frame.Port {
			return "/dev/" + filepath.Base(filepath.Dir(n)), nil
		}
	}
	return "", errors.New("no serial port " + frame.Port)
}

type agent struct {
	port     io.Writer
	writing  sync.Mutex
	mu       sync.Mutex
	commands map[uint32]*command
}

// command is a running command. Its input waits in a queue, so that a command that does not
// read holds up no other.
type command struct {
	pid   int
	mu    sync.Mutex
	more  *sync.Cond
	queue [][]byte
	end   bool
}

func (a *agent) send(id uint32, kind frame.Kind, payload []byte) error {
	a.writing.Lock()
	defer a.writing.Unlock()
	return frame.Write(a.port, frame.Frame{ID: id, Kind: kind, Payload: payload})
}

func (a *agent) handle(f frame.Frame) {
	a.mu.Lock()
	c := a.commands[f.ID]
	a.mu.Unlock()
	switch {
	case f.Kind == frame.Run:
		a.start(f.ID, string(f.Payload))
	case c == nil: // it has ended already
	case f.Kind == frame.Kill:
		syscall.Kill(-c.pid, syscall.SIGKILL)
	case f.Kind == frame.Stdin, f.Kind == frame.StdinEnd:
		c.mu.Lock()
		if f.Kind == frame.Stdin {
			c.queue = append(c.queue, f.Payload)
		} else {
			c.end = true
		}
		c.mu.Unlock()
		c.more.Signal()
	}
}

func (a *agent) start(id uint32, shell string) {
	c := &command{}
	c.more = sync.NewCond(&c.mu)
	cmd := exec.Command("/bin/sh", "-c", shell)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	stdin, err := cmd.StdinPipe()
	var out, outW *os.File
	if err == nil {
		out, outW, err = os.Pipe()
	}
	if err == nil {
		cmd.Stdout, cmd.Stderr = outW, outW
		err = cmd.Start()
		outW.Close()
	}
	if err != nil {
		a.send(id, frame.Out, []byte("agent: "+err.Error()+"\n"))
		a.exit(id, 127)
		return
	}
	c.pid = cmd.Process.Pid
	a.mu.Lock()
	a.commands[id] = c
	a.mu.Unlock()
	go c.feed(stdin)
	go a.wait(id, c, cmd, out)
}

// feed writes the queued input.
func (c *command) feed(w io.WriteCloser) {
	defer w.Close()
	for {
		c.mu.Lock()
		for len(c.queue) == 0 && !c.end {
			c.more.Wait()
		}
		if len(c.queue) == 0 {
			c.mu.Unlock()
			return
		}
		b := c.queue[0]
		c.queue = c.queue[1:]
		c.mu.Unlock()
		if _, err := w.Write(b); err != nil {
			return // the command reads no more
		}
	}
}

// wait passes the output on until the command has ended, and its code last.
func (a *agent) wait(id uint32, c *command, cmd *exec.Cmd, out *os.File) {
	var mu sync.Mutex
	over := false
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		defer out.Close()
		b := make([]byte, frame.Max)
		for {
			n, err := out.Read(b)
			mu.Lock()
			if n > 0 && !over {
				a.send(id, frame.Out, b[:n])
			}
			mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	err := cmd.Wait()
	code := cmd.ProcessState.ExitCode()
	if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		code = -int(ws.Signal())
	} else if code < 0 && err != nil {
		code = 126
	}
	select {
	case <-drained:
	case <-time.After(settle):
	}
	mu.Lock()
	over = true
	mu.Unlock()
	a.mu.Lock()
	delete(a.commands, id)
	a.mu.Unlock()
	c.mu.Lock()
	c.end = true
	c.mu.Unlock()
	c.more.Signal()
	a.exit(id, code)
}

func (a *agent) exit(id uint32, code int) {
	a.send(id, frame.Exit, binary.BigEndian.AppendUint32(nil, uint32(int32(code))))
}
