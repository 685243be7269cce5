//go:build qemu

// Package arm_test connects two ARM homes. It is not among the other tests on routers, because
// it needs what "scripts/setup armhf" fetches besides.
package arm_test

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

func TestArmv5(t *testing.T) { testConnect(t, lab.Armv5) }
func TestArm64(t *testing.T) { testConnect(t, lab.Arm64) }

// testConnect connects two homes with the same network as their users would.
func testConnect(t *testing.T, arch lab.Arch) {
	l, err := lab.New(context.Background(), lab.Options{Arch: arch, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	begin := time.Now() // of the first run much is building
	hs, err := homes.Start(ctx, l,
		homes.Spec{Name: "alice", LAN: lan("192.168.1.4", "pc"), L2TP: true},
		homes.Spec{Name: "bob", LAN: lan("192.168.1.5", "nas"), L2TP: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("routers booted in %.1f and %.1f s; daemons answer after %.1f s",
		hs[0].Router.BootTime().Seconds(), hs[1].Router.BootTime().Seconds(), time.Since(begin).Seconds())
	out, err := hs[0].Connect(ctx, "bob")
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s%.1f s after the start", out, time.Since(begin).Seconds())
	for i, h := range hs {
		peer := hs[1-i]
		tn, err := h.WaitState(ctx, peer.Name, "up")
		if err != nil {
			t.Fatal(err)
		}
		// The link's own name is the proof that PPP and L2TP are the kernel's.
		if proof := h.Router.MustRun(ctx, "cat /proc/net/pppol2tp"); !strings.Contains(proof, "interface "+tn.Device) {
			t.Errorf("%s: /proc/net/pppol2tp says %q", h.Name, proof)
		}
		host := map[string]string{"alice": "pc", "bob": "nas"}[peer.Name]
		found, err := h.Host.Lookup(ctx, host+"."+peer.Name+".internal")
		if err != nil || len(found) != 1 || !slices.ContainsFunc(tn.Theirs, func(m struct{ Network, Substitute netip.Prefix }) bool { return m.Substitute.Contains(found[0]) }) {
			t.Fatalf("%s looks %s up: %v, %v; %s's networks are %v\n%s", h.Name, host, found, err, peer.Name, tn.Theirs, h.Log())
		}
		if err := h.Host.Ping(ctx, found[0], 1000, 3); err != nil {
			t.Errorf("from %s to %s: %v\n%s", h.Name, host, err, h.Log())
		}
	}
}

func lan(host, name string) lab.LAN {
	a := netip.MustParseAddr(host)
	return lab.LAN{Router: netip.MustParsePrefix("192.168.1.1/24"), Host: a, Names: map[string]netip.Addr{name: a}}
}
