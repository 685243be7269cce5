package dns

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"sort"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// msg is a message as far as the proxy understands it. Names in it are in
// presentation form with a final dot: what is no printable ASCII, or has a
// meaning in zone files, is escaped (RFC 1035 §5.1), so that no such octet can
// be taken for a letter, and [hostname] refuses all of them. A label with a dot
// inside can't be read nor written by the library: such a message is refused.
type msg struct {
	dnsmessage.Header // RCode with its upper bits from EDNS
	Question          []question
	Answer, Authority []resource
	EDNS              *edns // nil without an OPT record
}

type question struct {
	Name  string
	Type  dnsmessage.Type
	Class dnsmessage.Class
}

// resource is a record: of the types that decide something with their content,
// of every other with what is handed on.
type resource struct {
	Name   string
	Type   dnsmessage.Type
	Class  dnsmessage.Class
	TTL    uint32
	Addr   netip.Addr              // A, AAAA
	Target string                  // CNAME, PTR
	Body   dnsmessage.ResourceBody // any other
}

// edns is the OPT record (RFC 6891). Its explanation is written only: nobody
// here reads that of another.
type edns struct {
	Size    uint16 // octets that the sender takes over UDP
	Version uint8
	Code    uint16 // Extended DNS Error (RFC 8914) when Text is not empty
	Text    string
}

// What the library has no names for.
const (
	typeIXFR dnsmessage.Type = 251

	rcodeBadVers dnsmessage.RCode = 16

	optionEDE = 15

	edeNotReady    = 14
	edeBlocked     = 15
	edeProhibited  = 18
	edeUnreachable = 22 // no reachable authority
	edeNetwork     = 23

	minMessage = 512   // octets that everybody takes over UDP
	maxMessage = 65535 // octets over TCP
)

var (
	errName      = errors.New("a name that can't be written")
	errRecord    = errors.New("a record of the wrong form")
	errQuestions = errors.New("more than one question")
	errOPTs      = errors.New("more than one OPT record")
)

// newID is a random message id.
func newID() uint16 {
	var b [2]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint16(b[:])
}

func newA(name string, ttl uint32, a netip.Addr) resource {
	return resource{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET, TTL: ttl, Addr: a}
}

func newPTR(name string, ttl uint32, target string) resource {
	return resource{Name: name, Type: dnsmessage.TypePTR, Class: dnsmessage.ClassINET, TTL: ttl, Target: target}
}

// Unpack reads a message. After an error m holds what came before.
func (m *msg) Unpack(b []byte) error {
	*m = msg{}
	var p dnsmessage.Parser
	var err error
	if m.Header, err = p.Start(b); err != nil {
		return err
	}
	for {
		q, err := p.Question()
		if err == dnsmessage.ErrSectionDone {
			break
		}
		if err == nil && len(m.Question) == 1 {
			err = errQuestions
		}
		if err != nil {
			return err
		}
		m.Question = append(m.Question, question{present(&q.Name), q.Type, q.Class})
	}
	if m.Answer, err = readSection(&p, p.AnswerHeader, false); err != nil {
		return err
	}
	// Nothing is decided by the authority section, and the mailbox of many an
	// SOA has a dot in its first label: what can't be read is left out.
	if m.Authority, err = readSection(&p, p.AuthorityHeader, true); err != nil {
		return err
	}
	for {
		h, err := p.AdditionalHeader()
		if err == dnsmessage.ErrSectionDone {
			return nil
		}
		if err == nil {
			err = p.SkipAdditional()
		}
		if err == nil && h.Type == dnsmessage.TypeOPT && m.EDNS != nil {
			err = errOPTs
		}
		if err != nil {
			return err
		}
		if h.Type == dnsmessage.TypeOPT {
			m.EDNS = &edns{Size: uint16(h.Class), Version: uint8(h.TTL >> 16)}
			m.RCode = h.ExtendedRCode(m.RCode)
		}
	}
}

// readSection reads the records of a section. An OPT record in the wrong one is
// dropped: it is for this hop only.
func readSection(p *dnsmessage.Parser, next func() (dnsmessage.ResourceHeader, error), skip bool) ([]resource, error) {
	var list []resource
	for {
		h, err := next()
		if err == dnsmessage.ErrSectionDone {
			return list, nil
		}
		if err != nil {
			return list, err
		}
		at := *p // the content is read twice: as octets, and as what it is
		data, err := p.UnknownResource()
		if err != nil {
			return list, err
		}
		if h.Type == dnsmessage.TypeOPT {
			continue
		}
		r := resource{Name: present(&h.Name), Type: h.Type, Class: h.Class, TTL: h.TTL}
		if err := r.read(&at, data); err == nil {
			list = append(list, r)
		} else if !skip {
			return list, err
		}
	}
}

