package datapath

import (
	"net/netip"
	"strings"
	"testing"

	"os"
	"path/filepath"
)

// golden compares with testdata/<name>; HTIP_GOLDEN=1 writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("HTIP_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("differs from %s:\n%s", path, got)
	}
}

func TestRulesFromNothing(t *testing.T) {
	var none savedRules
	if text, _ := none.plan(chainsFor(Wanted{Known: []netip.Prefix{pfx("10.2.0.0/24")}})); text != "" {
		t.Errorf("rules without a tunnel:\n%s", text)
	}
	text, tables := none.plan(chainsFor(Wanted{Tunnels: []Tunnel{homeC(), homeA()}}))
	golden(t, "restore-two.txt", text)
	if len(tables) != 3 {
		t.Errorf("tables %v", tables)
	}
	// Case 1 has no NAT and therefore no nat table.
	text, tables = none.plan(chainsFor(Wanted{Tunnels: []Tunnel{homeC()}}))
	golden(t, "restore-no-nat.txt", text)
	if len(tables) != 2 {
		t.Errorf("tables %v", tables)
	}
}

// TestRulesOfADoor: strangers that crowd our port are few, peers come in, and
// nothing else is touched. Without tunnels, too: the first peer must get in.
func TestRulesOfADoor(t *testing.T) {
	var none savedRules
	w := Wanted{Door: Door{Port: 4847, Friends: []netip.Addr{netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("198.51.100.9")}}}
	text, _ := none.plan(chainsFor(w))
	golden(t, "restore-door.txt", text)
	there := apply(t, none, text)
	if text, _ := there.plan(chainsFor(w)); text != "" {
		t.Errorf("once more:\n%s", text)
	}
	w.Door.Friends = w.Door.Friends[:1]
	if text, _ := there.plan(chainsFor(w)); !strings.Contains(text, "-A HTIP-DOOR-INPUT -s 198.51.100.7/32 -j RETURN\n") || strings.Contains(text, ".100.9") || strings.Contains(text, "-D ") {
		t.Errorf("another friend:\n%s", text)
	}
	if text, _ := there.plan(chainsFor(Wanted{})); !strings.Contains(text, "-X HTIP-DOOR-INPUT\n") {
		t.Errorf("nobody crowds:\n%s", text)
	}
}

// TestRulesOfServers: the ports of VPN programs hear their peers only.
func TestRulesOfServers(t *testing.T) {
	var none savedRules
	b, c := homeB(), homeB()
	text, _ := none.plan(chainsFor(Wanted{Tunnels: []Tunnel{b}}))
	golden(t, "restore-server.txt", text)
	c.Name, c.Device, c.LocalPort, c.Remote = "carol", "htip-carol", 17012, netip.MustParseAddrPort("198.51.100.7:0")
	text, _ = none.plan(chainsFor(Wanted{Tunnels: []Tunnel{b, c}}))
	for _, want := range []string{
		"-I PREROUTING 1 -p udp -m udp --dport 17010:17012 -j HTIP-VPN-PREROUTING\n",
		"-A HTIP-VPN-PREROUTING ! -s 198.51.100.1/32 -p udp -m udp --dport 17010 -j DROP\n",
		"-A HTIP-VPN-PREROUTING ! -s 198.51.100.7/32 -p udp -m udp --dport 17012 -j DROP\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
}

func TestRulesDoNotDependOnOrder(t *testing.T) {
	var none savedRules
	a, _ := none.plan(chainsFor(Wanted{Tunnels: []Tunnel{homeC(), homeA()}}))
	c := homeC()
	c.Peer[0], c.Peer[1] = c.Peer[1], c.Peer[0]
	b, _ := none.plan(chainsFor(Wanted{Tunnels: []Tunnel{homeA(), c}}))
	if a != b {
		t.Errorf("%s\n\n%s", a, b)
	}
}
