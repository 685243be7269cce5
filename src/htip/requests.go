package htip

import (
	"bytes"
	"net/netip"
	"slices"
	"time"
)

// Limits of requests of strangers.
const (
	MaxPending     = 16 // in all
	pendingNetwork = 2  // of one network (an IPv4 /24)
	pendingFor     = 7 * 24 * time.Hour
	MaxRejected    = 64
)

// Pending is the request of a home that is no peer. Everything in it but the
// key and the address is what the stranger claims.
type Pending struct {
	Number      int // by which people name it; never given twice within a run
	Key         []byte
	Domain      string
	Networks    []netip.Prefix
	Protocols   []Protocol
	From        netip.Addr // where it last came from
	First, Last time.Time
	Count       int

	net netip.Prefix // where the first one came from: going round the networks makes no room
}

// Requests are the strangers that wait for somebody to decide, first come
// first, and those that were rejected. A new one never pushes out one of a
// network that has sent fewer: when there are MaxPending, the last of the most
// crowded wider network (an IPv4 /16) makes room, and if that is the new one's
// own, the new one is not taken.
type Requests struct {
	List     []Pending
	Rejected [][]byte // public keys, oldest first
	last     int
}

// network is the part of an address that one party usually has for itself, wide
// that of one provider's neighbourhood.
func network(a netip.Addr) netip.Prefix { return prefixOf(a, 24, 48) }

func wide(a netip.Addr) netip.Prefix { return prefixOf(a, 16, 32) }

func prefixOf(a netip.Addr, v4, v6 int) netip.Prefix {
	a = a.Unmap()
	bits := v6
	if a.Is4() {
		bits = v4
	}
	p, _ := a.Prefix(bits)
	return p
}

// Note takes a stranger's REQUEST. It is new when it was not in the list and is
// now. What is done with it the stranger is not told.
func (r *Requests) Note(key []byte, m *Message, from netip.Addr, now time.Time) (p *Pending, isNew bool) {
	r.List = slices.DeleteFunc(r.List, func(p Pending) bool { return now.Sub(p.Last) >= pendingFor })
	k := r.index(key)
	if k < 0 {
		if !r.room(from) {
			return nil, false
		}
		r.List = append(r.List, Pending{Number: r.number(), Key: bytes.Clone(key), First: now, net: network(from)})
		k, isNew = len(r.List)-1, true
	}
	p = &r.List[k]
	p.Domain, p.Protocols, p.From, p.Last, p.Count = m.Domain, m.Protocols, from, now, p.Count+1
	p.Networks = nil
	for _, o := range m.Offers {
		p.Networks = append(p.Networks, o.Network)
	}
	return p, isNew
}

// number is the next one of 1 to 999: longer ones could be a fingerprint.
func (r *Requests) number() int {
	for {
		if r.last++; r.last > 999 {
			r.last = 1
		}
		if !slices.ContainsFunc(r.List, func(p Pending) bool { return p.Number == r.last }) {
			return r.last
		}
	}
}

// room makes room for a request from an address, or says that there is none.
func (r *Requests) room(from netip.Addr) bool {
	net, same := network(from), 0
	crowd := map[netip.Prefix]int{wide(from): 1}
	for _, p := range r.List {
		if p.net == net {
			same++
		}
		crowd[wide(p.net.Addr())]++
	}
	switch {
	case same >= pendingNetwork:
		return false
	case len(r.List) < MaxPending:
		return true
	}
	victim := -1
	most := crowd[wide(from)]
	for i, p := range r.List { // the last one of those that are worst
		if n := crowd[wide(p.net.Addr())]; n > most || n == most && victim >= 0 {
			victim, most = i, n
		}
	}
	if victim >= 0 {
		r.List = slices.Delete(r.List, victim, victim+1)
	}
	return victim >= 0
}

func (r *Requests) index(key []byte) int {
	return slices.IndexFunc(r.List, func(p Pending) bool { return bytes.Equal(p.Key, key) })
}

// Drop forgets the requests of keys that somebody has decided about.
func (r *Requests) Drop(decided func(key []byte) bool) {
	r.List = slices.DeleteFunc(r.List, func(p Pending) bool { return decided(p.Key) })
}

// IsRejected tells whether somebody has rejected the key.
func (r *Requests) IsRejected(key []byte) bool {
	return slices.ContainsFunc(r.Rejected, func(k []byte) bool { return bytes.Equal(k, key) })
}

// Reject remembers a key: its requests are refused and not shown. Of more than
// MaxRejected the oldest is forgotten.
func (r *Requests) Reject(key []byte) {
	r.Drop(func(k []byte) bool { return bytes.Equal(k, key) })
	if r.IsRejected(key) {
		return
	}
	if r.Rejected = append(r.Rejected, bytes.Clone(key)); len(r.Rejected) > MaxRejected {
		r.Rejected = slices.Delete(r.Rejected, 0, 1)
	}
}

// Pardon forgets that a key was rejected; true when it was.
func (r *Requests) Pardon(key []byte) bool {
	n := len(r.Rejected)
	r.Rejected = slices.DeleteFunc(r.Rejected, func(k []byte) bool { return bytes.Equal(k, key) })
	return len(r.Rejected) < n
}

// Turn is the NAK that a stranger's REQUEST is answered with. It carries nothing
// of this home: what is in it does not depend on our networks, domain or peers.
func Turn(m *Message, r Reason, text string) *Message {
	return &Message{Type: Nak, Talk: m.Talk, Refused: Request, Reason: r, Text: clip(text)}
}
