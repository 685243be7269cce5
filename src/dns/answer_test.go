package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
	"pgregory.net/rapid"
)

func TestReadHostRefuses(t *testing.T) {
	subst := prefixes("10.0.2.0/24")
	for _, records := range [][]string{
		{"nas.htip. 60 A 10.0.0.1"},
		{"nas.htip. 60 A 127.0.0.1"},
		{"nas.htip. 60 A 8.8.8.8"},
		{"nas.htip. 60 A 10.0.2.5", "nas.htip. 60 A 10.0.3.5"},
		{"nas.htip. 60 A 10.0.2.5", "other.htip. 60 A 192.168.1.1"},
		{"nas.htip. 60 AAAA ::1"},
		{"nas.htip. 60 AAAA ::ffff:10.0.2.5"},
	} {
		if a, err := readHost(message(t, 0, records...), "nas.htip.", subst); !errors.Is(err, errOutside) {
			t.Errorf("%v: %+v, %v", records, a, err)
		}
	}
	if _, err := readHost(message(t, dns.RcodeServerFailure), "nas.htip.", subst); err == nil || errors.Is(err, errOutside) {
		t.Errorf("SERVFAIL: %v", err)
	}
}

func TestReadHost(t *testing.T) {
	many := []string{}
	for i := range 40 {
		many = append(many, fmt.Sprintf("nas.htip. 60 A 10.0.2.%d", i))
	}
	for _, c := range []struct {
		rcode   int
		records []string
		addrs   int
		want    dnsmessage.RCode
		ttl     time.Duration
	}{
		{dns.RcodeNameError, nil, 0, dns.RcodeNameError, negTTL},
		{0, nil, 0, 0, negTTL},
		{0, []string{"other.htip. 60 A 10.0.2.5"}, 0, 0, negTTL},
		{0, []string{"nas.htip. 60 CH A 10.0.2.5"}, 0, 0, negTTL},
		{0, []string{"nas.htip. 30 A 10.0.2.5"}, 1, 0, 30 * time.Second},
		{0, []string{"NAS.htip. 0 A 10.0.2.5"}, 1, 0, time.Second},
		{0, []string{"nas.htip. 86400 A 10.0.2.5", "nas.htip. 86400 A 10.0.2.5", "nas.htip. 7 A 10.0.2.6"}, 2, 0, 7 * time.Second},
		{0, []string{"nas.htip. 86400 A 10.0.2.5"}, 1, 0, maxTTL},
		{0, many, maxAddrs, 0, maxTTL},
	} {
		var m *msg
		if len(c.records) == 1 && strings.Contains(c.records[0], " CH ") {
			m = message(t, 0)
			m.Answer = append(m.Answer, resource{Name: "nas.htip.", Type: dnsmessage.TypeA, Class: dnsmessage.ClassCHAOS, Addr: addr("10.0.2.5")})
		} else {
			m = message(t, c.rcode, c.records...)
		}
		a, err := readHost(m, "nas.htip.", prefixes("10.0.2.0/24"))
		if err != nil || len(a.addrs) != c.addrs || a.rcode != c.want || a.ttl != c.ttl {
			t.Errorf("%v: %+v, %v", c.records, a, err)
		}
	}
}

