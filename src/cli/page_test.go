package cli

import (
	"crypto/ecdh"
	"encoding/base64"
	"regexp"
	"strings"
	"testing"

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
