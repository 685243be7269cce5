package dns

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// canned is a network where everybody gives the same answer to every question.
type canned struct{ answer *dns.Msg }

func (c canned) Index(string) (int, error) { return 0, errors.New("no devices here") }
func (c canned) ListenUDP(string, netip.AddrPort) (*net.UDPConn, error) {
	return nil, errors.New("no listeners here")
}
func (c canned) ListenTCP(string, netip.AddrPort) (net.Listener, error) {
	return nil, errors.New("no listeners here")
}
func (c canned) Dial(_ context.Context, network, _ string, _ netip.AddrPort) (net.Conn, error) {
	return &cannedConn{answer: c.answer, tcp: network == "tcp"}, nil
}

type cannedConn struct {
	answer *dns.Msg
	tcp    bool
	r      bytes.Reader
}

func (c *cannedConn) Write(b []byte) (int, error) {
	req := new(dns.Msg)
	if err := req.Unpack(b[map[bool]int{true: 2}[c.tcp]:]); err != nil {
		return 0, err
	}
	m := c.answer.Copy()
	m.Id, m.Response, m.Opcode, m.Question = req.Id, true, req.Opcode, req.Question
	m.Truncated = m.Truncated && !c.tcp
	packed, err := m.Pack()
	if err != nil {
		return 0, err
	}
	if c.tcp {
		packed = append([]byte{byte(len(packed) >> 8), byte(len(packed))}, packed...)
	}
	c.r.Reset(packed)
	return len(b), nil
}

func (c *cannedConn) Read(b []byte) (int, error)       { return c.r.Read(b) }
func (c *cannedConn) Close() error                     { return nil }
func (c *cannedConn) LocalAddr() net.Addr              { return &net.UDPAddr{} }
func (c *cannedConn) RemoteAddr() net.Addr             { return &net.UDPAddr{} }
func (c *cannedConn) SetDeadline(time.Time) error      { return nil }
func (c *cannedConn) SetReadDeadline(time.Time) error  { return nil }
func (c *cannedConn) SetWriteDeadline(time.Time) error { return nil }

// Any packet as a question, from our own hosts and from a peer, and any packet
// as the answer of the peer, of dnsmasq and of the resolvers: nothing is told
// or believed but what may be.
func FuzzPackets(f *testing.F) {
	for _, name := range []string{"nas.bob.internal.", "nas.bob.example.org.", "bob.example.org.", "nas.htip.", "htip.", "5.2.0.10.in-addr.arpa.", "5.1.0.10.in-addr.arpa.", "internal.", "x."} {
		for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypePTR, dns.TypeSOA, dns.TypeANY} {
			req := queryOf(name, qtype)
			req.SetEdns0(1232, true)
			f.Add(packed(req), packed(message(f, 0, name+" 60 A 10.0.2.5", name+" 60 PTR nas.htip.")))
		}
	}
	f.Add(packed(queryOf("nas.htip.", dns.TypeA)), packed(message(f, 0, "nas.lan. 0 CNAME box.lan.", "box.lan. 0 A 10.0.0.5")))
	f.Add(packed(queryOf("nas.htip.", dns.TypeA)), packed(message(f, dns.RcodeNameError)))
	table, err := newTable("internal.", "lan.", []Peer{bob(), carol()}, nil, time.Time{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, question, answer []byte) {
		req, reject, err := parseQuery(question)
		if err != nil {
			if reject != nil {
				packed(reject)
			}
			return
		}
		m := new(dns.Msg)
		if m.Unpack(answer) != nil {
			return
		}
		if _, err := m.Pack(); err != nil {
			return
		}
		p, err := New(Options{Sockets: canned{m}, Upstreams: []netip.AddrPort{netip.MustParseAddrPort("198.18.0.1:53")}})
		if err != nil {
			t.Fatal(err)
		}
		defer p.stop()
		p.tbl.Store(table)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		local := checkReply(t, req, p.answerLocal(ctx, req))
		r := table.route(canonical(req.Question[0].Name))
		for _, rr := range local.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				a, _ := netip.AddrFromSlice(rr.A)
				if !inside(bob().Substitutes, a) && (r.kind == kindHost || r.kind == kindGateway || a.IsPrivate() || a.IsLoopback()) {
					t.Errorf("%s is believed for %s", a, rr.Hdr.Name)
				}
			case *dns.PTR:
				if r.kind == kindReverse && (!within(rr.Ptr, "bob.internal.") || !domainname(rr.Ptr)) {
					t.Errorf("%s is believed for %s", rr.Ptr, rr.Hdr.Name)
				}
			}
		}
		remote := checkReply(t, req, p.answerRemote(ctx, req, table.peers["bob"]))
		for _, rr := range remote.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				a, _ := netip.AddrFromSlice(rr.A)
				if _, ok := original(bob().Own, a); !ok {
					t.Errorf("%s is told for %s", a, rr.Hdr.Name)
				}
			case *dns.PTR:
				if !within(rr.Ptr, pseudo) || !domainname(rr.Ptr) {
					t.Errorf("%s is told for %s", rr.Ptr, rr.Hdr.Name)
				}
			case *dns.SOA:
			default:
				t.Errorf("%s is told", rr)
			}
		}
	})
}

