package dns

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/net/dns/dnsmessage"
)

// raw is an answer of hand-made records, to a question "x.lan. A" whose name
// lies at octet 12. A record is a name, a type and its content.
type rawRecord struct {
	name  string // wire form
	rtype uint16
	data  string
}

const (
	toX    = "\xc0\x0c" // x.lan.
	wireAB = "\x01a\x01b\x00"
)

func raw(authority bool, list ...rawRecord) []byte {
	b := []byte{0, 7, 0x80, 0, 0, 1, 0, 0, 0, 0, 0, 0}
	b[7+map[bool]int{true: 2}[authority]] = byte(len(list))
	b = append(b, "\x01x\x03lan\x00\x00\x01\x00\x01"...)
	for _, r := range list {
		b = append(b, r.name...)
		b = binary.BigEndian.AppendUint16(b, r.rtype)
		b = append(b, 0, 1, 0, 0, 0, 60)
		b = binary.BigEndian.AppendUint16(b, uint16(len(r.data)))
		b = append(b, r.data...)
	}
	return b
}

// What could be read in two ways is not read.
func TestUnpackRefuses(t *testing.T) {
	four := "\x0a\x00\x02\x05"
	serial := strings.Repeat("\x00", 20)
	for name, r := range map[string]rawRecord{
		"A too short":             {toX, dns.TypeA, four[:3]},
		"A too long":              {toX, dns.TypeA, four + "\x00"},
		"A without content":       {toX, dns.TypeA, ""},
		"AAAA too short":          {toX, dns.TypeAAAA, four},
		"AAAA too long":           {toX, dns.TypeAAAA, strings.Repeat("\x20", 17)},
		"owner with a dot":        {"\x03a.b\x03lan\x00", dns.TypeA, four},
		"owner points at itself":  {"\xc0\x27", dns.TypeA, four},
		"owner has a new label":   {"\x41a\x00", dns.TypeA, four},
		"owner of 255 octets":     {strings.Repeat("\x3f"+strings.Repeat("a", 63), 4) + "\x00", dns.TypeA, four},
		"CNAME with a dot":        {toX, dns.TypeCNAME, "\x03a.b\x03lan\x00"},
		"CNAME without content":   {toX, dns.TypeCNAME, ""},
		"CNAME without end":       {toX, dns.TypeCNAME, "\x01a"},
		"CNAME beyond its record": {toX, dns.TypeCNAME, "\x05ab"},
		"CNAME that goes on":      {toX, dns.TypeCNAME, wireAB + wireAB},
		"CNAME of half a pointer": {toX, dns.TypeCNAME, "\xc0"},
		"CNAME points forwards":   {toX, dns.TypeCNAME, "\xff\xff"},
		"CNAME at itself":         {toX, dns.TypeCNAME, "\xc0\x33"},
		"PTR with a dot":          {toX, dns.TypePTR, "\x01.\x03lan\x00"},
		"PTR that goes on":        {toX, dns.TypePTR, wireAB + "\x00"},
		"NS with a dot":           {toX, dns.TypeNS, "\x01.\x00"},
		"MX without name":         {toX, dns.TypeMX, "\x00\x01"},
		"MX that goes on":         {toX, dns.TypeMX, "\x00\x01" + wireAB + "\x00"},
		"SRV too short":           {toX, dns.TypeSRV, "\x00\x01\x00\x01\x00\x01"},
		"SOA too short":           {toX, dns.TypeSOA, wireAB + wireAB + serial[1:]},
		"SOA too long":            {toX, dns.TypeSOA, wireAB + wireAB + serial + "\x00"},
		"SOA with a dot":          {toX, dns.TypeSOA, wireAB + "\x03a.b\x00" + serial},
		// Types whose names the library doesn't read, with a pointer into the message.
		"MB":                                 {toX, dns.TypeMB, toX},
		"DNAME":                              {toX, dns.TypeDNAME, "\x01a" + toX},
		"MINFO":                              {toX, dns.TypeMINFO, wireAB + toX},
		"RP":                                 {toX, dns.TypeRP, toX + wireAB},
		"AFSDB":                              {toX, dns.TypeAFSDB, "\x00\x01" + toX},
		"PX":                                 {toX, dns.TypePX, "\x00\x01" + wireAB + toX},
		"SIG":                                {toX, dns.TypeSIG, strings.Repeat("\x00", 18) + toX + "abc"},
		"NXT":                                {toX, dns.TypeNXT, toX + "abc"},
		"NSAP-PTR":                           {toX, dns.TypeNSAPPTR, toX},
		"HTTPS":                              {toX, dns.TypeHTTPS, "\x00\x01" + toX},
		"RRSIG":                              {toX, dns.TypeRRSIG, strings.Repeat("\x00", 18) + toX + "abc"},
		"NSEC":                               {toX, dns.TypeNSEC, toX + "\x00\x01\x40"},
		"LP":                                 {toX, dns.TypeLP, "\x00\x01" + toX},
		"TALINK":                             {toX, dns.TypeTALINK, wireAB + toX},
		"DSYNC":                              {toX, 66, "\x00\x3b\x01\x00\x35" + toX},
		"NAPTR":                              {toX, dns.TypeNAPTR, "\x00\x01\x00\x01\x01u\x00\x01!" + toX},
		"NAPTR with a string beyond its end": {toX, dns.TypeNAPTR, "\x00\x01\x00\x01\x01u\x00\x09!"},
	} {
		m := new(msg)
		if err := m.Unpack(raw(false, rawRecord{toX, dns.TypeA, four}, r)); err == nil || len(m.Question) != 1 {
			t.Errorf("%s: read as %+v, %v", name, m, err)
		}
	}
	b := raw(false, rawRecord{toX, dns.TypeA, four})
	for _, n := range []int{0, 11, 12, 20, len(b) - 1} {
		if err := new(msg).Unpack(b[:n]); err == nil {
			t.Errorf("the first %d octets are a message", n)
		}
	}
	for _, hops := range []int{8, 11} {
		chain := "" // of pointers to pointers
		for i := range hops {
			chain += string([]byte{0xc0, byte(35 + 2*(i+1))})
		}
		err := new(msg).Unpack(raw(false, rawRecord{toX, dns.TypeTXT, chain + "\x00"}, rawRecord{toX, dns.TypeCNAME, "\xc0\x23"}))
		if (err == nil) != (hops < 10) {
			t.Errorf("a name of %d pointers: %v", hops+1, err)
		}
	}
	twice := append([]byte(nil), b...)
	twice[5], twice[7] = 2, 0
	if err := new(msg).Unpack(append(twice[:23], "\x01x\x00\x00\x01\x00\x01"...)); err != errQuestions {
		t.Errorf("two questions: %v", err)
	}
	opt := "\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"
	b[11] = 2
	if err := new(msg).Unpack(append(b, opt+opt...)); err != errOPTs {
		t.Errorf("two OPT records: %v", err)
	}
}

