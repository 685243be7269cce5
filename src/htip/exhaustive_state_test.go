package htip

import (
	"encoding/binary"
	"fmt"
	"hash/maphash"
	"net/netip"
	"reflect"
	"slices"
	"testing"
)

// Two states are the same when they differ only in what random numbers and
// connections are called, in words for people and in how often a timer was set.

// xnames gives numbers to names in the order in which they are met.
type xnames struct {
	seen []uint64
}

func (n *xnames) of(id uint64) byte {
	if id == 0 {
		return 0
	}
	i := slices.Index(n.seen, id)
	if i < 0 {
		i, n.seen = len(n.seen), append(n.seen, id)
	}
	return byte(i + 1)
}

func hashFlags(b []byte, fs ...bool) []byte {
	var x uint32
	for i, f := range fs {
		if f {
			x |= 1 << i
		}
	}
	return binary.AppendUvarint(b, uint64(x))
}

func hashPrefixes(b []byte, ps []netip.Prefix) []byte {
	b = append(b, byte(len(ps)))
	for _, p := range ps {
		b = binary.BigEndian.AppendUint32(b, toUint(p.Addr()))
		b = append(b, byte(p.Bits()))
	}
	return b
}

func hashMaps(b []byte, ms []Mapping) []byte {
	b = append(b, byte(len(ms)))
	for _, m := range ms {
		b = binary.BigEndian.AppendUint32(b, toUint(m.Network.Addr()))
		b = binary.BigEndian.AppendUint32(b, toUint(m.Substitute.Addr()))
		b = append(b, byte(m.Network.Bits()))
	}
	return b
}

func hashOffers(b []byte, os []Offer) []byte {
	b = append(b, byte(len(os)))
	for _, o := range os {
		b = hashPrefixes(b, []netip.Prefix{o.Network})
		b = hashPrefixes(b, o.Candidates)
	}
	return b
}

func hashAddress(b []byte, a netip.Addr) []byte {
	if !a.IsValid() {
		return append(b, 0)
	}
	return binary.BigEndian.AppendUint32(append(b, 4), toUint(a))
}

func hashAgreement(b []byte, e *Entry) []byte {
	b = append(b, byte(e.Protocol), byte(e.Role))
	b = hashMaps(hashMaps(b, e.Own), e.Theirs)
	b = hashAddress(hashAddress(b, e.OwnGateway), e.PeerGateway)
	b = binary.BigEndian.AppendUint16(b, e.LocalPort)
	return binary.BigEndian.AppendUint16(b, e.PeerPort)
}

// contentOf numbers the contents of messages: what is in them besides names.
func (w *xworld) contentOf(m *Message) uint32 {
	b := w.buf[:0]
	b = append(b, byte(m.Type), byte(m.Features), byte(m.Reason), byte(m.Refused))
	for _, p := range m.Protocols {
		b = append(b, byte(p))
	}
	b = hashOffers(append(b, 0), m.Offers)
	b = hashAddress(b, m.Gateway)
	b = hashMaps(hashMaps(b, m.Initiator), m.Responder)
	b = binary.BigEndian.AppendUint16(b, m.Port)
	b = hashPrefixes(b, m.Avoid)
	w.buf = b
	n, ok := w.content[string(b)]
	if !ok {
		n = uint32(len(w.content))
		w.content[string(b)] = n
	}
	return n
}

type xkey [2]uint64

var xSeeds = [2]maphash.Seed{maphash.MakeSeed(), maphash.MakeSeed()}

// key is what is the same for equal states, and for no others.
func (w *xworld) key(a *xstate) xkey {
	b := w.buf[:0]
	var names, conns xnames
	b = hashFlags(append(b, a.crashes, a.losses), a.owed, a.wrong, a.ended)
	for i := range a.s {
		s := &a.s[i]
		p := &s.p
		b = hashFlags(b, s.up, s.armed, s.dial, s.started, s.linked, s.agreed, s.since, s.asked, s.wanted, s.devUp,
			p.established, p.wants, p.running, p.answered && p.state == Up && p.conn != 0, p.told, p.Auto)
		b = append(b, s.connects, s.disconnects, byte(p.state))
		b = append(b, conns.of(uint64(p.conn)), conns.of(uint64(s.tunConn)), conns.of(uint64(s.fileConn)), conns.of(uint64(s.devConn)))
		b = append(b, names.of(uint64(p.entry.TunnelID)), names.of(p.held), names.of(p.replaces))
		b = append(b, names.of(uint64(s.tun)), names.of(uint64(s.noStart)), names.of(uint64(s.proving)), names.of(uint64(s.file.TunnelID)), names.of(uint64(s.dev)))
		// What the next attempt sets before it looks is no difference.
		if !p.established && !p.Auto {
			b = append(b, byte(min(p.attempts, xAttempts)))
		}
		if p.state > Dialing {
			b = append(b, byte(p.role), byte(p.rounds), names.of(p.talk))
			b = hashPrefixes(hashPrefixes(b, p.nets), p.avoid)
			if p.state < Proving {
				b = hashOffers(hashOffers(b, p.offers), p.theirs)
				b = hashAddress(b, p.gate)
			}
		}
		b = hashAgreement(b, &p.entry)
		b = hashAgreement(b, &s.file)
		b = hashMaps(hashMaps(b, p.before.Own), p.before.Theirs)
		b = hashMaps(hashMaps(b, s.record.Own), s.record.Theirs)
	}
	for c := range a.conns {
		x := &a.conns[c]
		b = hashFlags(append(b, conns.of(uint64(x.id)), x.by), x.open[0], x.open[1], x.dead, x.cut[0], x.cut[1])
		for _, q := range x.q {
			b = append(b, byte(len(q)))
			for _, m := range q {
				if m == nil {
					b = append(b, 0)
					continue
				}
				b = binary.AppendUvarint(append(b, 1), uint64(m.content))
				b = append(b, names.of(m.Talk), names.of(uint64(m.TunnelID)), names.of(m.Replaces))
			}
		}
	}
	w.buf = b
	return xkey{maphash.Bytes(xSeeds[0], b), maphash.Bytes(xSeeds[1], b)}
}

// xAttempts: more failed attempts make no difference any more.
const xAttempts = MaxBusy

// TestExhaustiveKnowsEveryField: a new field of the state machine has to be
// told apart here, too, or states that differ would be taken for the same. The
// ends of connections and the cipher are the same in all of them.
func TestExhaustiveKnowsEveryField(t *testing.T) {
	for _, c := range []struct {
		of   any
		want string
	}{
		{peer{}, "Peer state role conn ends talk timer established wants running attempts rounds answered told offers gate theirs nets avoid entry before held replaces reason text"},
		{Gateway{}, "cfg home peers order out deaf"},
		{Peer{}, "Name Domain Key Protocols Auto"},
		{Entry{}, "Peer Domain Protocol Cipher TunnelID Role Own Theirs OwnGateway PeerGateway LocalPort PeerPort"},
		{Message{}, "Type Talk Features Domain Protocols Offers Gateway Initiator Responder TunnelID Port Reason Refused Avoid Text Ends Replaces Invite"},
	} {
		var names []string
		rt := reflect.TypeOf(c.of)
		for i := range rt.NumField() {
			names = append(names, rt.Field(i).Name)
		}
		if got := fmt.Sprint(names); got != "["+c.want+"]" {
			t.Errorf("%v has fields %s, the exhaustive check tells states apart by [%s]", rt, got, c.want)
		}
	}
}
