// Package cli is the command htip: what a person types on the router, or a
// script. It talks to the daemon over ubus and knows nothing but the answers.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"htip/src/control"
	"htip/src/daemon"
	"htip/src/ubus"
)

// Exit codes, promised to scripts.
const (
	ExitOK      = 0
	ExitFailed  = 1 // it did not work; the reason was printed
	ExitUsage   = 2 // the command was not understood
	ExitDaemon  = 3 // htipd or ubus can't be reached
	ExitUnknown = 4 // no such peer
	ExitTimeout = 5 // not finished in the time given
)

const usage = `usage: htip COMMAND [OPTIONS]

  status                     this home, its tunnels, and what is wrong
  doctor                     what is wrong with this home, and what to do about it
  connect PEER [--wait]      bring the tunnel to a home up; PEER is its name or domain
  disconnect PEER            end it
  peers                      the configured homes
  hosts [PEER]               the other homes' hosts and their addresses here
  access PEER [ENTRY...]     what a home may reach here; with entries it is changed:
                             all, none, or such as nas, nas:tcp:445, router:tcp:22
  watch [PEER]               steps of all tunnels as they happen
  request DOMAIN             ask a home that is not configured for a tunnel
  requests                   homes that ask this one
  approve REQUEST            make one of them a peer; REQUEST is its number or fingerprint
  reject REQUEST             refuse it, now and later
  invite                     print an invite for another home, with a QR code
  invites                    what became of the invites
  accept [INVITE]            take an invite of another home; without it, from standard input
  user add NAME              let a phone or computer away from home in, by WireGuard
  user remove NAME           and not any more
  users                      who may come in, and when each was seen
  key                        this home's public key, for the other home's configuration
  version

options:
  --json                     for scripts: one JSON object, or one a line
  --wait                     connect, request, accept: show the steps and wait for the end
  --name NAME                what the other home is called here
  --access ENTRY             what it may reach here, such as nas:tcp:445; may come often
  --encryption off           approve: a tunnel that is not encrypted will do
  --port PORT                approve, request: of the other gateway (default 4847)
  --fingerprint FINGERPRINT  request: what the other home shows
  --expires DURATION         invite: how long it is good (default 24h)
  --cancel NUMBER            invite: make one unusable
  --home PEER                user add: another home that the user may reach, or all
  --qr                       invite, user add: the QR code also when the output is no terminal
  --timeout DURATION         how long to wait (default 60s)
  --socket PATH              ubusd's socket (default ` + ubus.DefaultSocket + `)
  --state-dir PATH           where the key is (default /etc/htip)

exit codes: 0 done, 1 failed, 2 not understood, 3 htipd not reachable,
4 no such peer, 5 not finished in time
`

// bus is what the commands need of a ubus connection.
type bus interface {
	Call(ctx context.Context, object, method string, args ubus.Table) (ubus.Table, error)
	Subscribe(ctx context.Context, object string, fn func(notification string, data ubus.Table)) (*ubus.Subscription, error)
	Done() <-chan struct{}
}

type command struct {
	in       io.Reader
	out, err io.Writer
	trustFlags
	json     bool
	wait     bool
	timeout  time.Duration
	socket   string
	stateDir string
	version  string
	args     []string
}

// exit is an error that carries its exit code.
type exit struct {
	code int
	text string
}

func (e *exit) Error() string { return e.text }

func failf(code int, format string, a ...any) error { return &exit{code, fmt.Sprintf(format, a...)} }

// Run runs one command line (without the program's name) and returns its exit
// code.
func Run(ctx context.Context, args []string, version string, stdout, stderr io.Writer) int {
	c := &command{in: os.Stdin, out: stdout, err: stderr, version: version}
	return c.main(ctx, args)
}

func (c *command) main(ctx context.Context, args []string) int {
	err := c.run(ctx, args)
	if err == nil {
		return ExitOK
	}
	var e *exit
	if !errors.As(err, &e) {
		e = &exit{ExitFailed, err.Error()}
	}
	if e.text != "" {
		fmt.Fprintln(c.err, "htip: "+e.text)
	}
	return e.code
}

