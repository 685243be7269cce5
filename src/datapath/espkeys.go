package datapath

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// ESPSecret is the length in bytes of an L2TP-in-ESP tunnel's Secret: the
// secret of L2TP's tunnel authentication, the master of all keys.
const ESPSecret = espL2TPSecret + 32

const espL2TPSecret = 16

// espMark is what the reqids of our associations and policies begin with: by
// it we find ours in the kernel, and leave those of others alone. The rest of
// a reqid is a hash of the device.
const (
	espMark     = 0x48 << 24
	espMarkMask = 0xff << 24
)

func espOurs(reqid uint32) bool { return reqid&espMarkMask == espMark }

func espReqID(device string) uint32 {
	sum := sha256.Sum256([]byte(device))
	return espMark | binary.BigEndian.Uint32(sum[:])&^espMarkMask
}

// SPIs below are reserved (RFC 4303 §2.1).
const espFirstSPI = 256

// Generations of keys that a tunnel may have: by far more than any lives.
const espGenerations = 1 << 24

// espKeys are the keys of one direction, one generation after the other. Both
// ends have them all from the beginning, so that a change of keys needs no
// message (docs/protocol.md).
type espKeys struct {
	master []byte
	cipher string
	server bool   // what the server sends
	base   uint32 // of the SPIs
}

func newESPKeys(secret []byte, cipher string, server bool) espKeys {
	k := espKeys{master: secret[espL2TPSecret:], cipher: cipher, server: server}
	k.base = binary.BigEndian.Uint32(k.expand("spi", 0, 4))
	return k
}

// expand derives octets for a purpose by HKDF-Expand with SHA-256 (RFC 5869
// §2.3). Package hkdf would cost a kilobyte; the tests hold this against it.
func (k *espKeys) expand(what string, n uint32, octets int) []byte {
	from := "client"
	if k.server {
		from = "server"
	}
	info := "htip l2tp-esp " + what + " " + k.cipher + " " + from + " " + string(binary.BigEndian.AppendUint32(nil, n))
	var out, block []byte
	for i := byte(1); len(out) < octets; i++ {
		mac := hmac.New(sha256.New, k.master)
		mac.Write(append(append(block, info...), i))
		block = mac.Sum(nil)
		out = append(out, block...)
	}
	return out[:octets]
}

// key is that of a generation, with the salt behind it.
func (k *espKeys) key(n uint32) []byte {
	_, octets := espCipher(k.cipher)
	return k.expand("key", n, octets)
}

const spis = 1<<32 - espFirstSPI

func (k *espKeys) spi(n uint32) uint32 {
	return uint32((uint64(k.base)+uint64(n))%spis) + espFirstSPI
}

// generation is the inverse of spi; false if no generation has it.
func (k *espKeys) generation(spi uint32) (uint32, bool) {
	n := (uint64(spi) + 2*spis - espFirstSPI - uint64(k.base)) % spis
	return uint32(n), spi >= espFirstSPI && n < espGenerations
}

// A change of keys. What is sent moves to the next generation when the present
// one is old or has carried much. Whoever receives has the next ones in the
// kernel already, and learns of the change from their counters. So nothing is
// sent and nothing lost, and while a daemon is away the other end may change
// espAhead times.
const (
	espAhead = 2

	// A key's age. WireGuard's two minutes need a handshake with fresh keys; here
	// all keys have one master, so that a change protects from wear only, and
	// wear takes hours.
	espEvery = time.Hour
	// AES-GCM by one key: 2^36 octets are 2^32 blocks, at which an attacker's
	// advantage is still below 2^-64; the packets are half of what the shortest
	// sequence number could count.
	espPackets = 1 << 31
	espOctets  = 1 << 36
	// Without a daemon nobody changes keys. Then the kernel makes an end, after
	// this many times espEvery. Associations for receiving may wait for their
	// turn before, and need more.
	espHardSend, espHardReceive = 24, 72
)

// espTimes are the times that follow from how often keys change.
type espTimes struct {
	every time.Duration
	look  time.Duration // between two looks at the counters
	pause time.Duration // at least, between two changes: several looks of the other end
}

func timesOf(every time.Duration) espTimes {
	return espTimes{every: every, look: min(every/8, 10*time.Second), pause: min(every/2, time.Minute)}
}

// espGeneration is an association of a tunnel's direction.
type espGeneration struct {
	n               uint32
	packets, octets uint64
	age             time.Duration // by a clock that may have been set
	spread          uint8         // makes tunnels change at different times
}

// espChange is what has to be done in one direction: generations from … to - 1
// have to be there, those below another one go.
type espChange struct{ from, to, below uint32 }

// highest is the newest generation of all, or of those that have carried a
// packet.
func highest(have []espGeneration, used bool) (top espGeneration, ok bool) {
	for _, g := range have {
		if (!used || g.packets > 0) && (!ok || g.n > top.n) {
			top, ok = g, true
		}
	}
	return top, ok
}

func has(have []espGeneration, n uint32) bool {
	for _, g := range have {
		if g.n == n {
			return true
		}
	}
	return false
}

// sending decides about the associations that are sent by; the kernel takes the
// newest one. rested: the last change is long enough ago. The old one goes at
// the look after the new one came, so that no packet is caught between the two.
func (t *espTimes) sending(have []espGeneration, rested bool) (c espChange) {
	top, ok := highest(have, false)
	for _, g := range have {
		if g.n < top.n {
			return espChange{below: top.n}
		}
	}
	soft := t.every - t.every/4*time.Duration(top.spread)/256 // up to a quarter earlier
	if ok && rested && top.packets > 0 &&
		(top.age >= soft || top.age < -t.every || top.packets >= espPackets || top.octets >= espOctets) {
		return espChange{from: top.n + 1, to: top.n + 2}
	}
	return espChange{}
}

// receiving decides about the associations that are received by: the newest
// that has been used, the one before it for packets that come late, and
// espAhead more.
func (t *espTimes) receiving(have []espGeneration) (c espChange) {
	now, ok := highest(have, true)
	if !ok { // none was used yet: the oldest is the one that will be
		for i, g := range have {
			if i == 0 || g.n < now.n {
				now = g
			}
		}
	}
	if len(have) == 0 {
		return espChange{}
	}
	return espChange{now.n + 1, now.n + 1 + espAhead, max(now.n, 1) - 1}
}
