package htip

import (
	"fmt"
	"net/netip"
)

// Version is the protocol version in the first octet of every message.
const Version = 1

// Limits of what is accepted from the network. A message beyond them is
// malformed.
const (
	HeaderSize    = 12   // octets
	MaxMessage    = 8192 // octets, header included
	MaxNetworks   = 8    // a home
	maxCandidates = 32   // a network
	maxAvoid      = 32   // prefixes a NAK may name
	maxProtocols  = 8
	maxText       = 255 // octets
)

// Type is the kind of a message. Values are on the wire.
type Type uint8

const (
	Request   Type = 1 // initiator: wants a tunnel (¶121)
	Response  Type = 2 // responder: agrees, chooses A', proposes B' (¶122)
	Nak       Type = 3 // either: what was unacceptable and why (¶156)
	Ack       Type = 4 // initiator: all chosen (¶123)
	Ready     Type = 5 // responder: its VPN server is listening (¶126)
	Close     Type = 6 // either: the tunnel is over, and why
	Keepalive Type = 7 // either: this tunnel still stands; first message after a reconnect
)

var typeNames = [...]string{Request: "REQUEST", Response: "RESPONSE", Nak: "NAK", Ack: "ACK", Ready: "READY", Close: "CLOSE", Keepalive: "KEEPALIVE"}

