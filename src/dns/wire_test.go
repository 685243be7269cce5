package dns

import (
	"testing"

	"github.com/miekg/dns"
)

func TestParseQueryBad(t *testing.T) {
	good, _ := question("nas.htip.", dns.TypeA).Pack()
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
		case c.rcode >= 0 && (reject == nil || reject.Rcode != c.rcode || !reject.Response):
			t.Errorf("%s: answered with %v", c.name, reject)
		}
	}
	if req, _, err := parseQuery(good); err != nil || req.Question[0].Name != "nas.htip." {
		t.Error(req, err)
	}
}

func TestParseQueryEDNSVersion(t *testing.T) {
	m := question("nas.htip.", dns.TypeA)
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
	req := question("nas.htip.", dns.TypeA)
	for name, change := range map[string]func(*dns.Msg){
		"a question":   func(m *dns.Msg) { m.Response = false },
		"another id":   func(m *dns.Msg) { m.Id++ },
		"no question":  func(m *dns.Msg) { m.Question = nil },
		"other name":   func(m *dns.Msg) { m.Question[0].Name = "x.htip." },
		"other type":   func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA },
		"other class":  func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS },
		"other opcode": func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify },
	} {
		m := new(dns.Msg).SetReply(req)
		change(m)
		if matches(m, req) {
			t.Errorf("%s matches", name)
		}
	}
	m := new(dns.Msg).SetReply(req)
	m.Question[0].Name = "NAS.htip."
	if !matches(m, req) {
		t.Error("case matters")
	}
}

func TestUDPSize(t *testing.T) {
	req := question("x.", dns.TypeA)
	if n := udpSize(req); n != 512 {
		t.Error(n)
	}
	for size, want := range map[uint16]int{0: 512, 600: 600, 4096: maxUDP} {
		req.Extra = nil
		req.SetEdns0(size, false)
		if n := udpSize(req); n != want {
			t.Errorf("%d: %d", size, n)
		}
	}
}
