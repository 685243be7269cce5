package dns

import (
	"context"
	"errors"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// How long one question of our own hosts may take altogether, and how long the
// Internet waits for a peer that may know the name.
const (
	localWithin  = 9 * time.Second
	publicWithin = 2500 * time.Millisecond
)

var (
	errTunnelDown   = errors.New("the tunnel is down")
	errNotRecursive = errors.New("a question without recursion desired is answered from here only")
)

// serveLocal answers a question that dnsmasq hands on.
func (p *Proxy) serveLocal(ctx context.Context, q query, write func(*msg) error) {
	p.stats.local.Add(1)
	p.arrived(canonical(q.msg.Question[0].Name))
	ctx, cancel := context.WithTimeout(ctx, localWithin)
	defer cancel()
	m := p.answerLocal(ctx, q.msg)
	if m.RCode == dnsmessage.RCodeServerFailure {
		p.stats.failed.Add(1)
	}
	write(m) // a failure is counted there; the asker asks again
}

func (p *Proxy) answerLocal(ctx context.Context, req *msg) *msg {
	q := req.Question[0]
	if q.Class != dnsmessage.ClassINET || q.Type == dnsmessage.TypeAXFR || q.Type == typeIXFR {
		return reply(req, dnsmessage.RCodeRefused)
	}
	r := p.tbl.Load().route(canonical(q.Name))
	switch r.kind {
	case kindForeign:
		return reply(req, dnsmessage.RCodeRefused)
	case kindNobody:
		return render(req, negative(dnsmessage.RCodeNameError, r.soa))
	case kindEmpty:
		return render(req, negative(dnsmessage.RCodeSuccess, r.soa))
	}
	if !req.RecursionDesired {
		// From a peer by way of our own dnsmasq: see the package's comment.
		m := reply(req, dnsmessage.RCodeRefused)
		explain(m, edeProhibited, errNotRecursive.Error())
		return m
	}
	switch r.kind {
	case kindHost, kindGateway:
		return render(req, p.host(ctx, r))
	case kindReverse:
		return render(req, p.reverse(ctx, r))
	case kindPublic:
		return p.public(ctx, req, r)
	default:
		return p.forward(ctx, req)
	}
}

// host answers below a peer's zone, and brings the tunnel up for it.
func (p *Proxy) host(ctx context.Context, r route) answer {
	to := r.peer
	if !to.Up {
		var err error
		if to, err = p.connect(ctx, to.Name); err != nil {
			return failure(edeUnreachable, err)
		}
	}
	var a answer
	if r.kind == kindGateway {
		a = answer{rcode: dnsmessage.RCodeSuccess, ttl: maxTTL}
		a.addrs = append(a.addrs, to.Server)
	} else {
		a = p.ofPeer(ctx, to, r.host)
	}
	a.soa = r.soa
	return p.young(a, to)
}

// young shortens the life of what is said of a tunnel that changed just now.
func (p *Proxy) young(a answer, to *peer) answer {
	if p.now().Sub(to.since) < youngUntil {
		a.ttl = min(a.ttl, unsettled)
	}
	return a
}

// ofPeer is what a peer says of one of its hosts, from memory if it said so
// just before. One question serves all record types of the name.
func (p *Proxy) ofPeer(ctx context.Context, to *peer, host string) answer {
	name := join(host, pseudo)
	if name == "" {
		return negative(dnsmessage.RCodeNameError, "")
	}
	return p.remember(ctx, to, name, func(ctx context.Context) answer {
		m, err := p.askPeer(ctx, to, name, dnsmessage.TypeA, askTries)
		if err != nil {
			return failure(edeUnreachable, err)
		}
		a, err := readHost(m, name, to.Substitutes)
		if errors.Is(err, errOutside) {
			p.stats.refused.Add(1)
			p.warn(strings.ToLower(to.Name), err)
			return failure(edeBlocked, err)
		}
		if err != nil {
			return failure(edeNetwork, err)
		}
		return a
	})
}

// remember answers name from the cache, or finds the answer once for all who
// ask for it now.
func (p *Proxy) remember(ctx context.Context, to *peer, name string, find func(context.Context) answer) answer {
	k := key{strings.ToLower(to.Name), to.gen, name}
	if a, ok := p.cache.get(k, p.now()); ok {
		p.stats.cached.Add(1)
		return a
	}
	a, err := p.hosts.do(ctx, k, p.spawn, func() answer {
		a := find(p.base)
		p.cache.put(k, a, p.now()) // found by this generation only
		return a
	})
	if err != nil {
		return failure(edeUnreachable, quiet(err))
	}
	return a
}

// reverse answers the PTR of an address by which we know a peer's host. It
// brings no tunnel up: every program that prints an address asks for its name.
func (p *Proxy) reverse(ctx context.Context, r route) answer {
	to := r.peer
	if !to.Up {
		return failure(edeUnreachable, errTunnelDown)
	}
	name := reverseName(r.addr)
	a := p.remember(ctx, to, name, func(ctx context.Context) answer {
		m, err := p.askPeer(ctx, to, name, dnsmessage.TypePTR, askTries)
		if err != nil {
			return failure(edeUnreachable, err)
		}
		a, err := readPTR(m, name, pseudo)
		if err != nil {
			return failure(edeNetwork, err)
		}
		return a
	})
	a = a.rename(to.zone)
	if len(a.names) == 0 && r.addr == to.Server && a.rcode != dnsmessage.RCodeServerFailure {
		a = answer{rcode: dnsmessage.RCodeSuccess, ttl: maxTTL, names: []string{to.zone}}
	}
	a.soa = r.soa
	return p.young(a, to)
}

// public answers below a peer's public domain: what the peer knows as a host
// has its address inside the tunnel, anything else is what the Internet says.
func (p *Proxy) public(ctx context.Context, req *msg, r route) *msg {
	if !r.peer.Up {
		return p.forward(ctx, req)
	}
	soon, cancel := context.WithTimeout(ctx, publicWithin)
	a := p.ofPeer(soon, r.peer, r.host)
	cancel()
	if a.code == edeBlocked && a.text != "" {
		return render(req, a)
	}
	if len(a.addrs) == 0 {
		return p.forward(ctx, req)
	}
	a.soa = r.soa
	a = p.young(a, r.peer)
	switch req.Question[0].Type {
	case dnsmessage.TypeA, dnsmessage.TypeALL, dnsmessage.TypeAAAA, dnsmessage.TypeHTTPS, dnsmessage.TypeSVCB:
		return render(req, a) // no public address beside the one inside the tunnel
	}
	m := p.forward(ctx, req)
	if m.RCode != dnsmessage.RCodeSuccess {
		return render(req, a) // the name exists, whatever the Internet thinks
	}
	return m
}