// read reads the content of a record. The library reads on beyond its end when
// the stated length is too short, and follows pointers only in the types that it
// knows; both would make something else of it, so its form is checked first.
func (r *resource) read(p *dnsmessage.Parser, data dnsmessage.UnknownResource) (err error) {
	whole, plain := shapeOf(r.Type).check(data.Data)
	if !whole {
		return errRecord
	}
	switch r.Type {
	case dnsmessage.TypeA:
		r.Addr = netip.AddrFrom4([4]byte(data.Data))
	case dnsmessage.TypeAAAA:
		r.Addr = netip.AddrFrom16([16]byte(data.Data))
	case dnsmessage.TypeCNAME:
		var b dnsmessage.CNAMEResource
		b, err = p.CNAMEResource()
		r.Target = present(&b.CNAME)
	case dnsmessage.TypePTR:
		var b dnsmessage.PTRResource
		b, err = p.PTRResource()
		r.Target = present(&b.PTR)
	case dnsmessage.TypeNS:
		var b dnsmessage.NSResource
		b, err = p.NSResource()
		r.Body = &b
	case dnsmessage.TypeSOA:
		var b dnsmessage.SOAResource
		b, err = p.SOAResource()
		r.Body = &b
	case dnsmessage.TypeMX:
		var b dnsmessage.MXResource
		b, err = p.MXResource()
		r.Body = &b
	case dnsmessage.TypeSRV:
		var b dnsmessage.SRVResource
		b, err = p.SRVResource()
		r.Body = &b
	default:
		if !plain { // a pointer into a message that the asker will not see
			return errRecord
		}
		r.Body = &data
	}
	return err
}

// shape tells where the names lie in a record's content: so many octets,
// character strings and names, and so many octets again.
type shape struct{ before, strings, names, after int }

// anything may follow the names, or there are none.
const anything = -1

// shapeOf knows the types whose names may be compressed (RFC 1035 §3.3, RFC
// 3597 §4, and what is as old), and newer ones in which a sender must not, but
// some readers would follow a pointer.
func shapeOf(t dnsmessage.Type) shape {
	switch t {
	case dnsmessage.TypeA:
		return shape{before: 4}
	case dnsmessage.TypeAAAA:
		return shape{before: 16}
	case dnsmessage.TypeNS, dnsmessage.TypeCNAME, dnsmessage.TypePTR,
		3, 4, 7, 8, 9, 23, 39: // MD, MF, MB, MG, MR, NSAP-PTR, DNAME
		return shape{names: 1}
	case dnsmessage.TypeSOA:
		return shape{names: 2, after: 20}
	case dnsmessage.TypeMINFO, 17, 58: // RP, TALINK
		return shape{names: 2}
	case dnsmessage.TypeMX, 18, 21, 36, 107: // AFSDB, RT, KX, LP
		return shape{before: 2, names: 1}
	case dnsmessage.TypeSRV:
		return shape{before: 6, names: 1}
	case dnsmessage.TypeSVCB, dnsmessage.TypeHTTPS:
		return shape{before: 2, names: 1, after: anything}
	case 24, 46: // SIG, RRSIG
		return shape{before: 18, names: 1, after: anything}
	case 26: // PX
		return shape{before: 2, names: 2}
	case 30, 47: // NXT, NSEC
		return shape{names: 1, after: anything}
	case 66: // DSYNC
		return shape{before: 5, names: 1}
	case 35: // NAPTR
		return shape{before: 4, strings: 3, names: 1}
	}
	return shape{after: anything}
}

// check tells whether b has the shape, and whether all names are without
// pointers.
func (s shape) check(b []byte) (whole, plain bool) {
	if len(b) < s.before {
		return false, false
	}
	b = b[s.before:]
	for range s.strings {
		if len(b) == 0 || len(b) < 1+int(b[0]) {
			return false, false
		}
		b = b[1+int(b[0]):]
	}
	plain = true
	for range s.names {
		n, pointer := nameLen(b)
		if n == 0 {
			return false, false
		}
		b, plain = b[n:], plain && !pointer
	}
	return s.after == anything || len(b) == s.after, plain
}

// nameLen is the length of the name at the start of b, and whether it ends with
// a pointer; 0: there is none.
func nameLen(b []byte) (n int, pointer bool) {
	for n < len(b) {
		switch c := b[n]; {
		case c == 0:
			return n + 1, false
		case c >= 0xc0 && n+2 <= len(b):
			return n + 2, true
		case c > 63:
			return 0, false
		default:
			n += 1 + int(c)
		}
	}
	return 0, false
}

// Pack writes the message, compressed.
func (m *msg) Pack() ([]byte, error) { return m.PackWithin(maxMessage) }

