package dns

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// DropIn is the text for dnsmasq's conf-dir that sends zone, the peers' public
// domains and the PTRs of pools to the proxy at listen, and exempts zone and
// domains from rebinding protection, which the proxy has of its own. The same
// arguments give the same text. lan is the LAN domain, which stays dnsmasq's.
//
// A domain or pool that could harm is left out, and the error says which: a bad
// line keeps dnsmasq from starting, and a home without DHCP. So rev-server lines
// are for whole octets only: before 2.87 dnsmasq refuses other lengths, and up
// to 2.89 it gets them wrong. What dnsmasq knows itself (leases, hosts files of
// any of its networks) it answers before it looks at these lines.
func DropIn(zone, lan string, domains []string, pools []netip.Prefix, listen netip.AddrPort) ([]byte, error) {
	if err := validZones(zone, lan); err != nil {
		return nil, err
	}
	if !listen.IsValid() || listen.Port() == 0 {
		return nil, fmt.Errorf("listen %s: want an address and a port", listen)
	}
	var errs []error
	names := []string{canonical(zone)}
	for _, d := range domains {
		if err := validDomain(d, canonical(zone), canonical(lan)); err != nil {
			errs = append(errs, err)
			continue
		}
		names = append(names, canonical(d))
	}
	sort.Strings(names[1:])
	names = slices.Compact(names)
	var octets []netip.Prefix
	for _, p := range pools {
		if err := validPrefix(p); err != nil {
			errs = append(errs, err)
			continue
		}
		octets = append(octets, wholeOctets(p)...)
	}
	sort.Slice(octets, func(i, j int) bool {
		a, b := octets[i], octets[j]
		return a.Addr().Less(b.Addr()) || a.Addr() == b.Addr() && a.Bits() < b.Bits()
	})
	octets = slices.Compact(octets)

	server := listen.Addr().String() + "#" + strconv.Itoa(int(listen.Port()))
	var b bytes.Buffer
	b.WriteString("# Written by htip; gone when it stops. Change /etc/config/htip instead.\n")
	for _, n := range names {
		n = strings.TrimSuffix(n, ".")
		fmt.Fprintf(&b, "server=/%s/%s\nrebind-domain-ok=/%s/\n", n, server, n)
	}
	for _, p := range octets {
		fmt.Fprintf(&b, "rev-server=%s,%s\n", p, server)
	}
	return b.Bytes(), errors.Join(errs...)
}

// wholeOctets splits p into prefixes of 8, 16, 24 or 32 bits.
func wholeOctets(p netip.Prefix) []netip.Prefix {
	bits := (p.Bits() + 7) / 8 * 8
	var list []netip.Prefix
	for i := range 1 << (bits - p.Bits()) {
		a := p.Addr().As4()
		a[bits/8-1] |= byte(i)
		list = append(list, netip.PrefixFrom(netip.AddrFrom4(a), bits))
	}
	return list
}
