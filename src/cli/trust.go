package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"htip/src/ubus"
)

// trustFlags are the options of the commands that decide who becomes a peer.
type trustFlags struct {
	name        string
	access      []string
	homes       []string
	encryption  string
	fingerprint string
	port        int
	expires     time.Duration
	cancel      int
	qr          bool
}

// terminal tells whether a stream is a person's.
func terminal(s any) bool {
	f, ok := s.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}

// with adds what the options say about the new peer to a call's arguments.
func (c *command) with(t ubus.Table) ubus.Table {
	if c.name != "" {
		t = append(t, ubus.F("name", c.name))
	}
	if len(c.access) > 0 {
		list := ubus.Array{}
		for _, a := range c.access {
			list = append(list, a)
		}
		t = append(t, ubus.F("access", list))
	}
	if c.port != 0 {
		t = append(t, ubus.F("port", int64(c.port)))
	}
	if c.encryption != "" {
		t = append(t, ubus.F("encryption", c.encryption))
	}
	return t
}

// show calls a method and prints its answer.
func (c *command) show(ctx context.Context, b bus, method string, args ubus.Table, text func(ubus.Table) string) error {
	t, err := c.call(ctx, b, method, args)
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(t)
	}
	_, err = io.WriteString(c.out, text(t))
	return err
}

func (c *command) requests(ctx context.Context, b bus) error {
	return c.show(ctx, b, "requests", nil, requestsText)
}

func (c *command) approve(ctx context.Context, b bus) error {
	return c.show(ctx, b, "approve", c.with(ubus.T("request", c.args[0])), func(t ubus.Table) string {
		peer, _ := t.GetString("peer")
		fp, _ := t.GetString("fingerprint")
		if added, _ := t.GetBool("added"); !added {
			return fmt.Sprintf("%s is a peer already, fingerprint %s; nothing was changed\n", peer, fp)
		}
		return fmt.Sprintf("%s is a peer now, fingerprint %s; the tunnel comes up by itself. htip watch %s shows how it goes\n", peer, fp, peer)
	})
}

func (c *command) reject(ctx context.Context, b bus) error {
	return c.show(ctx, b, "reject", ubus.T("request", c.args[0]), func(t ubus.Table) string {
		fp, _ := t.GetString("fingerprint")
		return fmt.Sprintf("%s is rejected: it is refused from now on and not shown again. htip approve %s takes that back\n", fp, fp)
	})
}

// request makes a home that is not configured a peer and asks it for a tunnel,
// after somebody has said that its fingerprint is right.
func (c *command) request(ctx context.Context, b bus) error {
	args := ubus.T("domain", c.args[0])
	if c.port != 0 {
		args = append(args, ubus.F("port", int64(c.port)))
	}
	found, err := c.call(ctx, b, "lookup", args)
	if err != nil {
		return err
	}
	domain, _ := found.GetString("domain")
	key, _ := found.GetString("key")
	fp, _ := found.GetString("fingerprint")
	known, _ := found.GetString("peer")
	switch {
	case known != "": // its key is configured: nothing to compare
	case c.fingerprint != "":
		if !sameFingerprint(c.fingerprint, fp) {
			return failf(ExitFailed, "the gateway at %s has the fingerprint %s, not %s: it is not the home that you mean, or somebody has put himself in between. Nothing was changed", domain, fp, c.fingerprint)
		}
	case c.json || !terminal(c.in):
		return failf(ExitUsage, "the gateway at %s has the fingerprint %s. Compare it with what htip key prints there, and give it: htip request %s --fingerprint FINGERPRINT", domain, fp, domain)
	default:
		fmt.Fprintf(c.err, "The gateway at %s has the fingerprint\n\n    %s\n\nIs this the fingerprint that the other home shows (htip key)? [y/N] ", domain, fp)
		line, _ := readText(c.in, true)
		if a := strings.ToLower(line); a != "y" && a != "yes" {
			return failf(ExitFailed, "nothing was changed")
		}
	}
	return c.begin(ctx, b, "request", c.with(ubus.T("domain", domain, "key", key)))
}

// sameFingerprint compares whole fingerprints, however they are written.
func sameFingerprint(a, b string) bool {
	plain := func(s string) string { return strings.ReplaceAll(strings.ToUpper(strings.TrimSpace(s)), "-", "") }
	return plain(a) == plain(b)
}

// accept takes an invite: from the command line, or from standard input, where
// no list of processes shows it.
func (c *command) accept(ctx context.Context, b bus) error {
	text := strings.Join(c.args, "") // pasted with spaces in it
	if text == "" || text == "-" {
		if terminal(c.in) {
			fmt.Fprint(c.err, "Paste the invite, then an empty line:\n")
		}
		var err error
		if text, err = readText(c.in, false); err != nil {
			return failf(ExitFailed, "reading the invite: %v", err)
		}
	}
	return c.begin(ctx, b, "accept", c.with(ubus.T("invite", text)))
}

