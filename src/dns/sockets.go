package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// Sockets opens the proxy's sockets. [Kernel] is the real one, [Loopback] a
// fake. With a device, a socket sends and receives through that device only;
// without one ("") it is an ordinary socket.
type Sockets interface {
	// Index is the kernel's number of a device. A device that went and came back
	// under the same name has a new one, and sockets bound to the old one stay
	// deaf for ever.
	Index(device string) (int, error)
	// ListenUDP's socket must tell the destination address of each datagram
	// (IP_PKTINFO), because behind a wildcard address the reply has to leave
	// from there.
	ListenUDP(device string, at netip.AddrPort) (*net.UDPConn, error)
	ListenTCP(device string, at netip.AddrPort) (net.Listener, error)
	// Dial gives a connection from a source port that the kernel draws anew.
	Dial(ctx context.Context, network, device string, to netip.AddrPort) (net.Conn, error)
}

// Kernel opens real sockets, bound to devices with SO_BINDTODEVICE: NAT may
// have rewritten a packet's destination to any of our addresses, so only the
// device says which tunnel it came out of, and no question for a home can leave
// through the WAN.
type Kernel struct{}

var _ Sockets = Kernel{}

// Index is the interface index, by ioctl: the library's way reads the whole
// list of interfaces, and this is asked often.
func (Kernel) Index(device string) (int, error) {
	ifr, err := unix.NewIfreq(device)
	if err != nil {
		return 0, fmt.Errorf("device %q: %w", device, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("device %s: %w", device, err)
	}
	defer unix.Close(fd)
	if err := unix.IoctlIfreq(fd, unix.SIOCGIFINDEX, ifr); err != nil {
		return 0, fmt.Errorf("device %s: %w", device, err)
	}
	return int(ifr.Uint32()), nil
}

// ListenUDP listens on UDP.
func (Kernel) ListenUDP(device string, at netip.AddrPort) (*net.UDPConn, error) {
	lc := net.ListenConfig{Control: bindTo(device)}
	pc, err := lc.ListenPacket(context.Background(), "udp4", at.String())
	if err != nil {
		return nil, err
	}
	return withDestination(pc.(*net.UDPConn))
}

// ListenTCP listens on TCP; accepted connections stay with the device.
func (Kernel) ListenTCP(device string, at netip.AddrPort) (net.Listener, error) {
	lc := net.ListenConfig{Control: bindTo(device), KeepAlive: -1}
	return lc.Listen(context.Background(), "tcp4", at.String())
}

// Dial connects.
func (Kernel) Dial(ctx context.Context, network, device string, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Control: bindTo(device), KeepAlive: -1}
	return d.DialContext(ctx, network, to.String())
}

func withDestination(c *net.UDPConn) (*net.UDPConn, error) {
	if err := ipv4.NewPacketConn(c).SetControlMessage(ipv4.FlagDst|ipv4.FlagInterface, true); err != nil {
		c.Close()
		return nil, fmt.Errorf("asking for destination addresses: %w", err)
	}
	return c, nil
}

func bindTo(device string) func(network, address string, c syscall.RawConn) error {
	if device == "" {
		return nil
	}
	return func(_, _ string, c syscall.RawConn) error {
		var bound error
		err := c.Control(func(fd uintptr) { bound = unix.BindToDevice(int(fd), device) })
		if err == nil && bound != nil {
			err = fmt.Errorf("binding to device %s: %w", device, bound)
		}
		return err
	}
}
