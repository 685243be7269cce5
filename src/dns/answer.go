package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
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
	rcode dnsmessage.RCode
	addrs []netip.Addr // of a host
	names []string     // PTR targets; hosts as the peer calls them until renamed
	ttl   time.Duration
	soa   string // owner of the SOA in a negative answer
	code  uint16 // Extended DNS Error (RFC 8914) when text is not empty
	text  string
}

func negative(rcode dnsmessage.RCode, soa string) answer {
	return answer{rcode: rcode, soa: soa, ttl: negTTL}
}

// failure is SERVFAIL with a sentence that says why.
func failure(code uint16, err error) answer {
	text := err.Error()
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "")
	}
	return answer{rcode: dnsmessage.RCodeServerFailure, code: code, text: text, ttl: failTTL}
}

// exists tells whether the name was found, even if it has nothing to show.
func (a answer) exists() bool { return a.rcode == dnsmessage.RCodeSuccess }

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
func render(req *msg, a answer) *msg {
	m := reply(req, a.rcode)
	q := req.Question[0]
	ttl := seconds(a.ttl)
	if q.Type == dnsmessage.TypeA || q.Type == dnsmessage.TypeALL {
		for _, addr := range a.addrs {
			m.Answer = append(m.Answer, newA(q.Name, ttl, addr))
		}
	}
	if q.Type == dnsmessage.TypePTR || q.Type == dnsmessage.TypeALL {
		for _, n := range a.names {
			m.Answer = append(m.Answer, newPTR(q.Name, ttl, n))
		}
	}
	if a.soa != "" && len(m.Answer) == 0 {
		rr := soa(a.soa, ttl)
		if q.Type == dnsmessage.TypeSOA && a.exists() && strings.EqualFold(q.Name, a.soa) {
			m.Answer = append(m.Answer, rr)
		} else if a.exists() || a.rcode == dnsmessage.RCodeNameError {
			m.Authority = append(m.Authority, rr)
		}
	}
	if a.text != "" {
		explain(m, a.code, a.text)
	}
	return m
}

// soa is the one SOA we know. Nobody transfers by serial number, so it is fixed.
func soa(zone string, ttl uint32) resource {
	return resource{Name: zone, Type: dnsmessage.TypeSOA, Class: dnsmessage.ClassINET, TTL: ttl, Body: &dnsmessage.SOAResource{
		NS: dnsmessage.MustNewName("gateway." + pseudo), MBox: dnsmessage.MustNewName("nobody." + pseudo),
		Serial: 1, Refresh: 60, Retry: 10, Expire: 600, MinTTL: ttl,
	}}
}

// reply is an empty reply to req with an OPT record if req had one
// (RFC 6891 §6.1.1).
func reply(req *msg, rcode dnsmessage.RCode) *msg {
	m := new(msg)
	m.Header = dnsmessage.Header{
		ID: req.ID, Response: true, OpCode: req.OpCode, RCode: rcode, Authoritative: true, RecursionAvailable: true,
		RecursionDesired: req.RecursionDesired, CheckingDisabled: req.CheckingDisabled,
	}
	m.Question = req.Question
	if req.EDNS != nil {
		m.EDNS = &edns{Size: maxUDP}
	}
	return m
}

// explain adds an Extended DNS Error; who does not speak EDNS gets none.
func explain(m *msg, code uint16, text string) {
	if m.EDNS != nil {
		m.EDNS.Code, m.EDNS.Text = code, text
	}
}

// readHost reads what a peer's proxy says of one of its hosts: the answer to
// qname A. Only addresses inside its substitutes may be in it.
func readHost(m *msg, qname string, substitutes []netip.Prefix) (answer, error) {
	if m.RCode == dnsmessage.RCodeNameError {
		return negative(m.RCode, ""), nil
	}
	if m.RCode != dnsmessage.RCodeSuccess {
		return answer{}, fmt.Errorf("the other home's router answered %s", rcodeName(m.RCode))
	}
	a := answer{rcode: dnsmessage.RCodeSuccess, ttl: maxTTL}
	for _, rr := range m.Answer {
		addr := rr.Addr
		if !addr.IsValid() {
			continue
		}
		if !addr.Is4() || !inside(substitutes, addr) {
			return answer{}, fmt.Errorf("%w: %s", errOutside, addr)
		}
		if !ours(rr, qname) || slices.Contains(a.addrs, addr) || len(a.addrs) == maxAddrs {
			continue
		}
		a.addrs = append(a.addrs, addr)
		a.ttl = min(a.ttl, clamp(rr.TTL, time.Second, maxTTL))
	}
	if len(a.addrs) == 0 {
		return negative(dnsmessage.RCodeSuccess, ""), nil
	}
	return a, nil
}

