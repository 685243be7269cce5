package lab

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// Host is a computer at home: the first of a LAN, whose namespace other hosts of the same LAN
// share as further addresses. The Internet's namespace has the same methods.
type Host struct {
	ns     *namespace
	device string
	addr   netip.Addr
	router *Router // nil on the Internet
	lan    LAN
}

// Addr is the host's address.
func (h *Host) Addr() netip.Addr { return h.addr }

// Namespace is the name for ip netns exec.
func (h *Host) Namespace() string { return h.ns.name }

// AddAddr gives the host's network card another address, as another host of the same network
// would have it.
func (h *Host) AddAddr(addr netip.Addr) error {
	bits := addr.BitLen()
	if h.router != nil {
		bits = h.lan.Router.Bits()
	}
	return h.ns.addAddr(h.device, netip.PrefixFrom(addr, bits).String())
}

// Run runs a program of this machine in the host's namespace and returns its output. An exit
// code other than 0 is an error.
func (h *Host) Run(ctx context.Context, name string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	err := h.ns.do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		err = fmt.Errorf("%s: %s %s: %w: %s", h.ns.name, name, strings.Join(args, " "), err, tail(out.String(), 2000))
	}
	return out.String(), err
}

// lastAnswer is how long the answers to the last requests may take.
const lastAnswer = 5 * time.Second

// Ping sends count echo requests of size bytes of data, 200 ms apart, from the host's address.
// It is an error if not all are answered.
func (h *Host) Ping(ctx context.Context, to netip.Addr, size, count int) error {
	return h.PingFrom(ctx, h.addr, to, size, count)
}

// PingFrom is Ping from another of the host's addresses.
func (h *Host) PingFrom(ctx context.Context, from, to netip.Addr, size, count int) error {
	return h.ping(ctx, from, to, size, count, lastAnswer)
}

func (h *Host) ping(ctx context.Context, from, to netip.Addr, size, count int, wait time.Duration) error {
	return h.pingAs(ctx, from, to, size, false, count, wait)
}

func (h *Host) pingAs(ctx context.Context, from, to netip.Addr, size int, whole bool, count int, wait time.Duration) error {
	sent, lost, err := h.echo(ctx, from, to, size, whole, wait, func(sent int) bool { return sent < count })
	if err == nil && lost > 0 {
		err = fmt.Errorf("%s: ping %s from %s with %d bytes: %d of %d not answered", h.ns.name, to, from, size, lost, sent)
	}
	return err
}

// PingWhile is Ping for as long as during runs, and twice more after it. It returns how many
// requests were sent and how many of them were not answered.
func (h *Host) PingWhile(ctx context.Context, to netip.Addr, during func()) (sent, lost int, err error) {
	over, done := make(chan bool), make(chan bool)
	go func() {
		defer close(done)
		after := 0
		sent, lost, err = h.echo(ctx, h.addr, to, 56, false, lastAnswer, func(int) bool {
			select {
			case <-over:
				after++
			default:
			}
			return after <= 2
		})
	}()
	func() {
		defer close(over) // the test may end in it
		during()
	}()
	<-done
	return sent, lost, err
}

// echo sends echo requests as long as more wants, and waits for the answers to the last. (The
// program ping does so for 200 ms where others have come at once, which is short on a machine
// with other work.) Whole ones may not be fragmented.
func (h *Host) echo(ctx context.Context, from, to netip.Addr, size int, whole bool, wait time.Duration, more func(sent int) bool) (sent, lost int, err error) {
	c, err := h.ListenPacket("ip4:icmp", from.String())
	if err != nil {
		return 0, 0, err
	}
	defer c.Close()
	if whole {
		if err := dontFragment(c.(*net.IPConn)); err != nil {
			return 0, 0, err
		}
	}
	var id [2]byte
	rand.Read(id[:])
	var mu sync.Mutex
	missing, end := map[uint16]bool{}, make(chan bool)
	go func() {
		defer close(end)
		for b := make([]byte, 64<<10); ; {
			n, peer, err := c.ReadFrom(b)
			if err != nil {
				return
			}
			if n < 8 || b[0] != 0 || !bytes.Equal(b[4:6], id[:]) || peer.String() != to.String() {
				continue
			}
			mu.Lock()
			delete(missing, binary.BigEndian.Uint16(b[6:]))
			mu.Unlock()
		}
	}()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	answered := func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(missing) == 0
	}
	for ; more(sent) && ctx.Err() == nil; sent++ {
		if sent > 0 {
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
		mu.Lock()
		missing[uint16(sent)] = true
		mu.Unlock()
		_, _ = c.WriteTo(echoMessage(id, uint16(sent), size), &net.IPAddr{IP: to.AsSlice()}) // no route: no answer
	}
	for last := time.Now(); !answered() && time.Since(last) < wait && ctx.Err() == nil; {
		time.Sleep(5 * time.Millisecond)
	}
	c.Close()
	<-end
	return sent, len(missing), context.Cause(ctx)
}

