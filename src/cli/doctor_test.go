package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestDoctor asks real daemons, by the real bus, what is wrong.
func TestDoctor(t *testing.T) {
	gs := townWith(t, func(g *gateway) {
		if g.Name == "alice" {
			g.Firewall = filepath.Join(g.Dir, "firewall")
			os.WriteFile(g.Firewall, []byte("config zone\noption name wan\nlist network wan\n"), 0o600)
		}
	}, "alice", "bob", "carol")
	a, c := gs[0], gs[2]
	c.stop()
	was, _ := os.ReadFile(a.File())
	began := time.Now()
	out := a.must("doctor")
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	for _, want := range []string{
		"ok    other homes may reach 192.168.1.0/24\n", "bad   there is no line to the Internet", "bad   this home's name alice.example.org leads to " + a.Addr.String() + ", but",
		"bad   no zone of the firewall has the tunnels' devices", "bad   the firewall does not let TCP ", "no dnsmasq was found", "      -> ",
		"ok    bob answers at " + gs[1].Addr.String() + "; there is no tunnel now\n", "bad   the name of carol, carol.example.org, leads to " + c.Addr.String() + ", which is no public address, and nothing answers",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing:\n%s", want, out)
		}
	}
	a.must("connect", "bob", "--wait")
	if out := a.must("doctor", "--json"); !strings.Contains(out, `{"id":"peer:bob","level":"ok","text":"bob is connected","advice":"","format":"% is connected","args":["bob"]}`) {
		t.Error(out)
	}
	if now, _ := os.ReadFile(a.File()); string(now) != string(was) {
		t.Error("the configuration is another one now")
	}
	if code, _, _ := a.run("doctor", "bob"); code != ExitUsage {
		t.Errorf("an argument that is too much: exit code %d", code)
	}
}
