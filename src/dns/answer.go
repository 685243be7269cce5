package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Limits of what one answer may carry and of how long it may be believed.
const (
	maxAddrs = 16
	maxPTRs  = 8
	maxUDP   = 1232 // octets of a UDP message: fits every link without fragments

	maxTTL     = 60 * time.Second
	minTTL     = 10 * time.Second // dnsmasq gives its own records a TTL of 0
	negTTL     = 5 * time.Second
	unsettled  = 5 * time.Second  // while a tunnel is young
	youngUntil = 30 * time.Second // what counts as young
	failTTL    = time.Second
)

// errOutside is an answer with an address that the peer must not speak of: it
// could make a browser of ours talk to a device of ours in the peer's name
// (DNS rebinding).
var errOutside = errors.New("address outside the peer's substitutes")

// answer is what is known about a name, whatever record type was asked for.
type answer struct {
	rcode int
	addrs []netip.Addr // of a host
	names []string     // PTR targets; hosts as the peer calls them until renamed
	ttl   time.Duration
	soa   string // owner of the SOA in a negative answer
	code  uint16 // Extended DNS Error (RFC 8914) when text is not empty
	text  string
}

func negative(rcode int, soa string) answer { return answer{rcode: rcode, soa: soa, ttl: negTTL} }

// failure is SERVFAIL with a sentence that says why.
func failure(code uint16, err error) answer {
	text := err.Error()
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "")
	}
	return answer{rcode: dns.RcodeServerFailure, code: code, text: text, ttl: failTTL}
}

// exists tells whether the name was found, even if it has nothing to show.
func (a answer) exists() bool { return a.rcode == dns.RcodeSuccess }

// seconds is d as a TTL: rounded up, so that what is still valid is never 0.
func seconds(d time.Duration) uint32 {
	if d <= 0 {
		return 0
	}
	return uint32((d + time.Second - 1) / time.Second)
}

// clamp brings a TTL in seconds between bounds.
func clamp(ttl uint32, lo, hi time.Duration) time.Duration {
	return min(max(time.Duration(ttl)*time.Second, lo), hi)
}

// render makes the reply to req. AAAA and every other type of a name that has
// only addresses is "no data", with the SOA that makes it cacheable (RFC 2308).
func render(req *dns.Msg, a answer) *dns.Msg {
	m := reply(req, a.rcode)
	q := req.Question[0]
	ttl := seconds(a.ttl)
	if q.Qtype == dns.TypeA || q.Qtype == dns.TypeANY {
		for _, addr := range a.addrs {
			m.Answer = append(m.Answer, &dns.A{Hdr: header(q.Name, dns.TypeA, ttl), A: addr.AsSlice()})
		}
	}
	if q.Qtype == dns.TypePTR || q.Qtype == dns.TypeANY {
		for _, n := range a.names {
			m.Answer = append(m.Answer, &dns.PTR{Hdr: header(q.Name, dns.TypePTR, ttl), Ptr: n})
		}
	}
	if a.soa != "" && len(m.Answer) == 0 {
		rr := soa(a.soa, ttl)
		if q.Qtype == dns.TypeSOA && a.exists() && strings.EqualFold(q.Name, a.soa) {
			m.Answer = append(m.Answer, rr)
		} else if a.exists() || a.rcode == dns.RcodeNameError {
			m.Ns = append(m.Ns, rr)
		}
	}
	if a.text != "" {
		explain(m, a.code, a.text)
	}
	return m
}

func header(name string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// soa is the one SOA we know. Nobody transfers by serial number, so it is fixed.
func soa(zone string, ttl uint32) *dns.SOA {
	return &dns.SOA{
		Hdr: header(zone, dns.TypeSOA, ttl), Ns: join("gateway", pseudo), Mbox: join("nobody", pseudo),
		Serial: 1, Refresh: 60, Retry: 10, Expire: 600, Minttl: ttl,
	}
}

// reply is an empty reply to req with an OPT record if req had one
// (RFC 6891 §6.1.1).
func reply(req *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(req)
	m.Rcode = rcode
	m.Authoritative = true
	m.RecursionAvailable = true
	m.Compress = true
	if req.IsEdns0() != nil {
		m.SetEdns0(maxUDP, false)
	}
	return m
}

// explain adds an Extended DNS Error; who does not speak EDNS gets none.
func explain(m *dns.Msg, code uint16, text string) {
	if opt := m.IsEdns0(); opt != nil {
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: code, ExtraText: text})
	}
}

// readHost reads what a peer's proxy says of one of its hosts: the answer to
// qname A. Only addresses inside its substitutes may be in it.
func readHost(m *dns.Msg, qname string, substitutes []netip.Prefix) (answer, error) {
	if m.Rcode == dns.RcodeNameError {
		return negative(m.Rcode, ""), nil
	}
	if m.Rcode != dns.RcodeSuccess {
		return answer{}, fmt.Errorf("the other home's router answered %s", rcodeName(m.Rcode))
	}
	a := answer{rcode: dns.RcodeSuccess, ttl: maxTTL}
	for _, rr := range m.Answer {
		switch rr := rr.(type) {
		case *dns.A:
			addr, ok := netip.AddrFromSlice(rr.A)
			if addr = addr.Unmap(); !ok || !inside(substitutes, addr) {
				return answer{}, fmt.Errorf("%w: %s", errOutside, addr)
			}
			if !ours(rr, qname) || slices.Contains(a.addrs, addr) || len(a.addrs) == maxAddrs {
				continue
			}
			a.addrs = append(a.addrs, addr)
			a.ttl = min(a.ttl, clamp(rr.Hdr.Ttl, time.Second, maxTTL))
		case *dns.AAAA:
			return answer{}, fmt.Errorf("%w: %s", errOutside, rr.AAAA)
		}
	}
	if len(a.addrs) == 0 {
		return negative(dns.RcodeSuccess, ""), nil
	}
	return a, nil
}

