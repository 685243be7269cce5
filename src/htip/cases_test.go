package htip

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// place is one home of a case: its networks, what else it is connected to, and
// its pool when it is not all private space.
type place struct {
	nets, occupied, pool string
}

func list(s string) []string { return strings.Fields(s) }

// settle makes the homes of a case, alice, bob and carol, and lets carol
// connect to bob and then alice to bob.
func settle(t *testing.T, order Order, homes ...place) (*world, *node, *node) {
	w := newWorld(t)
	names := []string{"alice", "bob", "carol"}
	for i, p := range homes {
		n := w.add(names[i], order, p.pool, list(p.nets)...)
		for _, o := range list(p.occupied) {
			n.home.Occupied = append(n.home.Occupied, px(o))
		}
		n.SetHome(n.home)
	}
	w.friends()
	a, b := w.nodes["alice"], w.nodes["bob"]
	if c := w.nodes["carol"]; c != nil {
		w.handle(c, "bob", Connect{})
		w.mustBeUp(c, b)
	}
	w.wire = nil
	w.handle(a, "bob", Connect{})
	return w, a, b
}

// outcome is the result of alice's talk with bob as text.
func (w *world) outcome(a, b *node) string {
	s := fmt.Sprintf("    %d messages, %d NAK", len(w.wire), w.count(Nak))
	if a.state("bob") != Up {
		st := a.Status()[0]
		s += fmt.Sprintf("; alice: %v: %s\n", st.Reason, st.Text)
		st = b.Status()[0]
		return s + fmt.Sprintf("    bob: %v: %s\n", st.Reason, st.Text)
	}
	w.agree()
	s += "\n"
	for _, n := range []*node{a, b} {
		e := n.entry(map[*node]string{a: "bob", b: "alice"}[n])
		for _, m := range e.Own {
			how := "itself"
			if m.NAT() {
				how = "as " + m.Substitute.String()
			}
			s += fmt.Sprintf("    %s's %v %s\n", n.name, m.Network, how)
		}
	}
	return s
}

// TestAllCases is every way in which the addresses of two homes can meet. The
// outcome is golden text; the laws are checked beside it.
func TestAllCases(t *testing.T) {
	const lan = "192.168.1.0/24"
	cases := []struct {
		name  string
		homes []place
	}{
		{"distinct", []place{{lan, "", ""}, {"192.168.2.0/24", "", ""}}},
		{"identical", []place{{lan, "", ""}, {lan, "", ""}}},
		{"A inside B", []place{{"10.1.2.0/24", "", ""}, {"10.1.0.0/16", "", ""}}},
		{"B inside A", []place{{"10.1.0.0/16", "", ""}, {"10.1.2.0/24", "", ""}}},
		{"several networks, one collides", []place{{lan + " 172.20.0.0/24 10.5.0.0/16", "", ""}, {"192.168.7.0/24 10.5.9.0/24", "", ""}}},
		{"several networks, all collide", []place{{lan + " 172.20.0.0/24", "", ""}, {lan + " 172.20.0.0/16", "", ""}}},
		{"eight networks each", []place{
			{"192.168.0.0/24 192.168.1.0/24 192.168.2.0/24 192.168.3.0/24 192.168.4.0/24 192.168.5.0/24 192.168.6.0/24 192.168.7.0/24", "", ""},
			{"192.168.0.0/24 192.168.1.0/24 192.168.2.0/24 192.168.3.0/24 192.168.4.0/24 192.168.5.0/24 192.168.6.0/24 192.168.7.0/24", "", ""}}},
		{"only with a third home's network there (¶121)", []place{{lan, "", ""}, {"192.168.2.0/24", "", ""}, {lan, "", ""}}},
		{"only with a third home's substitute there", []place{{"10.0.0.0/24", "", ""}, {lan, "", ""}, {lan, "", "10.0.0.0/24"}}},
		{"with the WAN there (double NAT)", []place{{lan, "", ""}, {"192.168.2.0/24", "192.168.1.0/24", ""}}},
		{"with the WAN here (double NAT)", []place{{"192.168.2.0/24", "192.168.1.0/24", ""}, {lan, "", ""}}},
		{"with the WAN at both (double NAT behind one kind of router)", []place{{"192.168.2.0/24", "192.168.1.0/24", ""}, {"192.168.1.0/24", "192.168.2.0/24", ""}}},
		{"with a static route there", []place{{"172.16.5.0/24", "", ""}, {lan, "172.16.0.0/16", ""}}},
		{"with a single address there", []place{{"172.16.5.0/24", "", ""}, {lan, "172.16.5.77/32", ""}}},
		{"all of the pool there is routed elsewhere", []place{{lan, "", ""}, {lan, "10.0.0.0/8 172.16.0.0/12 192.168.0.0/17 192.168.128.0/18 192.168.192.0/19 192.168.224.0/20", ""}}},
		{"our pool is used up", []place{{lan, "10.9.0.0/24", "10.9.0.0/24"}, {lan, "", ""}}},
		{"their pool is used up", []place{{lan, "", ""}, {lan, "10.9.0.0/24", "10.9.0.0/24"}}},
		{"one pool for both", []place{{lan, "", "10.9.0.0/24"}, {lan, "", "10.9.0.0/24"}}},
		{"B is all of 10.0.0.0/8", []place{{"10.1.2.0/24", "", ""}, {"10.0.0.0/8", "", ""}}},
	}
	for bits := MinBits; bits <= MaxBits; bits++ {
		n := fmt.Sprintf("10.0.0.0/%d", bits)
		cases = append(cases, struct {
			name  string
			homes []place
		}{"identical /" + fmt.Sprint(bits), []place{{n, "", ""}, {n, "", ""}}})
	}
	var got strings.Builder
	for _, c := range cases {
		got.WriteString(c.name + "\n")
		for _, order := range []Order{Derived, Sequential} {
			w, a, b := settle(t, order, c.homes...)
			fmt.Fprintf(&got, "  %s\n%s", map[Order]string{Derived: "derived", Sequential: "sequential"}[order], w.outcome(a, b))
			if a.state("bob") != Up && (a.state("bob") != Idle || len(w.conns) != map[bool]int{false: 0, true: 1}[len(c.homes) == 3]) {
				t.Errorf("%s: left %v, %v", c.name, a.state("bob"), w.conns)
			}
		}
	}
	file := filepath.Join("testdata", "cases.txt")
	if *update {
		if err := os.WriteFile(file, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("differs from %s:\n%s", file, got.String())
	}
}
