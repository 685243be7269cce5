package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// Loopback is a fake of [Sockets] without privileges: each device is one
// address of 127.0.0.0/8, at which its listeners stand and from which its
// connections come.
type Loopback struct {
	mu      sync.Mutex
	devices map[string]loopbackDevice
	next    int
}

type loopbackDevice struct {
	addr  netip.Addr
	index int
}

var _ Sockets = (*Loopback)(nil)

// Add makes a device, or makes it anew with another index.
func (l *Loopback) Add(device string, addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.devices == nil {
		l.devices = make(map[string]loopbackDevice)
	}
	l.next++
	l.devices[device] = loopbackDevice{addr, l.next}
}

// Remove takes a device away; its sockets stay open and deaf in the kernel,
// here they stay open.
func (l *Loopback) Remove(device string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.devices, device)
}

func (l *Loopback) find(device string) (loopbackDevice, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, ok := l.devices[device]
	if !ok {
		return d, fmt.Errorf("binding to device %s: %w", device, syscall.ENODEV)
	}
	return d, nil
}

// Index counts the calls of Add.
func (l *Loopback) Index(device string) (int, error) {
	d, err := l.find(device)
	return d.index, err
}

func (l *Loopback) at(device string, at netip.AddrPort) (netip.AddrPort, error) {
	if device == "" {
		return at, nil
	}
	d, err := l.find(device)
	return netip.AddrPortFrom(d.addr, at.Port()), err
}

// ListenUDP listens at the device's address.
func (l *Loopback) ListenUDP(device string, at netip.AddrPort) (*net.UDPConn, error) {
	at, err := l.at(device, at)
	if err != nil {
		return nil, err
	}
	c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	return withDestination(c)
}

// ListenTCP listens at the device's address.
func (l *Loopback) ListenTCP(device string, at netip.AddrPort) (net.Listener, error) {
	at, err := l.at(device, at)
	if err != nil {
		return nil, err
	}
	return net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(at))
}

// Dial connects from the device's address.
func (l *Loopback) Dial(ctx context.Context, network, device string, to netip.AddrPort) (net.Conn, error) {
	var from netip.AddrPort
	if device != "" {
		var err error
		if from, err = l.at(device, netip.AddrPort{}); err != nil {
			return nil, err
		}
	}
	return dial(ctx, new(net.Dialer), network, from, to)
}
