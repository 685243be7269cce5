package htip

import (
	"bytes"
	"crypto/hmac"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Limits of invites.
const (
	MaxInvites     = 16                  // that can still be used
	MaxInviteTime  = 30 * 24 * time.Hour // from issue to expiry
	maxInviteRows  = 32                  // with those that can't: so long their holders are told why
	maxInviteWrong = 5                   // wrong proofs of one network in inviteWrongFor; then it is told to wait
	inviteWrongFor = 10 * time.Minute
	maxGuessers    = 32 // networks that are watched
)

// ClockSet is 2025: a router without a battery starts in 1970, and until it has
// asked for the time nothing can be said about an expiry.
const ClockSet = 1735689600

// InviteState is what became of an invite.
type InviteState uint8

const (
	InviteOpen      InviteState = iota // nobody has used it
	InviteClaimed                      // a home has used it, and is about to become a peer
	InviteUsed                         // and has become one
	InviteCancelled                    // by somebody here
)

var inviteStates = [...]string{"open", "claimed", "used", "cancelled"}

func (s InviteState) String() string {
	if int(s) < len(inviteStates) {
		return inviteStates[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// ParseInviteState is the state of that name.
func ParseInviteState(s string) (InviteState, bool) {
	i := slices.Index(inviteStates[:], s)
	return InviteState(max(i, 0)), i >= 0
}

// Issued is an invite as its issuer keeps it.
type Issued struct {
	Number  int // by which people name it
	ID      InviteID
	Key     ProofKey
	Name    string   // of the peer that is to be; "": what suits
	Access  []string // of that peer
	Expires int64    // seconds since 1970
	State   InviteState
	By      []byte // public key of the home that used it
}

// Open tells whether the invite can still be used.
func (i *Issued) Open(now time.Time) bool { return i.State == InviteOpen && now.Unix() < i.Expires }

// Invites are those that this gateway has issued, oldest first. Whoever changes
// them saves them before going on.
type Invites []Issued

// ErrClock says that the clock has not been set since the start.
var ErrClock = errors.New("the clock of this router is not set yet: it has to know the time before it can say how long an invite is good. Wait a minute, or set its time servers")

// Add takes a new invite in and gives it its number.
func (l *Invites) Add(now time.Time, i Issued) (int, error) {
	left := i.Expires - now.Unix()
	open := 0
	for k := range *l {
		if (*l)[k].Open(now) {
			open++
		}
		i.Number = max(i.Number, (*l)[k].Number+1)
	}
	i.Number = max(i.Number, 1)
	switch {
	case now.Unix() < ClockSet:
		return 0, ErrClock
	case left < 1 || left > int64(MaxInviteTime/time.Second):
		return 0, errors.New("an invite is good for a second at least, and for 30 days at most")
	case open >= MaxInvites:
		return 0, fmt.Errorf("%d invites are waiting to be used already, which is the most: cancel one first", MaxInvites)
	}
	*l = append(*l, i)
	for len(*l) > maxInviteRows {
		k := slices.IndexFunc(*l, func(x Issued) bool { return x.State != InviteClaimed && !x.Open(now) })
		if k < 0 {
			break
		}
		*l = slices.Delete(*l, k, k+1)
	}
	return i.Number, nil
}

// Cancel makes an invite unusable. False: there is none with this number, or a
// home has used it.
func (l Invites) Cancel(number int64) bool {
	for k := range l {
		if i := &l[k]; int64(i.Number) == number && (i.State == InviteOpen || i.State == InviteCancelled) {
			i.State = InviteCancelled
			return true
		}
	}
	return false
}

// Judge says what a stranger's proof is worth: an invite that is his, or a
// reason with a sentence for him. key is the stranger's public key, proven by
// the TLS session whose exporter it is.
func (l Invites) Judge(now time.Time, p Proof, exporter, key []byte) (*Issued, Reason, string) {
	k := slices.IndexFunc(l, func(i Issued) bool { return i.ID == p.ID })
	if k < 0 {
		return nil, ReasonInvite, "this invite is not known here: it is too old, or was never issued by this home. Ask for a new one"
	}
	i := &l[k]
	want := i.Key.mac(exporter, key)
	switch {
	case !hmac.Equal(want[:], p.MAC[:]): // who knows the ID only learns nothing about it
		return nil, ReasonInvite, "this invite is not known here: it is too old, or was never issued by this home. Ask for a new one"
	case i.State == InviteClaimed && bytes.Equal(i.By, key):
		return i, 0, "" // a crash came between
	case i.State == InviteClaimed, i.State == InviteUsed:
		return nil, ReasonInviteUsed, "this invite has been used already: an invite is good for one home, once. Ask for a new one"
	case i.State == InviteCancelled:
		return nil, ReasonInviteUsed, "this invite was cancelled by the home that issued it. Ask for a new one"
	case now.Unix() < ClockSet:
		return nil, ReasonBusy, "the clock of this router is not set yet, so it can't tell whether the invite is still good. Try again in a minute"
	case now.Unix() >= i.Expires:
		return nil, ReasonInviteExpired, "this invite is too old by the clock of the home that issued it. Ask for a new one"
	}
	return i, 0, ""
}

// Claim gives an invite to a home: from now on no other can use it.
func (i *Issued) Claim(key []byte) { i.State, i.By = InviteClaimed, bytes.Clone(key) }

// Settle ends the claims of homes that are peers: an invite is good once, also
// for a home that is taken out of the configuration later. True when that
// changed something.
func (l Invites) Settle(peer func(key []byte) bool) (changed bool) {
	for k := range l {
		if i := &l[k]; i.State == InviteClaimed && peer(i.By) {
			i.State, changed = InviteUsed, true
		}
	}
	return changed
}

// Guesses counts wrong proofs by the network that they come from: a secret of
// 128 bits is not guessed, but nobody has to be let try.
type Guesses []guess

type guess struct {
	net   netip.Prefix
	wrong int
	since time.Time
}

// Allowed tells whether wrong proofs from this address are still counted.
func (l Guesses) Allowed(from netip.Addr, now time.Time) bool {
	net := network(from)
	return !slices.ContainsFunc(l, func(g guess) bool {
		return g.net == net && g.wrong >= maxInviteWrong && now.Sub(g.since) < inviteWrongFor
	})
}

// Wrong counts a wrong proof.
func (l *Guesses) Wrong(from netip.Addr, now time.Time) {
	*l = slices.DeleteFunc(*l, func(g guess) bool { return now.Sub(g.since) >= inviteWrongFor })
	net := network(from)
	k := slices.IndexFunc(*l, func(g guess) bool { return g.net == net })
	if k < 0 {
		if len(*l) >= maxGuessers {
			*l = slices.Delete(*l, 0, 1)
		}
		*l = append(*l, guess{net: net, since: now})
		k = len(*l) - 1
	}
	(*l)[k].wrong++
}