// checkReply gives the reply as the other library reads it from UDP.
func checkReply(t *testing.T, req, m *msg) *dns.Msg {
	t.Helper()
	if !m.Response || m.ID != req.ID || len(m.Question) != 1 || m.Question[0] != req.Question[0] {
		t.Errorf("reply to %v: %v", req, m)
	}
	b, err := m.PackWithin(udpSize(req))
	if err != nil {
		t.Fatalf("%v: %v", m, err)
	}
	if len(b) > udpSize(req) {
		t.Errorf("%d octets over UDP", len(b))
	}
	second := new(dns.Msg)
	if err := second.Unpack(b); err != nil {
		t.Fatalf("%v: %v", m, err)
	}
	if second.Id != req.ID || second.Question[0].Name != req.Question[0].Name || second.Truncated != m.Truncated && len(second.Answer)+len(second.Ns) == len(m.Answer)+len(m.Authority) {
		t.Errorf("%v: %v", m, second)
	}
	return second
}

// Any octets as a zone transfer.
func FuzzTransfer(f *testing.F) {
	frame := func(list ...*msg) (b []byte) {
		for _, m := range list {
			b = append(b, framed(m)...)
		}
		return b
	}
	const apex = "htip. 5 SOA gateway.htip. nobody.htip. 1 1 1 1 1"
	f.Add(frame(message(f, 0, apex, "nas.htip. 5 A 10.0.2.5", apex)))
	f.Add(frame(message(f, 0, apex), message(f, 0, "nas.htip. 5 A 10.0.2.5"), message(f, 0, "tv.htip. 5 A 10.0.2.6", apex)))
	f.Add(frame(message(f, 0, apex, "nas.htip. 5 A 192.168.1.1", apex)))
	f.Add(frame(message(f, dns.RcodeRefused)))
	f.Add([]byte{0xff, 0xff, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		c := &streamConn{Reader: bytes.NewReader(b)}
		tr := transfer{substitutes: bob().Substitutes}
		for {
			b, err := readTCP(c, dns.MaxMsgSize, time.Time{})
			if err != nil {
				break
			}
			m := new(msg)
			if m.Unpack(b) != nil {
				break
			}
			if done, err := tr.add(m); done || err != nil {
				break
			}
		}
		if len(tr.records) > maxHosts || tr.messages > maxMessages+1 {
			t.Errorf("%d hosts in %d messages", len(tr.records), tr.messages)
		}
		for _, r := range tr.records {
			if !hostname(r.name) || !inside(bob().Substitutes, r.addr) {
				t.Errorf("%v is believed", r)
			}
		}
	})
}

type streamConn struct {
	io.Reader
	net.Conn
}

func (c *streamConn) Read(b []byte) (int, error)      { return c.Reader.Read(b) }
func (c *streamConn) SetReadDeadline(time.Time) error { return nil }

// Any file as leases, hosts and resolv.conf.
func FuzzFiles(f *testing.F) {
	f.Add(leases)
	f.Add(hostsB)
	f.Add("nameserver 198.51.100.1\nnameserver fe80::1%wan\n")
	f.Add("10.0.0.5 " + strings.Repeat("a ", 5000))
	f.Add(strings.Repeat("x", 70000))
	f.Fuzz(func(t *testing.T, s string) {
		for _, list := range [][]record{parseLeases(s, "lan."), parseHosts(s, "lan.")} {
			if len(list) > maxHosts {
				t.Errorf("%d records", len(list))
			}
			for _, r := range list {
				if !hostname(r.name) || !r.addr.Is4() {
					t.Errorf("%v", r)
				}
			}
			for _, r := range tellZone(list, bob().Own) {
				if _, ok := original(bob().Own, r.addr); !ok {
					t.Errorf("%v is told", r)
				}
			}
		}
		for _, a := range parseResolv(s) {
			if !a.IsValid() || a.IsLoopback() || a.IsUnspecified() {
				t.Errorf("resolver %s", a)
			}
		}
	})
}

// Any name is routed, and only to a host that can exist.
func FuzzRoute(f *testing.F) {
	for _, s := range []string{"nas.bob.internal.", `a\.b.bob.internal.`, "nas.carol.bob.example.org.", "5.2.0.10.in-addr.arpa.", "", ".", "..internal."} {
		f.Add(s)
	}
	table, err := newTable("internal.", "home.internal.", []Peer{bob(), carol()}, nil, time.Time{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, name string) {
		r := table.route(canonical(name))
		switch r.kind {
		case kindHost, kindPublic:
			if r.peer == nil || !hostname(r.host) {
				t.Errorf("%q: %+v", name, r)
			}
		case kindReverse:
			if !inside(r.peer.Substitutes, r.addr) {
				t.Errorf("%q: %+v", name, r)
			}
		}
		if a, n, ok := reverseAddr(canonical(name)); ok && n == 4 && reverseName(a) != canonical(name) {
			t.Errorf("%q is %s", name, a)
		}
	})
}
