package dns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

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
	f, err := bound(device, unix.SOCK_DGRAM, at)
	if err != nil {
		return nil, err
	}
	defer f.Close() // net works with a descriptor of its own
	pc, err := net.FilePacketConn(f)
	if err != nil {
		return nil, err
	}
	return withDestination(pc.(*net.UDPConn)) // what such a socket always gives
}

// ListenTCP listens on TCP; accepted connections stay with the device.
func (Kernel) ListenTCP(device string, at netip.AddrPort) (net.Listener, error) {
	f, err := bound(device, unix.SOCK_STREAM, at)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := unix.Listen(int(f.Fd()), unix.SOMAXCONN); err != nil {
		return nil, fmt.Errorf("listening on TCP %s: %w", at, err)
	}
	return net.FileListener(f)
}

// bound gives an IPv4 socket that is bound to an address and to a device. It
// takes the system's calls, because [net.ListenConfig] is the only way of net to
// act before bind(2), and brings the library's whole resolver into the program,
// which reads /etc/resolv.conf and asks DNS: 36 kB packed, never used.
func bound(device string, kind int, at netip.AddrPort) (*os.File, error) {
	if !at.Addr().Is4() {
		return nil, fmt.Errorf("listening on %s: not an IPv4 address", at)
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("listening on %s: %w", at, err)
	}
	f := os.NewFile(uintptr(fd), at.String())
	if device != "" {
		if err := unix.BindToDevice(fd, device); err != nil {
			f.Close()
			return nil, fmt.Errorf("binding to device %s: %w", device, err)
		}
	}
	if kind == unix.SOCK_STREAM {
		// A restart must not wait until old connections have timed out.
		err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()})
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("listening on %s: %w", at, err)
	}
	return f, nil
}

// Dial connects.
func (Kernel) Dial(ctx context.Context, network, device string, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Control: bindTo(device), KeepAlive: -1}
	return dial(ctx, &d, network, netip.AddrPort{}, to)
}

// dial connects over "tcp" or "udp", from an address when it is valid.
func dial(ctx context.Context, d *net.Dialer, network string, from, to netip.AddrPort) (net.Conn, error) {
	if !from.IsValid() {
		from = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	}
	if network == "udp" {
		return some(d.DialUDP(ctx, "udp4", from, to))
	}
	return some(d.DialTCP(ctx, "tcp4", from, to))
}

// some keeps a connection that failed from becoming an interface that is not nil.
func some[C net.Conn](c C, err error) (net.Conn, error) {
	if err != nil {
		return nil, err
	}
	return c, nil
}

func withDestination(c *net.UDPConn) (*net.UDPConn, error) {
	var set error
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1) })
	}
	if err = errors.Join(err, set); err != nil {
		c.Close()
		return nil, fmt.Errorf("asking for destination addresses: %w", err)
	}
	return c, nil
}

// receive reads a datagram. source is the control message that lets a reply
// leave from the address that was asked; without it the kernel chooses one.
func receive(c *net.UDPConn, b []byte) (n int, from netip.AddrPort, source []byte, err error) {
	oob := make([]byte, unix.CmsgSpace(unix.SizeofInet4Pktinfo))
	n, oobn, _, from, err := c.ReadMsgUDPAddrPort(b, oob)
	if err != nil {
		return 0, from, nil, err
	}
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	return n, from, sourceOf(oob[:oobn]), nil
}

// sourceOf makes the control message of a reply out of that of a question
// (ip(7), IP_PKTINFO): its destination becomes the source. The device is left
// to the routes, and to the one that the socket is bound to.
func sourceOf(oob []byte) []byte {
	h, data, _, err := unix.ParseOneSocketControlMessage(oob)
	if err != nil || h.Level != unix.IPPROTO_IP || h.Type != unix.IP_PKTINFO || len(data) < unix.SizeofInet4Pktinfo {
		return nil
	}
	return unix.PktInfo4(&unix.Inet4Pktinfo{Spec_dst: [4]byte(data[8:12])}) // ipi_addr
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