func TestTellHost(t *testing.T) {
	own := []Mapping{mapping("10.0.0.0/24", "10.0.2.0/24")}
	for _, c := range []struct {
		rcode   int
		records []string
		want    []string
		exists  bool
	}{
		{dns.RcodeNameError, nil, nil, false},
		{dns.RcodeRefused, nil, nil, false},
		{0, nil, nil, true}, // an IPv6 host, say
		{0, []string{"nas.lan. 0 A 192.168.3.7"}, nil, false},
		{0, []string{"nas.lan. 0 A 127.0.0.1"}, nil, false},
		{0, []string{"other.lan. 0 A 10.0.0.5"}, nil, true},
		{0, []string{"nas.lan. 0 A 10.0.0.5"}, []string{"10.0.2.5"}, true},
		{0, []string{"nas.lan. 0 A 10.0.0.5", "nas.lan. 0 A 192.168.3.7", "nas.lan. 0 A 10.0.0.6"}, []string{"10.0.2.5", "10.0.2.6"}, true},
		{0, []string{"nas.lan. 0 CNAME box.lan.", "box.lan. 0 A 10.0.0.5"}, []string{"10.0.2.5"}, true},
		{0, []string{"box.lan. 0 A 10.0.0.5", "b.lan. 0 CNAME box.lan.", "nas.lan. 0 CNAME b.lan."}, []string{"10.0.2.5"}, true},
		{0, []string{"nas.lan. 0 CNAME www.example.org.", "www.example.org. 0 A 203.0.113.5"}, nil, false},
		{0, []string{"nas.lan. 0 CNAME nas.lan."}, nil, true},
	} {
		a, err := tellHost(message(t, c.rcode, c.records...), "nas.lan.", own)
		var got []string
		for _, x := range a.addrs {
			got = append(got, x.String())
		}
		if err != nil || !reflect.DeepEqual(got, c.want) || a.exists() != c.exists {
			t.Errorf("%v: %+v, %v", c.records, a, err)
		}
		if got != nil && a.ttl != minTTL {
			t.Errorf("%v: TTL %s; dnsmasq's 0 would mean a question through the tunnel each time", c.records, a.ttl)
		}
	}
	if _, err := tellHost(message(t, dns.RcodeServerFailure), "nas.lan.", own); err == nil {
		t.Error("SERVFAIL is an answer")
	}
}

// Whatever dnsmasq says, a peer hears of no address outside its mappings.
func TestTellHostLaw(t *testing.T) {
	own := []Mapping{mapping("10.0.0.0/24", "10.0.2.0/24"), mapping("192.168.0.0/20", "10.64.0.0/20")}
	req := understood(t, queryOf("nas.htip.", dns.TypeA))
	rapid.Check(t, func(t *rapid.T) {
		m := new(msg)
		m.Response = true
		names := []string{"nas.lan.", "b.lan.", "c.lan."}
		for range rapid.IntRange(0, 20).Draw(t, "records") {
			name := rapid.SampledFrom(names).Draw(t, "owner")
			switch rapid.IntRange(0, 2).Draw(t, "type") {
			case 0:
				target := rapid.SampledFrom(names).Draw(t, "target")
				m.Answer = append(m.Answer, resource{Name: name, Type: dnsmessage.TypeCNAME, Class: dnsmessage.ClassINET, Target: target})
			case 1:
				m.Answer = append(m.Answer, newA(name, 0, anyAddr(t)))
			case 2:
				a := own[rapid.IntRange(0, 1).Draw(t, "network")].Network.Addr().As4()
				a[3] = rapid.Byte().Draw(t, "host")
				m.Answer = append(m.Answer, newA(name, 0, netip.AddrFrom4(a)))
			}
		}
		a, err := tellHost(m, "nas.lan.", own)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range a.addrs {
			if _, ok := original(own, x); !ok {
				t.Fatalf("%s told", x)
			}
		}
		// What one end tells, the other believes.
		back, err := readHost(render(req, a), "nas.htip.", []netip.Prefix{own[0].Substitute, own[1].Substitute})
		if err != nil || !reflect.DeepEqual(back.addrs, a.addrs) || back.rcode != a.rcode {
			t.Fatalf("told %+v, understood %+v, %v", a, back, err)
		}
	})
}

func TestTellPTR(t *testing.T) {
	const name = "5.0.0.10.in-addr.arpa."
	for _, c := range []struct {
		rcode   int
		records []string
		want    []string
	}{
		{dns.RcodeNameError, nil, nil},
		{dns.RcodeRefused, nil, nil},
		{0, nil, nil},
		{0, []string{name + " 0 PTR lan."}, nil},
		{0, []string{name + " 0 PTR nas.corp."}, nil},
		{0, []string{name + ` 0 PTR my\032pc.lan.`}, nil},
		{0, []string{"6.0.0.10.in-addr.arpa. 0 PTR nas.lan."}, nil},
		{0, []string{name + " 0 PTR NAS.lan.", name + " 0 PTR a.b.lan.", name + " 0 PTR nas.lan."}, []string{"nas.htip.", "a.b.htip."}},
	} {
		a, err := tellPTR(message(t, c.rcode, c.records...), name, "lan.")
		if err != nil || !reflect.DeepEqual(a.names, c.want) || a.exists() != (c.want != nil) {
			t.Errorf("%v: %+v, %v", c.records, a, err)
		}
	}
	if _, err := tellPTR(message(t, dns.RcodeServerFailure), name, "lan."); err == nil {
		t.Error("SERVFAIL is an answer")
	}
}

