package datapath

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// ProtocolWireGuard is the protocol of tunnels by the kernel's WireGuard.
const ProtocolWireGuard = "wireguard"

const (
	// WireGuard over IPv4 costs 60 bytes. By default 20 more are left, for PPPoE
	// at the WAN among other things.
	wgDefaultMTU = 1420
	wgMaxMTU     = 1440

	// Keeps the way back open through NAT, also while no daemon runs.
	wgKeepalive = 5 // seconds
)

// wireguard makes tunnels of the kernel's WireGuard: no programs, no files. The
// kernel is asked what there is.
//
// A server knows its client by the key and learns from the first packet where
// it is, so the client may be behind NAT. Either may move later.
type wireguard struct {
	proc   string
	kernel kernel
	wg     wgKernel
	loaded func(context.Context) error // nil: this kernel has WireGuard
	echo   func(*wgTunnel)             // sends through the tunnel what the other kernel answers

	mu      sync.Mutex           // held while the keeper works
	tunnels map[string]*wgTunnel // by device: those that the keeper looks after
	keeping bool
	wake    chan struct{}
}

func newWireGuard(proc string, k kernel, wg wgKernel, loaded func(context.Context) error) *wireguard {
	return &wireguard{
		proc: proc, kernel: k, wg: wg, loaded: loaded, echo: sendEcho,
		tunnels: map[string]*wgTunnel{}, wake: make(chan struct{}, 1),
	}
}

func (w *wireguard) missing(ctx context.Context) []string {
	if err := w.loaded(ctx); err != nil {
		return []string{fmt.Sprintf("kernel has no WireGuard: install kmod-wireguard (%v)", err)}
	}
	return nil
}

func (w *wireguard) held() ([]string, error) {
	links, err := w.kernel.links()
	var devices []string
	for i := range links {
		if l := &links[i]; l.Kind == wgKind && validDevice(l.Name) && l.Name != UsersDevice {
			devices = append(devices, l.Name)
		}
	}
	return devices, err
}

// wgConfig is what a tunnel's device shall be. One that only listens has its
// peer already, so that the first call is answered, but takes nothing from it.
func (t *Tunnel) wgConfig() *wgDevice {
	d := &wgDevice{port: t.LocalPort, keepalive: wgKeepalive, allowed: slices.Clone(t.Peer)}
	sortPrefixes(d.allowed)
	d.setKeys(t.Secret, t.Server)
	if !t.Server {
		d.endpoint = t.Remote
	}
	return d
}

func (w *wireguard) runs(t Tunnel) (bool, error) {
	links, err := w.kernel.links()
	l, ok := findLink(links, t.Device)
	if err != nil || !ok || l.Kind != wgKind || l.MTU != t.mtu() {
		return false, err
	}
	have, err := w.wg.device(t.Device)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return false, err
	}
	want := t.wgConfig()
	// What is not told, and what need not be so: either end may have moved.
	have.private, have.endpoint = want.private, want.endpoint
	if want.port == 0 {
		have.port = 0
	}
	bare := !l.Local.IsValid() && !l.Peer.IsValid()
	if bare && t.Server && len(have.allowed) == 0 {
		want.allowed = nil // it only listens until now
	}
	sortPrefixes(have.allowed)
	return have.peers == 1 && have.public == want.private.public() && string(have.encode("")) == string(want.encode("")) &&
		l.Running && (bare || ready(l, t)), nil
}

// adopt lets a server that only listened take its client's packets, and has
// the keeper look after the tunnel.
func (w *wireguard) adopt(t Tunnel) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if t.listening() || w.tunnels[t.Device] != nil {
		return nil
	}
	// Of a tunnel that was complete already this changes nothing.
	if err := w.wg.configure(t.Device, t.wgConfig()); err != nil {
		return err
	}
	links, err := w.kernel.links()
	l, ok := findLink(links, t.Device)
	w.keep(t, ok && ready(l, t))
	return err
}

func (w *wireguard) start(ctx context.Context, t Tunnel) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.tunnels, t.Device) // of one that fell silent: its device went before anybody ended it
	if err := w.wg.create(t.Device, t.mtu()); err != nil {
		return err
	}
	if err := w.wg.configure(t.Device, t.wgConfig()); err != nil {
		if errors.Is(err, unix.EADDRINUSE) {
			err = fmt.Errorf("UDP port %d is already in use on this router", t.LocalPort)
		}
		return errors.Join(err, w.wg.remove(t.Device))
	}
	if !t.listening() {
		w.keep(t, false)
	}
	return nil
}

func (w *wireguard) end(_ context.Context, device string) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.tunnels, device)
	return w.wg.remove(device)
}

func (w *wireguard) state(t Tunnel) (driverState, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := driverState{running: true, kernel: true, reason: "waiting for the other gateway to call"}
	x := w.tunnels[t.Device]
	switch {
	case t.listening():
	case x == nil || x.ended != "":
		s.running, s.ended, s.reason = false, true, wgGone
		if x != nil {
			s.reason = x.ended
		}
	default:
		if s.since = x.since; !t.Server {
			s.reason = "calling the other gateway"
		}
	}
	return s, nil
}

func (w *wireguard) housekeep(string) error { return nil }

func (w *wireguard) sweep() error { return nil }
