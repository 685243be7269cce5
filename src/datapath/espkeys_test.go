package datapath

import (
	"bytes"
	"crypto/hkdf"
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func espSecret(seed byte) []byte {
	secret := make([]byte, ESPSecret)
	for i := range secret {
		secret[i] = seed + byte(i)
	}
	return secret
}

// TestESPKeys: both ends have the same keys, and no two uses have the same.
func TestESPKeys(t *testing.T) {
	seen := map[string]string{}
	for _, cipher := range []string{CipherAES, CipherChaCha} {
		for seed := range byte(3) {
			for _, server := range []bool{false, true} {
				mine, theirs := newESPKeys(espSecret(seed), cipher, server), newESPKeys(espSecret(seed), cipher, server)
				_, octets := espCipher(cipher)
				for n := range uint32(5) {
					k := mine.key(n)
					if !bytes.Equal(k, theirs.key(n)) || mine.spi(n) != theirs.spi(n) || len(k) != octets {
						t.Errorf("the ends differ at generation %d: %x, %x", n, k, theirs.key(n))
					}
					what := fmt.Sprint(cipher, seed, server, n)
					for _, x := range []string{string(k[:16]), fmt.Sprint(mine.spi(n))} {
						if seen[x] != "" {
							t.Errorf("%s has what %s has", what, seen[x])
						}
						seen[x] = what
					}
				}
			}
		}
	}
	for n := range 100 {
		k := newESPKeys(espSecret(9), CipherAES, false)
		want, err := hkdf.Expand(sha256.New, k.master, "htip l2tp-esp x aes-gcm-128 client \x00\x00\x00\x07", n)
		if got := k.expand("x", 7, n); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d octets: %x, not %x", n, got, want)
		}
	}
	// As docs/protocol.md has it, for other implementations.
	k := newESPKeys(espSecret(0), CipherChaCha, true)
	if got := fmt.Sprintf("%08x %08x %x", k.spi(0), k.spi(1), k.key(1)); got != espExample {
		t.Errorf("%s", got)
	}
}

func TestESPGenerations(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := espKeys{base: rapid.Uint32().Draw(t, "base")}
		n := rapid.Uint32Range(0, espGenerations-1).Draw(t, "n")
		spi := k.spi(n)
		if got, ok := k.generation(spi); !ok || got != n || spi < espFirstSPI {
			t.Fatalf("generation %d has SPI %d, which is generation %d, %v", n, spi, got, ok)
		}
		if got, ok := k.generation(k.spi(espGenerations + n)); ok {
			t.Fatalf("%d of another tunnel is generation %d", n, got)
		}
		if _, ok := k.generation(rapid.Uint32Range(0, espFirstSPI-1).Draw(t, "reserved")); ok {
			t.Fatal("a reserved SPI has a generation")
		}
	})
}

// espExample are the SPIs of generations 0 and 1 and the key of 1, of what the
// server sends by a secret of 0, 1, 2 … 47.
const espExample = "34163a4d 34163a4e ef7483fb120c80d5c5ca87b51c5203bc5c27c7128ee12e39e7478400d7bb739396985d0c"

// done is what a change comes to.
func done(have []espGeneration, c espChange) string {
	add, remove := changes(have, c)
	return fmt.Sprintf("add %v, remove %v", add, remove)
}

func changes(have []espGeneration, c espChange) (add, remove []uint32) {
	for n := c.from; n < c.to; n++ {
		if !has(have, n) {
			add = append(add, n)
		}
	}
	for _, g := range have {
		if g.n < c.below {
			remove = append(remove, g.n)
		}
	}
	return add, remove
}

func gens(ns ...uint32) (out []espGeneration) {
	for _, n := range ns {
		out = append(out, espGeneration{n: n})
	}
	return out
}

func TestESPSending(t *testing.T) {
	times := timesOf(time.Hour)
	for _, c := range []struct {
		name   string
		have   []espGeneration
		rested bool
		want   string
	}{
		{"nothing is there", nil, true, "add [], remove []"},
		{"new", []espGeneration{{n: 3, packets: 1}}, true, "add [], remove []"},
		{"old", []espGeneration{{n: 3, packets: 1, age: time.Hour}}, true, "add [4], remove []"},
		{"old, and a little earlier than another tunnel", []espGeneration{{n: 3, packets: 1, age: 46 * time.Minute, spread: 255}}, true, "add [4], remove []"},
		{"not so old", []espGeneration{{n: 3, packets: 1, age: 46 * time.Minute, spread: 20}}, true, "add [], remove []"},
		{"old, changed a moment ago", []espGeneration{{n: 3, packets: 1, age: time.Hour}}, false, "add [], remove []"},
		{"old and never used", []espGeneration{{n: 3, age: time.Hour}}, true, "add [], remove []"},
		{"the clock was set back", []espGeneration{{n: 3, packets: 1, age: -20 * 365 * 24 * time.Hour}}, true, "add [4], remove []"},
		{"many packets", []espGeneration{{n: 3, packets: 1 << 31}}, true, "add [4], remove []"},
		{"many octets", []espGeneration{{n: 3, packets: 9, octets: 1 << 36}}, true, "add [4], remove []"},
		{"one before it is left", append(gens(2), espGeneration{n: 3, packets: 1, age: time.Hour}), true, "add [], remove [2]"},
	} {
		if got := done(c.have, times.sending(c.have, c.rested)); got != c.want {
			t.Errorf("%s: %s, not %s", c.name, got, c.want)
		}
	}
}

