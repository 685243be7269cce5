package htip

import (
	"net/netip"
	"slices"
)

// Role is what this gateway is to a tunnel (¶27, 33).
type Role uint8

const (
	NoRole    Role = iota
	Initiator      // its host asked; VPN client
	Responder      // VPN server
)

func (r Role) String() string {
	switch r {
	case Initiator:
		return "client"
	case Responder:
		return "server"
	}
	return "none"
}

// Entry is a line of the connection table (¶28, 34, 124): what both gateways
// agreed on, seen from here.
type Entry struct {
	Peer     string // configured name of the other home
	Domain   string // its public domain name
	Protocol Protocol
	Cipher   Cipher // of L2TPESP
	TunnelID uint32
	Role     Role // ours; the seed's table shows the peer's, which is the other one

	Own         []Mapping  // our networks: A → A'
	Theirs      []Mapping  // the other home's: B → B'
	OwnGateway  netip.Addr // our address inside the tunnel
	PeerGateway netip.Addr // the other gateway's

	LocalPort uint16 // UDP port of our VPN program
	PeerPort  uint16 // of the peer's; 0 on the server, which learns it from the first packet
}

// NAT tells whether any address is translated at our end of the tunnel.
func (e *Entry) NAT() bool { return slices.ContainsFunc(e.Own, Mapping.NAT) }

// agreed tells whether READY names just what our ACK did.
func (e *Entry) agreed(m *Message) bool {
	return m.Protocol() == e.Protocol && slices.Equal(m.Initiator, e.Own) && slices.Equal(m.Responder, e.Theirs)
}

// Record is what a gateway remembers of a home over restarts, so that the same
// two homes get the same substitutes again (design law 5).
type Record struct {
	Own    []Mapping
	Theirs []Mapping
}

// Equal tells whether two records say the same.
func (r Record) Equal(o Record) bool {
	return slices.Equal(r.Own, o.Own) && slices.Equal(r.Theirs, o.Theirs)
}

// valid for mappings means: both homes still have the networks they had when
// the record was made.
func (r Record) valid(own, theirs []netip.Prefix) bool {
	return sameSet(Networks(r.Own), own) && sameSet(Networks(r.Theirs), theirs)
}

func sameSet(a, b []netip.Prefix) bool {
	if len(a) != len(b) {
		return false
	}
	for _, p := range a {
		if !slices.Contains(b, p) {
			return false
		}
	}
	return true
}