// ours tells whether rr is an Internet record of qname.
func ours(rr resource, qname string) bool {
	return rr.Class == dnsmessage.ClassINET && strings.EqualFold(rr.Name, qname)
}

// readPTR reads names that an answer gives to an address: those below zone,
// with zone cut off. Names that no host can have are left out.
func readPTR(m *msg, qname, zone string) (answer, error) {
	if m.RCode == dnsmessage.RCodeNameError {
		return negative(m.RCode, ""), nil
	}
	if m.RCode != dnsmessage.RCodeSuccess {
		return answer{}, fmt.Errorf("the name server answered %s", rcodeName(m.RCode))
	}
	a := answer{rcode: dnsmessage.RCodeSuccess, ttl: maxTTL}
	for _, rr := range m.Answer {
		if rr.Type != dnsmessage.TypePTR || !ours(rr, qname) {
			continue
		}
		host, ok := below(canonical(rr.Target), zone)
		if !ok || !hostname(host) || slices.Contains(a.names, host) || len(a.names) == maxPTRs {
			continue
		}
		a.names = append(a.names, host)
		a.ttl = min(a.ttl, clamp(rr.TTL, time.Second, maxTTL))
	}
	if len(a.names) == 0 {
		return negative(dnsmessage.RCodeNameError, ""), nil
	}
	return a, nil
}

// tellHost turns our dnsmasq's answer about qname into what a peer may hear:
// the addresses inside own, translated. CNAMEs are followed within the message
// and vanish. A host with addresses outside own only does not exist for the
// peer.
func tellHost(m *msg, qname string, own []Mapping) (answer, error) {
	switch m.RCode {
	case dnsmessage.RCodeSuccess:
	case dnsmessage.RCodeNameError, dnsmessage.RCodeRefused:
		return negative(dnsmessage.RCodeNameError, pseudo), nil
	default:
		return answer{}, fmt.Errorf("the name server answered %s", rcodeName(m.RCode))
	}
	a := answer{rcode: dnsmessage.RCodeSuccess, ttl: maxTTL, soa: pseudo}
	hidden := false
	name := qname
	for hops := 0; hops < 8; hops++ {
		next := ""
		for _, rr := range m.Answer {
			if !ours(rr, name) {
				continue
			}
			switch rr.Type {
			case dnsmessage.TypeCNAME:
				next = canonical(rr.Target)
				a.ttl = min(a.ttl, clamp(rr.TTL, minTTL, maxTTL))
			case dnsmessage.TypeA:
				addr, ok := substitute(own, rr.Addr)
				if !ok {
					hidden = true
				} else if len(a.addrs) < maxAddrs && !slices.Contains(a.addrs, addr) {
					a.addrs = append(a.addrs, addr)
					a.ttl = min(a.ttl, clamp(rr.TTL, minTTL, maxTTL))
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
		return negative(dnsmessage.RCodeNameError, pseudo), nil
	}
	return negative(dnsmessage.RCodeSuccess, pseudo), nil
}

// tellPTR turns our dnsmasq's names of an own address into names of htip.
func tellPTR(m *msg, qname, lan string) (answer, error) {
	if m.RCode == dnsmessage.RCodeRefused {
		return negative(dnsmessage.RCodeNameError, reverseZone), nil
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
func foreign(m *msg) (netip.Addr, bool) {
	for _, rr := range m.Answer {
		a := rr.Addr.Unmap()
		if !a.IsValid() {
			continue
		}
		if !a.IsGlobalUnicast() || a.IsPrivate() || a.Is4() && a.As4()[0] == 0 {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func rcodeName(rcode dnsmessage.RCode) string {
	names := [...]string{"NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"} // RFC 1035 §4.1.1
	if int(rcode) < len(names) {
		return names[rcode]
	}
	return fmt.Sprintf("code %d", rcode)
}
