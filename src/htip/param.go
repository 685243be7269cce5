package htip

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"unicode"
	"unicode/utf8"
)

// Parameter types on the wire. A receiver skips those it does not know.
const (
	paramFeatures  = 1
	paramDomain    = 2
	paramProtocols = 3
	paramOffer     = 4
	paramGateway   = 5
	paramInitiator = 6
	paramResponder = 7
	paramTunnelID  = 8
	paramPort      = 9
	paramReason    = 10
	paramRefused   = 11
	paramAvoid     = 12
	paramText      = 13
	paramReplaces  = 14
	paramInvite    = 15
	paramEnds      = 16
	paramLast      = paramEnds
)

const prefixSize = 5 // octets: length in bits, then the address

// Encode writes the message as it goes over the wire; docs/protocol.md has the
// layout. A message that [Decode] would refuse is an error.
func (m *Message) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, err
	}
	w := writer{b: make([]byte, HeaderSize, 512)}
	w.b[0] = Version
	w.b[1] = byte(m.Type)
	binary.BigEndian.PutUint64(w.b[4:], m.Talk)

	if m.Features != 0 {
		w.uint32(paramFeatures, uint32(m.Features))
	}
	if m.Domain != "" {
		w.bytes(paramDomain, []byte(m.Domain))
	}
	if len(m.Protocols) > 0 {
		v := make([]byte, len(m.Protocols))
		for i, p := range m.Protocols {
			v[i] = byte(p)
		}
		w.bytes(paramProtocols, v)
	}
	if m.Gateway.IsValid() {
		w.bytes(paramGateway, m.Gateway.AsSlice())
	}
	for _, o := range m.Offers {
		w.bytes(paramOffer, appendPrefixes(appendPrefix(nil, o.Network), o.Candidates))
	}
	for _, x := range m.Initiator {
		w.bytes(paramInitiator, appendPrefix(appendPrefix(nil, x.Network), x.Substitute))
	}
	for _, x := range m.Responder {
		w.bytes(paramResponder, appendPrefix(appendPrefix(nil, x.Network), x.Substitute))
	}
	if m.TunnelID != 0 {
		w.uint32(paramTunnelID, m.TunnelID)
	}
	if m.Port != 0 {
		w.bytes(paramPort, binary.BigEndian.AppendUint16(nil, m.Port))
	}
	if m.Reason != 0 {
		w.bytes(paramReason, binary.BigEndian.AppendUint16(nil, uint16(m.Reason)))
	}
	if m.Refused != 0 {
		w.bytes(paramRefused, []byte{byte(m.Refused)})
	}
	if len(m.Avoid) > 0 {
		w.bytes(paramAvoid, appendPrefixes(nil, m.Avoid))
	}
	if m.Text != "" {
		w.bytes(paramText, []byte(m.Text))
	}
	if m.Replaces != 0 {
		w.bytes(paramReplaces, binary.BigEndian.AppendUint64(nil, m.Replaces))
	}
	if m.Invite != (Proof{}) {
		w.bytes(paramInvite, append(m.Invite.ID[:], m.Invite.MAC[:]...))
	}
	if m.Ends.valid() {
		w.bytes(paramEnds, append(m.Ends.Own.AsSlice(), m.Ends.Other.AsSlice()...))
	}
	if len(w.b) > MaxMessage {
		return nil, &MalformedError{m.Type, fmt.Sprintf("%d octets, at most %d", len(w.b), MaxMessage)}
	}
	binary.BigEndian.PutUint16(w.b[2:], uint16(len(w.b)))
	// What can't be read back must not be sent: limits are kept in one place.
	if _, err := Decode(w.b); err != nil {
		return nil, err
	}
	return w.b, nil
}

type writer struct{ b []byte }

func (w *writer) bytes(param uint16, v []byte) {
	w.b = binary.BigEndian.AppendUint16(w.b, param)
	w.b = binary.BigEndian.AppendUint16(w.b, uint16(len(v)))
	w.b = append(w.b, v...)
}

func (w *writer) uint32(param uint16, v uint32) {
	w.bytes(param, binary.BigEndian.AppendUint32(nil, v))
}

func appendPrefix(b []byte, p netip.Prefix) []byte {
	if !p.IsValid() || !p.Addr().Is4() {
		return append(b, 255, 0, 0, 0, 0) // no prefix has this length: Decode refuses it
	}
	a := p.Addr().As4()
	return append(append(b, byte(p.Bits())), a[:]...)
}

func appendPrefixes(b []byte, ps []netip.Prefix) []byte {
	for _, p := range ps {
		b = appendPrefix(b, p)
	}
	return b
}

// Length reads the header of a message: how many octets the whole message has,
// header included. It needs HeaderSize octets. Errors are VersionError and
// *MalformedError.
func Length(header []byte) (int, error) {
	if header[0] != Version {
		return 0, VersionError(header[0])
	}
	n := int(binary.BigEndian.Uint16(header[2:]))
	if n < HeaderSize || n > MaxMessage {
		return 0, &MalformedError{Type(header[1]), fmt.Sprintf("length %d not in %d..%d", n, HeaderSize, MaxMessage)}
	}
	return n, nil
}

