package datapath

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeWG is the kernel's WireGuard in memory; links are those of the other
// fake.
type fakeWG struct {
	*fakeKernel
	devices      map[string]*wgDevice
	calls        []string
	absent       error
	configureErr error
}

var _ wgKernel = (*fakeWG)(nil)

func (f *fakeWG) present() error { return f.absent }

func (f *fakeWG) device(name string) (*wgDevice, error) {
	if f.devices[name] == nil {
		return nil, fs.ErrNotExist
	}
	d := *f.devices[name]
	d.allowed = slices.Clone(d.allowed)
	return &d, nil
}

func (f *fakeWG) configure(name string, d *wgDevice) error {
	f.calls = append(f.calls, "configure "+name)
	if f.configureErr != nil {
		return f.configureErr
	}
	c := *d // as the kernel tells it: neither private key nor, here, where the peer is
	c.public, c.private, c.endpoint, c.peers = d.private.public(), wgKey{}, netip.AddrPort{}, 1
	if c.port == 0 {
		c.port = 45678
	}
	f.devices[name] = &c
	return nil
}

func (f *fakeWG) create(name string, mtu int) error {
	f.calls = append(f.calls, "create "+name)
	if _, there := findLink(f.ls, name); there {
		return unix.EEXIST
	}
	f.ls = append(f.ls, link{Name: name, Kind: wgKind, MTU: mtu, Running: true})
	return nil
}

func (f *fakeWG) address(name string, local, peer netip.Addr) error {
	f.calls = append(f.calls, "address "+name)
	i := slices.IndexFunc(f.ls, func(l link) bool { return l.Name == name })
	f.ls[i].Local, f.ls[i].Peer = local, peer
	return nil
}

func (f *fakeWG) remove(name string) error {
	f.calls = append(f.calls, "remove "+name)
	f.ls = slices.DeleteFunc(f.ls, func(l link) bool { return l.Name == name })
	delete(f.devices, name)
	return nil
}

// wgBench is a driver whose keeper runs only when it is told to.
type wgBench struct {
	*wireguard
	kernel *fakeWG
	echoes int
	now    time.Time
}

func newWGBench(t *testing.T) *wgBench {
	t.Helper()
	b := &wgBench{kernel: &fakeWG{fakeKernel: &fakeKernel{}, devices: map[string]*wgDevice{}}}
	proc := t.TempDir()
	if err := os.Mkdir(filepath.Join(proc, "net"), 0o755); err != nil {
		t.Fatal(err)
	}
	b.wireguard = newWireGuard(proc, b.kernel.fakeKernel, b.kernel, func(context.Context) error { return b.kernel.absent })
	b.echo = func(*wgTunnel) { b.echoes++ }
	b.keeping = true
	return b
}