// The mailbox of first.last@lan. in the SOA of a negative answer is no reason to
// give no answer.
func TestUnpackAuthority(t *testing.T) {
	serial := strings.Repeat("\x00", 20)
	m := new(msg)
	if err := m.Unpack(raw(true, rawRecord{toX, dns.TypeSOA, wireAB + "\x0afirst.last\x03lan\x00" + serial}, rawRecord{toX, dns.TypeNS, wireAB})); err != nil {
		t.Fatal(err)
	}
	if len(m.Authority) != 1 || m.Authority[0].Type != dnsmessage.TypeNS {
		t.Errorf("%+v", m.Authority)
	}
}

// An OPT record in another section goes no further, and options of others do
// neither.
func TestUnpackOPT(t *testing.T) {
	m := understood(t, &dns.Msg{
		Answer: []dns.RR{&dns.OPT{Hdr: header(".", dns.TypeOPT, 0)}},
		Ns:     []dns.RR{&dns.OPT{Hdr: header(".", dns.TypeOPT, 0)}},
	})
	if len(m.Answer) != 0 || len(m.Authority) != 0 || m.EDNS != nil {
		t.Errorf("%+v", m)
	}
	second := queryOf("x.lan.", dns.TypeA)
	second.SetEdns0(4000, true)
	second.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0102030405060708"}}
	m = understood(t, second)
	if m.EDNS == nil || *m.EDNS != (edns{Size: 4000}) {
		t.Errorf("%+v", m.EDNS)
	}
	second = new(dns.Msg).SetRcode(second, dns.RcodeBadCookie)
	second.SetEdns0(1232, false)
	if m = understood(t, second); m.RCode != dns.RcodeBadCookie || theirs(t, m).Rcode != dns.RcodeBadCookie {
		t.Errorf("%+v", m)
	}
	m.EDNS = nil // there is no room for the upper bits
	if got := theirs(t, m); got.Rcode != dns.RcodeBadCookie&0xf || got.Opcode != dns.OpcodeQuery {
		t.Errorf("%v", got)
	}
}

