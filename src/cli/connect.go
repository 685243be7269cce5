package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"htip/src/daemon"
	"htip/src/htip"
	"htip/src/ubus"
)

// connect starts a tunnel and, with --wait, shows its steps until the end.
func (c *command) connect(ctx context.Context, b bus) error {
	return c.begin(ctx, b, "connect", c.peerArg())
}

// begin calls a method that makes a tunnel come up.
func (c *command) begin(ctx context.Context, b bus, method string, args ubus.Table) error {
	if !c.wait {
		t, err := c.call(ctx, b, method, args)
		if err != nil {
			return err
		}
		if c.json {
			return c.printJSON(t)
		}
		peer, _ := t.GetString("peer")
		if state, _ := t.GetString("state"); state == "up" {
			fmt.Fprintf(c.out, "%s is connected\n", peer)
		} else {
			fmt.Fprintf(c.out, "connecting to %s; htip watch %s shows how it goes\n", peer, peer)
			if method == "request" {
				fmt.Fprintf(c.out, "the tunnel comes up by itself once the other home has approved this one (htip requests there)\n")
			}
		}
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	// Subscribed before the call, no step is missed.
	steps := make(chan ubus.Table, 64)
	if err := c.subscribe(ctx, b, steps); err != nil {
		return err
	}
	answer, err := c.call(ctx, b, method, args)
	if err != nil {
		return err
	}
	peer, _ := answer.GetString("peer")
	approval := false
	for {
		t, err := c.next(ctx, b, steps)
		if approval && ctx.Err() == context.DeadlineExceeded {
			return failf(ExitTimeout, "not approved within %v; the tunnel comes up by itself once the other home has approved this one", c.timeout)
		}
		if err != nil {
			return err
		}
		if p, _ := t.GetString("peer"); p != peer {
			continue
		}
		if err := c.printStep(t, false); err != nil {
			return err
		}
		if reason, ok := t.GetString("reason"); ok {
			approval = reason == htip.ReasonApproval.String()
		}
		up, _ := t.GetBool("up")
		if up {
			return c.connected(ctx, b, t)
		}
		if done, _ := t.GetBool("done"); done {
			text, _ := t.GetString("text")
			return failf(ExitFailed, "%s", text)
		}
	}
}

func (c *command) subscribe(ctx context.Context, b bus, steps chan ubus.Table) error {
	_, err := b.Subscribe(ctx, daemon.ObjectName, func(n string, t ubus.Table) {
		if n == daemon.ProgressNotification {
			select {
			case steps <- t:
			case <-ctx.Done():
			}
		}
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.Canceled):
		return failf(ExitFailed, "interrupted")
	case errors.Is(err, ubus.ErrTimeout), ctx.Err() != nil:
		return failf(ExitTimeout, "htipd does not answer")
	}
	return failf(ExitDaemon, "htipd is not running; start it with: /etc/init.d/htip start")
}

// next waits for a step.
func (c *command) next(ctx context.Context, b bus, steps <-chan ubus.Table) (ubus.Table, error) {
	select {
	case t := <-steps:
		return t, nil
	case <-b.Done():
		return nil, failf(ExitDaemon, "ubus went away")
	case <-ctx.Done():
		if ctx.Err() == context.DeadlineExceeded {
			return nil, failf(ExitTimeout, "not connected within %v; htip status says where it stands", c.timeout)
		}
		return nil, failf(ExitFailed, "interrupted; the tunnel goes on by itself")
	}
}

func (c *command) printStep(t ubus.Table, named bool) error {
	if c.json {
		return c.printJSON(t)
	}
	_, err := io.WriteString(c.out, stepText(t, named))
	return err
}

// connected prints the sentence that people waited for, with a host of the
// other home when one is known.
func (c *command) connected(ctx context.Context, b bus, t ubus.Table) error {
	if c.json {
		return nil
	}
	peer, _ := t.GetString("peer")
	host := ""
	try, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if h, err := b.Call(try, daemon.ObjectName, "hosts", ubus.T("peer", peer)); err == nil {
		list, _ := h.GetArray("hosts")
		for _, x := range list {
			if row, ok := x.(ubus.Table); ok && host == "" {
				host, _ = row.GetString("fqdn")
			}
		}
	}
	if host == "" {
		host = peer + ".internal"
		if s, err := b.Call(try, daemon.ObjectName, "status", nil); err == nil {
			if zone, ok := s.GetString("zone"); ok {
				host = peer + "." + zone
			}
		}
	}
	tunnel, _ := t.GetTable("tunnel")
	_, err := io.WriteString(c.out, connectedText(peer, tunnel, host))
	return err
}

// watch prints steps until it is interrupted.
func (c *command) watch(ctx context.Context, b bus) error {
	steps := make(chan ubus.Table, 64)
	if err := c.subscribe(ctx, b, steps); err != nil {
		return err
	}
	want := ""
	if len(c.args) > 0 {
		// Which peer is meant, by its name or domain, is the daemon's to say.
		t, err := c.call(ctx, b, "peers", nil)
		if err != nil {
			return err
		}
		meant := strings.TrimSuffix(strings.ToLower(c.args[0]), ".") // as the daemon takes it
		list, _ := t.GetArray("peers")
		for _, x := range list {
			row, _ := x.(ubus.Table)
			name, _ := row.GetString("peer")
			if domain, _ := row.GetString("domain"); name == meant || domain == meant {
				want = name
			}
		}
		if want == "" {
			return failf(ExitUnknown, "no peer %q is configured; htip peers lists them", c.args[0])
		}
	}
	for {
		select {
		case t := <-steps:
			if p, _ := t.GetString("peer"); want == "" || p == want {
				if err := c.printStep(t, want == ""); err != nil {
					return err
				}
			}
		case <-b.Done():
			return failf(ExitDaemon, "ubus went away")
		case <-ctx.Done():
			return nil
		}
	}
}
