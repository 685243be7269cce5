package config

import (
	"encoding/base64"
	"errors"
	"fmt"
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
			if _, taken := c.Peer(name); !taken {
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