// PackWithin writes the message in at most limit octets. Records that don't
// find room are left out, the last ones first, and the message says so (TC).
func (m *msg) PackWithin(limit int) ([]byte, error) {
	lib, err := m.library()
	if err != nil {
		return nil, err
	}
	b, err := lib.Pack()
	if err != nil || len(b) <= limit {
		return b, err
	}
	answers, authorities := lib.Answers, lib.Authorities
	lib.Truncated = true
	pack := func(n int) ([]byte, error) {
		lib.Answers = answers[:min(n, len(answers))]
		lib.Authorities = authorities[:max(n-len(answers), 0)]
		return lib.Pack()
	}
	n := sort.Search(len(answers)+len(authorities), func(n int) bool {
		b, err := pack(n + 1)
		return err != nil || len(b) > limit
	})
	return pack(n)
}

// library is the message in the library's form.
func (m *msg) library() (*dnsmessage.Message, error) {
	lib := &dnsmessage.Message{Header: m.Header}
	lib.RCode &= 0xf
	for _, q := range m.Question {
		name, err := libraryName(q.Name)
		if err != nil {
			return nil, err
		}
		lib.Questions = append(lib.Questions, dnsmessage.Question{Name: name, Type: q.Type, Class: q.Class})
	}
	var err error
	if lib.Answers, err = libraryRecords(m.Answer); err != nil {
		return nil, err
	}
	if lib.Authorities, err = libraryRecords(m.Authority); err != nil {
		return nil, err
	}
	if m.EDNS != nil {
		lib.Additionals = []dnsmessage.Resource{m.EDNS.library(m.RCode)}
	}
	return lib, nil
}

func (e *edns) library(rcode dnsmessage.RCode) dnsmessage.Resource {
	opt := dnsmessage.Resource{}
	opt.Header.SetEDNS0(int(e.Size), rcode, false) // never an error
	opt.Header.TTL |= uint32(e.Version) << 16
	var b []byte
	if e.Text != "" {
		b = binary.BigEndian.AppendUint16(b, optionEDE)
		b = binary.BigEndian.AppendUint16(b, uint16(2+len(e.Text)))
		b = binary.BigEndian.AppendUint16(b, e.Code)
		b = append(b, e.Text...)
	}
	opt.Body = &dnsmessage.UnknownResource{Type: dnsmessage.TypeOPT, Data: b}
	return opt
}

func libraryRecords(list []resource) ([]dnsmessage.Resource, error) {
	out := make([]dnsmessage.Resource, len(list))
	for i, r := range list {
		name, err := libraryName(r.Name)
		if err != nil {
			return nil, err
		}
		out[i].Header = dnsmessage.ResourceHeader{Name: name, Class: r.Class, TTL: r.TTL}
		if out[i].Body, err = r.body(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (r *resource) body() (dnsmessage.ResourceBody, error) {
	switch r.Type {
	case dnsmessage.TypeA:
		if !r.Addr.Is4() {
			return nil, errRecord
		}
		return &dnsmessage.AResource{A: r.Addr.As4()}, nil
	case dnsmessage.TypeAAAA:
		if !r.Addr.Is6() {
			return nil, errRecord
		}
		return &dnsmessage.AAAAResource{AAAA: r.Addr.As16()}, nil
	case dnsmessage.TypeCNAME:
		name, err := libraryName(r.Target)
		return &dnsmessage.CNAMEResource{CNAME: name}, err
	case dnsmessage.TypePTR:
		name, err := libraryName(r.Target)
		return &dnsmessage.PTRResource{PTR: name}, err
	}
	return r.Body, nil
}

// present is a name of the library in presentation form. The library has a dot
// behind each label, and refuses one with a dot inside.
func present(n *dnsmessage.Name) string {
	var s strings.Builder
	for _, c := range n.Data[:n.Length] {
		switch {
		case c < ' ' || c > '~':
			s.Write([]byte{'\\', '0' + c/100, '0' + c/10%10, '0' + c%10})
		case strings.IndexByte(` '@;()"\`, c) >= 0:
			s.Write([]byte{'\\', c})
		default:
			s.WriteByte(c)
		}
	}
	return s.String()
}

// libraryName is [present] backwards.
func libraryName(s string) (n dnsmessage.Name, err error) {
	for i := 0; i < len(s); {
		c, used := s[i], 1
		if c == '\\' {
			c, used = unescape(s[i:])
		}
		if used == 0 || used > 1 && c == '.' || int(n.Length) == len(n.Data)-1 {
			return n, errName
		}
		n.Data[n.Length] = c
		n.Length++
		i += used
	}
	return n, nil
}

// unescape reads the escaped octet at the start of s, and tells how long its
// escape is; 0: it is none.
func unescape(s string) (c byte, used int) {
	if len(s) < 2 {
		return 0, 0
	}
	if s[1] < '0' || s[1] > '9' {
		return s[1], 2
	}
	if len(s) < 4 {
		return 0, 0
	}
	n := 0
	for _, d := range []byte(s[1:4]) {
		if d < '0' || d > '9' {
			return 0, 0
		}
		n = 10*n + int(d-'0')
	}
	if n > 255 {
		return 0, 0
	}
	return byte(n), 4
}