// What is not ours to judge is handed on as it came: each of these is the same
// for the other library after it went through ours.
func TestHandedOn(t *testing.T) {
	list := rrs(t,
		"NaS.Bob.example.org. 5 A 198.18.0.2",
		"nas.bob.example.org. 5 AAAA 2001:db8::1",
		"nas.bob.example.org. 5 AAAA ::ffff:198.18.0.2",
		"nas.bob.example.org. 5 CNAME Bob.example.org.",
		"bob.example.org. 5 NS ns.example.org.",
		"bob.example.org. 5 SOA ns.example.org. admin.example.org. 2026010203 7200 3600 1209600 300",
		"bob.example.org. 5 MX 10 mail.example.org.",
		`bob.example.org. 5 TXT "v=spf1 -all" "a\"b\000\255"`,
		"_sip._udp.bob.example.org. 5 SRV 1 2 5060 sip.bob.example.org.",
		`my\032printer._ipp._tcp.bob.example.org. 5 PTR \195\164\@\;\(\"\\x._ipp._tcp.bob.example.org.`,
		"bob.example.org. 5 CAA 0 issue \"letsencrypt.org\"",
		"bob.example.org. 5 HTTPS 1 . alpn=h2 ipv4hint=198.18.0.2",
		"bob.example.org. 5 DNAME example.net.",
		"bob.example.org. 5 AFSDB 200 afs.example.net.",
		"bob.example.org. 5 RP a.example.net. b.example.net.",
		`bob.example.org. 5 NAPTR 200 200 "u" "E2U+sip" "!^.*$!sip:x@example.org!" .`,
		"bob.example.org. 5 RRSIG A 8 3 300 20300101000000 20200101000000 1 example.org. YWJj",
		"bob.example.org. 5 TYPE65280 \\# 4 c00cc00c",
		"bob.example.org. 5 CH TXT x",
	)
	m := new(dns.Msg).SetReply(queryOf("NaS.Bob.example.org.", dns.TypeANY))
	m.Answer, m.Ns, m.Compress = list, list[4:6], true
	m.AuthenticatedData, m.CheckingDisabled, m.RecursionAvailable = true, true, true
	got := theirs(t, understood(t, m))
	want := new(dns.Msg)
	if err := want.Unpack(packed(m)); err != nil {
		t.Fatal(err)
	}
	if got.String() != want.String() {
		t.Errorf("%v\nwas %v", got, want)
	}
	if n, limit := len(packed(understood(t, m))), len(packed(m)); n > limit {
		t.Errorf("%d octets became %d", limit, n)
	}
}

// A letter of another script, whose lower case is one of ours, stays what it is.
func TestNamesAreOctets(t *testing.T) {
	for _, label := range []string{"bo\u212a", "\u017fun", "bob\x00", "b ob", "b\\ob", "b\x7fob", "\xff"} {
		m := new(msg)
		b := append([]byte{0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, byte(len(label))}, label...)
		if err := m.Unpack(append(b, "\x08internal\x00\x00\x01\x00\x01"...)); err != nil {
			t.Errorf("%q: %v", label, err)
			continue
		}
		name := m.Question[0].Name
		host, ok := below(canonical(name), "internal.")
		if !ok || hostname(host) || strings.EqualFold(name, "bok.internal.") || strings.EqualFold(name, "sun.internal.") {
			t.Errorf("%q is %s", label, name)
		}
		if got := theirs(t, m); got.Question[0].Name != name {
			t.Errorf("%q is %s, %s for another", label, name, got.Question[0].Name)
		}
	}
}