// ours tells whether rr is an Internet record of qname.
func ours(rr dns.RR, qname string) bool {
	h := rr.Header()
	return h.Class == dns.ClassINET && strings.EqualFold(h.Name, qname)
}

// readPTR reads names that an answer gives to an address: those below zone,
// with zone cut off. Names that no host can have are left out.
func readPTR(m *dns.Msg, qname, zone string) (answer, error) {
	if m.Rcode == dns.RcodeNameError {
		return negative(m.Rcode, ""), nil
	}
	if m.Rcode != dns.RcodeSuccess {
		return answer{}, fmt.Errorf("the name server answered %s", rcodeName(m.Rcode))
	}
	a := answer{rcode: dns.RcodeSuccess, ttl: maxTTL}
	for _, rr := range m.Answer {
		ptr, ok := rr.(*dns.PTR)
		if !ok || !ours(rr, qname) {
			continue
		}
		host, ok := below(canonical(ptr.Ptr), zone)
		if !ok || !hostname(host) || slices.Contains(a.names, host) || len(a.names) == maxPTRs {
			continue
		}
		a.names = append(a.names, host)
		a.ttl = min(a.ttl, clamp(ptr.Hdr.Ttl, time.Second, maxTTL))
	}
	if len(a.names) == 0 {
		return negative(dns.RcodeNameError, ""), nil
	}
	return a, nil
}

// tellHost turns our dnsmasq's answer about qname into what a peer may hear:
// the addresses inside own, translated. CNAMEs are followed within the message
// and vanish. A host with addresses outside own only does not exist for the
// peer.
func tellHost(m *dns.Msg, qname string, own []Mapping) (answer, error) {
	switch m.Rcode {
	case dns.RcodeSuccess:
	case dns.RcodeNameError, dns.RcodeRefused:
		return negative(dns.RcodeNameError, pseudo), nil
	default:
		return answer{}, fmt.Errorf("the name server answered %s", rcodeName(m.Rcode))
	}
	a := answer{rcode: dns.RcodeSuccess, ttl: maxTTL, soa: pseudo}
	hidden := false
	name := qname
	for hops := 0; hops < 8; hops++ {
		next := ""
		for _, rr := range m.Answer {
			if !ours(rr, name) {
				continue
			}
			switch rr := rr.(type) {
			case *dns.CNAME:
				next = canonical(rr.Target)
				a.ttl = min(a.ttl, clamp(rr.Hdr.Ttl, minTTL, maxTTL))
			case *dns.A:
				addr, _ := netip.AddrFromSlice(rr.A)
				addr, ok := substitute(own, addr.Unmap())
				if !ok {
					hidden = true
				} else if len(a.addrs) < maxAddrs && !slices.Contains(a.addrs, addr) {
					a.addrs = append(a.addrs, addr)
					a.ttl = min(a.ttl, clamp(rr.Hdr.Ttl, minTTL, maxTTL))
				}
			}
		}
		if next == "" || len(a.addrs) > 0 {
			break
		}
		name = next
	}
	switch {
	case len(a.addrs) > 0:
		return a, nil
	case hidden:
		return negative(dns.RcodeNameError, pseudo), nil
	}
	return negative(dns.RcodeSuccess, pseudo), nil
}

// tellPTR turns our dnsmasq's names of an own address into names of htip.
func tellPTR(m *dns.Msg, qname, lan string) (answer, error) {
	if m.Rcode == dns.RcodeRefused {
		return negative(dns.RcodeNameError, reverseZone), nil
	}
	a, err := readPTR(m, qname, lan)
	if err != nil {
		return a, err
	}
	if len(a.names) == 0 {
		return negative(a.rcode, reverseZone), nil
	}
	a.ttl = max(a.ttl, minTTL)
	return a.rename(pseudo), nil
}

// rename puts zone behind each name of the answer.
func (a answer) rename(zone string) answer {
	names := a.names
	a.names = nil
	for _, n := range names {
		if full := join(n, zone); full != "" {
			a.names = append(a.names, full)
		}
	}
	return a
}

// foreign tells whether an upstream resolver's answer contains an address that
// only a home's own name server may give. dnsmasq is told to trust us about a
// peer's domain, so its rebinding protection has to happen here.
func foreign(m *dns.Msg) (netip.Addr, bool) {
	for _, rr := range m.Answer {
		var a netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			a, _ = netip.AddrFromSlice(rr.A)
		case *dns.AAAA:
			a, _ = netip.AddrFromSlice(rr.AAAA)
		default:
			continue
		}
		a = a.Unmap()
		if !a.IsGlobalUnicast() || a.IsPrivate() || a.Is4() && a.As4()[0] == 0 {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func rcodeName(rcode int) string {
	if s, ok := dns.RcodeToString[rcode]; ok {
		return s
	}
	return fmt.Sprintf("code %d", rcode)
}
