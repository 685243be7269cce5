package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"sync"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
)

// Addresses on the lab's Internet. The prefixes are reserved ones that belong to nobody, yet look
// public to everything: dnsmasq's rebind protection rejects the documentation prefixes
// (192.0.2.0/24, 198.51.100.0/24, 203.0.113.0/24) as if they were private, so that no router could
// look another one up.
var (
	InternetWAN      = netip.MustParsePrefix("192.88.99.0/24") // on-link for all routers
	InternetWAN2     = netip.MustParsePrefix("192.88.98.0/24") // another provider's
	InternetGateway2 = netip.MustParseAddr("192.88.98.254")
	InternetGateway  = netip.MustParseAddr("192.88.99.254") // the routers' default route
	InternetHost     = netip.MustParseAddr("192.52.193.9")  // a web server on port 80 that answers "internet"
	InternetDNS      = netip.MustParseAddr("192.52.193.53") // the routers' resolver and everybody's authoritative server
)

// InternetText is what the web server at InternetHost answers.
const InternetText = "internet\n"

// Each provider's lines are on a wire of their own: on a common one a router answers ARP for
// each of its addresses on both cards.
const (
	bridge  = "br-inet"
	bridge2 = "br-inet2"
)

// Internet joins the routers' WANs. It knows no home's private addresses: a packet that leaves
// a home with one gets no answer.
type Internet struct {
	Host
	stops []func() error
	mu    sync.Mutex
	zone  map[string]netip.Addr // by name with its last dot
	asked []string
}

func newInternet(ctx context.Context, slot int) (*Internet, error) {
	ns, err := newNamespace(ctx, slot, "inet")
	if err != nil {
		return nil, err
	}
	in := &Internet{Host: Host{ns: ns, device: bridge, addr: InternetHost}, zone: map[string]netip.Addr{}}
	if err := in.setUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("set up the Internet: %w", err), in.close())
	}
	return in, nil
}

func (in *Internet) setUp() error {
	snooping := false
	for _, name := range []string{bridge, bridge2} {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		if err := in.ns.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs, MulticastSnooping: &snooping}); err != nil {
			return fmt.Errorf("add bridge: %w", err)
		}
	}
	err := in.ns.do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
	})
	if err != nil {
		return err
	}
	for _, a := range [][2]string{{bridge, netip.PrefixFrom(InternetGateway, InternetWAN.Bits()).String()},
		{bridge2, netip.PrefixFrom(InternetGateway2, InternetWAN2.Bits()).String()}, {"lo", InternetHost.String() + "/32"}, {"lo", InternetDNS.String() + "/32"}} {
		if err := in.ns.addAddr(a[0], a[1]); err != nil {
			return err
		}
	}
	if err := errors.Join(in.ns.up(bridge), in.ns.up(bridge2)); err != nil {
		return err
	}
	stop, err := in.Serve(netip.AddrPortFrom(InternetHost, 80).String(), http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, InternetText)
	}))
	if err != nil {
		return err
	}
	in.stops = append(in.stops, stop)
	return in.serveDNS()
}

// port makes a tap and plugs it into a bridge.
func (in *Internet) port(wire, device string) (*os.File, error) {
	tap, err := in.ns.tap(device)
	if err != nil {
		return nil, err
	}
	br, err := in.ns.nl.LinkByName(wire)
	var l netlink.Link
	if err == nil {
		l, err = in.ns.nl.LinkByName(device)
	}
	if err == nil {
		err = in.ns.nl.LinkSetMaster(l, br)
	}
	if err == nil {
		err = in.ns.up(device)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("plug %s into the Internet: %w", device, err), tap.Close())
	}
	return tap, nil
}

func (in *Internet) serveDNS() error {
	address := netip.AddrPortFrom(InternetDNS, 53).String()
	pc, err := in.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	l, err := in.Listen("tcp", address)
	if err != nil {
		return errors.Join(err, pc.Close())
	}
	for _, srv := range []*dns.Server{{PacketConn: pc, Handler: in}, {Listener: l, Handler: in}} {
		started, done := make(chan struct{}), make(chan error, 1)
		srv.NotifyStartedFunc = func() { close(started) }
		go func() { done <- srv.ActivateAndServe() }()
		select {
		case <-started:
		case err := <-done:
			return err
		}
		in.stops = append(in.stops, func() error { return errors.Join(srv.Shutdown(), <-done) })
	}
	return nil
}

// ServeDNS answers from the zone; what is not in it does not exist.
func (in *Internet) ServeDNS(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Authoritative, m.RecursionAvailable = true, true
	if len(q.Question) == 1 {
		name := dns.CanonicalName(q.Question[0].Name)
		in.mu.Lock()
		addr, ok := in.zone[name]
		in.asked = append(in.asked, name)
		in.mu.Unlock()
		switch {
		case !ok:
			m.Rcode = dns.RcodeNameError
		case q.Question[0].Qtype == dns.TypeA:
			m.Answer = []dns.RR{&dns.A{
				Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET},
				A:   addr.AsSlice(),
			}}
		}
	} else {
		m.Rcode = dns.RcodeFormatError
	}
	// The one who asked may have gone; it asks again.
	_ = w.WriteMsg(m)
}

// SetA sets the address of a public name such as bob.example.org, with a time to live of 0
// so that a change is seen at once. The zero address removes the name.
func (in *Internet) SetA(name string, addr netip.Addr) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if addr.IsValid() {
		in.zone[dns.CanonicalName(name)] = addr
	} else {
		delete(in.zone, dns.CanonicalName(name))
	}
}

// Asked are the names, with their last dot, that the DNS server was asked for so far: what is
// private must not be among them.
func (in *Internet) Asked() []string {
	in.mu.Lock()
	defer in.mu.Unlock()
	return append([]string(nil), in.asked...)
}

func (in *Internet) close() error {
	var errs []error
	for _, stop := range in.stops {
		errs = append(errs, stop())
	}
	return errors.Join(append(errs, in.ns.close())...)
}