func TestRender(t *testing.T) {
	two := answer{addrs: []netip.Addr{addr("10.0.2.5"), addr("10.0.2.6")}, ttl: 1500 * time.Millisecond, soa: "bob.internal."}
	for _, c := range []struct {
		qtype      uint16
		a          answer
		answer, ns int
	}{
		{dns.TypeA, two, 2, 0},
		{dns.TypeANY, two, 2, 0},
		{dns.TypeAAAA, two, 0, 1},
		{dns.TypeMX, two, 0, 1},
		{dns.TypeA, negative(dns.RcodeNameError, "bob.internal."), 0, 1},
		{dns.TypeA, negative(dns.RcodeSuccess, "bob.internal."), 0, 1},
		{dns.TypeA, failure(dns.ExtendedErrorCodeOther, errors.New("x")), 0, 0},
		{dns.TypePTR, answer{names: []string{"nas.bob.internal."}, ttl: time.Second}, 1, 0},
	} {
		req := queryOf("NaS.bob.internal.", c.qtype)
		m := theirs(t, render(understood(t, req), c.a))
		if len(m.Answer) != c.answer || len(m.Ns) != c.ns || m.Rcode != int(c.a.rcode) || m.Id != req.Id || !m.Response || m.IsEdns0() != nil {
			t.Errorf("%s: %v", dns.TypeToString[c.qtype], m)
		}
		for _, rr := range m.Answer {
			if rr.Header().Name != "NaS.bob.internal." || rr.Header().Ttl == 0 {
				t.Errorf("%v", rr)
			}
		}
	}
	m := render(understood(t, queryOf("bob.internal.", dns.TypeSOA)), negative(0, "bob.internal."))
	if len(m.Answer) != 1 || len(m.Authority) != 0 {
		t.Errorf("SOA of the apex: %v", m)
	}
}

func TestRenderExplains(t *testing.T) {
	req := queryOf("nas.bob.internal.", dns.TypeA)
	req.SetEdns0(4096, true)
	m := theirs(t, render(understood(t, req), failure(dns.ExtendedErrorCodeNoReachableAuthority, errors.New(strings.Repeat("é", 150)))))
	opt := m.IsEdns0()
	if m.Rcode != dns.RcodeServerFailure || opt == nil || len(opt.Option) != 1 {
		t.Fatal(m)
	}
	ede := opt.Option[0].(*dns.EDNS0_EDE)
	if ede.InfoCode != dns.ExtendedErrorCodeNoReachableAuthority || len(ede.ExtraText) != 200 {
		t.Errorf("%d octets: %q", len(ede.ExtraText), ede.ExtraText)
	}
}

func TestForeign(t *testing.T) {
	for _, bad := range []string{"A 10.0.0.1", "A 127.0.0.1", "A 0.0.0.0", "A 0.1.2.3", "A 169.254.1.1", "A 192.168.1.1", "A 224.0.0.1", "AAAA ::1", "AAAA ::", "AAAA fe80::1", "AAAA fd00::1", "AAAA ::ffff:10.0.0.1"} {
		if _, ok := foreign(message(t, 0, "bob.example.org. 1 A 203.0.113.1", "bob.example.org. 1 "+bad)); !ok {
			t.Errorf("%s passes", bad)
		}
	}
	if a, ok := foreign(message(t, 0, "bob.example.org. 1 A 203.0.113.1", "bob.example.org. 1 AAAA 2001:db8::1", "bob.example.org. 1 MX 1 x.")); ok {
		t.Errorf("%s is refused", a)
	}
}

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]uint32{-1: 0, 0: 0, 1: 1, time.Second: 1, time.Second + 1: 2} {
		if got := seconds(d); got != want {
			t.Errorf("seconds(%s) = %d", d, got)
		}
	}
}
