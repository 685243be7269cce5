package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
)

// PublicName brings a home's name in the public DNS into its one form; false for
// what can't be one.
func PublicName(s string) (string, bool) { return publicName(s) }

// PeerName brings what a peer shall be called into its one form; false for what
// is no DNS label, and for "all", which means all of them where peers are listed.
func PeerName(s string) (string, bool) {
	s, ok := labelName(s)
	return s, ok && s != "all"
}

// ParseKey reads a public key as "htip key" prints it.
func ParseKey(s string) (Key, bool) { return parseKey(s) }

// FreeName is a name for a new peer that no other has: the first label of the
// domain that it claims, with a number behind it when that is taken.
func (c Config) FreeName(domain string) string {
	base := "home"
	if d, ok := publicName(domain); ok {
		for i := range d {
			if d[i] == '.' {
				base = d[:i]
				break
			}
		}
	}
	if len(base) > 60 {
		base = base[:60]
	}
	name := base
	for n := 2; ; n++ {
		if _, ok := PeerName(name); ok {
			if _, taken := c.Like(name); !taken {
				return name
			}
		}
		name = fmt.Sprintf("%s-%d", base, n)
	}
}

// CheckAccess says what is wrong with the entries of a list access.
func CheckAccess(list []string) error {
	if len(list) == 0 {
		return nil
	}
	var errs []error
	readAccess(&Peer{}, list, func(value, want string) { errs = append(errs, fmt.Errorf("access %q: %s", value, want)) })
	return errors.Join(errs...)
}

// KeyOf is the key with these octets; false when they are none, or one that
// everybody can sign for.
func KeyOf(b []byte) (k Key, ok bool) { return parseKey(base64.StdEncoding.EncodeToString(b)) }

// Short is what a peer's device is called by: at most ten characters of the name,
// or five and a hash when it is longer.
func Short(name string) string {
	const room = 10
	if len(name) <= room {
		return name
	}
	sum := uint32(2166136261) // FNV-1a
	for i := range len(name) {
		sum = (sum ^ uint32(name[i])) * 16777619
	}
	return fmt.Sprintf("%s%05x", name[:room-5], sum&0xfffff)
}

// Like is the peer that has this name, or whose device would be called the same.
func (c Config) Like(name string) (Peer, bool) {
	short := Short(name)
	if i := slices.IndexFunc(c.Peers, func(p Peer) bool { return Short(p.Name) == short }); i >= 0 {
		return c.Peers[i], true
	}
	return Peer{}, false
}
