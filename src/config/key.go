package config

import (
	"encoding/base64"
	"slices"
)

// Key is an Ed25519 public key (RFC 8032, 5.1.5).
type Key [32]byte

// String is the key in base64 (RFC 4648, 4): 44 characters.
func (k Key) String() string { return base64.StdEncoding.EncodeToString(k[:]) }

// parseKey reads a key as "htip key" prints it.
func parseKey(v string) (k Key, ok bool) {
	// The decoder skips line ends, hence the look at the length.
	b, err := base64.StdEncoding.Strict().DecodeString(v)
	if err != nil || len(b) != len(k) || len(v) != base64.StdEncoding.EncodedLen(len(k)) {
		return Key{}, false
	}
	k = Key(b)
	return k, !k.weak()
}

// weak tells whether the key is a point of small order. Anybody can make
// signatures that such a key verifies, so a placeholder like AAAA…= left in the
// file would let every stranger in as that peer.
func (k Key) weak() bool {
	k[31] &^= 0x80 // the sign of x
	return slices.Contains(smallOrder, k)
}

// smallOrder are the y of the points whose order divides 8, those not below the
// field's prime included.
var smallOrder = []Key{
	{}, // order 4
	{1},
	{0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0,
		0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05}, // 8
	{0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f,
		0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a}, // 8
	nearPrime(0xec), // p-1, order 2
	nearPrime(0xed), // p, the same as 0
	nearPrime(0xee), // p+1, the same as 1
}

// nearPrime is 2^255 - 256 + low, little-endian.
func nearPrime(low byte) (k Key) {
	for i := range k {
		k[i] = 0xff
	}
	k[0], k[31] = low, 0x7f
	return k
}
