package lab

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"htip/tests/qemu/lab/frame"
)

// errAgentGone ends the commands of a router that was killed or whose agent died.
var errAgentGone = errors.New("the router's agent is gone")

// console is the lab's end of the serial port of a router: it starts commands in it.
type console struct {
	conn    net.Conn
	writing sync.Mutex
	ready   chan struct{} // closed at the agent's first hello
	closed  chan struct{} // closed when the connection has ended
	mu      sync.Mutex
	last    uint32
	running map[uint32]*process
}

// process is a command running in a router. Its output is read with Read; at its end Read
// gives io.EOF.
type process struct {
	con  *console
	id   uint32
	mu   sync.Mutex
	more *sync.Cond
	out  []byte
	done bool
	code int
	err  error
}

func newConsole(conn net.Conn) *console {
	c := &console{conn: conn, ready: make(chan struct{}), closed: make(chan struct{}), running: map[uint32]*process{}}
	go c.receive()
	return c
}

func (c *console) receive() {
	in := bufio.NewReaderSize(c.conn, frame.Max)
	hello := false
	for {
		f, err := frame.Read(in)
		if err != nil {
			c.endAll(fmt.Errorf("%w: %w", errAgentGone, err))
			close(c.closed)
			return
		}
		if f.Kind == frame.Hello {
			c.endAll(errAgentGone)
			if !hello {
				hello = true
				close(c.ready)
			}
			continue
		}
		c.mu.Lock()
		p := c.running[f.ID]
		if f.Kind == frame.Exit {
			delete(c.running, f.ID)
		}
		c.mu.Unlock()
		switch {
		case p == nil: // nobody waits for it any more
		case f.Kind == frame.Out:
			p.mu.Lock()
			p.out = append(p.out, f.Payload...)
			p.mu.Unlock()
			p.more.Broadcast()
		case f.Kind == frame.Exit && len(f.Payload) == 4:
			p.finish(int(int32(binary.BigEndian.Uint32(f.Payload))), nil)
		}
	}
}

func (c *console) endAll(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.running {
		p.finish(-1, err)
	}
	clear(c.running)
}

func (c *console) send(id uint32, kind frame.Kind, payload []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	return frame.Write(c.conn, frame.Frame{ID: id, Kind: kind, Payload: payload})
}

// start starts a shell command and feeds it the input. When ctx ends, the command's process
// group is killed.
func (c *console) start(ctx context.Context, shell string, stdin []byte) (*process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	c.last++
	p := &process{con: c, id: c.last}
	p.more = sync.NewCond(&p.mu)
	c.running[p.id] = p
	c.mu.Unlock()
	err := c.send(p.id, frame.Run, []byte(shell))
	for err == nil && len(stdin) > 0 {
		n := min(len(stdin), frame.Max)
		err = c.send(p.id, frame.Stdin, stdin[:n])
		stdin = stdin[n:]
	}
	if err == nil {
		err = c.send(p.id, frame.StdinEnd, nil)
	}
	if err != nil {
		c.forget(p)
		return nil, fmt.Errorf("%w: %w", errAgentGone, err)
	}
	stop := context.AfterFunc(ctx, func() { p.kill(context.Cause(ctx)) })
	go func() {
		p.wait()
		stop()
	}()
	return p, nil
}

func (c *console) forget(p *process) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.running, p.id)
}

// kill ends the command in the router and gives its reader err.
func (p *process) kill(err error) {
	// If the connection has ended, so has the command.
	_ = p.con.send(p.id, frame.Kill, nil)
	p.con.forget(p)
	p.finish(-1, err)
}

func (p *process) finish(code int, err error) {
	p.mu.Lock()
	if !p.done {
		p.done, p.code, p.err = true, code, err
	}
	p.mu.Unlock()
	p.more.Broadcast()
}

// Read gives the command's standard output and standard error as they come.
func (p *process) Read(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.out) == 0 && !p.done {
		p.more.Wait()
	}
	if len(p.out) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		return 0, io.EOF
	}
	n := copy(b, p.out)
	p.out = p.out[n:]
	return n, nil
}

// wait waits for the end and returns the exit code.
func (p *process) wait() (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for !p.done {
		p.more.Wait()
	}
	return p.code, p.err
}
