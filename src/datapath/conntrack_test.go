package datapath

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"htip/src/rtnl"
)

// attr builds a netlink attribute in this machine's byte order.
func attr(kind uint16, value ...byte) []byte {
	b := make([]byte, 4, 4+len(value)+3)
	binary.NativeEndian.PutUint16(b, uint16(4+len(value)))
	binary.NativeEndian.PutUint16(b[2:], kind)
	b = append(b, value...)
	return append(b, make([]byte, -len(b)&3)...)
}

func tuple(kind uint16, src, dst string) []byte {
	ip := append(attr(ctaIPv4Src, addr(src).AsSlice()...), attr(ctaIPv4Dst, addr(dst).AsSlice()...)...)
	return attr(rtnl.Nested|kind, append(attr(rtnl.Nested|ctaTupleIP, ip...), attr(rtnl.Nested|2, attr(1, 17)...)...)...)
}

// message is a flow from a LAN host that was masqueraded: what must not live
// on once there is a tunnel.
func message() []byte {
	b := []byte{2, 0, 0, 0}
	b = append(b, tuple(ctaTupleOrig, "10.0.0.4", "10.0.2.5")...)
	b = append(b, tuple(ctaTupleReply, "10.0.2.5", "192.88.99.1")...)
	b = append(b, attr(3, 0, 0, 1, 0x8e)...)
	return append(b, attr(ctaID, 1, 2, 3, 4)...)
}

func TestDecodeFlowRefused(t *testing.T) {
	whole := message()
	for n := range whole {
		f, err := decodeFlow(whole[:n])
		if err == nil && f.addrs[2].IsValid() && f.id != nil {
			t.Errorf("%d of %d bytes are a whole flow", n, len(whole))
		}
	}
	for name, b := range map[string][]byte{
		"nothing":             nil,
		"length 0":            {2, 0, 0, 0, 0, 0, 0, 0},
		"longer than message": {2, 0, 0, 0, 200, 200, 1, 0},
	} {
		if _, err := decodeFlow(b); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestDecodeFlow(t *testing.T) {
	f, err := decodeFlow(message())
	if err != nil {
		t.Fatal(err)
	}
	if f.addrs != [4]netip.Addr{addr("10.0.0.4"), addr("10.0.2.5"), addr("10.0.2.5"), addr("192.88.99.1")} || string(f.id) != "\x01\x02\x03\x04" {
		t.Errorf("%v", f)
	}
	if len(f.orig) != len(tuple(ctaTupleOrig, "10.0.0.4", "10.0.2.5"))-4 || f.zone != nil {
		t.Errorf("orig %d bytes, zone %v", len(f.orig), f.zone)
	}
	for p, want := range map[string]bool{"10.0.2.0/24": true, "192.88.99.1/32": true, "10.0.3.0/24": false} {
		if f.touches([]netip.Prefix{pfx("172.16.0.0/12"), pfx(p)}) != want {
			t.Errorf("%s: want %t", p, want)
		}
	}
}

func FuzzDecodeFlow(f *testing.F) {
	f.Add(message())
	f.Add([]byte{2, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		flow, err := decodeFlow(b)
		if err == nil {
			flow.detached().touches([]netip.Prefix{pfx("10.0.0.0/8")})
		}
	})
}
