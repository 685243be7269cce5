package htip

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"strings"
	"unicode"
)

// An invite is one string that its issuer gives to a friend. It says where the
// issuer's gateway is and by what key it is known, and carries a secret that
// lets its holder in once.

// Sizes in octets.
const (
	KeySize    = 32 // of a gateway's public key (RFC 8032 §5.1.5)
	SecretSize = 16

	inviteHead = 1 + 2 + 4 + KeySize + SecretSize // what stands in front of the domain
	inviteSum  = 4
	inviteText = 2048 // of a pasted string; an invite has at most 510 characters
)

const (
	invitePrefix  = "htip:"
	inviteVersion = 1
)

// Secret is the one-time secret of an invite. It is shown in the invite and
// nowhere else.
type Secret [SecretSize]byte

// String keeps a secret out of logs and errors.
func (Secret) String() string { return "secret" }

// Invite is what the string of an invite says.
type Invite struct {
	Domain  string // the issuer's public domain name
	Port    uint16 // TCP port of its control channel
	Key     []byte // its public key, KeySize octets
	Secret  Secret
	Expires int64 // seconds since 1970, by the issuer's clock
}

// What is wrong with the string of an invite.
var (
	ErrNoInvite      = errors.New("this is no invite: an invite begins with " + invitePrefix)
	ErrDamagedInvite = errors.New("this invite is damaged: a part is missing or was changed on the way. Copy the whole text once more, or ask for it again")
	ErrNewInvite     = errors.New("this invite was made by a newer version of HTIP: update this router first")
)

// base32 has no characters that a messenger takes for formatting, survives a
// change of case, and fits the dense mode of QR codes.
var inviteCode = base32.StdEncoding.WithPadding(base32.NoPadding)

// Encode writes an invite as people pass it on; docs/protocol.md has the layout.
// What ParseInvite would refuse is an error.
func (v Invite) Encode() (string, error) {
	if v.Expires < 0 || v.Expires >= 1<<32 || len(v.Key) != KeySize {
		return "", errors.New("an invite needs a key and an expiry")
	}
	b := append(make([]byte, 0, inviteHead+len(v.Domain)+inviteSum), inviteVersion)
	b = binary.BigEndian.AppendUint16(b, v.Port)
	b = binary.BigEndian.AppendUint32(b, uint32(v.Expires))
	b = append(append(append(b, v.Key...), v.Secret[:]...), v.Domain...)
	sum := sha256.Sum256(b)
	s := invitePrefix + strings.ToLower(inviteCode.EncodeToString(append(b, sum[:inviteSum]...)))
	_, err := ParseInvite(s)
	return s, err
}

// ParseInvite reads the string of an invite, in whatever case, with what mail
// programs and messengers put in between: spaces, line breaks, marks of
// quotation, invisible characters. Errors are ErrNoInvite, ErrDamagedInvite and
// ErrNewInvite.
func ParseInvite(s string) (v Invite, err error) {
	if len(s) > inviteText {
		return v, ErrNoInvite
	}
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r), unicode.IsControl(r), unicode.Is(unicode.Cf, r), strings.ContainsRune(`<>"'`, r):
			return -1
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		}
		return r
	}, s)
	s, ok := strings.CutPrefix(s, strings.ToUpper(invitePrefix))
	if !ok {
		return v, ErrNoInvite
	}
	b, err := inviteCode.DecodeString(s)
	if err != nil || len(b) < inviteHead+inviteSum {
		return v, ErrDamagedInvite
	}
	n := len(b) - inviteSum
	sum := sha256.Sum256(b[:n])
	if !bytes.Equal(sum[:inviteSum], b[n:]) {
		return v, ErrDamagedInvite
	}
	if b[0] != inviteVersion { // the checksum is in the same place in all versions
		return v, ErrNewInvite
	}
	v.Port = binary.BigEndian.Uint16(b[1:])
	v.Expires = int64(binary.BigEndian.Uint32(b[3:]))
	v.Key = bytes.Clone(b[7 : 7+KeySize])
	copy(v.Secret[:], b[7+KeySize:])
	if v.Domain = string(b[inviteHead:n]); !validDomain(b[inviteHead:n]) || v.Port == 0 {
		return Invite{}, ErrDamagedInvite
	}
	return v, nil
}

// InviteID names an invite without giving its secret away.
type InviteID [8]byte

// Proof shows in a REQUEST that its sender holds an invite (parameter 15). It is
// worth something on one connection only.
type Proof struct {
	ID  InviteID
	MAC [sha256.Size]byte
}

// ProofKey is what the issuer keeps in the secret's place: it checks proofs by
// it. Who reads it can make proofs, too, but not the string of the invite.
type ProofKey [sha256.Size]byte

// String keeps it out of logs and errors.
func (ProofKey) String() string { return "secret" }

func mac(key []byte, parts ...[]byte) (out [sha256.Size]byte) {
	h := hmac.New(sha256.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// ID and Key are derived from the secret: it is used for nothing else.
func (s Secret) ID() InviteID  { x := mac(s[:], []byte("HTIP invite ID")); return InviteID(x[:8]) }
func (s Secret) Key() ProofKey { return mac(s[:], []byte("HTIP invite key")) }

// ExporterSize is the length in octets of what a proof takes from the TLS
// session.
const ExporterSize = 32

// Prove makes the proof for one connection: exporter is what its TLS session
// exports for an invite, key the sender's public key. The latter is not part of
// what TLS 1.3 exports (RFC 8446 §7.5 ends with the server's Finished).
func (s Secret) Prove(exporter, key []byte) Proof {
	return Proof{s.ID(), s.Key().mac(exporter, key)}
}

func (k ProofKey) mac(exporter, key []byte) [sha256.Size]byte { return mac(k[:], exporter, key) }
