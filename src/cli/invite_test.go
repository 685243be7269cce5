package cli

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"htip/src/control"
	"htip/src/htip"
)

func (g *gateway) invite(args ...string) (invite string, number int) {
	g.t.Helper()
	var s struct {
		Invite string
		Number int
	}
	if err := json.Unmarshal([]byte(g.must(append([]string{"invite", "--json"}, args...)...)), &s); err != nil {
		g.t.Fatal(err)
	}
	return s.Invite, s.Number
}

// TestInvitePairs: one string on one side, one command on the other.
func TestInvitePairs(t *testing.T) {
	gs := strangers(t, "alice", "bob")
	a, b := gs[0], gs[1]
	a.Extra = "\toption accept 'known'\n" // who was invited gets in all the same
	a.configure()
	a.Reload <- os.Interrupt
	a.eventually("knows", func() bool { return strings.Contains(a.must("requests"), "known") })
	invite, _ := a.invite("--name", "bobby", "--access", "nas")
	v, err := htip.ParseInvite(invite)
	if err != nil || v.Domain != "alice.example.org" || control.EncodeKey(v.Key) != a.Key {
		t.Fatal(v, err)
	}
	if out := a.must("invites"); !strings.Contains(out, "good for") || !strings.Contains(out, "bobby") {
		t.Error(out)
	}
	// The issuer forgets nothing over a reboot.
	a.stop()
	a.start()
	// As a messenger delivers it, over standard input: no list of processes shows it.
	code, out, errs := b.with(strings.NewReader("> "+strings.ToUpper(invite[:40])+"\r\n> "+invite[40:]+"  \n\nregards"), "accept", "--wait")
	if code != ExitOK || !strings.Contains(out, "alice's 192.168.1.x") {
		t.Fatal(code, out, errs)
	}
	a.wait("bobby", "up")
	text, _ := os.ReadFile(a.File())
	if !strings.Contains(string(text), b.Key) || !strings.Contains(string(text), "list access 'nas'") {
		t.Errorf("%s", text)
	}
	if out := a.must("invites"); !strings.Contains(out, "used by "+b.fingerprint()) {
		t.Error(out)
	}
	if n := len(a.pending()); n != 0 {
		t.Errorf("%d requests beside", n)
	}
	// Once more is a success that changes nothing.
	text, _ = os.ReadFile(b.File())
	b.must("accept", invite, "--wait")
	if now, _ := os.ReadFile(b.File()); string(now) != string(text) {
		t.Errorf("changed by the second time:\n%s", now)
	}
	// The secret and what is derived from it is in no log, no answer, and in no
	// file that others can read; at the guest's it is gone.
	secret, key := v.Secret, v.Secret.Key()
	var said []string
	for _, g := range gs {
		said = append(said, g.Log.String(), g.must("status", "--json"), g.must("peers", "--json"), g.must("invites", "--json"), g.must("requests", "--json"))
		filepath.WalkDir(g.Dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() {
				return err
			}
			st, err := e.Info()
			if errors.Is(err, fs.ErrNotExist) {
				return nil // it was the next version of another one
			}
			if err != nil {
				return err
			}
			if st.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s can be read by others", path)
			}
			if b, _ := os.ReadFile(path); g == gs[1] || filepath.Base(path) != "strangers.json" {
				said = append(said, string(b))
			}
			return nil
		})
	}
	for _, s := range said {
		for _, b := range [][]byte{secret[:], key[:]} {
			if strings.Contains(s, hex.EncodeToString(b)) || strings.Contains(s, base64.StdEncoding.EncodeToString(b)) || strings.Contains(s, invite[80:100]) {
				t.Errorf("the secret is in %.300q", s)
			}
		}
	}
}