func TestPackRefuses(t *testing.T) {
	for _, name := range []string{
		"", "x", "x..", ".x.", `a\.b.`, `a\046b.`, `a\`, `a\1`, `a\12.`, `a\256.`, `a\1a2.`, `x\.`,
		strings.Repeat("a", 64) + ".", strings.Repeat("a.", 128), strings.Repeat("a.", 200),
	} {
		for i, m := range []*msg{
			{Question: []question{{name, dnsmessage.TypeA, dnsmessage.ClassINET}}},
			{Answer: []resource{newA(name, 1, addr("10.0.2.5"))}},
			{Authority: []resource{newPTR("x.", 1, name)}},
			{Answer: []resource{{Name: "x.", Type: dnsmessage.TypeCNAME, Target: name}}},
		} {
			if b, err := m.Pack(); err == nil {
				t.Errorf("%q at %d: %x", name, i, b)
			}
		}
	}
	for _, r := range []resource{
		{Name: "x.", Type: dnsmessage.TypeMX},
		{Name: "x.", Type: dnsmessage.TypeA},
		{Name: "x.", Type: dnsmessage.TypeA, Addr: addr("2001:db8::1")},
		{Name: "x.", Type: dnsmessage.TypeA, Addr: addr("::ffff:10.0.2.5")},
		{Name: "x.", Type: dnsmessage.TypeAAAA},
		{Name: "x.", Type: dnsmessage.TypeAAAA, Addr: addr("10.0.2.5")},
		{Name: "x.", Type: dnsmessage.TypeCNAME},
	} {
		if b, err := (&msg{Answer: []resource{r}}).Pack(); err == nil {
			t.Errorf("%+v: %x", r, b)
		}
	}
}

// Names come back as they went.
func TestNameForms(t *testing.T) {
	for name, wire := range map[string]string{
		".":                       "00",
		"NaS.lan.":                "034e6153036c616e00",
		`\097\065.`:               "02614100", // written by nobody, but read
		`\000\255\ \@\\\"\;\'.`:   "0800ff20405c223b2700",
		strings.Repeat("a.", 127): strings.Repeat("0161", 127) + "00",
	} {
		n, err := libraryName(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		b := packed(&msg{Question: []question{{name, dnsmessage.TypeA, dnsmessage.ClassINET}}})
		if got := hex.EncodeToString(b[12 : len(b)-4]); got != wire {
			t.Errorf("%s: %s, want %s", name, got, wire)
		}
		back, err := libraryName(present(&n))
		if err != nil || back != n {
			t.Errorf("%s: %s, %v", name, present(&n), err)
		}
	}
}

func TestPackWithin(t *testing.T) {
	m := &msg{EDNS: &edns{Size: maxUDP, Code: edeNotReady, Text: strings.Repeat("x", 200)}}
	m.Question = []question{{"nas.htip.", dnsmessage.TypeA, dnsmessage.ClassINET}}
	for i := range 30 {
		m.Answer = append(m.Answer, newA(fmt.Sprintf("h%d.htip.", i), 1, netip.AddrFrom4([4]byte{10, 0, 2, byte(i)})))
	}
	m.Authority = []resource{soa("htip.", 1)}
	all := len(packed(m))
	last, shorter := -1, 0
	for limit := minMessage; limit <= all+1; limit++ {
		b, err := m.PackWithin(limit)
		if err != nil || len(b) > limit {
			t.Fatalf("%d octets for %d: %v", len(b), limit, err)
		}
		got := new(dns.Msg)
		if err := got.Unpack(b); err != nil {
			t.Fatal(err)
		}
		records := len(got.Answer) + len(got.Ns)
		if got.Truncated != (records < 31) || got.Truncated != (limit < all) || records < last || got.IsEdns0() == nil || len(got.Question) != 1 {
			t.Errorf("%d: %v", limit, got)
		}
		for i, rr := range got.Answer {
			if rr.Header().Name != m.Answer[i].Name {
				t.Errorf("%d: %v", limit, rr)
			}
		}
		if got.Truncated {
			shorter++
			if limit-len(b) >= 64 { // the SOA is the largest
				t.Errorf("%d octets of %d used", len(b), limit)
			}
		}
		last = records
	}
	if last != 31 || shorter == 0 || m.Truncated {
		t.Errorf("%d records at last, %d times truncated", last, shorter)
	}
	m.Truncated = true
	if !theirs(t, m).Truncated {
		t.Error("TC is lost")
	}
}

func seeds(f *testing.F) {
	four := "\x0a\x00\x02\x05"
	serial := strings.Repeat("\x00", 20)
	f.Add(raw(false, rawRecord{toX, dns.TypeA, four}, rawRecord{toX, dns.TypeAAAA, four + four + four + four}))
	f.Add(raw(false, rawRecord{toX, dns.TypeCNAME, "\x02\x00\xff" + toX}, rawRecord{"\x02a\\\x00", dns.TypePTR, toX}))
	f.Add(raw(true, rawRecord{toX, dns.TypeSOA, toX + "\x0afirst.last" + toX + serial}, rawRecord{toX, dns.TypeNS, wireAB}))
	f.Add(raw(false, rawRecord{toX, dns.TypeMX, "\x00\x01" + toX}, rawRecord{toX, dns.TypeSRV, "\x00\x01\x00\x01\x00\x01" + wireAB}, rawRecord{toX, dns.TypeTXT, "\x01x"}))
	f.Add(raw(false, rawRecord{toX, dns.TypeNAPTR, "\x00\x01\x00\x01\x01u\x00\x01!" + wireAB}, rawRecord{toX, dns.TypeAFSDB, "\x00\xc8" + wireAB}, rawRecord{toX, 65280, toX}))
	m := queryOf("nas.htip.", dns.TypeA)
	m.SetEdns0(4096, true)
	f.Add(packed(m))
	m = new(dns.Msg).SetRcode(m, dns.RcodeBadVers)
	m.SetEdns0(1232, false)
	m.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: 15, ExtraText: "x"}}
	f.Add(packed(m))
}