func echoMessage(id [2]byte, seq uint16, size int) []byte {
	b := make([]byte, 8+size)
	b[0] = 8
	copy(b[4:], id[:])
	binary.BigEndian.PutUint16(b[6:], seq)
	for i := range size {
		b[8+i] = byte(i)
	}
	sum := uint32(0)
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i]) << 8
		if i+1 < len(b) {
			sum += uint32(b[i+1])
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(b[2:], ^uint16(sum))
	return b
}

// PingDF is Ping with packets that may not be fragmented: it fails above the path's MTU.
func (h *Host) PingDF(ctx context.Context, to netip.Addr, size, count int) error {
	return h.pingAs(ctx, h.addr, to, size, true, count, lastAnswer)
}

func dontFragment(c *net.IPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = raw.Control(func(fd uintptr) {
		failed = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_IP, syscall.IP_MTU_DISCOVER, syscall.IP_PMTUDISC_DO)
	})
	return errors.Join(err, failed)
}

// TooBig sends an echo request that does not fit, and tells whether a router on the way says
// so: the next one then does not leave the host.
func (h *Host) TooBig(ctx context.Context, to netip.Addr, size int) error {
	once := func(wait string) (string, error) {
		out, err := h.Run(ctx, "ping", "-nq", "-c", "1", "-W", wait, "-M", "do", "-s", strconv.Itoa(size), "-I", h.addr.String(), to.String())
		if err == nil {
			return "", fmt.Errorf("%s: %d bytes to %s were answered", h.ns.name, size, to)
		}
		return out, nil
	}
	if out, err := once("10"); err != nil || !strings.Contains(out, "+1 errors") {
		return errors.Join(err, fmt.Errorf("%s: nobody says that %d bytes to %s are too many: %s", h.ns.name, size, to, out))
	}
	if out, err := once("1"); err != nil || strings.Contains(out, " errors") {
		return errors.Join(err, fmt.Errorf("%s: was told that %d bytes to %s are too many, and sends them: %s", h.ns.name, size, to, out))
	}
	return nil
}

