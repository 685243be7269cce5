package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// How long a name server is waited for, and how often it is asked.
const (
	askWithin = 2 * time.Second
	askTries  = 2
	askPause  = 200 * time.Millisecond // after a refusal, which comes at once
)

// ask sends one question to server and gives the answer that matches it. A
// truncated answer is fetched again over TCP. Each try has a new random id and
// comes from a new random port.
func ask(ctx context.Context, s Sockets, device string, server netip.AddrPort, q question, flags dnsmessage.Header, tries int) (*msg, error) {
	req := new(msg)
	req.Header = flags
	req.Question = []question{q}
	req.EDNS = &edns{Size: maxUDP}
	var err error
	for try := range tries {
		if try > 0 && !sleep(ctx, askPause) {
			break
		}
		req.ID = newID()
		var m *msg
		m, err = exchange(ctx, s, "udp", device, server, req)
		if err == nil && m.Truncated {
			req.ID = newID()
			m, err = exchange(ctx, s, "tcp", device, server, req)
		}
		if err == nil {
			return m, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("asking %s for %s: %w", server, q.Name, quiet(err))
}

// quiet makes the error of a socket fit for a sentence that a user reads.
func quiet(err error) error {
	var timeout net.Error
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout() {
		return errNoAnswer
	}
	return err
}

var errNoAnswer = errors.New("no answer in time")

func exchange(ctx context.Context, s Sockets, network, device string, server netip.AddrPort, req *msg) (*msg, error) {
	ctx, cancel := context.WithTimeout(ctx, askWithin)
	defer cancel()
	until, _ := ctx.Deadline()
	c, err := s.Dial(ctx, network, device, server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	if network == "tcp" {
		if err := writeTCP(c, req, until); err != nil {
			return nil, err
		}
		b, err := readTCP(c, maxMessage, until)
		if err != nil {
			return nil, err
		}
		m := new(msg)
		if err := m.Unpack(b); err != nil {
			return nil, err
		}
		if !matches(m, req) {
			return nil, errors.New("answer to another question")
		}
		return m, nil
	}
	packed, err := req.Pack()
	if err != nil {
		return nil, err
	}
	if err := c.SetDeadline(until); err != nil {
		return nil, err
	}
	if _, err := c.Write(packed); err != nil {
		return nil, err
	}
	b := make([]byte, 4096) // some send more than they were asked for
	for {
		n, err := c.Read(b)
		if err != nil {
			return nil, err
		}
		m := new(msg)
		err = m.Unpack(b[:n])
		switch {
		case !matches(m, req): // of somebody who guesses
		case err == nil || m.Truncated:
			return m, nil
		default:
			return nil, err
		}
	}
}

// sleep waits and tells whether ctx allows to go on.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
