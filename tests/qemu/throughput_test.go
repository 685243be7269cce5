//go:build qemu

package qemu_test

import (
	"strings"
	"testing"

	"htip/tests/qemu/homes"
)

// TestThroughput compares WireGuard with L2TP, plain and in ESP, between the same
// two homes, one after the other and again, since the machine is shared. Only
// the ratio means anything.
func TestThroughput(t *testing.T) {
	ctx, l := newLabAlone(t)
	hs, err := homes.Start(ctx, l, wg11().specs()...)
	if err != nil {
		t.Fatal(err)
	}
	a, b := hs[0], hs[1]
	showLogs(t, a, b)
	settle(ctx, t, a, b)
	best := map[string]float64{}
	for _, protocol := range []string{"wireguard", "l2tp", "l2tp-esp", "wireguard", "l2tp", "l2tp-esp"} {
		for _, h := range hs {
			h.L2TP = protocol == "l2tp"
			if h.Main = sequential; protocol == "l2tp-esp" {
				h.Main += "\tlist protocol 'l2tp-esp'\n"
			}
			if err := h.StopDaemon(ctx); err != nil {
				t.Fatal(err)
			}
			if err := h.Router.Put(ctx, "/etc/config/htip", []byte(h.Config(hs...)), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := h.StartDaemon(ctx); err != nil {
				t.Fatal(err)
			}
		}
		out, err := a.Connect(ctx, "bob")
		if err != nil {
			t.Fatal(err)
		}
		if status := a.Router.MustRun(ctx, "htip status"); !strings.Contains(status, protocol+" (") {
			t.Fatalf("not by %s:\n%s%s", protocol, out, status)
		}
		if err := a.Host.PingUntil(ctx, addr(fig11.seenB)); err != nil {
			t.Fatal(err)
		}
		t.Log(protocol)
		best[protocol] = max(best[protocol], testTransfer(ctx, t, a, b, 20))
	}
	t.Logf("WireGuard %.1f, L2TP %.1f, L2TP in ESP %.1f Mbit/s: of plain L2TP %.2f and %.2f", best["wireguard"], best["l2tp"], best["l2tp-esp"],
		best["wireguard"]/best["l2tp"], best["l2tp-esp"]/best["l2tp"])
}
