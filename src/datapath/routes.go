package datapath

import (
	"fmt"
	"net/netip"
	"slices"
)

// RouteProtocol marks our routes in the kernel ("proto 72").
const RouteProtocol = 72

// unreachableMetric is behind every route that means something. It fits a
// signed integer of 32 bits, which routers have.
const unreachableMetric = 1<<31 - 1

// route is an IPv4 route of ours in the main table.
type route struct {
	Dst    netip.Prefix
	Device string     // empty: unreachable
	Src    netip.Addr // preferred source; only with a device
	Metric int
}

func (r route) String() string {
	if r.Device == "" {
		return fmt.Sprintf("unreachable %s metric %d", r.Dst, r.Metric)
	}
	return fmt.Sprintf("%s dev %s src %s", r.Dst, r.Device, r.Src)
}

// routesFor are the routes there should be while the links in up carry
// traffic. The kernel itself removes the routes of a link that goes.
func routesFor(w Wanted, up map[string]bool) []route {
	var routes []route
	for _, t := range w.Tunnels {
		if !up[t.Device] {
			continue
		}
		for _, p := range t.Peer {
			routes = append(routes, route{Dst: p, Device: t.Device, Src: t.LocalAddr})
		}
	}
	for _, p := range knownPrefixes(w) {
		routes = append(routes, route{Dst: p, Metric: unreachableMetric})
	}
	return routes
}

// knownPrefixes are the substitutes of known homes and of all peers, once each.
func knownPrefixes(w Wanted) []netip.Prefix {
	known := slices.Clone(w.Known)
	for _, t := range w.Tunnels {
		known = append(known, t.Peer...)
	}
	sortPrefixes(known)
	return slices.Compact(known)
}

// diffRoutes says what turns have into want.
func diffRoutes(have, want []route) (add, del []route) {
	for _, r := range want {
		if !slices.Contains(have, r) {
			add = append(add, r)
		}
	}
	for _, r := range have {
		if !slices.Contains(want, r) {
			del = append(del, r)
		}
	}
	return add, del
}
