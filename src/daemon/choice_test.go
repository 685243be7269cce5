package daemon

import (
	"fmt"
	"strings"
	"testing"

	"htip/src/config"
	"htip/src/datapath"
	"htip/src/htip"
)

// TestPPTPOnlyWhenListed: which protocols may be used with whom, whatever this
// router can do.
func TestPPTPOnlyWhenListed(t *testing.T) {
	everything := []datapath.Capability{{Protocol: "l2tp"}, {Protocol: "l2tp-esp"}, {Protocol: "pptp"}, {Protocol: "wireguard"}}
	for _, c := range []struct {
		name       string
		main, peer []string
		encryption string
		want, weak string // of weak, a part
	}{
		{"by default", nil, nil, config.EncryptionRequired, "[wireguard l2tp-esp]", ""},
		{"no encryption", nil, nil, config.EncryptionOff, "[wireguard l2tp-esp l2tp]", ""},
		{"listed, but encryption required", nil, []string{"pptp"}, config.EncryptionRequired, "[]", "but used with no home"},
		{"listed for this peer", nil, []string{"pptp"}, config.EncryptionOff, "[pptp]", "may be used with bob."},
		{"listed for all", []string{"wireguard", "pptp"}, nil, config.EncryptionOff, "[wireguard pptp]", "may be used with bob."},
		{"listed for all, others for this peer", []string{"pptp"}, []string{"l2tp"}, config.EncryptionOff, "[l2tp]", "but used with no home"},
	} {
		d := &Daemon{caps: everything}
		d.cfg = config.Defaults()
		if c.main != nil {
			d.cfg.Main.Protocols = c.main
		}
		bob, carol := config.NewPeer("bob"), config.NewPeer("carol")
		bob.Protocols, bob.Encryption = c.peer, c.encryption
		d.cfg.Peers = []config.Peer{bob, carol}
		if got := fmt.Sprint(d.allowed(bob)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if got := fmt.Sprint(d.allowed(carol)); strings.Contains(got, "pptp") {
			t.Errorf("%s: the other peer %s", c.name, got)
		}
		got := strings.Join(d.weak(), "; ")
		if (got == "") != (c.weak == "") || !strings.Contains(got, c.weak) || got != "" && !strings.Contains(got, "encryption is broken") {
			t.Errorf("%s: warning %q, want %q", c.name, got, c.weak)
		}
	}
}

// TestDisabledPeerIsNoRisk: the warning names homes that can connect.
func TestDisabledPeerIsNoRisk(t *testing.T) {
	d := &Daemon{}
	d.cfg = config.Defaults()
	for _, name := range []string{"bob", "carol", "dave"} {
		p := config.NewPeer(name)
		p.Protocols, p.Encryption, p.Enabled = []string{"pptp"}, config.EncryptionOff, name != "carol"
		d.cfg.Peers = append(d.cfg.Peers, p)
	}
	if got := strings.Join(d.weak(), "; "); !strings.HasPrefix(got, "pptp may be used with bob, dave. ") {
		t.Errorf("%q", got)
	}
}

func TestImpossible(t *testing.T) {
	d := &Daemon{caps: []datapath.Capability{{Protocol: "l2tp"}, {Protocol: "pptp", Missing: []string{"a", "b"}}, {Protocol: "of tomorrow", Missing: []string{"c"}}}}
	if got := d.impossible(); len(got) != 1 || got[htip.PPTP] != "a, b" {
		t.Errorf("%v", got)
	}
}
