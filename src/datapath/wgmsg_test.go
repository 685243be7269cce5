package datapath

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/netip"
	"testing"

	"htip/src/rtnl"
)

// captured is the device of the captures: A's end, with keys that were given.
func captured() *wgDevice {
	tun := wgTunnelOf(homeA())
	tun.LocalPort, tun.Remote = 17010, netip.MustParseAddrPort("192.88.99.2:17011")
	tun.Peer = append(tun.Peer, pfx("10.8.0.0/16"))
	d := tun.wgConfig()
	d.private = wgKey(mustHex("f8fdfcfbfaf9f8f7f6f5f4f3f2f1f0efeeedecebeae9e8e7e6e5e4e3e2e1e060"))
	d.peer = wgKey(mustHex("1e32e608fc941eb4a8149283c2c2d1c2c3c4c5c6c7c8c9cacbcccdcecfd0d121"))
	return d
}

func mustHex(s string) []byte {
	b, err := hex.DecodeString(s)
	if err != nil {
		panic(err)
	}
	return b
}

func TestWireGuardMessages(t *testing.T) {
	// Of what wg sends ours leaves out: no mark, and replace all peers, which a
	// new device has none of.
	want := hexFile(t, "wg-set.hex")
	for _, a := range [][]byte{rtnl.Put32(nil, 7, 0), rtnl.Put32(nil, 5, 1)} {
		if !bytes.Contains(want, a) {
			t.Fatalf("no %x", a)
		}
		want = bytes.Replace(want, a, nil, 1)
	}
	if got := captured().encode("htip-bob"); !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}

	answer := hexFile(t, "wg-get.hex")
	var d wgDevice
	d.decode(answer[4:])
	w := captured()
	if d.public != w.private.public() || d.port != 17010 || d.peers != 1 || d.peer != w.peer || d.shared != w.shared || d.keepalive != 5 ||
		fmt.Sprint(d.allowed) != "[10.0.2.0/24 10.8.0.0/16]" || d.private != (wgKey{}) {
		t.Errorf("%+v", d)
	}
	// A device of which the kernel has much to tell comes in several messages.
	d.decode(answer[4:])
	if d.peers != 2 || len(d.allowed) != 4 {
		t.Errorf("%+v", d)
	}
	// Whatever is cut off, nothing breaks, and nothing is taken for the whole.
	for n := range answer[4:] {
		var d wgDevice
		d.decode(answer[4 : 4+n])
		if d.peers == 1 && len(d.allowed) == 2 {
			t.Errorf("%d bytes of %d are enough", n, len(answer)-4)
		}
	}
}

func FuzzWireGuardDevice(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{8, 0, 8, 0, 4, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var d wgDevice
		d.decode(b)
		for _, p := range d.allowed {
			if p.String() == "" {
				t.Error("no text")
			}
		}
	})
}

// Both ends make the same tunnel of the same secret. That a public key is what
// the kernel makes of the private one, TestWireGuardMessages holds.
func TestWireGuardKeys(t *testing.T) {
	secret := make([]byte, WireGuardSecret)
	seen := map[wgKey]bool{}
	for range 20 {
		rand.Read(secret)
		var client, server wgDevice
		client.setKeys(secret, false)
		server.setKeys(secret, true)
		if client.private.public() != server.peer || server.private.public() != client.peer {
			t.Error("the ends don't know each other")
		}
		if client.shared != server.shared || client.private == server.private {
			t.Error("keys are mixed up")
		}
		for _, k := range []wgKey{client.private, server.private} {
			if k[0]&7 != 0 || k[31]&0xc0 != 0x40 {
				t.Errorf("not clamped: %x", k)
			}
			if seen[k] {
				t.Error("the same key twice")
			}
			seen[k] = true
			private, err := ecdh.X25519().NewPrivateKey(k[:])
			if err != nil || !bytes.Equal(private.Bytes(), k[:]) {
				t.Errorf("%x: %v", k, err)
			}
		}
	}
}