// readText reads lines up to an empty one, or to the end, and joins them; just
// one line where that is wanted.
func readText(r io.Reader, one bool) (text string, err error) {
	b, line := make([]byte, 1), "" // a byte at a time: what follows is not ours
	for n := 0; n < maxPasted && err == nil; n++ {
		if _, err = io.ReadFull(r, b); err == nil && b[0] != '\n' {
			line += string(b)
			continue
		}
		line = strings.TrimSpace(line)
		if text += line; one || line == "" && text != "" {
			return text, nil
		}
		line = ""
	}
	if text == "" {
		return "", errors.New("nothing was given")
	}
	return text, nil
}

// maxPasted is more octets than an invite has, with all that mail puts around it.
const maxPasted = 4096

func (c *command) invite(ctx context.Context, b bus) error {
	if c.cancel != 0 {
		return c.show(ctx, b, "cancel_invite", ubus.T("number", int64(c.cancel)), func(ubus.Table) string {
			return fmt.Sprintf("invite %d is cancelled\n", c.cancel)
		})
	}
	t, err := c.call(ctx, b, "invite", c.with(ubus.T("expires", int64(c.expires/time.Second))))
	if err != nil {
		return err
	}
	if c.json {
		return c.printJSON(t)
	}
	s, _ := t.GetString("invite")
	n, _ := t.GetInt("number")
	tty := terminal(c.out)
	fmt.Fprintf(c.err, "Invite %d, for one home, once, within %v. Give it to nobody else; on the other router: htip accept\n\n", n, c.expires)
	fmt.Fprintln(c.out, s)
	if !tty && !c.qr {
		return nil
	}
	code, err := qrText(strings.ToUpper(s), tty)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.out, "\n%s", code)
	return err
}

func (c *command) invites(ctx context.Context, b bus) error {
	return c.show(ctx, b, "invites", nil, invitesText)
}

// number is an option that is a whole number of at least 1.
func number(at *int) func(string) error {
	return func(s string) (err error) {
		if *at, err = strconv.Atoi(s); err == nil && *at < 1 {
			err = errors.New("want a number from 1 on")
		}
		return err
	}
}

func agoText(seconds int64) string {
	d := time.Duration(seconds) * time.Second
	switch {
	case d < time.Minute:
		return "just now"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min ago", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h ago", d/time.Hour)
	}
	return fmt.Sprintf("%d days ago", d/(24*time.Hour))
}

func requestsText(t ubus.Table) string {
	var b strings.Builder
	list, _ := t.GetArray("requests")
	if len(list) == 0 {
		b.WriteString("no home waits for approval\n")
	}
	switch accept, _ := t.GetString("accept"); accept {
	case "known":
		b.WriteString("requests of strangers are not taken (option accept 'known')\n")
	case "none":
		b.WriteString("no requests are taken (option accept 'none')\n")
	}
	for _, x := range list {
		row, _ := x.(ubus.Table)
		n, _ := row.GetInt("number")
		fp, _ := row.GetString("fingerprint")
		claims, _ := row.GetString("claims")
		name, _ := row.GetString("name")
		nets, _ := row.GetStrings("networks")
		protocols, _ := row.GetStrings("protocols")
		from, _ := row.GetString("address")
		first, _ := row.GetInt("first_ago")
		last, _ := row.GetInt("last_ago")
		count, _ := row.GetInt("count")
		if claims == "" {
			claims = "none"
		}
		fmt.Fprintf(&b, "%d  fingerprint %s\n", n, fp)
		fmt.Fprintf(&b, "   says it is   %s (not verified)\n", claims)
		fmt.Fprintf(&b, "   networks     %s, by %s\n", strings.Join(nets, ", "), strings.Join(protocols, ", "))
		fmt.Fprintf(&b, "   from         %s, first %s, last %s, %d times\n", from, agoText(first), agoText(last), count)
		fmt.Fprintf(&b, "   Compare the fingerprint with the other home, then: htip approve %d --name %s, or: htip reject %d\n", n, name, n)
	}
	if rejected, _ := t.GetStrings("rejected"); len(rejected) > 0 {
		fmt.Fprintf(&b, "rejected: %s\n", strings.Join(rejected, ", "))
	}
	return b.String()
}

func invitesText(t ubus.Table) string {
	var b strings.Builder
	list, _ := t.GetArray("invites")
	if len(list) == 0 {
		return "no invites\n"
	}
	for _, x := range list {
		row, _ := x.(ubus.Table)
		n, _ := row.GetInt("number")
		state, _ := row.GetString("state")
		name, _ := row.GetString("name")
		access, _ := row.GetStrings("access")
		in, _ := row.GetInt("expires_in")
		if state == "open" {
			state = "good for " + (time.Duration(in) * time.Second).String()
		}
		if by, ok := row.GetString("by"); ok {
			state += " by " + by
		}
		if name != "" {
			state += ", for " + name
		}
		if len(access) > 0 {
			state += ", may reach " + strings.Join(access, ", ")
		}
		fmt.Fprintf(&b, "%d  %s\n", n, state)
	}
	return b.String()
}
