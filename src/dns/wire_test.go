package dns

import (
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
)

func TestParseQueryBad(t *testing.T) {
	good, _ := queryOf("nas.htip.", dns.TypeA).Pack()
	change := func(i int, b byte) []byte {
		c := append([]byte(nil), good...)
		c[i] = b
		return c
	}
	for _, c := range []struct {
		name  string
		b     []byte
		rcode int // -1: no reply
	}{
		{"nothing", nil, -1},
		{"half a header", good[:7], -1},
		{"an answer", change(2, 0x80), -1},
		{"an update", change(2, dns.OpcodeUpdate<<3), dns.RcodeNotImplemented},
		{"a notify", change(2, dns.OpcodeNotify<<3), dns.RcodeNotImplemented},
		{"no question", change(5, 0), dns.RcodeFormatError},
		{"two questions", change(5, 2), dns.RcodeFormatError},
		{"an answer section", change(7, 1), dns.RcodeFormatError},
		{"an authority section", change(9, 1), dns.RcodeFormatError},
		{"many additional records", change(11, 3), dns.RcodeFormatError},
		{"a name without end", good[:15], dns.RcodeFormatError},
		{"a header only", good[:12], dns.RcodeFormatError},
		{"a name that points at itself", append(append([]byte(nil), good[:12]...), 0xc0, 12, 0, 1, 0, 1), dns.RcodeFormatError},
	} {
		req, reject, err := parseQuery(c.b)
		switch {
		case err == nil:
			t.Errorf("%s: accepted as %v", c.name, req)
		case c.rcode < 0 && reject != nil:
			t.Errorf("%s: answered with %v", c.name, reject)
		case c.rcode >= 0 && (reject == nil || int(reject.RCode) != c.rcode || !reject.Response):
			t.Errorf("%s: answered with %v", c.name, reject)
		}
	}
	if req, _, err := parseQuery(good); err != nil || req.Question[0].Name != "nas.htip." {
		t.Error(req, err)
	}
}

func TestParseQueryEDNSVersion(t *testing.T) {
	m := queryOf("nas.htip.", dns.TypeA)
	m.SetEdns0(1232, false)
	m.IsEdns0().SetVersion(1)
	b, _ := m.Pack()
	_, reject, err := parseQuery(b)
	if err == nil || reject == nil {
		t.Fatal(reject, err)
	}
	packed, err := reject.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var back dns.Msg
	if err := back.Unpack(packed); err != nil || back.Rcode != dns.RcodeBadVers {
		t.Error(back.Rcode, err)
	}
}

func TestMatches(t *testing.T) {
	req := understood(t, queryOf("nas.htip.", dns.TypeA))
	for name, change := range map[string]func(*msg){
		"a question":   func(m *msg) { m.Response = false },
		"another id":   func(m *msg) { m.ID++ },
		"no question":  func(m *msg) { m.Question = nil },
		"other name":   func(m *msg) { m.Question[0].Name = "x.htip." },
		"other type":   func(m *msg) { m.Question[0].Type = dnsmessage.TypeAAAA },
		"other class":  func(m *msg) { m.Question[0].Class = dnsmessage.ClassCHAOS },
		"other opcode": func(m *msg) { m.OpCode = dns.OpcodeNotify },
	} {
		m := understood(t, new(dns.Msg).SetReply(theirs(t, req)))
		change(m)
		if matches(m, req) {
			t.Errorf("%s matches", name)
		}
	}
	m := understood(t, new(dns.Msg).SetReply(theirs(t, req)))
	m.Question[0].Name = "NAS.htip."
	if !matches(m, req) {
		t.Error("case matters")
	}
}

func TestUDPSize(t *testing.T) {
	req := understood(t, queryOf("x.", dns.TypeA))
	if n := udpSize(req); n != 512 {
		t.Error(n)
	}
	for size, want := range map[uint16]int{0: 512, 600: 600, 4096: maxUDP} {
		m := queryOf("x.", dns.TypeA)
		m.SetEdns0(size, false)
		req = understood(t, m)
		if n := udpSize(req); n != want {
			t.Errorf("%d: %d", size, n)
		}
	}
}
