package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

func TestNewBad(t *testing.T) {
	for _, c := range []struct {
		want string
		o    Options
	}{
		{`zone "lan" lies in the LAN domain`, Options{Zone: "lan"}},
		{`zone "homes.lan" lies in the LAN domain`, Options{Zone: "homes.lan"}},
		{`zone "a b"`, Options{Zone: "a b"}},
		{`zone "."`, Options{Zone: "."}},
		{`zone "x.arpa"`, Options{Zone: "x.arpa"}},
		{`LAN domain "."`, Options{LANDomain: "."}},
		{"want an IPv4 address", Options{Listen: netip.MustParseAddrPort("[::1]:4854")}},
		{"want an IPv4 address and a port", Options{Listen: netip.MustParseAddrPort("127.0.0.1:0")}},
		{"that is dnsmasq", Options{Listen: netip.MustParseAddrPort("127.0.0.1:53")}},
		{"is for the tunnels", Options{Listen: netip.MustParseAddrPort("127.0.0.1:4853")}},
		{"zone \"\u00e4\": want labels of letters, digits, '-' and '_'\nlisten 127.0.0.1:53: that is dnsmasq", Options{Zone: "ä", Listen: netip.MustParseAddrPort("127.0.0.1:53")}},
	} {
		if _, err := New(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.o, err)
		}
	}
	p, err := New(Options{})
	if err != nil || p.opt.Listen != proxyAddr || p.opt.PeerPort != 4853 || p.opt.Zone != "internal" || p.opt.LANDomain != "lan" {
		t.Errorf("%+v, %v", p, err)
	}
}