func (c *command) run(ctx context.Context, args []string) error {
	if err := c.parse(args); err != nil {
		return err
	}
	name := ""
	if len(c.args) > 0 {
		name, c.args = c.args[0], c.args[1:]
	}
	switch name {
	case "help":
		fmt.Fprint(c.out, usage)
		return nil
	case "":
		fmt.Fprint(c.err, usage)
		return &exit{code: ExitUsage}
	case "version":
		fmt.Fprintln(c.out, c.version)
		return c.want(0, 0)
	case "key":
		return c.key()
	}
	run, lo, hi := c.commands(name)
	if run == nil {
		return failf(ExitUsage, "no command %q; htip help lists them", name)
	}
	if err := c.want(lo, hi); err != nil {
		return err
	}
	dial, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	b, err := ubus.Dial(dial, c.socket)
	if err != nil {
		return failf(ExitDaemon, "ubus can't be reached at %s: %v", c.socket, err)
	}
	defer b.Close()
	return run(ctx, b)
}

func (c *command) commands(name string) (run func(context.Context, bus) error, lo, hi int) {
	switch name {
	case "status":
		return c.status, 0, 0
	case "doctor":
		return c.doctor, 0, 0
	case "connect":
		return c.connect, 1, 1
	case "disconnect":
		return c.disconnect, 1, 1
	case "peers":
		return c.peers, 0, 0
	case "hosts":
		return c.hosts, 0, 1
	case "access":
		return c.reach, 1, 100
	case "watch":
		return c.watch, 0, 1
	case "request":
		return c.request, 1, 1
	case "requests":
		return c.requests, 0, 0
	case "approve":
		return c.approve, 1, 1
	case "reject":
		return c.reject, 1, 1
	case "invite":
		return c.invite, 0, 0
	case "invites":
		return c.invites, 0, 0
	case "accept":
		return c.accept, 0, 64
	case "user":
		return c.user, 2, 2
	case "users":
		return c.users, 0, 0
	}
	return nil, 0, 0
}

// parse takes options anywhere on the line, as people type them.
func (c *command) parse(args []string) error {
	f := flag.NewFlagSet("htip", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.BoolVar(&c.json, "json", false, "")
	f.BoolVar(&c.wait, "wait", false, "")
	f.DurationVar(&c.timeout, "timeout", time.Minute, "")
	f.StringVar(&c.socket, "socket", ubus.DefaultSocket, "")
	f.StringVar(&c.name, "name", "", "")
	f.Func("access", "", func(s string) error { c.access = append(c.access, s); return nil })
	f.StringVar(&c.encryption, "encryption", "", "")
	f.Func("port", "", number(&c.port))
	f.StringVar(&c.fingerprint, "fingerprint", "", "")
	f.DurationVar(&c.expires, "expires", 24*time.Hour, "")
	f.Func("cancel", "", number(&c.cancel))
	f.Func("home", "", func(s string) error { c.homes = append(c.homes, s); return nil })
	f.BoolVar(&c.qr, "qr", false, "")
	f.StringVar(&c.stateDir, "state-dir", "/etc/htip", "")
	for {
		err := f.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			c.args = []string{"help"}
			return nil
		}
		if err != nil {
			return failf(ExitUsage, "%v; htip help lists the options", err)
		}
		if f.NArg() == 0 {
			return nil
		}
		c.args = append(c.args, f.Arg(0))
		args = f.Args()[1:]
	}
}

func (c *command) want(lo, hi int) error {
	if len(c.args) < lo {
		return failf(ExitUsage, "something is missing behind the command: which home, request or user is meant; htip help says what")
	}
	if len(c.args) > hi {
		return failf(ExitUsage, "too many arguments: %s", strings.Join(c.args[hi:], " "))
	}
	return nil
}

// call calls the daemon and turns what ubus says into sentences.
func (c *command) call(ctx context.Context, b bus, method string, args ubus.Table) (ubus.Table, error) {
	t, err := try(ctx, b, method, args)
	switch {
	case err == nil:
	case errors.Is(err, ubus.ErrNotFound) && args != nil:
		// Either the object is missing or the peer: a call without a peer tells.
		if _, e := try(ctx, b, "key", nil); e == nil {
			peer, _ := args.GetString("peer")
			hint := ""
			if method == "connect" && strings.Contains(peer, ".") {
				hint = "; htip request " + peer + " asks a home that is not configured yet"
			}
			return nil, failf(ExitUnknown, "no peer %q is configured; htip peers lists them%s", peer, hint)
		}
		fallthrough
	case errors.Is(err, ubus.ErrNotFound):
		return nil, failf(ExitDaemon, "htipd is not running; start it with: /etc/init.d/htip start")
	case errors.Is(err, ubus.ErrTimeout), errors.Is(err, context.DeadlineExceeded):
		return nil, failf(ExitTimeout, "htipd does not answer")
	default:
		return nil, failf(ExitDaemon, "htipd: %v", err)
	}
	if text, ok := t.GetString("error"); ok {
		return t, failf(ExitFailed, "%s", text)
	}
	return t, nil
}