// What is read, written and read again is the same.
func FuzzMessage(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(msg)
		if m.Unpack(b) != nil {
			return
		}
		p, err := m.Pack()
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		again := new(msg)
		if err := again.Unpack(p); err != nil {
			t.Fatalf("%x: %v", p, err)
		}
		if again.Truncated && !m.Truncated { // longer than the input: compressed in it where nothing may be
			return
		}
		if !reflect.DeepEqual(m, again) {
			t.Errorf("%+v became %+v", m, again)
		}
		short, err := m.PackWithin(minMessage)
		if err != nil || len(short) > minMessage {
			t.Errorf("%d octets, %v", len(short), err)
		}
	})
}

// What the other library and ours both read, they read the same way, and what
// ours makes of it is still the same for the other.
func FuzzSecondReader(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, want := new(msg), new(dns.Msg)
		if m.Unpack(b) != nil || want.Unpack(b) != nil || len(want.Question) != len(m.Question) {
			return // a header alone has no question for the other
		}
		for _, rr := range append(append([]dns.RR(nil), want.Answer...), want.Ns...) {
			switch rr.Header().Rrtype {
			case dns.TypeHIP, dns.TypeIPSECKEY, dns.TypeAMTRELAY, dns.TypeTKEY, dns.TypeTSIG:
				return // it follows pointers where none may be
			}
		}
		p, err := m.Pack()
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		got := new(dns.Msg)
		if err := got.Unpack(p); err != nil {
			t.Fatalf("%v became %x: %v", want, p, err)
		}
		if got.Truncated && !want.Truncated {
			return
		}
		a, b2 := got.MsgHdr, want.MsgHdr
		b2.Zero = false
		if opt := want.IsEdns0(); opt != nil && opt.Version() != 0 {
			a.Rcode, b2.Rcode = 0, 0
		}
		if a != b2 || !reflect.DeepEqual(got.Question, want.Question) {
			t.Errorf("%v became %v", want, got)
		}
		for i, q := range want.Question {
			if m.Question[i] != (question{q.Name, dnsmessage.Type(q.Qtype), dnsmessage.Class(q.Qclass)}) {
				t.Errorf("%v is %+v", q, m.Question[i])
			}
		}
		same(t, want.Answer, got.Answer, m.Answer, false)
		same(t, want.Ns, got.Ns, m.Authority, true)
		if one, two := want.IsEdns0(), got.IsEdns0(); (one == nil) != (two == nil) || one != nil && (one.UDPSize() != two.UDPSize() || one.Version() != two.Version()) {
			t.Errorf("%v became %v", want, got)
		}
	})
}

// same compares a section for the other library before and after, and with what
// ours has read; in the authority section some may be missing.
func same(t *testing.T, want, got []dns.RR, read []resource, some bool) {
	t.Helper()
	if len(got) != len(read) {
		t.Fatalf("%d records became %d", len(read), len(got))
	}
	i := 0
	for _, rr := range want {
		if rr.Header().Rrtype == dns.TypeOPT {
			continue
		}
		if i < len(got) && bytes.Equal(octets(t, rr), octets(t, got[i])) {
			agrees(t, rr, read[i])
			i++
		} else if !some {
			t.Fatalf("%v is lost: %v", rr, got)
		}
	}
	if i != len(got) {
		t.Errorf("%v from nowhere", got[i:])
	}
}

func octets(t *testing.T, rr dns.RR) []byte {
	t.Helper()
	b := make([]byte, 1<<17)
	n, err := dns.PackRR(rr, b, 0, nil, false)
	if err != nil {
		t.Skip(err) // it writes less than it reads
	}
	return b[:n]
}

func agrees(t *testing.T, rr dns.RR, r resource) {
	t.Helper()
	h := rr.Header()
	if h.Name != r.Name || h.Rrtype != uint16(r.Type) || h.Class != uint16(r.Class) || h.Ttl != r.TTL {
		t.Errorf("%v is %+v", rr, r)
	}
	ok := !r.Addr.IsValid() && r.Target == ""
	switch rr := rr.(type) {
	case *dns.A:
		ok = netip.AddrFrom4([4]byte(rr.A.To4())) == r.Addr
	case *dns.AAAA:
		ok = netip.AddrFrom16([16]byte(rr.AAAA.To16())) == r.Addr
	case *dns.CNAME:
		ok = rr.Target == r.Target
	case *dns.PTR:
		ok = rr.Ptr == r.Target
	}
	if !ok {
		t.Errorf("%v is %+v", rr, r)
	}
}
