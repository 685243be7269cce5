package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// ErrNoName is the answer of the public DNS that a name does not exist or has
// no IPv4 address.
var ErrNoName = errors.New("no such name in the public DNS")

// Resolve asks the upstream resolvers for the IPv4 addresses of a public name,
// at every call anew: the other home's address changes, and our own dnsmasq
// sends names below it here. [Proxy.Run] must be running. Errors are ErrNoName
// or what kept the resolvers from answering.
func (p *Proxy) Resolve(ctx context.Context, name string) ([]netip.Addr, error) {
	if !domainname(name) {
		return nil, fmt.Errorf("%q is no domain name", name)
	}
	k := outside{name: canonical(name), qtype: dnsmessage.TypeA}
	f, err := p.internet.do(ctx, k, p.spawn, func() fetched { return p.fetch(p.base, k) })
	if err == nil {
		err = f.err
	}
	if err != nil {
		return nil, quiet(err)
	}
	var out []netip.Addr
	for _, rr := range f.msg.Answer {
		if rr.Type == dnsmessage.TypeA {
			out = append(out, rr.Addr)
		}
	}
	if len(out) == 0 {
		if f.msg.RCode != dnsmessage.RCodeSuccess && f.msg.RCode != dnsmessage.RCodeNameError {
			return nil, fmt.Errorf("the resolver answers %s", rcodeName(f.msg.RCode))
		}
		return nil, ErrNoName
	}
	return out, nil
}

// Resolvers are the addresses of the upstream resolvers, as far as they can be
// read now: no tunnel may take their place.
func (p *Proxy) Resolvers() []netip.Addr {
	list, err := p.upstream.servers(func(netip.Addr) bool { return true })
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, s := range list {
		out = append(out, s.Addr())
	}
	return out
}
