package datapath

import (
	"context"
	"net/netip"
	"testing"
	"time"
)

func TestKeeperNoAnswer(t *testing.T) {
	b, tun := newWGBench(t), wgTunnelOf(homeA())
	if err := b.start(context.Background(), tun); err != nil {
		t.Fatal(err)
	}
	for _, d := range []time.Duration{0, wgHaste, 10 * time.Second, wgStartLimit} {
		if _, any := b.after(t, d, nil); !any {
			t.Fatalf("given up after %v", d)
		}
		b.is(t, tun, false, "calling")
	}
	if _, any := b.after(t, wgStartLimit+time.Second, nil); any {
		t.Error("the keeper still waits")
	}
	b.is(t, tun, true, "does not answer on its WireGuard port")

	// Nobody knows when a server's client calls: that is the talk's business.
	b, tun = newWGBench(t), wgTunnelOf(homeB())
	if err := b.start(context.Background(), tun); err != nil {
		t.Fatal(err)
	}
	b.after(t, 0, nil)
	if _, any := b.after(t, time.Hour, nil); !any {
		t.Error("a server does not wait")
	}
	b.is(t, tun, false, "waiting for the other gateway to call")
}

func TestKeeperSilence(t *testing.T) {
	b, tun := newWGBench(t), wgTunnelOf(homeA())
	if err := b.start(context.Background(), tun); err != nil {
		t.Fatal(err)
	}
	at, bytes := time.Duration(0), uint64(92)
	step := func(n int, more uint64) (any bool) {
		for range n {
			at, bytes = at+wgBeat, bytes+more
			_, any = b.after(t, at, map[string]uint64{"htip-bob": bytes})
		}
		return any
	}
	step(1, 0)
	// As long as anything comes nobody is asked.
	if step(100, 32); b.echoes != 0 {
		t.Errorf("%d echoes", b.echoes)
	}
	// Short silences are none.
	for range 10 {
		if !step(wgPatience, 0) || !step(1, 60) {
			t.Fatal("given up too early")
		}
	}
	if b.echoes != 10*wgPatience {
		t.Errorf("%d echoes", b.echoes)
	}
	// Looks that come early change nothing: they are counted when they are due.
	for range 20 {
		b.after(t, at+time.Second, map[string]uint64{"htip-bob": bytes})
	}
	// A keeper that comes very late gives the peer all its chances.
	at += time.Hour
	if !step(wgPatience, 0) {
		t.Error("given up without having asked")
	}
	b.is(t, tun, false, "")
	if step(1, 0) {
		t.Error("not given up")
	}
	b.is(t, tun, true, "fell silent")
	if len(b.kernel.ls) != 0 {
		t.Errorf("the sign for others is missing: %v", b.kernel.ls)
	}
}

func TestKeeperSeesDeviceGo(t *testing.T) {
	b, tun := newWGBench(t), wgTunnelOf(homeA())
	if err := b.start(context.Background(), tun); err != nil {
		t.Fatal(err)
	}
	b.after(t, 0, map[string]uint64{"htip-bob": 92})
	b.kernel.ls = nil // ip link del
	b.after(t, wgBeat, nil)
	b.is(t, tun, true, "device is gone")
}

// A new life of the daemon: another driver, the same kernel.
func TestKeeperAfterRestart(t *testing.T) {
	b, tun := newWGBench(t), wgTunnelOf(homeA())
	if err := b.start(context.Background(), tun); err != nil {
		t.Fatal(err)
	}
	b.after(t, 0, map[string]uint64{"htip-bob": 92})
	again := newWGBench(t)
	again.kernel, again.wg, again.wireguard.kernel = b.kernel, b.kernel, b.kernel.fakeKernel
	mustRun(t, again.wireguard, tun, true, "after a restart")
	if err := again.adopt(tun); err != nil {
		t.Fatal(err)
	}
	b.kernel.calls = nil
	if _, any := again.after(t, 0, map[string]uint64{"htip-bob": 500}); !any {
		t.Error("nobody looks after the tunnel")
	}
	again.is(t, tun, false, "")
	if len(b.kernel.calls) != 0 {
		t.Errorf("changed: %q", b.kernel.calls)
	}
}

// The real keeper, with its goroutine: it comes up, works, and ends.
func TestKeeperRuns(t *testing.T) {
	b, tun := newWGBench(t), wgTunnelOf(homeA())
	b.keeping = false
	b.after(t, 0, nil) // makes the table
	if err := b.start(context.Background(), tun); err != nil {
		t.Fatal(err)
	}
	other := wgTunnelOf(homeC())
	if err := b.start(context.Background(), other); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{tun.Device, other.Device} {
		if err := b.end(context.Background(), d); err != nil {
			t.Fatal(err)
		}
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		b.mu.Lock()
		keeping := b.keeping
		b.mu.Unlock()
		if !keeping {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the keeper does not end")
		}
	}
}

func TestReceivedBytes(t *testing.T) {
	const table = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 1234 1 0 0 0 0 0 0 1234 1 0 0 0 0 0 0
htip-bob:18446744073709551615 12 0 0 0 0 0 0 180 3 0 0 0 0 0 0
htip-bo: 7 12 0 0 0 0 0 0 180 3 0 0 0 0 0 0
htip-x: many
htip-y:
`
	for device, want := range map[string]uint64{"htip-bob": 1<<64 - 1, "htip-bo": 7} {
		if n, ok := receivedBytes(table, device); !ok || n != want {
			t.Errorf("%s: %d, %v", device, n, ok)
		}
	}
	for _, device := range []string{"htip-x", "htip-y", "htip-z", "face", ""} {
		if n, ok := receivedBytes(table, device); ok {
			t.Errorf("%s: %d", device, n)
		}
	}
}

// After a peer fell silent its next tunnel begins afresh, also one that listens
// before the keeper has anything to do with it.
func TestKeeperForgets(t *testing.T) {
	b, tun := newWGBench(t), wgTunnelOf(homeB())
	if err := b.start(context.Background(), tun); err != nil {
		t.Fatal(err)
	}
	rx := map[string]uint64{"htip-alice": 148}
	for i := range time.Duration(2 + wgPatience) {
		b.after(t, i*wgBeat, rx)
	}
	b.is(t, tun, true, "fell silent")
	if held, err := b.held(); err != nil || len(held) != 0 {
		t.Fatalf("%v, %v: the manager would end it", held, err)
	}
	bare := tun
	bare.LocalAddr, bare.PeerAddr, bare.Own, bare.Peer = netip.Addr{}, netip.Addr{}, nil, nil
	if err := b.start(context.Background(), bare); err != nil {
		t.Fatal(err)
	}
	if err := b.adopt(tun); err != nil {
		t.Fatal(err)
	}
	b.is(t, tun, false, "waiting")
	b.now = time.Time{}
	if b.after(t, 0, rx); len(b.kernel.ls) != 1 || !ready(b.kernel.ls[0], tun) {
		t.Errorf("not up: %+v", b.kernel.ls)
	}
}
