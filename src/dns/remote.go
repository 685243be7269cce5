package dns

import (
	"context"
	"net/netip"

	"github.com/miekg/dns"
)

// serveRemote answers what comes out of one peer's tunnel.
func (p *Proxy) serveRemote(name string) handler {
	return func(ctx context.Context, q query, write func(*dns.Msg) error) {
		from := p.tbl.Load().peers[name]
		if from == nil || !inside(from.Substitutes, q.from.Addr()) {
			// No reply: it would go to whoever the address belongs to.
			p.stats.spoofed.Add(1)
			return
		}
		p.stats.remote.Add(1)
		if q.tcp && q.Question[0].Qtype == dns.TypeAXFR && canonical(q.Question[0].Name) == pseudo {
			p.transferOut(q.Msg, from, write)
			return
		}
		write(p.answerRemote(ctx, q.Msg, from)) // a failure is counted there
	}
}

// answerRemote answers a peer about our hosts. It asks nobody but our own
// dnsmasq, once, and without recursion desired.
func (p *Proxy) answerRemote(ctx context.Context, req *dns.Msg, from *peer) *dns.Msg {
	q := req.Question[0]
	if q.Qclass != dns.ClassINET || q.Qtype == dns.TypeAXFR || q.Qtype == dns.TypeIXFR {
		return reply(req, dns.RcodeRefused)
	}
	name := canonical(q.Name)
	if host, ok := below(name, pseudo); ok {
		return render(req, p.tell(ctx, from, host))
	}
	if addr, octets, ok := reverseAddr(name); ok && octets == 4 {
		return render(req, p.tellReverse(ctx, from, addr))
	}
	return reply(req, dns.RcodeRefused)
}

// tell is what the peer may know of one of our hosts.
func (p *Proxy) tell(ctx context.Context, to *peer, host string) answer {
	if host == "" {
		return negative(dns.RcodeSuccess, pseudo)
	}
	lan := p.tbl.Load().lan
	name := join(host, lan)
	if name == "" || !hostname(host) {
		return negative(dns.RcodeNameError, pseudo)
	}
	m, err := p.askDnsmasq(ctx, name, dns.TypeA)
	if err == nil {
		var a answer
		if a, err = tellHost(m, name, to.Own); err == nil {
			return a
		}
	}
	return failure(dns.ExtendedErrorCodeNetworkError, err)
}

// tellReverse is the name of one of our hosts by the address that the peer
// knows.
func (p *Proxy) tellReverse(ctx context.Context, to *peer, addr netip.Addr) answer {
	addr, ok := original(to.Own, addr)
	if !ok {
		return answer{rcode: dns.RcodeRefused}
	}
	name := reverseName(addr)
	m, err := p.askDnsmasq(ctx, name, dns.TypePTR)
	if err == nil {
		var a answer
		if a, err = tellPTR(m, name, p.tbl.Load().lan); err == nil {
			return a
		}
	}
	return failure(dns.ExtendedErrorCodeNetworkError, err)
}

// askDnsmasq asks our own dnsmasq. One try: the peer asks again by itself.
func (p *Proxy) askDnsmasq(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	q := dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
	return ask(ctx, p.sockets, "", p.opt.Dnsmasq, q, dns.MsgHdr{}, 1)
}