func (t Type) String() string {
	if int(t) < len(typeNames) && typeNames[t] != "" {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Protocol is a VPN protocol. Values are on the wire.
type Protocol uint8

const (
	L2TP      Protocol = 1 // RFC 2661, not encrypted
	WireGuard Protocol = 2
	L2TPESP   Protocol = 3 // RFC 2661 in ESP transport mode (RFC 4303)
	PPTP      Protocol = 4 // RFC 2637
)

var protocolNames = [...]string{L2TP: "l2tp", WireGuard: "wireguard", L2TPESP: "l2tp-esp", PPTP: "pptp"}

func (p Protocol) String() string {
	if int(p) < len(protocolNames) && protocolNames[p] != "" {
		return protocolNames[p]
	}
	return fmt.Sprintf("protocol %d", uint8(p))
}

// ParseProtocol is the protocol of that name, or 0.
func ParseProtocol(s string) Protocol {
	for i, n := range protocolNames {
		if n == s && n != "" {
			return Protocol(i)
		}
	}
	return 0
}

// Encrypted tells whether the protocol keeps what it carries secret by today's
// standards.
func (p Protocol) Encrypted() bool { return p == WireGuard || p == L2TPESP }

// Features are what a gateway can do beyond version 1, one bit each; a peer
// ignores bits it does not know.
type Features uint32

// FeatureThreeMessages is the first embodiment (¶77-81): in REQUEST the
// initiator can do without READY; in RESPONSE the responder's VPN server
// listens already, and ACK ends the talk.
const FeatureThreeMessages Features = 1 << 0

// What a gateway can do with ESP (RFC 4303), in REQUEST and RESPONSE; see
// [Gateway]'s choice of the cipher.
const (
	FeatureAES     Features = 1 << 1 // AES-GCM of 128 bits (RFC 4106)
	FeatureChaCha  Features = 1 << 2 // ChaCha20-Poly1305 (RFC 7634)
	FeatureFastAES Features = 1 << 3 // AES is faster than ChaCha20 here

	featuresESP = FeatureAES | FeatureChaCha | FeatureFastAES
)

// Cipher is what ESP encrypts with.
type Cipher uint8

const (
	NoCipher Cipher = iota
	AES             // AES-GCM, 128 bits, check value of 16 octets (RFC 4106)
	ChaCha          // ChaCha20-Poly1305 (RFC 7634)
)

var cipherNames = [...]string{AES: "aes-gcm-128", ChaCha: "chacha20-poly1305"}

func (c Cipher) String() string {
	if int(c) < len(cipherNames) {
		return cipherNames[c]
	}
	return fmt.Sprintf("cipher %d", uint8(c))
}

// ParseCipher is the cipher of that name, or NoCipher.
func ParseCipher(s string) Cipher {
	for i, n := range cipherNames {
		if n == s {
			return Cipher(i)
		}
	}
	return NoCipher
}

// cipher is what two gateways use for ESP; both come to the same. AES only
// where both are fast with it, or where there is nothing else.
func (f Features) cipher(o Features) Cipher {
	both := f & o
	switch {
	case both&FeatureAES != 0 && (both&FeatureFastAES != 0 || both&FeatureChaCha == 0):
		return AES
	case both&FeatureChaCha != 0:
		return ChaCha
	}
	return NoCipher
}

// Reason is why a message was refused or a tunnel closed. Values are on the
// wire.
type Reason uint16

const (
	ReasonClash        Reason = 1  // no candidate is free here: new parameters are wanted
	ReasonNoProtocol   Reason = 2  // no VPN protocol in common
	ReasonVersion      Reason = 3  // this version of HTIP is not spoken here
	ReasonApproval     Reason = 4  // waiting for somebody to approve
	ReasonBusy         Reason = 5  // already talking; try again
	ReasonRefused      Reason = 6  // not allowed here
	ReasonLoop         Reason = 7  // the request came back to its sender
	ReasonExhausted    Reason = 8  // nothing is left to propose, or nothing suited both homes after MaxRounds
	ReasonMalformed    Reason = 9  // the message can't be understood
	ReasonServer       Reason = 10 // the VPN server or client can't be started
	ReasonUnknown      Reason = 11 // no such tunnel here
	ReasonUser         Reason = 12 // somebody ended it
	ReasonTimeout      Reason = 13 // the other side did not answer in time
	ReasonShutdown     Reason = 14 // the gateway is going down
	ReasonSuperseded   Reason = 15 // a newer talk of the same home took its place
	ReasonUnreachable  Reason = 16 // never on the wire: no connection to the peer
	ReasonLink         Reason = 17 // the VPN tunnel broke or did not come up
	ReasonUnauthorized Reason = 18 // never on the wire: the peer's key is not the expected one
	ReasonStands       Reason = 19 // a tunnel or a talk with the sender of the REQUEST stands; Replaces names it
	ReasonAddresses    Reason = 20 // the sender's own addresses have changed

	ReasonInvite        Reason = 21 // the invite is not known here, or its proof is wrong
	ReasonInviteExpired Reason = 22 // the invite is too old
	ReasonInviteUsed    Reason = 23 // the invite has been used or cancelled
)

var reasonNames = [...]string{
	ReasonClash: "address clash", ReasonNoProtocol: "no common VPN protocol", ReasonVersion: "HTIP version not spoken",
	ReasonApproval: "waiting for approval", ReasonBusy: "busy", ReasonRefused: "refused", ReasonLoop: "loop",
	ReasonExhausted: "no substitute addresses left", ReasonMalformed: "malformed message", ReasonServer: "VPN program failed",
	ReasonUnknown: "tunnel unknown to the peer", ReasonUser: "ended by a user", ReasonTimeout: "no answer in time",
	ReasonShutdown: "gateway is shutting down", ReasonSuperseded: "replaced by a newer tunnel",
	ReasonUnreachable: "peer can't be reached", ReasonLink: "VPN tunnel does not work", ReasonUnauthorized: "wrong key",
	ReasonStands: "a tunnel stands already", ReasonAddresses: "addresses have changed",
	ReasonInvite: "invite not valid", ReasonInviteExpired: "invite expired", ReasonInviteUsed: "invite used up",
}

func (r Reason) String() string {
	if int(r) < len(reasonNames) && reasonNames[r] != "" {
		return reasonNames[r]
	}
	return fmt.Sprintf("reason %d", uint16(r))
}

// Permanent tells whether trying again without somebody doing something is
// pointless.
func (r Reason) Permanent() bool {
	switch r {
	case ReasonNoProtocol, ReasonVersion, ReasonRefused, ReasonLoop, ReasonExhausted, ReasonClash, ReasonMalformed, ReasonUser, ReasonUnauthorized, ReasonSuperseded:
		return true
	}
	return r.Invite()
}

// Invite tells whether the reason is about an invite.
func (r Reason) Invite() bool { return r >= ReasonInvite && r <= ReasonInviteUsed }

// Message is one HTIP message. Which fields count depends on Type; [Decode]
// and [Message.Encode] refuse a message that lacks one its type needs.
type Message struct {
	Type Type
	Talk uint64 // chosen at random by the initiator for each REQUEST; everything that belongs to it carries it

	Features  Features       // REQUEST, RESPONSE
	Domain    string         // REQUEST, RESPONSE: the sender's public domain name, may be empty
	Protocols []Protocol     // REQUEST: best first; RESPONSE, ACK, READY: the chosen one
	Offers    []Offer        // REQUEST, RESPONSE: the sender's networks with candidates; NAK: networks only
	Gateway   netip.Addr     // REQUEST, RESPONSE: the sender's own address in one of its networks
	Initiator []Mapping      // RESPONSE, ACK, READY: A → A'
	Responder []Mapping      // ACK, READY: B → B'
	TunnelID  uint32         // READY, CLOSE, KEEPALIVE; never 0 there; RESPONSE of a talk of three messages
	Port      uint16         // READY, RESPONSE of a talk of three messages: UDP port of the VPN server
	Reason    Reason         // NAK, CLOSE
	Refused   Type           // NAK: the type of the refused message
	Avoid     []netip.Prefix // NAK: what the candidates ran into
	Text      string         // NAK, CLOSE: for people; UTF-8 without control characters, ≤ 255 octets
	Ends      Ends           // REQUEST
	Replaces  uint64         // NAK with ReasonStands or ReasonUser: the tunnel or talk that is in the way; REQUEST: the sender knows of it, and wants another one
	Invite    Proof          // REQUEST: the sender holds an invite; zero: none
}

// Ends are the addresses of a control connection, as one gateway sees them: its
// own and the other one's. If the two gateways see different ones, addresses
// are translated between them.
type Ends struct{ Own, Other netip.Addr }

func (e Ends) valid() bool { return e.Own.Is4() && e.Other.Is4() }

// Protocol is the chosen VPN protocol of a RESPONSE, ACK or READY.
func (m *Message) Protocol() Protocol {
	if len(m.Protocols) == 0 {
		return 0
	}
	return m.Protocols[0]
}

// MalformedError says what is wrong with a message. It never carries more than
// names and numbers, so that it may be shown to the peer.
type MalformedError struct {
	Type Type
	What string
}

func (e *MalformedError) Error() string { return fmt.Sprintf("malformed %v: %s", e.Type, e.What) }

// VersionError says that a message speaks another version of HTIP.
type VersionError uint8

func (e VersionError) Error() string {
	return fmt.Sprintf("peer speaks HTIP version %d, this is version %d", uint8(e), Version)
}

// check says whether a message has what its type needs and nothing absurd.
func (m *Message) check() error {
	bad := func(format string, a ...any) error {
		return &MalformedError{m.Type, fmt.Sprintf(format, a...)}
	}
	switch m.Type {
	case Request, Response:
		if len(m.Offers) == 0 {
			return bad("no network")
		}
		if !m.Gateway.Is4() {
			return bad("no gateway address")
		}
		if err := checkNetworks(m.Offers, m.Gateway); err != nil {
			return bad("%v", err)
		}
		for _, o := range m.Offers {
			if len(o.Candidates) == 0 {
				return bad("no candidates for %v", o.Network)
			}
		}
	case Nak:
		if m.Reason == 0 || m.Refused == 0 {
			return bad("no reason or refused type")
		}
		if m.Reason == ReasonStands && m.Replaces == 0 {
			return bad("not said what stands")
		}
	case Ack, Ready:
		if len(m.Responder) == 0 {
			return bad("no substitutes of the responder")
		}
	case Close, Keepalive:
		if m.TunnelID == 0 {
			return bad("no tunnel ID")
		}
		if m.Type == Close && m.Reason == 0 {
			return bad("no reason")
		}
	default:
		return bad("unknown type")
	}
	switch m.Type {
	case Request:
		if len(m.Protocols) == 0 {
			return bad("no VPN protocol")
		}
	case Response, Ack, Ready:
		if len(m.Protocols) != 1 {
			return bad("%d VPN protocols instead of one", len(m.Protocols))
		}
		if len(m.Initiator) == 0 {
			return bad("no substitutes of the initiator")
		}
	}
	if (m.Type == Ready || m.Type == Response && m.Features&FeatureThreeMessages != 0) && (m.TunnelID == 0 || m.Port == 0) {
		return bad("no tunnel ID or port")
	}
	for _, l := range [][]Mapping{m.Initiator, m.Responder} {
		for _, x := range l {
			if x.Network.Bits() != x.Substitute.Bits() {
				return bad("%v and its substitute %v differ in length", x.Network, x.Substitute)
			}
		}
	}
	return nil
}