const (
	callTries = 3
	callLimit = 4 * time.Second // of one try; hosts may take longer, it asks other homes

	restartLimit = 10 * time.Second       // until the next daemon is there, where one says that it ends
	restartPause = 300 * time.Millisecond // between two looks
)

// try calls the daemon, again when nothing comes back: a daemon that is being
// restarted may take calls with it, and ubusd does not tell. One that says that it
// ends answers a time-out at once; then there is none for a while. All methods may
// be called twice.
func try(ctx context.Context, b bus, method string, args ubus.Table) (t ubus.Table, err error) {
	ends := time.Time{} // how long the next one is waited for
	for i := 0; i < callTries; {
		limit := callLimit * time.Duration(1+i)
		switch method {
		case "doctor":
			limit += 4 * time.Second
		case "hosts":
			limit += 8 * time.Second
		case "lookup", "accept":
			limit += 22 * time.Second // a look-up, a connection and a handshake of another router
		}
		one, cancel := context.WithTimeout(ctx, limit)
		t, err = b.Call(one, daemon.ObjectName, method, args)
		late := one.Err() != nil
		cancel()
		gone := errors.Is(err, ubus.ErrTimeout) && !late
		if gone && ends.IsZero() {
			ends = time.Now().Add(restartLimit)
		}
		switch {
		case ctx.Err() != nil:
			return t, err
		case (gone || errors.Is(err, ubus.ErrNotFound)) && time.Now().Before(ends):
			select {
			case <-time.After(restartPause):
			case <-ctx.Done():
				return t, err
			}
			continue
		case !errors.Is(err, ubus.ErrTimeout) && !errors.Is(err, context.DeadlineExceeded):
			return t, err
		}
		i++
	}
	return t, err
}

// peerArg is the argument table of the command's peer, nil without one.
func (c *command) peerArg() ubus.Table {
	if len(c.args) == 0 {
		return nil
	}
	return ubus.T("peer", c.args[0])
}

func (c *command) printJSON(t ubus.Table) error {
	_, err := fmt.Fprintf(c.out, "%s\n", ubus.AppendJSON(nil, t))
	return err
}

func (c *command) key() error {
	if err := c.want(0, 0); err != nil {
		return err
	}
	id, _, err := control.LoadIdentity(filepath.Join(c.stateDir, "key"))
	if err != nil {
		return err
	}
	key, fp := control.EncodeKey(id.Public()), control.Fingerprint(id.Public())
	if c.json {
		return c.printJSON(ubus.T("key", key, "fingerprint", fp))
	}
	fmt.Fprintf(c.out, "%s\nfingerprint %s\n", key, fp)
	return nil
}

func (c *command) status(ctx context.Context, b bus) error {
	return c.show(ctx, b, "status", nil, func(t ubus.Table) string { return statusText(t, time.Now()) })
}

func (c *command) peers(ctx context.Context, b bus) error {
	return c.show(ctx, b, "peers", nil, peersText)
}

func (c *command) hosts(ctx context.Context, b bus) error {
	t, err := c.call(ctx, b, "hosts", c.peerArg())
	if err != nil {
		return err
	}
	if c.json {
		if err := c.printJSON(t); err != nil {
			return err
		}
	} else if _, err := io.WriteString(c.out, hostsText(t)); err != nil {
		return err
	}
	errs, _ := t.GetArray("errors")
	for _, e := range errs {
		x, _ := e.(ubus.Table)
		peer, _ := x.GetString("peer")
		text, _ := x.GetString("error")
		if len(c.args) > 0 {
			return failf(ExitFailed, "%s: %s", peer, text)
		}
		fmt.Fprintf(c.err, "htip: %s: %s\n", peer, text)
	}
	return nil
}

func (c *command) disconnect(ctx context.Context, b bus) error {
	return c.show(ctx, b, "disconnect", c.peerArg(), func(t ubus.Table) string {
		peer, _ := t.GetString("peer")
		if was, _ := t.GetString("was"); was == "idle" {
			return peer + " was not connected\n"
		}
		return peer + " is disconnected\n"
	})
}
