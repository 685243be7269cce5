package htip

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden talks anew")

// TestGoldenTalks holds the figures of the seed byte for byte: sequential
// candidates from 10.0.0.0/8. docs/protocol.md shows the same octets.
func TestGoldenTalks(t *testing.T) {
	for _, c := range []struct {
		fig, a, b, wantA, wantB string
		three                   bool // the first embodiment
	}{
		{"fig9", "10.0.0.0/24", "10.0.1.0/24", "10.0.0.0/24", "10.0.1.0/24", false},
		{"fig11", "10.0.0.0/24", "10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", false},
		{"fig13", "10.0.0.0/24", "10.0.0.0/16", "10.2.0.0/24", "10.1.0.0/16", false},
		{"fig3", "10.0.0.0/24", "10.0.1.0/24", "10.0.0.0/24", "10.0.1.0/24", true},
		{"fig5", "10.0.0.0/24", "10.0.0.0/24", "10.0.1.0/24", "10.0.2.0/24", true},
		{"fig7", "10.0.0.0/24", "10.0.0.0/16", "10.2.0.0/24", "10.1.0.0/16", true},
	} {
		t.Run(c.fig, func(t *testing.T) {
			w := newWorld(t)
			a := w.add("alice", Sequential, "10.0.0.0/8", c.a)
			b := w.add("bob", Sequential, "10.0.0.0/8", c.b)
			w.friends()
			if c.three {
				threeMessages(a, b)
			}
			w.handle(a, "bob", Connect{})
			if a.state("bob") != Up || b.state("alice") != Up {
				t.Fatalf("not up: %v, %v\n%s", a.state("bob"), b.state("alice"), strings.Join(w.log, "\n"))
			}
			w.agree()
			e := a.entry("bob")
			if e.Own[0] != (Mapping{px(c.a), px(c.wantA)}) || e.Theirs[0] != (Mapping{px(c.b), px(c.wantB)}) {
				t.Errorf("substitutes %v %v", e.Own, e.Theirs)
			}
			if got := e.NAT(); got != (c.a != c.wantA) {
				t.Errorf("NAT() = %v", got)
			}
			got := strings.Join(w.wire, "\n") + "\n" + table("alice", a.Entries()) + table("bob", b.Entries())
			file := filepath.Join("testdata", c.fig+".golden")
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("the talk differs from %s:\n%s", file, got)
			}
			doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
			if err != nil {
				t.Fatal(err)
			}
			if shown := "    " + strings.ReplaceAll(strings.TrimSuffix(got, "\n"), "\n", "\n    ") + "\n"; !strings.Contains(string(doc), shown) {
				t.Errorf("docs/protocol.md does not show %s", file)
			}
		})
	}
}

func table(name string, es []Entry) string {
	s := ""
	for _, e := range es {
		s += fmt.Sprintf("%s's table: %s %v id %08x %v own %v theirs %v gateways %v %v ports %d %d\n", name, e.Domain, e.Protocol, e.TunnelID,
			e.Role, e.Own, e.Theirs, e.OwnGateway, e.PeerGateway, e.LocalPort, e.PeerPort)
	}
	return s
}
