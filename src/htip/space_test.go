package htip

import (
	"fmt"
	"strings"
	"testing"
)

// TestTooMuchSpace: one home can't take the private space of all others, neither
// asking nor asked; what stands stays, and the bounds are exact.
func TestTooMuchSpace(t *testing.T) {
	eighth := func(first int) (out []string) { // eight networks of 2^14 addresses
		for i := range 8 {
			out = append(out, fmt.Sprintf("10.%d.%d.0/18", first+i/4, i%4*64))
		}
		return out
	}
	for name, x := range map[string]struct {
		networks []string
		ok       bool
	}{
		"all of 10.0.0.0/8":             {[]string{"10.0.0.0/8"}, false},
		"a /12 of the smaller one":      {[]string{"172.16.0.0/12"}, false},
		"one network more than allowed": {append(eighth(40)[:7], "10.60.0.0/17"), false},
		"just as much as allowed":       {eighth(40), true},
		"a /16 and a /24":               {[]string{"10.9.0.0/16", "192.168.7.0/24"}, true},
	} {
		for _, asks := range []bool{true, false} {
			w := newWorld(t)
			a := w.add("alice", Derived, "10.0.0.0/8", "192.168.1.0/24")
			b := w.add("bob", Derived, "10.0.0.0/8", x.networks...)
			c := w.add("carol", Derived, "10.0.0.0/8", "192.168.1.0/24")
			w.friends()
			a.cfg.MaxSpace = 1 << 17
			w.handle(a, "carol", Connect{})
			stands := fmt.Sprint(a.entry("carol"), c.entry("alice"))
			known := fmt.Sprint(a.Known())
			from, to := a, b
			if asks {
				from, to = b, a
			}
			w.handle(from, to.name, Connect{})
			if up := a.state("bob") == Up; up != x.ok {
				t.Errorf("%s, bob asks %v: %v", name, asks, a.state("bob"))
			}
			if !x.ok {
				for _, n := range []*node{a, b} {
					for _, st := range n.Status() {
						if (st.Peer == "bob" || n == b && st.Peer == "alice") && (st.Reason != ReasonExhausted || !strings.Contains(st.Text, "131072 addresses")) {
							t.Errorf("%s, bob asks %v: %s reads %v %q", name, asks, n.name, st.Reason, st.Text)
						}
					}
				}
				if fmt.Sprint(a.Known()) != known {
					t.Errorf("%s: %v is kept, not %s", name, a.Known(), known)
				}
			}
			if fmt.Sprint(a.entry("carol"), c.entry("alice")) != stands {
				t.Errorf("%s: another tunnel was touched", name)
			}
		}
	}
}
