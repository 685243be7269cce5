package cli

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestUserCommand: what a person gets to see, and that the private key is
// nowhere else.
func TestUserCommand(t *testing.T) {
	gs := strangers(t, "alice")
	a := gs[0]
	if out := a.must("users"); !strings.Contains(out, "no users") {
		t.Error(out)
	}
	code, out, errs := a.with(nil, "user", "add", "phone", "--qr", "--home", "all")
	if code != ExitOK || !strings.Contains(errs, "shown this once") {
		t.Fatal(code, out, errs)
	}
	if strings.Count(out, "█") < 100 {
		t.Errorf("no QR code:\n%s", out)
	}
	m := regexp.MustCompile(`^\[Interface\]\nPrivateKey = (\S{44})\nAddress = (10\.\S+)/32\nDNS = (10\.\S+)\n\n\[Peer\]\nPublicKey = \S{44}\nEndpoint = alice.example.org:17009\nAllowedIPs = \S+, 10\.\S+/24, 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16\n`).FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("%s", out)
	}
	private := m[1]
	if out := a.must("users"); !strings.Contains(out, "phone") || !strings.Contains(out, m[2]) || !strings.Contains(out, "not seen since the gateway started, may reach all") {
		t.Error(out)
	}
	filepath.Walk(a.Dir, func(path string, st os.FileInfo, err error) error {
		if err == nil && st.Mode().IsRegular() {
			if b, err := os.ReadFile(path); err == nil && strings.Contains(string(b), private) {
				t.Errorf("the private key is in %s", path)
			}
		}
		return nil
	})
	if st, err := os.Stat(filepath.Join(a.Dir, "state", "users.json")); err != nil || st.Mode().Perm() != 0o600 {
		t.Error(st, err)
	}

	code, out, _ = a.run("user", "add", "tablet", "--json")
	var v struct{ Name, Config, Key string }
	if err := json.Unmarshal([]byte(out), &v); code != ExitOK || err != nil || v.Name != "tablet" {
		t.Fatal(code, err, out)
	}
	if b, err := base64.StdEncoding.DecodeString(regexp.MustCompile(`PrivateKey = (\S+)`).FindStringSubmatch(v.Config)[1]); err != nil {
		t.Error(err)
	} else if _, err := ecdh.X25519().NewPrivateKey(b); err != nil {
		t.Error(err)
	}
	for _, x := range []struct {
		args string
		code int
		want string
	}{
		{"user add phone", ExitFailed, "there is a user phone already"},
		{"user add", ExitUsage, "something is missing"},
		{"user change phone", ExitUsage, "htip user add NAME"},
		{"user add tv --home dave", ExitFailed, `no peer "dave"`},
		{"user add my_phone", ExitFailed, "a word of a-z"},
		{"user remove tv", ExitFailed, `no user "tv"`},
	} {
		if code, _, errs := a.run(strings.Fields(x.args)...); code != x.code || !strings.Contains(errs, x.want) {
			t.Errorf("%s: %d, %s", x.args, code, errs)
		}
	}
	a.stop()
	a.start()
	if out := a.must("users"); strings.Count(out, "\n") != 2 {
		t.Errorf("after a restart: %s", out)
	}
	a.must("user", "remove", "phone")
	if out := a.must("users"); strings.Contains(out, "phone") {
		t.Error(out)
	}
}
