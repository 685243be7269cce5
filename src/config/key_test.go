package config

import (
	"crypto/ed25519"
	"slices"
	"testing"
)

// Each weak key verifies a signature that nobody made: S = 0 and R a point of small
// order. A real key is not weak.
func TestWeakKeys(t *testing.T) {
	for _, k := range smallOrder {
		for _, sign := range []byte{0, 0x80} {
			k[31] = k[31]&^0x80 | sign
			if !k.weak() {
				t.Errorf("%x is not weak", k)
			}
			if (k == Key{1, 31: 0x80} || k == Key{0xec, 31: 0xff}) || k[0] == 0xee && sign != 0 {
				continue // x is 0 and has no sign: libraries differ
			}
			if !forge(k) {
				t.Errorf("no forged signature for %x", k)
			}
		}
	}
	pub := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)).Public().(ed25519.PublicKey)
	if Key(pub).weak() || forge(Key(pub)) {
		t.Error("a real key is weak")
	}
}

func forge(k Key) bool {
	for i := range 64 {
		for _, r := range smallOrder {
			for _, sign := range []byte{0, 0x80} {
				r[31] = r[31]&^0x80 | sign
				if ed25519.Verify(k[:], []byte{byte(i)}, slices.Concat(r[:], make([]byte, 32))) {
					return true
				}
			}
		}
	}
	return false
}