func TestRunPortTaken(t *testing.T) {
	h := newHome(t, nil, nil)
	second, err := New(h.opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := second.Run(t.Context()); err == nil {
		t.Error("two proxies at one port")
	}
	if err := second.Set(nil); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// Set after Set: listeners follow the devices.
func TestSetListeners(t *testing.T) {
	p := newPair(t, nil)
	const silence, soon = 400 * time.Millisecond, 10 * time.Second
	probe := func(limit time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return p.a.Probe(ctx, "bob")
	}
	if err := probe(soon); err != nil {
		t.Fatal(err)
	}
	first := p.b.listeners["alice"]
	set(t, p.b.Proxy, p.peerA)
	if p.b.listeners["alice"] != first {
		t.Error("the same peers opened a listener anew")
	}
	// The device goes, with the peer still described: an error that passes.
	p.socksB.Remove("htip-a")
	other := Peer{Name: "carol", Substitutes: prefixes("10.0.3.0/24")}
	err := p.b.Set([]Peer{other, p.peerA, {Name: "a.b"}})
	var list []error
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		list = joined.Unwrap()
	}
	if len(list) != 2 || p.b.tbl.Load().peers["carol"] == nil {
		t.Fatal(err)
	}
	var bad, gone *PeerError
	if !errors.As(list[0], &bad) || bad.Peer != "a.b" || bad.Retry || !errors.As(list[1], &gone) || gone.Peer != "alice" || !gone.Retry {
		t.Errorf("%v", err)
	}
	if err := probe(silence); err == nil {
		t.Error("a listener without device answers")
	}
	// It comes back under the same name, then is replaced without being missed.
	for range 2 {
		p.socksB.Add("htip-a", p.addrB)
		set(t, p.b.Proxy, p.peerA)
		if err := probe(soon); err != nil {
			t.Fatal(err)
		}
		if p.b.listeners["alice"] == first {
			t.Error("the listener of the old device was kept")
		}
		first = p.b.listeners["alice"]
	}
	// Nobody calls Set.
	p.socksB.Remove("htip-a")
	p.b.mend()
	if err := probe(silence); err == nil {
		t.Error("a listener without device answers")
	}
	p.socksB.Add("htip-a", p.addrB)
	p.b.mend()
	if err := probe(soon); err != nil || p.b.listeners["alice"] == first {
		t.Errorf("the device is back: %v", err)
	}
	set(t, p.b.Proxy)
	if err := probe(silence); err == nil || len(p.b.listeners) != 0 {
		t.Error("a peer that is gone is answered")
	}
	p.b.end()
	if err := p.b.Set([]Peer{p.peerA}); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}

// What is not a question for us.
func TestLocalRefuses(t *testing.T) {
	h := newHome(t, nil, nil)
	set(t, h.Proxy, Peer{Name: "bob", Domain: "bob.example.org", Substitutes: prefixes("10.0.2.0/24")})
	for _, c := range []struct {
		name   string
		qtype  uint16
		qclass uint16
		rd     bool
		want   string
	}{
		{"www.example.org.", dns.TypeA, dns.ClassINET, true, "REFUSED"},
		{".", dns.TypeNS, dns.ClassINET, true, "REFUSED"},
		{"nas.htip.", dns.TypeA, dns.ClassINET, true, "REFUSED"},
		{"internal.", dns.TypeAXFR, dns.ClassINET, true, "REFUSED"},
		{"internal.", dns.TypeA, dns.ClassCHAOS, true, "REFUSED"},
		{"4.4.8.8.in-addr.arpa.", dns.TypePTR, dns.ClassINET, true, "REFUSED"},
		{"nas.lan.", dns.TypeA, dns.ClassINET, true, "NXDOMAIN SOA:lan."},
		{"nas.bob.internal.", dns.TypeA, dns.ClassINET, false, "REFUSED [18 " + errNotRecursive.Error() + "]"},
		{"www.bob.example.org.", dns.TypeA, dns.ClassINET, false, "REFUSED [18 " + errNotRecursive.Error() + "]"},
		{"bob.example.org.", dns.TypeA, dns.ClassINET, true, "SERVFAIL [22 no upstream resolver is known]"},
		{"bob.internal.", dns.TypeSOA, dns.ClassINET, true, "SERVFAIL [22 the tunnel is down]"},
		{"internal.", dns.TypeSOA, dns.ClassINET, true, "NOERROR gateway.htip. nobody.htip. 1 60 10 600 5"},
	} {
		req := queryOf(c.name, c.qtype)
		req.Question[0].Qclass = c.qclass
		req.RecursionDesired = c.rd
		req.SetEdns0(1232, false)
		m, err := resolve(nil, h.opt.Listen, req)
		if err != nil || brief(m) != c.want {
			t.Errorf("%s: %v %v, want %s", c.name, m, err, c.want)
		}
	}
	if s := h.Stats(); s.Local != 12 || s.Failed != 2 {
		t.Errorf("%+v", s)
	}
}

// A large answer goes over TCP all the way.
func TestTransferLarge(t *testing.T) {
	p := newPair(t, nil)
	hosts := ""
	for i := range 3000 {
		hosts += fmt.Sprintf("10.0.0.%d a-rather-long-host-name-number-%d\n", 1+i%254, i)
	}
	p.b.write(t, "hosts/many", hosts)
	list, err := p.a.Hosts(t.Context(), "bob")
	if err != nil || len(list) != maxHosts {
		t.Errorf("%d hosts, %v", len(list), err)
	}
}

func TestForwardTruncated(t *testing.T) {
	upstream := netip.AddrPortFrom(ownAddr(), testDNS)
	nameServer(t, nil, "", upstream, func(req *dns.Msg, tcp bool) []*dns.Msg {
		m := respond(req, 0)
		m.Truncated = !tcp
		for i := range 200 {
			if tcp {
				m.Answer = append(m.Answer, &dns.A{Hdr: header(req.Question[0].Name, dns.TypeA, 1), A: []byte{198, 18, 0, byte(i)}})
			}
		}
		return []*dns.Msg{m}
	})
	h := newHome(t, nil, func(o *Options) { o.Upstreams = []netip.AddrPort{upstream} })
	set(t, h.Proxy, Peer{Name: "bob", Domain: "bob.example.org"})
	m, err := resolve(nil, h.opt.Listen, queryOf("bob.example.org.", dns.TypeA))
	if err != nil || !m.Truncated {
		t.Fatal(m, err)
	}
	long, err := exchange(t.Context(), Kernel{}, "tcp", "", h.opt.Listen, understood(t, queryOf("bob.example.org.", dns.TypeA)))
	if err != nil || long.Truncated || len(long.Answer) != 200 {
		t.Fatalf("%v, %v", long, err)
	}
}

// Resolvers that are dead or refuse are passed over.
func TestForwardNextResolver(t *testing.T) {
	dead, refusing, good := netip.AddrPortFrom(ownAddr(), testDNS), netip.AddrPortFrom(ownAddr(), testDNS), netip.AddrPortFrom(ownAddr(), testDNS)
	nameServer(t, nil, "", refusing, func(req *dns.Msg, _ bool) []*dns.Msg { return []*dns.Msg{respond(req, dns.RcodeRefused)} })
	nameServer(t, nil, "", good, records(t, "bob.example.org. 60 A 198.18.0.2"))
	h := newHome(t, nil, func(o *Options) { o.Upstreams = []netip.AddrPort{dead, refusing, good} })
	set(t, h.Proxy, Peer{Name: "bob", Domain: "bob.example.org"})
	if got := look(t, nil, h.opt.Listen, "bob.example.org.", dns.TypeA); got != "NOERROR 198.18.0.2" {
		t.Error(got)
	}
}

// A resolver inside a tunnel could ask us again.
func TestForwardNeverIntoTunnel(t *testing.T) {
	h := newHome(t, nil, func(o *Options) { o.Upstreams = []netip.AddrPort{netip.MustParseAddrPort("10.0.2.1:53")} })
	set(t, h.Proxy, Peer{Name: "bob", Domain: "bob.example.org", Substitutes: prefixes("10.0.2.0/24")})
	if got := look(t, nil, h.opt.Listen, "bob.example.org.", dns.TypeA); got != "SERVFAIL [22 no upstream resolver is known]" {
		t.Error(got)
	}
}

// The daemon's own way to a peer's public address, past our dnsmasq.
func TestResolve(t *testing.T) {
	upstream := netip.AddrPortFrom(ownAddr(), testDNS)
	nameServer(t, nil, "", upstream, func(req *dns.Msg, tcp bool) []*dns.Msg {
		if req.Question[0].Name == "broken.example.org." {
			return []*dns.Msg{respond(req, dns.RcodeServerFailure)}
		}
		return records(t, "bob.example.org. 60 A 198.18.0.2", "bob.example.org. 60 A 198.18.0.3", "six.example.org. 60 AAAA 2001:db8::1")(req, tcp)
	})
	h := newHome(t, nil, func(o *Options) { o.Upstreams = []netip.AddrPort{upstream} })
	for name, want := range map[string]string{
		"a b":                 `"a b" is no domain name`,
		"nobody.example.org":  ErrNoName.Error(),
		"six.example.org":     ErrNoName.Error(),
		"broken.example.org.": "the resolver answers SERVFAIL",
	} {
		if addrs, err := h.Resolve(t.Context(), name); err == nil || err.Error() != want || addrs != nil {
			t.Errorf("%s: %v, %v", name, addrs, err)
		}
	}
	if addrs, err := h.Resolve(t.Context(), "Bob.example.org"); err != nil || fmt.Sprint(addrs) != "[198.18.0.2 198.18.0.3]" {
		t.Errorf("%v, %v", addrs, err)
	}
	h.end()
	if _, err := h.Resolve(t.Context(), "bob.example.org"); !errors.Is(err, ErrClosed) {
		t.Error(err)
	}
}
