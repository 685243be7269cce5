package dns

import (
	"context"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// serveRemote answers what comes out of one peer's tunnel.
func (p *Proxy) serveRemote(name string) handler {
	return func(ctx context.Context, q query, write func(*msg) error) {
		from := p.tbl.Load().peers[name]
		if from == nil || !inside(from.Substitutes, q.from.Addr()) {
			// No reply: it would go to whoever the address belongs to.
			p.stats.spoofed.Add(1)
			return
		}
		p.stats.remote.Add(1)
		if q.tcp && q.Question[0].Type == dnsmessage.TypeAXFR && canonical(q.Question[0].Name) == pseudo {
			p.transferOut(q.msg, from, write)
			return
		}
		write(p.answerRemote(ctx, q.msg, from)) // a failure is counted there
	}
}

// answerRemote answers a peer about our hosts. It asks nobody but our own
// dnsmasq, once, and without recursion desired.
func (p *Proxy) answerRemote(ctx context.Context, req *msg, from *peer) *msg {
	q := req.Question[0]
	if q.Class != dnsmessage.ClassINET || q.Type == dnsmessage.TypeAXFR || q.Type == typeIXFR {
		return reply(req, dnsmessage.RCodeRefused)
	}
	name := canonical(q.Name)
	if host, ok := below(name, pseudo); ok {
		return render(req, p.tell(ctx, from, host))
	}
	if addr, octets, ok := reverseAddr(name); ok && octets == 4 {
		return render(req, p.tellReverse(ctx, from, addr))
	}
	return reply(req, dnsmessage.RCodeRefused)
}

// tell is what the peer may know of one of our hosts.
func (p *Proxy) tell(ctx context.Context, to *peer, host string) answer {
	if host == "" {
		return negative(dnsmessage.RCodeSuccess, pseudo)
	}
	lan := p.tbl.Load().lan
	name := join(host, lan)
	if name == "" || !hostname(host) {
		return negative(dnsmessage.RCodeNameError, pseudo)
	}
	m, err := p.askDnsmasq(ctx, name, dnsmessage.TypeA)
	if err == nil {
		var a answer
		if a, err = tellHost(m, name, to.Own); err == nil {
			return a
		}
	}
	return failure(edeNetwork, err)
}

// tellReverse is the name of one of our hosts by the address that the peer
// knows.
func (p *Proxy) tellReverse(ctx context.Context, to *peer, addr netip.Addr) answer {
	addr, ok := original(to.Own, addr)
	if !ok {
		return answer{rcode: dnsmessage.RCodeRefused}
	}
	name := reverseName(addr)
	m, err := p.askDnsmasq(ctx, name, dnsmessage.TypePTR)
	if err == nil {
		var a answer
		if a, err = tellPTR(m, name, p.tbl.Load().lan); err == nil {
			return a
		}
	}
	return failure(edeNetwork, err)
}

// askDnsmasq asks our own dnsmasq. One try: the peer asks again by itself.
func (p *Proxy) askDnsmasq(ctx context.Context, name string, qtype dnsmessage.Type) (*msg, error) {
	q := question{Name: name, Type: qtype, Class: dnsmessage.ClassINET}
	return ask(ctx, p.sockets, "", p.opt.Dnsmasq, q, dnsmessage.Header{}, 1)
}