func TestESPReceiving(t *testing.T) {
	times := timesOf(time.Hour)
	for _, c := range []struct {
		name string
		have []espGeneration
		want string
	}{
		{"nothing is there", nil, "add [], remove []"},
		{"not used yet", gens(0, 1, 2), "add [], remove []"},
		{"killed in the middle of the start", gens(0), "add [1 2], remove []"},
		{"the first is used", append(gens(1, 2), espGeneration{n: 0, packets: 9}), "add [], remove []"},
		{"the second is used", append(gens(2), espGeneration{n: 0, packets: 9}, espGeneration{n: 1, packets: 1}), "add [3], remove []"},
		{"the third is used, the second still may be", append(gens(3), espGeneration{n: 0, packets: 9}, espGeneration{n: 1, packets: 1}, espGeneration{n: 2, packets: 1}), "add [4], remove [0]"},
		{"two were passed while nobody looked", append(gens(0, 1), espGeneration{n: 2, packets: 1}), "add [3 4], remove [0]"},
	} {
		if got := done(c.have, times.receiving(c.have)); got != c.want {
			t.Errorf("%s: %s, not %s", c.name, got, c.want)
		}
	}
}

// TestESPNothingIsLost plays both ends of one direction: their looks at times of
// their own, packets under way for up to a second, daemons that are away. No
// packet ever meets a receiver without its key, as long as the receiver's daemon
// misses no more changes than it has keys for; and no key is used twice or for
// much longer than it should.
func TestESPNothingIsLost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		every := time.Duration(rapid.IntRange(16, 400).Draw(t, "every")) * time.Second
		times := timesOf(every)
		const tick = 250 * time.Millisecond
		awayOnce := int(8 * every / tick)
		type packet struct {
			n     uint32
			comes time.Duration
		}
		var (
			now                time.Duration
			out                = []*espGeneration{{n: 0}}
			in                 = []*espGeneration{{n: 0}, {n: 1}, {n: 2}}
			made               = map[uint32]time.Duration{0: 0}
			wire               []packet
			sendLook, recvLook time.Duration
			changed, disturbed time.Duration
			known              uint32        // by the receiver, at its last look
			sendAway, recvAway time.Duration // until when a daemon is dead
			used               = map[uint32]bool{}
			values             = func(ps []*espGeneration) (out []espGeneration) {
				for _, p := range ps {
					out = append(out, *p)
				}
				return out
			}
		)
		for now = 0; now < 12*every; now += tick {
			// A packet by what the kernel takes: the newest, once it is a moment old.
			top := out[0]
			for _, g := range out {
				if g.n > top.n && (len(out) == 1 || r.IntN(2) == 0) {
					top = g
				}
			}
			if r.IntN(4) > 0 {
				top.packets++
				if sendAway != 0 || recvAway != 0 {
					disturbed = now
				}
				if age := now - made[top.n]; age > every+times.pause && now-disturbed > every+times.pause {
					t.Fatalf("generation %d is %v old at an interval of %v", top.n, age, every)
				}
				wire = append(wire, packet{top.n, now + time.Duration(r.IntN(4))*tick})
			}
			wire = slices.DeleteFunc(wire, func(p packet) bool {
				if p.comes > now {
					return false
				}
				i := slices.IndexFunc(in, func(g *espGeneration) bool { return g.n == p.n })
				if i < 0 {
					t.Fatalf("at %v: a packet of generation %d, the receiver has %v", now, p.n, values(in))
				}
				in[i].packets++
				return true
			})
			for _, g := range out {
				g.age = now - made[g.n]
			}
			if r.IntN(awayOnce) == 0 { // the sender's daemon is killed: it forgets when it changed last
				sendAway = now + time.Duration(r.Int64N(int64(2*every)))
			}
			if now >= sendLook && now >= sendAway {
				if sendAway != 0 {
					changed, disturbed, sendAway = now, now, 0
				}
				sendLook = now + times.look + time.Duration(r.IntN(3))*tick
				// Somebody who is away can't miss more than he has keys for.
				newest, _ := highest(values(out), false)
				may := recvAway == 0 || newest.n < known+espAhead
				add, remove := changes(values(out), times.sending(values(out), now-changed >= times.pause && may))
				for _, n := range add {
					if used[n] {
						t.Fatalf("generation %d a second time", n)
					}
					used[n], made[n], changed = true, now, now
					out = append(out, &espGeneration{n: n})
				}
				out = slices.DeleteFunc(out, func(g *espGeneration) bool { return slices.Contains(remove, g.n) })
			}
			if r.IntN(awayOnce) == 0 && recvAway == 0 {
				recvAway = now + time.Duration(r.Int64N(int64(3*every)))
			}
			if now >= recvLook && now >= recvAway {
				recvAway = 0
				if g, ok := highest(values(in), true); ok {
					known = g.n
				}
				recvLook = now + times.look + time.Duration(r.IntN(3))*tick
				add, remove := changes(values(in), times.receiving(values(in)))
				for _, n := range add {
					in = append(in, &espGeneration{n: n})
				}
				in = slices.DeleteFunc(in, func(g *espGeneration) bool { return slices.Contains(remove, g.n) })
				if len(in) > espAhead+2 {
					t.Fatalf("%d associations: %v", len(in), values(in))
				}
			}
		}
		if made[1] == 0 { // how many more there are depends on who was away
			t.Fatalf("keys have not changed: %v", made)
		}
	})
}
