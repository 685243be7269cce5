package datapath

import "crypto/ecdh"

// WireGuardSecret is the length in bytes of a WireGuard tunnel's Secret: the
// client's private key, the server's private key, the preshared key.
const WireGuardSecret = 3 * 32

// setKeys takes a tunnel's keys out of its secret: the own private key, the
// peer's public key, the preshared key.
//
// Both ends hold the same secret and so know each other's private key as well
// as their own. That is sound here, where it would not be in general:
//
//   - The keys have one user, a tunnel of exactly two ends. Who holds the
//     peer's private key can pretend to be the peer to nobody but himself.
//   - The ends have proved who they are, by their long-lived keys, in the TLS
//     session that the secret is exported from. These keys have to prove only
//     that both are the ends of that session, and a shared secret does.
//   - They are new for each tunnel, since the secret is bound to the session
//     and the tunnel's ID, and gone with it: they are in the kernel's memory,
//     the daemon's, and a file on a file system in memory.
//   - Nothing rests on them for what has passed: WireGuard's session keys come
//     from ephemeral keys of its own handshake, too.
//
// So nothing has to be sent, no message has a key to check, and a tunnel can't
// be made with anybody but the end of the TLS session.
func (d *wgDevice) setKeys(secret []byte, server bool) {
	own, peer := secret[:32], secret[32:64]
	if server {
		own, peer = peer, own
	}
	d.private, d.peer = clamp(own), clamp(peer).public()
	copy(d.shared[:], secret[64:])
}

// clamp makes a private key of 32 random bytes (RFC 7748 §5).
func clamp(b []byte) (k wgKey) {
	copy(k[:], b)
	k[0] &= 248
	k[31] = k[31]&127 | 64
	return k
}

// public is the public key of a private one.
func (k wgKey) public() (p wgKey) {
	private, err := ecdh.X25519().NewPrivateKey(k[:])
	if err != nil {
		panic("a key of 32 bytes is none: " + err.Error())
	}
	copy(p[:], private.PublicKey().Bytes())
	return p
}
