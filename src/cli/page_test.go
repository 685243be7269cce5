package cli

import (
	"crypto/ecdh"
	"encoding/base64"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"htip/src/daemon"
	"htip/src/qr"
	"htip/src/ubus"
)

// TestForThePage: what the methods answer that only the router's page asks for.
func TestForThePage(t *testing.T) {
	gs := strangers(t, "alice", "bob")
	a := gs[0]

	// The steps of an attempt are all there, in order, for who did not see them come.
	invite := a.call("invite", ubus.T("name", "bob", "qr", true))
	text, _ := invite.GetString("invite")
	code, err := qr.New(strings.ToUpper(text))
	if rows, _ := invite.GetStrings("qr"); err != nil || strings.Join(rows, "\n") != strings.Join(code.Rows(), "\n") {
		t.Errorf("the invite's code: %v, %v", err, rows)
	}
	if _, there := a.call("invite", nil).Get("qr"); there {
		t.Error("a code that nobody asked for")
	}
	whose := gs[1].call("read_invite", ubus.T("invite", text))
	if d, _ := whose.GetString("domain"); d != "alice.example.org" {
		t.Error(whose)
	} else if f, _ := whose.GetString("fingerprint"); f != a.fingerprint() {
		t.Error(whose)
	} else if strings.Contains(string(ubus.AppendJSON(nil, whose)), text[20:40]) {
		t.Error("more of the invite is told than whose it is")
	}
	if s, _ := gs[1].call("read_invite", ubus.T("invite", text[:30])).GetString("error"); s == "" {
		t.Error("a damaged invite is read")
	}
	gs[1].call("accept", ubus.T("invite", text))
	gs[1].wait("alice", "up")
	var steps []string
	tunnels, _ := gs[1].call("status", nil).GetArray("tunnels")
	list, _ := tunnels[0].(ubus.Table).GetArray("steps")
	for _, s := range list {
		step, _ := s.(ubus.Table).GetString("step")
		if len(steps) == 0 || steps[len(steps)-1] != step {
			steps = append(steps, step)
		}
	}
	if got := strings.Join(steps, " "); got != "connecting request response ack ready tunnel up" {
		t.Error(got)
	}

	// A user whose key is made here: the whole configuration, once.
	added := a.call("user_add", ubus.T("name", "phone", "qr", true))
	conf, _ := added.GetString("config")
	m := regexp.MustCompile(`PrivateKey = (\S+)\n`).FindStringSubmatch(conf)
	if m == nil {
		t.Fatal(added)
	}
	if b, err := base64.StdEncoding.DecodeString(m[1]); err != nil {
		t.Error(err)
	} else if _, err := ecdh.X25519().NewPrivateKey(b); err != nil {
		t.Error(err)
	}
	if rows, _ := added.GetStrings("qr"); len(rows) < 21 {
		t.Error("no code")
	}
	if s, _ := a.call("user_add", ubus.T("name", "phone")).GetString("error"); !strings.Contains(s, "there is a user phone already") {
		t.Error(s)
	}
	if s := string(ubus.AppendJSON(nil, a.call("users", nil))) + a.Log.String(); strings.Contains(s, m[1]) {
		t.Error("the private key is told again")
	}
}

// TestWhoSaysWhat: a home that says it is one that is known here is pointed out, and
// what is approved is what was seen.
func TestWhoSaysWhat(t *testing.T) {
	gs := strangers(t, "alice", "bob", "carol")
	a, b, c := gs[0], gs[1], gs[2]
	b.call("request", ubus.T("domain", "alice.example.org", "key", a.Key, "port", int64(a.Port)))
	b.wait("alice", "waiting")
	pending := func() ubus.Table {
		t.Helper()
		list, _ := a.call("requests", nil).GetArray("requests")
		if len(list) != 1 {
			t.Fatal(list)
		}
		return list[0].(ubus.Table)
	}
	key, _ := pending().GetString("key")
	if s, _ := a.call("approve", ubus.T("request", key, "claims", "carol.example.org")).GetString("error"); !strings.Contains(s, "another home now") {
		t.Errorf("%q", s)
	}
	if s, _ := pending().GetString("like"); s != "" {
		t.Errorf("bob is like %q", s)
	}
	if s, ok := a.call("approve", ubus.T("request", key, "claims", "bob.example.org", "port", int64(b.Port))).GetString("error"); ok {
		t.Error(s)
	}
	again := a.call("approve", ubus.T("request", key, "claims", "bob.example.org")) // whose answer was lost, or of another tab
	name, _ := again.GetString("peer")
	if added, ok := again.GetBool("added"); name != "bob" || added || !ok {
		t.Errorf("the second time: %v", again)
	}
	again = a.call("approve", ubus.T("request", key, "claims", "bob.example.org", "access", ubus.Array{"none"}))
	if s, _ := again.GetString("error"); !strings.Contains(s, "bob is a peer already, and may reach here: all") {
		t.Errorf("the second time, with another access: %v", again)
	}
	b.call("connect", ubus.T("peer", "alice")) // it would ask again by itself later
	b.wait("alice", "up")
	deadline := time.Now().Add(15 * time.Second)
	for d := ""; d != "bob.example.org"; time.Sleep(20 * time.Millisecond) {
		peers, _ := a.call("peers", nil).GetArray("peers")
		if d, _ = peers[0].(ubus.Table).GetString("domain"); time.Now().After(deadline) {
			t.Fatal(peers)
		}
	}
	c.stop()
	c.Extra = ""
	if err := os.WriteFile(c.File(), fmt.Appendf(nil, "config htip 'main'\n\toption enabled '1'\n\toption domain 'bob.example.org'\n\toption port '%d'\n", c.Port), 0o600); err != nil {
		t.Fatal(err)
	}
	c.start()
	c.call("request", ubus.T("domain", "alice.example.org", "key", a.Key, "port", int64(a.Port)))
	c.wait("alice", "waiting")
	if s, _ := pending().GetString("like"); s != "bob" {
		t.Errorf("carol, who says she is bob, is like %q", s)
	}
}

// call is what the page does.
func (g *gateway) call(method string, args ubus.Table) ubus.Table {
	g.t.Helper()
	b, err := ubus.Dial(g.t.Context(), g.Socket())
	if err != nil {
		g.t.Fatal(err)
	}
	defer b.Close()
	t, err := b.Call(g.t.Context(), daemon.ObjectName, method, args)
	if err != nil {
		g.t.Fatal(method, err)
	}
	return t
}