// PingUntil pings until one request is answered, for hosts that become reachable.
func (h *Host) PingUntil(ctx context.Context, to netip.Addr) error {
	for {
		err := h.ping(ctx, h.addr, to, 56, 1, time.Second)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// Resolver is the DNS server that the host asks: its router's.
func (h *Host) Resolver() netip.AddrPort {
	if h.router == nil {
		return netip.AddrPortFrom(InternetDNS, 53)
	}
	return netip.AddrPortFrom(h.lan.Router.Addr(), 53)
}

// Query asks the host's resolver one question over UDP and returns the whole answer. Where
// nobody listens it asks again, and once where nobody answers, as stub resolvers do: a router
// restarts dnsmasq when names change, and a question may die with the old one.
func (h *Host) Query(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	silent := 0
	for begin := time.Now(); ; time.Sleep(100 * time.Millisecond) {
		answer, err := h.query(ctx, name, qtype)
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			silent++
		}
		again := errors.Is(err, syscall.ECONNREFUSED) || silent == 1 && late != nil && ctx.Err() == nil
		if !again || time.Since(begin) > 20*time.Second {
			return answer, err
		}
		if h.router != nil {
			h.router.lab.logf("%s: nobody answers questions for names", h.ns.name)
		}
	}
}

func (h *Host) query(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	conn, err := h.Dial(ctx, "udp", h.Resolver().String())
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	client := dns.Client{Timeout: 5 * time.Second}
	answer, _, err := client.ExchangeWithConnContext(ctx, m, &dns.Conn{Conn: conn})
	if err != nil {
		return nil, fmt.Errorf("%s: ask %s for %s %s: %w", h.ns.name, h.Resolver(), name, dns.TypeToString[qtype], err)
	}
	return answer, nil
}

// Lookup asks the host's resolver for the IPv4 addresses of a name. An answer without any is
// an error that names the response code.
func (h *Host) Lookup(ctx context.Context, name string) ([]netip.Addr, error) {
	answer, err := h.Query(ctx, name, dns.TypeA)
	if err != nil {
		return nil, err
	}
	var addrs []netip.Addr
	for _, rr := range answer.Answer {
		if a, ok := rr.(*dns.A); ok {
			if addr, ok := netip.AddrFromSlice(a.A.To4()); ok {
				addrs = append(addrs, addr)
			}
		}
	}
	if len(addrs) == 0 {
		return nil, fmt.Errorf("%s: no address of %s: %s", h.ns.name, name, dns.RcodeToString[answer.Rcode])
	}
	return addrs, nil
}

// LookupPTR asks the host's resolver for the names of an address.
func (h *Host) LookupPTR(ctx context.Context, addr netip.Addr) ([]string, error) {
	reverse, err := dns.ReverseAddr(addr.String())
	if err != nil {
		return nil, fmt.Errorf("reverse name of %s: %w", addr, err)
	}
	answer, err := h.Query(ctx, reverse, dns.TypePTR)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, rr := range answer.Answer {
		if p, ok := rr.(*dns.PTR); ok {
			names = append(names, strings.TrimSuffix(p.Ptr, "."))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("%s: no name of %s: %s", h.ns.name, addr, dns.RcodeToString[answer.Rcode])
	}
	return names, nil
}

// DialFrom opens a TCP connection from one of the host's addresses.
func (h *Host) DialFrom(ctx context.Context, from netip.Addr, to netip.AddrPort) (conn net.Conn, err error) {
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0)), KeepAlive: -1}
	err = h.ns.do(func() error {
		conn, err = d.DialContext(ctx, "tcp", to.String())
		return err
	})
	return conn, err
}

// Dial opens a connection from the host. The address may have a name, which the host's resolver
// is asked for.
func (h *Host) Dial(ctx context.Context, network, address string) (net.Conn, error) {
	name, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(name); err != nil {
		addrs, err := h.Lookup(ctx, name)
		if err != nil {
			return nil, err
		}
		address = net.JoinHostPort(addrs[0].String(), port)
	}
	var conn net.Conn
	err = h.ns.do(func() error {
		// A literal address is dialled by this very goroutine, so on the thread in the namespace.
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.ns.name, err)
	}
	return conn, nil
}

// Listen opens a listening socket on the host, such as ("tcp", "10.0.0.5:80").
func (h *Host) Listen(network, address string) (net.Listener, error) {
	var l net.Listener
	err := h.ns.do(func() (err error) {
		l, err = (&net.ListenConfig{}).Listen(context.Background(), network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.ns.name, err)
	}
	return l, nil
}

// ListenPacket opens a packet socket on the host, such as ("udp", "10.0.0.5:53").
func (h *Host) ListenPacket(network, address string) (net.PacketConn, error) {
	var l net.PacketConn
	err := h.ns.do(func() (err error) {
		l, err = (&net.ListenConfig{}).ListenPacket(context.Background(), network, address)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.ns.name, err)
	}
	return l, nil
}

// HTTP is a web client on the host: its names are those of the host's resolver.
func (h *Host) HTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}, Timeout: time.Minute}
}

// Serve runs a web server on the host until stop is called.
func (h *Host) Serve(address string, handler http.Handler) (stop func() error, err error) {
	l, err := h.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	srv := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	return func() error {
		err := srv.Close()
		if serr := <-done; !errors.Is(serr, http.ErrServerClosed) {
			err = errors.Join(err, serr)
		}
		return err
	}, nil
}
