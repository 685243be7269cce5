package control

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

const (
	// backlog is how many connections the kernel keeps for us, with their
	// buffers, until we look at them.
	backlog = 256
	// receiveBuffer is the kernel's for each connection, in octets: a whole
	// handshake, or message, and not more of what a stranger pours in.
	receiveBuffer = 8 << 10
	// crowdRest is the pause between two looks while connections are turned
	// away: then they come in groups, which costs less, and
	// the program has time for what keeps them away.
	crowdRest = 200 * time.Millisecond
)

// accept is replaced in tests.
var accept = syscall.Accept4

// Listener is the port of the control channel. It is a descriptor and not a
// net.Listener, because that one can't tell when nothing waits any more, and
// does five system calls for each connection before anybody sees its address.
type Listener struct{ *os.File }

// Listen opens the port, at all addresses when addr is the zero one.
func Listen(addr netip.AddrPort) (Listener, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_NONBLOCK|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return Listener{}, err
	}
	at := &syscall.SockaddrInet4{Port: int(addr.Port())}
	if addr.Addr().Is4() {
		at.Addr = addr.Addr().As4()
	}
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1)
	syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_RCVBUF, receiveBuffer) // this and the next are inherited by connections
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
	linger(fd, 1) // inherited, too: who is turned away is reset by one call
	if err = syscall.Bind(fd, at); err == nil {
		err = syscall.Listen(fd, backlog)
	}
	if err != nil {
		syscall.Close(fd)
		return Listener{}, err
	}
	return Listener{os.NewFile(uintptr(fd), "")}, nil
}

// linger decides what closing a connection does: 1 resets it, so that neither
// side has to remember it; 0 sends what is on its way.
func linger(fd int, on int32) {
	syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: on})
}

// pending is a connection in its handshake: it ends with an error when more
// comes than a handshake has.
type pending struct {
	*os.File
	from netip.AddrPort
	left int // octets; -1: the handshake is over
}

var errTooLong = errors.New("handshake is too long")

// Read is called by one goroutine at a time.
func (p *pending) Read(b []byte) (int, error) {
	switch {
	case p.left < 0:
		return p.File.Read(b)
	case p.left == 0:
		return 0, errTooLong
	}
	n, err := p.File.Read(b[:min(len(b), p.left)])
	p.left -= n
	return n, err
}

// LocalAddr is a *net.TCPAddr. The kernel is asked only for connections that
// are used.
func (p *pending) LocalAddr() net.Addr {
	at := &net.TCPAddr{}
	if raw, err := p.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) {
			if a, ok := sockname(fd); ok {
				at = net.TCPAddrFromAddrPort(a)
			}
		})
	}
	return at
}

func sockname(fd uintptr) (netip.AddrPort, bool) {
	a, _ := syscall.Getsockname(int(fd))
	return addrPort(a)
}

func addrPort(a syscall.Sockaddr) (netip.AddrPort, bool) {
	in, ok := a.(*syscall.SockaddrInet4)
	if !ok {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), uint16(in.Port)), true
}

// RemoteAddr is a *net.TCPAddr.
func (p *pending) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(p.from) }

// drop resets what has begun its handshake.
func (p *pending) drop() {
	if raw, err := p.SyscallConn(); err == nil {
		raw.Control(func(fd uintptr) { linger(int(fd), 1) })
	}
	p.Close()
}
