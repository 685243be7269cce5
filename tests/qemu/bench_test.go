//go:build qemu

package qemu_test

import (
	"sort"
	"testing"
	"time"

	"htip/tests/qemu/homes"
)

// TestConnectTime measures how long a person waits: from htip connect to the
// first answered ping, five times. The limit is generous: emulation is slow and
// the machine shared.
func TestConnectTime(t *testing.T)     { testConnectTime(t, wg11()) }
func TestConnectTimeL2TP(t *testing.T) { testConnectTime(t, fig11) }

func testConnectTime(t *testing.T, f figure) {
	ctx, l := newLabAlone(t)
	hs, err := homes.Start(ctx, l, f.specs()...)
	if err != nil {
		t.Fatal(err)
	}
	a, b := hs[0], hs[1]
	showLogs(t, a, b)
	settle(ctx, t, a, b)
	for _, h := range hs {
		t.Logf("%s booted in %.1f s", h.Name, h.Router.BootTime().Seconds())
	}
	var whole, command []float64
	for range 5 {
		begin := time.Now()
		out, err := a.Connect(ctx, "bob")
		if err != nil {
			t.Fatal(err)
		}
		t.Log(out)
		connected := time.Since(begin)
		if err := a.Host.PingUntil(ctx, addr(fig11.seenB)); err != nil {
			t.Fatal(err)
		}
		whole, command = append(whole, time.Since(begin).Seconds()), append(command, connected.Seconds())
		a.Router.MustRun(ctx, "htip disconnect bob")
		if _, err := b.WaitState(ctx, "alice", "idle"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second)
	}
	t.Logf("htip connect --wait: %.1f s; to the first ping: %.1f s", command, whole)
	sort.Float64s(whole)
	t.Logf("median to the first ping: %.1f s", whole[2])
	if whole[2] > 15 {
		t.Error("a person has to wait for longer than 15 s")
	}
}