// after lets the keeper look when so much time has passed since the start and
// so many bytes have come.
func (b *wgBench) after(t *testing.T, d time.Duration, received map[string]uint64) (time.Duration, bool) {
	t.Helper()
	var table strings.Builder
	table.WriteString("Inter-|   Receive                                                |  Transmit\n face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n")
	for _, l := range b.kernel.ls {
		fmt.Fprintf(&table, "%s: %7d      3    0    0    0     0          0         0      180       2    0    0    0     0       0          0\n", l.Name, received[l.Name])
	}
	if err := os.WriteFile(filepath.Join(b.proc, "net/dev"), []byte(table.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, x := range b.tunnels {
		if b.now.IsZero() || x.begun.Before(b.now) {
			b.now = x.begun
		}
	}
	return b.look(b.now.Add(d))
}

// wgTunnelOf makes a WireGuard tunnel of one of the others.
func wgTunnelOf(t Tunnel) Tunnel {
	t.Protocol, t.Secret = ProtocolWireGuard, make([]byte, WireGuardSecret)
	for i := range t.Secret {
		t.Secret[i] = byte(255 - i)
	}
	return t
}

func mustRun(t *testing.T, w *wireguard, tun Tunnel, want bool, when string) {
	t.Helper()
	if ok, err := w.runs(tun); err != nil || ok != want {
		t.Errorf("%s: runs %v, %v; want %v", when, ok, err, want)
	}
}

func (b *wgBench) is(t *testing.T, tun Tunnel, ended bool, reason string) {
	t.Helper()
	s, err := b.state(tun)
	if err != nil || s.ended != ended || !strings.Contains(s.reason, reason) || s.running == ended {
		t.Errorf("%+v, %v; want ended %v, %q", s, err, ended, reason)
	}
}

func TestWireGuardClient(t *testing.T) {
	b, tun := newWGBench(t), wgTunnelOf(homeA())
	mustRun(t, b.wireguard, tun, false, "before")
	if err := b.start(context.Background(), tun); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(b.kernel.calls, ", "); got != "create htip-bob, configure htip-bob" {
		t.Error(got)
	}
	l, _ := findLink(b.kernel.ls, "htip-bob")
	if l.MTU != 1420 || l.Local.IsValid() {
		t.Errorf("%+v", l)
	}
	mustRun(t, b.wireguard, tun, true, "called")
	if wait, any := b.after(t, 0, nil); !any || wait != wgSoon {
		t.Errorf("%v, %v", wait, any)
	}
	b.is(t, tun, false, "calling")
	if l, _ := findLink(b.kernel.ls, "htip-bob"); ready(l, tun) {
		t.Error("up before anybody has answered")
	}
	// The answer to our call.
	if wait, any := b.after(t, 60*time.Millisecond, map[string]uint64{"htip-bob": 92}); !any || wait != wgBeat {
		t.Errorf("%v, %v", wait, any)
	}
	if l, _ := findLink(b.kernel.ls, "htip-bob"); !ready(l, tun) {
		t.Errorf("not up: %+v", l)
	}
	mustRun(t, b.wireguard, tun, true, "up")
	if s, err := b.state(tun); err != nil || !s.kernel || s.since.IsZero() || s.ended {
		t.Errorf("%+v, %v", s, err)
	}
	if held, err := b.held(); err != nil || strings.Join(held, " ") != "htip-bob" {
		t.Errorf("%v, %v", held, err)
	}
	if err := b.end(context.Background(), "htip-bob"); err != nil || len(b.kernel.ls) != 0 {
		t.Errorf("%v, left %v", err, b.kernel.ls)
	}
	if _, any := b.after(t, time.Minute, nil); any {
		t.Error("the keeper works for nobody")
	}
	b.is(t, tun, true, "gone")
}

// A server listens before anything is agreed on, and takes its client's call.
func TestWireGuardServerListensEarly(t *testing.T) {
	b, full := newWGBench(t), wgTunnelOf(homeB())
	bare := full
	bare.LocalAddr, bare.PeerAddr, bare.Own, bare.Peer = netip.Addr{}, netip.Addr{}, nil, nil
	if err := b.start(context.Background(), bare); err != nil {
		t.Fatal(err)
	}
	have := b.kernel.devices["htip-alice"]
	if have.port != 17010 || have.peers != 1 || len(have.allowed) != 0 {
		t.Errorf("%+v", have)
	}
	mustRun(t, b.wireguard, bare, true, "listening")
	mustRun(t, b.wireguard, full, true, "listening, and wanted in full")
	if _, any := b.after(t, 0, map[string]uint64{"htip-alice": 148}); any {
		t.Error("the keeper looks after a tunnel that has no addresses")
	}
	b.is(t, bare, false, "waiting for the other gateway")

	if err := b.adopt(full); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(b.kernel.devices["htip-alice"].allowed); got != "[10.0.1.0/24]" {
		t.Error(got)
	}
	mustRun(t, b.wireguard, full, true, "agreed")
	mustRun(t, b.wireguard, bare, false, "agreed, and wanted without addresses")
	b.after(t, time.Second, map[string]uint64{"htip-alice": 148})
	if l, _ := findLink(b.kernel.ls, "htip-alice"); !ready(l, full) {
		t.Errorf("not up: %+v", l)
	}
	mustRun(t, b.wireguard, full, true, "up")
	mustRun(t, b.wireguard, bare, false, "up, and wanted without addresses")
	b.kernel.calls = nil
	if err := b.adopt(full); err != nil || len(b.kernel.calls) != 0 {
		t.Errorf("adopted twice: %q, %v", b.kernel.calls, err)
	}

	// A client of another tunnel's addresses is not what this one is.
	other := full
	other.Peer = []netip.Prefix{pfx("10.0.9.0/24")}
	mustRun(t, b.wireguard, other, false, "other addresses")
}

// Every difference between what is there and what is wanted is seen.
func TestWireGuardRunsSeesEverything(t *testing.T) {
	for name, spoil := range map[string]func(*wgBench, *link, *wgDevice){
		"other private key": func(_ *wgBench, _ *link, d *wgDevice) { d.public[3]++ },
		"other peer":        func(_ *wgBench, _ *link, d *wgDevice) { d.peer[3]++ },
		"other shared key":  func(_ *wgBench, _ *link, d *wgDevice) { d.shared[31]++ },
		"other port":        func(_ *wgBench, _ *link, d *wgDevice) { d.port++ },
		"no keepalive":      func(_ *wgBench, _ *link, d *wgDevice) { d.keepalive = 0 },
		"more allowed":      func(_ *wgBench, _ *link, d *wgDevice) { d.allowed = append(d.allowed, pfx("0.0.0.0/0")) },
		"nothing allowed":   func(_ *wgBench, _ *link, d *wgDevice) { d.allowed = nil },
		"second peer":       func(_ *wgBench, _ *link, d *wgDevice) { d.peers = 2 },
		"no peer":           func(_ *wgBench, _ *link, d *wgDevice) { d.peers = 0 },
		"down":              func(_ *wgBench, l *link, _ *wgDevice) { l.Running = false },
		"other MTU":         func(_ *wgBench, l *link, _ *wgDevice) { l.MTU = 1419 },
		"other address":     func(_ *wgBench, l *link, _ *wgDevice) { l.Local = addr("10.0.1.2") },
		"other kind":        func(_ *wgBench, l *link, _ *wgDevice) { l.Kind = "ppp" },
		"no link":           func(b *wgBench, _ *link, _ *wgDevice) { b.kernel.ls = nil },
		"no device":         func(b *wgBench, _ *link, _ *wgDevice) { clear(b.kernel.devices) },
	} {
		b, tun := newWGBench(t), wgTunnelOf(homeB())
		if err := b.start(context.Background(), tun); err != nil {
			t.Fatal(err)
		}
		b.after(t, 0, map[string]uint64{"htip-alice": 148})
		mustRun(t, b.wireguard, tun, true, name+", before")
		spoil(b, &b.kernel.ls[0], b.kernel.devices["htip-alice"])
		mustRun(t, b.wireguard, tun, false, name)
	}
	// A client may leave its port open, and order means nothing.
	b, tun := newWGBench(t), wgTunnelOf(homeC())
	if err := b.start(context.Background(), tun); err != nil {
		t.Fatal(err)
	}
	slices.Reverse(b.kernel.devices["htip-carol"].allowed)
	mustRun(t, b.wireguard, tun, true, "any port, any order")
}

func TestWireGuardFailsToStart(t *testing.T) {
	b, tun := newWGBench(t), wgTunnelOf(homeB())
	b.kernel.configureErr = fmt.Errorf("configure: %w", unix.EADDRINUSE)
	if err := b.start(context.Background(), tun); err == nil || !strings.Contains(err.Error(), "UDP port 17010 is already in use") || len(b.kernel.ls) != 0 {
		t.Errorf("%v, left %v", err, b.kernel.ls)
	}
	// Somebody else's device of that name is left alone.
	b.kernel.ls, b.kernel.calls = []link{{Name: "htip-alice", Kind: "dummy"}}, nil
	if err := b.start(context.Background(), tun); !errors.Is(err, unix.EEXIST) || len(b.kernel.ls) != 1 {
		t.Errorf("%v, left %v", err, b.kernel.ls)
	}
	if held, err := b.held(); err != nil || len(held) != 0 {
		t.Errorf("%v, %v", held, err)
	}
	b.kernel.absent = errors.New("no such file")
	if got := b.missing(context.Background()); len(got) != 1 || !strings.HasPrefix(got[0], "kernel has no WireGuard: install kmod-wireguard") {
		t.Errorf("%q", got)
	}
}

func TestWireGuardMTU(t *testing.T) {
	for _, c := range []struct{ set, want int }{{0, 1420}, {1300, 1300}, {1440, 1440}, {1462, 1440}} {
		tun := wgTunnelOf(homeA())
		tun.MTU = c.set
		if err := tun.check(); err != nil || tun.mtu() != c.want {
			t.Errorf("%d became %d, %v", c.set, tun.mtu(), err)
		}
	}
	short := wgTunnelOf(homeA())
	short.Secret = short.Secret[:95]
	if err := short.check(); err == nil || !strings.Contains(err.Error(), "secret of 95 bytes") {
		t.Error(err)
	}
}

// The peer may come from any address; a stranger is not answered anyway.
func TestWireGuardHasNoKnockRule(t *testing.T) {
	for _, c := range chainsFor(Wanted{Tunnels: []Tunnel{wgTunnelOf(homeB())}}) {
		if c.what != "" {
			t.Errorf("%s: %q", c.name(), c.rules)
		}
	}
}
