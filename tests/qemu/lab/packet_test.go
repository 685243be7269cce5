package lab

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

// Packets as a LAN's network card saw them, with the header of an Ethernet.
const (
	echoRequest = "0200000001010200000000aa0800" + "4500001c1a2b40004001cccc0a0000040a000205" + "0800f7ff12340001"
	synMSS      = "0200000001010200000000aa0800" + "4500002c0001400040060000c0586301c05863fe" +
		"c00012ef00000001000000006002fafe00000000020405" + "4e"
	fragment = "0200000001010200000000aa0800" + "4500001c1a2b20b94011cccc0a0000040a000205" + "0011223344556677"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeLink(t *testing.T) {
	whole := unhex(t, echoRequest)
	for name, in := range map[string]struct {
		link  uint32
		bytes []byte
	}{
		"unknown link":   {2, whole},
		"no header":      {1, whole[:13]},
		"ARP":            {1, append(unhex(t, "0200000001010200000000aa0806"), whole[14:]...)},
		"half IPv4":      {1, whole[:33]},
		"IPv6":           {101, append([]byte{0x60}, whole[15:]...)},
		"header length":  {101, append([]byte{0x44}, whole[15:]...)},
		"options absent": {101, append([]byte{0x4f}, whole[15:]...)},
		"total too small": {101, func() []byte {
			b := append([]byte(nil), whole[14:]...)
			b[3] = 19
			return b
		}()},
	} {
		if p, ok := decodeLink(in.link, in.bytes); ok {
			t.Errorf("%s: decoded as %v", name, p)
		}
	}

	a, b := netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("10.0.2.5")
	p, ok := decodeLink(1, whole)
	if !ok || !Echo(a, b)(p) || EchoReply(a, b)(p) || p.ICMPID != 0x1234 || p.ICMPSeq != 1 || !p.DF || p.Truncated {
		t.Errorf("echo request: %+v, %v", p, ok)
	}
	cooked := append(make([]byte, 14), 8, 0)
	if p, ok := decodeLink(113, append(cooked, whole[14:40]...)); !ok || !p.Truncated || p.ICMPID != 0 {
		t.Errorf("cooked, cut short: %+v, %v", p, ok)
	}
	if p, ok := decodeLink(1, unhex(t, synMSS)); !ok || p.DstPort != 4847 || p.TCPFlags != 2 || p.MSS != 1358 {
		t.Errorf("SYN: %+v, %v", p, ok)
	}
	if p, ok := decodeLink(1, unhex(t, fragment)); !ok || p.Fragment != 1480 || !p.More || p.SrcPort != 0 {
		t.Errorf("fragment: %+v, %v", p, ok)
	}
}

func TestPacketString(t *testing.T) {
	p, _ := decodeLink(1, unhex(t, echoRequest))
	p.Device = "eth0"
	if got, want := p.String(), "eth0: 10.0.0.4 > 10.0.2.5 echo request 4660/1, 28 bytes"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func FuzzDecodeLink(f *testing.F) {
	for _, s := range []string{echoRequest, synMSS, fragment} {
		f.Add(uint32(1), unhex(f, s))
		f.Add(uint32(101), unhex(f, s)[14:])
	}
	f.Fuzz(func(t *testing.T, link uint32, b []byte) {
		p, ok := decodeLink(link, b)
		if ok && (len(p.Payload) > len(b) || strings.Contains(p.String(), "invalid")) {
			t.Errorf("%x: %v", b, p)
		}
	})
}
