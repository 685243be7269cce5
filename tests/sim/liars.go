package sim

import (
	"net/netip"
	"slices"

	"htip/src/htip"
)

// A liar is a gateway of a friend who has turned: what it sends is changed. The
// laws have to hold at everybody else whatever it says; what it gets itself is
// its own affair.

var lies = pxs("192.168.1.0/24", "8.8.8.0/24", "0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/24", "192.168.0.0/16", "127.0.0.0/8", "224.0.0.0/24", "172.16.0.0/12", "10.83.4.0/24", "192.168.1.128/25", "100.64.0.0/10")

// twist changes a message.
func (w *World) twist(m *htip.Message) *htip.Message {
	r := w.net
	x := *m
	x.Offers, x.Initiator, x.Responder = slices.Clone(m.Offers), slices.Clone(m.Initiator), slices.Clone(m.Responder)
	for range 1 + r.Intn(2) {
		switch r.Intn(16) {
		case 0:
			x.Talk = r.Uint64()
		case 1:
			x.TunnelID = uint32(r.Uint64())
		case 2:
			x.Type = htip.Type(1 + r.Intn(7))
		case 3:
			x.Gateway = pick(r, lies).Addr().Next()
		case 4:
			x.Replaces = r.Uint64()
		case 5:
			x.Port = uint16(r.Uint64())
		case 6:
			x.Reason, x.Refused = htip.Reason(1+r.Intn(21)), htip.Type(1+r.Intn(7))
		case 7:
			x.Avoid = []netip.Prefix{pick(r, lies), pick(r, lies)}
		case 8:
			x.Protocols = []htip.Protocol{htip.Protocol(1 + r.Intn(4))}
		case 9, 10: // a lie that is true to itself
			if n := pick(r, lies); len(x.Offers) > 0 && n.Bits() >= htip.MinBits && n.Bits() <= htip.MaxBits {
				x.Offers = []htip.Offer{{Network: n, Candidates: []netip.Prefix{n, pick(r, lies)}}}
				x.Gateway = n.Addr().Next()
			}
		case 11, 12:
			if len(x.Offers) > 0 {
				o := &x.Offers[r.Intn(len(x.Offers))]
				if r.Chance(0.5) {
					o.Network = pick(r, lies)
				}
				if r.Chance(0.5) {
					o.Candidates = []netip.Prefix{pick(r, lies), pick(r, lies)}
				}
			}
		default:
			w.twistMappings(x.Initiator)
			w.twistMappings(x.Responder)
		}
	}
	return &x
}

func (w *World) twistMappings(ms []htip.Mapping) {
	r := w.net
	if len(ms) == 0 || r.Chance(0.3) {
		return
	}
	m := &ms[r.Intn(len(ms))]
	switch r.Intn(4) {
	case 0:
		m.Substitute = ms[0].Substitute
	case 1:
		m.Substitute = m.Network
	case 2:
		m.Network = pick(r, lies)
	default:
		if p, err := pick(r, lies).Addr().Prefix(m.Network.Bits()); err == nil {
			m.Substitute = p
		}
	}
}
