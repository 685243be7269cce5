package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// Words of option accept: who may ask this home for a tunnel.
const (
	AcceptAsk   = "ask"   // peers; strangers wait until somebody here approves
	AcceptKnown = "known" // peers
	AcceptNone  = "none"  // nobody: tunnels are asked for from here only
)

// Words of a peer's list access that stand alone.
const (
	AccessAll  = "all"  // every host of the shared networks
	AccessNone = "none" // no host; names are told
)

// Access is one entry of a peer's list access other than "all" and "none":
// what the peer may reach here. In the file it is HOST, HOST:PROTOCOL or
// HOST:PROTOCOL:PORT[-PORT], such as nas:tcp:445.
type Access struct {
	Host      string     // name of a host of this home, or AccessRouter; "" when Addr is given
	Addr      netip.Addr // IPv4
	Protocol  string     // "tcp", "udp", "icmp", or "": everything
	Low, High uint16     // ports, 0: all
}

// AccessRouter as a host is this router itself; it needs a protocol and a port.
const AccessRouter = "router"

const wantAccess = `want all, none, or what the other home may reach, such as nas, nas:tcp:445 or 192.168.1.20:udp:5000-5010`

// ParseAccess reads an entry of list access that is neither "all" nor "none".
func ParseAccess(v string) (a Access, ok bool) {
	parts := strings.Split(lower(v), ":")
	if len(parts) > 3 {
		return a, false
	}
	addr, err := netip.ParseAddr(parts[0])
	switch {
	case err == nil && addr.Is4() && !addr.IsUnspecified() && !addr.IsMulticast() && !addr.IsLoopback():
		a.Addr = addr
	case err == nil, !hostLabel(parts[0]), strings.Trim(parts[0], "0123456789") == "", parts[0] == AccessAll, parts[0] == AccessNone:
		return a, false
	default:
		a.Host = parts[0]
	}
	if len(parts) > 1 {
		if a.Protocol = parts[1]; !slices.Contains([]string{"tcp", "udp", "icmp"}, a.Protocol) {
			return a, false
		}
	}
	if len(parts) > 2 {
		ports, ok := ParsePorts(parts[2])
		if !ok || a.Protocol == "icmp" {
			return a, false
		}
		a.Low, a.High = ports.Low, ports.High
	}
	return a, a.Host != AccessRouter || a.Low != 0
}

// String is the entry in its one form.
func (a Access) String() string {
	s := a.Host
	if s == "" {
		s = a.Addr.String()
	}
	if a.Protocol != "" {
		s += ":" + a.Protocol
	}
	switch {
	case a.Low == 0:
		return s
	case a.Low == a.High:
		return fmt.Sprintf("%s:%d", s, a.Low)
	}
	return fmt.Sprintf("%s:%d-%d", s, a.Low, a.High)
}

// readAccess is the reader of list access. Whatever is wrong with the list, the
// peer never gets more than what can be understood of it: nothing at worst.
func readAccess(p *Peer, values []string, bad func(value, want string)) {
	out := []string{}
	for _, v := range values {
		w := lower(v)
		alone := w == AccessAll || w == AccessNone
		a, ok := ParseAccess(v)
		switch {
		case alone && len(values) > 1:
			bad(v, "want "+w+" as the only entry")
			continue
		case !alone && !ok:
			bad(v, wantAccess)
			continue
		case ok:
			w = a.String()
		}
		if !slices.Contains(out, w) {
			out = append(out, w)
		}
	}
	if len(out) == 0 {
		out = []string{AccessNone}
	}
	p.Access = out
}