// Decode reads one whole message. Unknown parameters are skipped; of a scalar
// that comes twice, an order or length that can't be, a value that is not in
// its range, the error says which parameter it was. Errors are VersionError and
// *MalformedError. Nothing returned points into b.
func Decode(b []byte) (*Message, error) {
	if len(b) < HeaderSize {
		return nil, &MalformedError{What: "shorter than a header"}
	}
	n, err := Length(b)
	if err != nil {
		return nil, err
	}
	m := &Message{Type: Type(b[1]), Talk: binary.BigEndian.Uint64(b[4:])}
	if n != len(b) {
		return nil, &MalformedError{m.Type, fmt.Sprintf("length says %d, message has %d octets", n, len(b))}
	}
	var seen uint32
	for b = b[HeaderSize:]; len(b) > 0; {
		if len(b) < 4 {
			return nil, &MalformedError{m.Type, "cut parameter header"}
		}
		param, l := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if b = b[4:]; l > len(b) {
			return nil, &MalformedError{m.Type, fmt.Sprintf("parameter %d is cut", param)}
		}
		if param > 0 && param <= paramLast && param != paramOffer && param != paramInitiator && param != paramResponder {
			if seen&(1<<param) != 0 {
				return nil, &MalformedError{m.Type, fmt.Sprintf("parameter %d comes twice", param)}
			}
			seen |= 1 << param
		}
		if err := m.setParam(param, b[:l]); err != nil {
			return nil, &MalformedError{m.Type, fmt.Sprintf("parameter %d: %v", param, err)}
		}
		b = b[l:]
	}
	return m, m.check()
}

func (m *Message) setParam(param uint16, v []byte) (err error) {
	want := func(n int) bool {
		if len(v) != n {
			err = fmt.Errorf("%d octets, not %d", len(v), n)
		}
		return len(v) == n
	}
	switch param {
	case paramFeatures:
		if want(4) {
			m.Features = Features(binary.BigEndian.Uint32(v))
		}
	case paramDomain:
		if !validDomain(v) {
			return fmt.Errorf("no domain name")
		}
		m.Domain = string(v)
	case paramProtocols:
		if len(v) == 0 || len(v) > maxProtocols {
			return fmt.Errorf("%d protocols", len(v))
		}
		for _, p := range v {
			m.Protocols = append(m.Protocols, Protocol(p))
		}
	case paramOffer:
		var ps []netip.Prefix
		if ps, err = readPrefixes(v, 1+maxCandidates); err != nil {
			return err
		}
		if len(m.Offers) == MaxNetworks {
			return fmt.Errorf("more than %d networks", MaxNetworks)
		}
		o := Offer{Network: ps[0]}
		for _, c := range ps[1:] {
			if c.Bits() > o.Network.Bits() {
				return fmt.Errorf("candidate %v is smaller than %v", c, o.Network)
			}
			o.Candidates = append(o.Candidates, c)
		}
		m.Offers = append(m.Offers, o)
	case paramGateway:
		if want(4) {
			m.Gateway = netip.AddrFrom4([4]byte(v))
		}
	case paramInitiator:
		m.Initiator, err = readMapping(m.Initiator, v)
	case paramResponder:
		m.Responder, err = readMapping(m.Responder, v)
	case paramTunnelID:
		if want(4) {
			m.TunnelID = binary.BigEndian.Uint32(v)
		}
	case paramPort:
		if want(2) {
			m.Port = binary.BigEndian.Uint16(v)
		}
	case paramReason:
		if want(2) {
			m.Reason = Reason(binary.BigEndian.Uint16(v))
		}
	case paramRefused:
		if want(1) {
			m.Refused = Type(v[0])
		}
	case paramAvoid:
		m.Avoid, err = readPrefixes(v, maxAvoid)
	case paramText:
		if len(v) == 0 || len(v) > maxText || !printable(string(v)) {
			return fmt.Errorf("no printable UTF-8 of at most %d octets", maxText)
		}
		m.Text = string(v)
	case paramEnds:
		if want(8) {
			m.Ends = Ends{netip.AddrFrom4([4]byte(v)), netip.AddrFrom4([4]byte(v[4:]))}
		}
	case paramReplaces:
		if want(8) {
			m.Replaces = binary.BigEndian.Uint64(v)
		}
	case paramInvite:
		if want(len(m.Invite.ID) + len(m.Invite.MAC)) {
			copy(m.Invite.ID[:], v)
			copy(m.Invite.MAC[:], v[len(m.Invite.ID):])
		}
	}
	return err
}

func readPrefix(v []byte) (netip.Prefix, error) {
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte(v[1:prefixSize])), int(v[0]))
	if !p.IsValid() || p != p.Masked() {
		return p, fmt.Errorf("no prefix: %d.%d.%d.%d/%d", v[1], v[2], v[3], v[4], v[0])
	}
	return p, nil
}

func readPrefixes(v []byte, limit int) ([]netip.Prefix, error) {
	if len(v) == 0 || len(v)%prefixSize != 0 || len(v) > limit*prefixSize {
		return nil, fmt.Errorf("%d octets are no list of 1..%d prefixes", len(v), limit)
	}
	out := make([]netip.Prefix, 0, len(v)/prefixSize)
	for ; len(v) > 0; v = v[prefixSize:] {
		p, err := readPrefix(v)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func readMapping(ms []Mapping, v []byte) ([]Mapping, error) {
	if len(ms) == MaxNetworks {
		return nil, fmt.Errorf("more than %d networks", MaxNetworks)
	}
	if len(v) != 2*prefixSize {
		return nil, fmt.Errorf("%d octets, not %d", len(v), 2*prefixSize)
	}
	ps, err := readPrefixes(v, 2)
	if err != nil {
		return nil, err
	}
	return append(ms, Mapping{ps[0], ps[1]}), nil
}

// validDomain accepts host names as people register them: letters, digits,
// hyphens, dots between labels (RFC 1123 §2.1).
func validDomain(v []byte) bool {
	if len(v) == 0 || len(v) > 253 {
		return false
	}
	label := 0
	for i, c := range v {
		switch {
		case c == '.':
			if label == 0 || i == len(v)-1 || v[i-1] == '-' {
				return false
			}
			label = -1
		case c == '-':
			if label == 0 || i == len(v)-1 {
				return false
			}
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		default:
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	return true
}

func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}
