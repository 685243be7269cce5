//go:build qemu

package qemu_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"htip/tests/qemu/homes"
)

// TestTrust is three homes that have never heard of each other.
func TestTrust(t *testing.T) {
	ctx, l := newLab(t)
	var specs []homes.Spec
	for i, name := range []string{"alice", "bob", "carol"} {
		specs = append(specs, homes.Spec{Name: name, LAN: lan("192.168.1.1/24", fmt.Sprint("192.168.1.", 4+i), "nas"), Strangers: true})
	}
	hs, err := homes.Start(ctx, l, specs...)
	if err != nil {
		t.Fatal(err)
	}
	showLogs(t, hs...)
	a, b, c := hs[0], hs[1], hs[2]
	fp := map[*homes.Home]string{}
	for _, h := range hs {
		var key struct{ Fingerprint string }
		parse(ctx, t, h, "htip key --json", &key)
		fp[h] = key.Fingerprint
	}
	// fails runs a command and wants it to end with 1 and these words.
	fails := func(t *testing.T, h *homes.Home, command string, words ...string) {
		t.Helper()
		res, err := h.Router.Run(ctx, command)
		if err != nil || res.Code != 1 {
			t.Errorf("%s: exit code %d, %v\n%s", h.Name, res.Code, err, res.Output)
		}
		for _, w := range words {
			if !strings.Contains(res.Output, w) {
				t.Errorf("%s: no %q in %s", h.Name, w, res.Output)
			}
		}
		t.Logf("%s: %s", h.Name, strings.TrimSpace(res.Output))
	}
	up := func(t *testing.T, x *homes.Home, peer string, y *homes.Home, back string) {
		t.Helper()
		for _, e := range []struct {
			h    *homes.Home
			peer string
		}{{x, peer}, {y, back}} {
			if _, err := e.h.WaitState(ctx, e.peer, "up"); err != nil {
				t.Fatal(err)
			}
			addrs, err := e.h.Host.Lookup(ctx, "nas."+e.peer+".internal")
			if err != nil || len(addrs) != 1 {
				t.Fatalf("%s looks up nas.%s.internal: %v, %v", e.h.Name, e.peer, addrs, err)
			}
			if err := e.h.Host.Ping(ctx, addrs[0], 56, 3); err != nil {
				t.Errorf("%s to %s: %v", e.h.Name, e.peer, err)
			}
		}
	}

	t.Run("approve", func(t *testing.T) {
		fails(t, a, "htip request bob.example.org --fingerprint "+fp[c], "Nothing was changed", fp[b])
		res, err := a.Router.Run(ctx, "htip request bob.example.org --fingerprint "+fp[b]+" --wait --timeout 20s")
		if err != nil || res.Code != 5 || !strings.Contains(res.Output, "waiting for the other home's approval") {
			t.Errorf("code %d, %v\n%s", res.Code, err, res.Output)
		}
		var r struct {
			Requests []struct {
				Number              int
				Fingerprint, Claims string
				Networks            []string
			}
		}
		parse(ctx, t, b, "htip requests --json", &r)
		if len(r.Requests) != 1 || r.Requests[0].Fingerprint != fp[a] || r.Requests[0].Claims != a.Domain || fmt.Sprint(r.Requests[0].Networks) != "[192.168.1.0/24]" {
			t.Fatalf("%+v", r)
		}
		t.Log(b.Router.MustRun(ctx, "htip requests"))
		begin := time.Now()
		t.Log(b.Router.MustRun(ctx, "htip approve "+fp[a][:9]+" --name ally"))
		up(t, a, "bob", b, "ally")
		t.Logf("both ways %.1f s after the approval", time.Since(begin).Seconds())
		b.Router.MustRun(ctx, "htip approve "+fp[a]) // once more
		text := b.Router.MustRun(ctx, "cat /etc/config/htip")
		if !strings.Contains(text, "option domain 'alice.example.org'") || strings.Count(text, "config peer") != 1 {
			t.Errorf("%s", text)
		}
	})
	t.Run("reject", func(t *testing.T) {
		c.Router.MustRun(ctx, "htip request bob.example.org --fingerprint "+fp[b])
		b.Router.MustRun(ctx, "n=0; until htip requests | grep -q "+fp[c]+"; do n=$((n+1)); [ $n -lt 300 ] || exit 1; sleep 0.2; done; htip reject "+fp[c])
		fails(t, c, "htip connect bob --wait", "refused")
		if out := b.Router.MustRun(ctx, "htip requests"); !strings.Contains(out, "no home waits") || !strings.Contains(out, "rejected: "+fp[c]) {
			t.Error(out)
		}
	})
	t.Run("policy", func(t *testing.T) {
		text := b.Router.MustRun(ctx, "cat /etc/config/htip")
		with := func(word string) string {
			return strings.Replace(text, "\toption enabled '1'\n", "\toption enabled '1'\n\toption accept '"+word+"'\n", 1)
		}
		b.Reconfigure(ctx, t, with("known"))
		fails(t, c, "htip connect bob --wait", "does not know our key")
		b.Reconfigure(ctx, t, with("none"))
		if _, err := b.WaitState(ctx, "ally", "up"); err != nil { // what stands stays
			t.Error(err)
		}
		a.Router.MustRun(ctx, "htip disconnect bob")
		if _, err := b.WaitState(ctx, "ally", "idle"); err != nil {
			t.Error(err)
		}
		fails(t, a, "htip connect bob --wait", "takes no requests")
		if _, err := b.Connect(ctx, "ally"); err != nil {
			t.Error(err)
		}
		up(t, a, "bob", b, "ally")
		b.Reconfigure(ctx, t, text)
	})
	t.Run("invite", func(t *testing.T) {
		invite := func(options string) string {
			var i struct{ Invite string }
			parse(ctx, t, c, "htip invite --json "+options, &i)
			return i.Invite
		}
		accept := func(s string) string { return "echo '" + s + "' | htip accept --wait" }
		t.Log(c.Router.MustRun(ctx, "htip invite --qr; htip invite --cancel 1"))
		c.Reconfigure(ctx, t, c.Config(hs...)) // bob is none of its peers any more
		s := invite("--name friend")
		// Somebody else answers in carol's place.
		l.Internet().SetA(c.Domain, b.Router.WANAddr())
		fails(t, a, accept(s), "DANGER", fp[c], fp[b])
		l.Internet().SetA(c.Domain, c.Router.WANAddr())
		// carol's router dies between the invite and its use.
		c.Router.MustRun(ctx, "kill -9 $(pidof htipd)")
		if err := c.StartDaemon(ctx); err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		t.Log(a.Router.MustRun(ctx, accept(s)))
		up(t, a, "carol", c, "friend")
		t.Logf("both ways %.1f s after the invite", time.Since(begin).Seconds())
		a.Router.MustRun(ctx, accept(s)) // once more
		fails(t, b, accept(s), "used already")
		late := invite("--expires 1s")
		time.Sleep(2 * time.Second)
		fails(t, b, accept(late), "too old")
		fails(t, b, accept(s[:70]+s[71:]), "damaged")
		// A router that has lost the time issues nothing and takes nothing.
		good := invite("")
		now := strings.TrimSpace(c.Router.MustRun(ctx, "date +%s; date -s @86400 >/dev/null"))
		fails(t, c, "htip invite", "clock of this router is not set")
		res, err := b.Router.Run(ctx, accept(good)+" --timeout 20s")
		if err != nil || res.Code != 5 || !strings.Contains(res.Output, "clock of this router is not set") {
			t.Errorf("code %d, %v\n%s", res.Code, err, res.Output)
		}
		c.Router.MustRun(ctx, "date -s @"+now+" >/dev/null")
		if out := b.Router.MustRun(ctx, accept(good)); !strings.Contains(out, "try ping") {
			t.Error(out)
		}
		// Both ends are friends for good.
		for _, h := range []*homes.Home{a, c} {
			h.Router.MustRun(ctx, "kill -9 $(pidof htipd)")
			if err := h.StartDaemon(ctx); err != nil {
				t.Fatal(err)
			}
		}
		up(t, a, "carol", c, "friend")
		secrets := c.Router.MustRun(ctx, "ls -l /etc/htip/strangers.json; ! cat /var/log/htipd.log | grep -q "+s[60:90])
		if !strings.HasPrefix(secrets, "-rw-------") {
			t.Error(secrets)
		}
	})
}

// parse runs a command and reads the JSON that it prints.
func parse(ctx context.Context, t *testing.T, h *homes.Home, command string, into any) {
	t.Helper()
	out := h.Router.MustRun(ctx, command)
	if err := json.Unmarshal([]byte(out[strings.Index(out, "{"):]), into); err != nil {
		t.Fatalf("%s: %s printed %q: %v", h.Name, command, out, err)
	}
}
