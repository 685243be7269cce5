package datapath

import (
	"errors"
	"net/netip"

	"htip/src/rtnl"
)

// Attributes of ctnetlink (linux/netfilter/nfnetlink_conntrack.h).
const (
	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaID         = 12
	ctaZone       = 18

	ctaTupleIP = 1
	ctaIPv4Src = 1
	ctaIPv4Dst = 2

	nfgenmsgSize = 4
)

// flow is a tracked flow: what is needed to recognise and to delete it. Both
// directions count, since NAT makes them differ.
type flow struct {
	addrs [4]netip.Addr // source and destination, original and reply
	// As the kernel sent them; the kernel finds the flow by them.
	orig, id, zone []byte
}

// touches tells whether an address of the flow lies in one of the prefixes.
func (f flow) touches(prefixes []netip.Prefix) bool {
	for _, p := range prefixes {
		for _, a := range f.addrs {
			if p.Contains(a) {
				return true
			}
		}
	}
	return false
}

var errShortFlow = errors.New("conntrack message is cut off")

// decodeFlow reads one message of a conntrack dump. It keeps references to b.
func decodeFlow(b []byte) (flow, error) {
	var f flow
	if len(b) < nfgenmsgSize {
		return f, errShortFlow
	}
	err := rtnl.Attributes(b[nfgenmsgSize:], func(kind uint16, v []byte) error {
		switch kind {
		case ctaTupleOrig:
			f.orig = v
			return decodeTuple(v, &f.addrs[0], &f.addrs[1])
		case ctaTupleReply:
			return decodeTuple(v, &f.addrs[2], &f.addrs[3])
		case ctaID:
			f.id = v
		case ctaZone:
			f.zone = v
		}
		return nil
	})
	return f, err
}

func decodeTuple(b []byte, src, dst *netip.Addr) error {
	return rtnl.Attributes(b, func(kind uint16, v []byte) error {
		if kind != ctaTupleIP {
			return nil
		}
		return rtnl.Attributes(v, func(kind uint16, v []byte) error {
			if len(v) != 4 {
				return nil // IPv6
			}
			switch kind {
			case ctaIPv4Src:
				*src = netip.AddrFrom4([4]byte(v))
			case ctaIPv4Dst:
				*dst = netip.AddrFrom4([4]byte(v))
			}
			return nil
		})
	})
}

// detached is the flow without references into the dump's buffer.
func (f flow) detached() flow {
	f.orig, f.id, f.zone = clip(f.orig), clip(f.id), clip(f.zone)
	return f
}

func clip(b []byte) []byte {
	if b == nil {
		return nil
	}
	return append(make([]byte, 0, len(b)), b...)
}