// TestInvitesThatAreRefused: each with a sentence that says why.
func TestInvitesThatAreRefused(t *testing.T) {
	gs := strangers(t, "alice", "bob", "carol")
	a, b, c := gs[0], gs[1], gs[2]
	check := func(g *gateway, what, invite string, words ...string) {
		t.Helper()
		code, out, errs := g.run("accept", "--wait", invite)
		if code != ExitFailed {
			t.Errorf("%s: code %d\n%s", what, code, out)
		}
		for _, w := range words {
			if !strings.Contains(errs, w) {
				t.Errorf("%s: no %q in %q", what, w, errs)
			}
		}
	}
	invite, _ := a.invite()
	check(b, "no invite", "hello", "no invite")
	other := "7" // one that isn't there already
	if invite[50:51] == other {
		other = "a"
	}
	check(b, "damaged", invite[:50]+other+invite[51:], "damaged")
	check(b, "cut", invite[:len(invite)-3], "damaged")
	check(a, "our own", invite, "issued by this home itself")

	// Somebody else answers at the issuer's address: nothing is written.
	b.Names.SetA("alice.example.org", c.Addr)
	check(b, "another gateway", invite, "DANGER", a.fingerprint(), c.fingerprint())
	if text, _ := os.ReadFile(b.File()); strings.Contains(string(text), "config peer") {
		t.Error("a peer was written")
	}
	b.Names.SetA("alice.example.org", netip.Addr{})
	check(b, "not found", invite, "can't be found")
	b.Names.SetA("alice.example.org", a.Addr)

	// A secret that was made up: never issued.
	v, _ := htip.ParseInvite(invite)
	v.Secret[3] ^= 1
	wrong, _ := v.Encode()
	check(b, "wrong secret", wrong, "not known here")

	late, _ := a.invite("--expires", "1s")
	a.eventually("is too late", func() bool { return strings.Contains(a.must("invites"), "expired") })
	check(b, "expired", late, "too old")

	gone, n := a.invite()
	a.must("invite", "--cancel", "3")
	if n != 3 {
		t.Fatal(n)
	}
	check(b, "cancelled", gone, "cancelled")
	if code, _, errs := a.run("invite", "--cancel", "77"); code != ExitFailed || !strings.Contains(errs, "no invite 77") {
		t.Error(code, errs)
	}

	b.must("accept", invite, "--wait")
	check(c, "used by another home", invite, "used already", "once")

	// Who is taken out of the configuration does not come back by its old invite.
	a.configure()
	a.Reload <- os.Interrupt
	b.eventually("is out", func() bool { return b.tunnel("alice").State != "up" })
	b.must("disconnect", "alice")
	check(b, "used by itself", invite, "used already")

	// Guesses are counted, and answered shortly after a few; who has an invite gets
	// in beside who guesses from his network. (A new process lets somebody in a few
	// times; all of this comes from one address.)
	a.stop()
	a.start()
	for range 6 {
		v.Secret[5]++
		wrong, _ = v.Encode()
		c.run("accept", wrong, "--wait", "--timeout", "3s")
	}
	if c.eventually("is told to wait", func() bool { return strings.Contains(c.tunnel("alice").Error, "too many wrong invites") }); t.Failed() {
		return
	}
	time.Sleep(6 * time.Second) // for what one address may have
	good, _ := a.invite()
	c.must("accept", good, "--wait", "--timeout", "20s")
}

// TestKilledBetweenClaimAndPeer: whatever write comes last before the power
// goes, the invite is good for nobody else, and the home that used it gets in.
func TestKilledBetweenClaimAndPeer(t *testing.T) {
	gs := strangers(t, "alice", "bob", "carol")
	a, b, c := gs[0], gs[1], gs[2]
	invite, _ := a.invite("--name", "guest")
	// The claim is the first write; the configuration can't be written.
	a.must("invites")
	config, _ := os.ReadFile(a.File())
	os.Remove(a.File())
	os.Mkdir(a.File(), 0o700)
	b.must("accept", invite)
	b.eventually("is told", func() bool { return strings.Contains(b.tunnel("alice").Error, "could not store") })
	b.stop() // or it comes again by itself, perhaps before we have looked
	a.stop()
	os.Remove(a.File())
	os.WriteFile(a.File(), config, 0o600)
	a.start()
	if out := a.must("invites"); !strings.Contains(out, "claimed by "+b.fingerprint()) {
		t.Error(out)
	}
	if code, _, errs := c.run("accept", invite, "--wait"); code != ExitFailed || !strings.Contains(errs, "used already") {
		t.Errorf("another home: %d %s", code, errs)
	}
	b.start()
	b.must("accept", invite, "--wait")
	a.wait("guest", "up")
	// The peer is the second write: after it, whatever the third, the invite is used.
	state := filepath.Join(a.Dir, "state", "strangers.json")
	text, _ := os.ReadFile(state)
	a.stop()
	os.WriteFile(state, []byte(strings.Replace(string(text), "used", "claimed", 1)), 0o600)
	a.start()
	if out := a.must("invites"); !strings.Contains(out, "used by "+b.fingerprint()) {
		t.Error(out)
	}
}

// TestInviteText: what a person gets to see.
func TestInviteText(t *testing.T) {
	gs := strangers(t, "alice")
	code, out, errs := gs[0].with(nil, "invite", "--qr")
	lines := strings.Split(strings.TrimRight(out, "\n"), "\n")
	if code != ExitOK || len(lines) < 20 || !strings.HasPrefix(lines[0], "htip:") || !strings.Contains(errs, "one home, once") {
		t.Fatal(code, errs, out)
	}
	if code, out, _ := gs[0].with(nil, "invite"); code != ExitOK || strings.Count(out, "\n") != 1 {
		t.Errorf("not for a pipe: %q", out)
	}
	for range 14 {
		gs[0].must("invite")
	}
	if code, _, errs := gs[0].run("invite"); code != ExitFailed || !strings.Contains(errs, "16 invites") {
		t.Error(code, errs)
	}
	if code, _, errs := gs[0].run("invite", "--expires", "999h"); code != ExitFailed || !strings.Contains(errs, "30 days") {
		t.Error(code, errs)
	}
}
