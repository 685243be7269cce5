package dns

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/net/dns/dnsmessage"
)

// everywhere is a mapping that changes nothing and leaves nothing out.
var everywhere = []Mapping{{netip.PrefixFrom(netip.IPv4Unspecified(), 0), netip.PrefixFrom(netip.IPv4Unspecified(), 0)}}

// Own are the IPv4 addresses of a host of this home as our own dnsmasq knows
// it; none: there is no such host. host is a label or several, without the LAN's
// domain. An error: dnsmasq could not be asked.
func (p *Proxy) Own(ctx context.Context, host string) ([]netip.Addr, error) {
	if !hostname(host) {
		return nil, fmt.Errorf("%q is no host's name", host)
	}
	name := join(host, p.tbl.Load().lan)
	m, err := p.askDnsmasq(ctx, name, dnsmessage.TypeA)
	if err != nil {
		return nil, err
	}
	a, err := tellHost(m, name, everywhere)
	return a.addrs, err
}
