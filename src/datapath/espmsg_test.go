package datapath

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"
)

func wan(i byte) ip4 { return ip4{192, 88, 99, i} }

const capturedReqID = 0x48123456

// capturedSA is the association of xfrm-sa-chacha.hex.
func capturedSA() *espSA {
	s := &espSA{src: wan(1), dst: wan(2), spi: 0x12345678, reqid: capturedReqID, soft: 12 * time.Hour, hard: 24 * time.Hour}
	s.sel = espSelector{src: wan(1), dst: wan(2), sport: 17010}
	s.algorithm, _ = espCipher(CipherChaCha)
	for i := range 36 {
		s.key = append(s.key, byte(i))
	}
	return s
}

func TestESPMessages(t *testing.T) {
	same := func(what string, got, want []byte) {
		t.Helper()
		if !bytes.Equal(got, want) {
			t.Errorf("%s\ngot  %x\nwant %x", what, got, want)
		}
	}
	s := capturedSA()
	same("new association, ChaCha20-Poly1305", s.encode(), hexFile(t, "xfrm-sa-chacha.hex"))
	same("delete it", s.encodeID(), hexFile(t, "xfrm-delsa.hex"))

	// The other one was made without a selector and limits.
	aes := capturedSA()
	aes.spi, aes.soft, aes.hard = 0x12345679, 0, 0
	aes.algorithm, _ = espCipher(CipherAES)
	aes.key = aes.key[:20]
	got, want := aes.encode(), hexFile(t, "xfrm-sa-gcm.hex")
	same("new association, AES-GCM", got[sizeSelector:atLifetime], want[sizeSelector:atLifetime])
	same("its rest", got[atCurrent:], want[atCurrent:])

	out := &espPolicy{reqid: capturedReqID, sel: espSelector{dst: wan(2), sport: 17010}}
	in := &espPolicy{reqid: capturedReqID, sel: espSelector{dport: 17010}, in: true}
	same("policy for sending", out.encode(), hexFile(t, "xfrm-policy-out.hex"))
	same("policy for receiving", in.encode(), hexFile(t, "xfrm-policy-in.hex"))
	gone := *in
	gone.index = 9
	// ip names the family even where the index counts.
	want = hexFile(t, "xfrm-delpolicy-index.hex")
	copy(want[40:42], []byte{0, 0})
	same("delete a policy", gone.encodeID(), want)

	told := hexFile(t, "xfrm-get-sa.hex")
	d, ok := decodeSA(told)
	if !ok || d.src != s.src || d.dst != s.dst || d.spi != s.spi || d.reqid != s.reqid || d.algorithm != s.algorithm || d.sel != s.sel || d.key != nil {
		t.Errorf("%v %+v", ok, d)
	}
	if at := time.Unix(d.added, 0).UTC(); at.Year() != 2026 || d.packets != 0 || d.octets != 0 {
		t.Errorf("made %v, %d packets, %d octets", at, d.packets, d.octets)
	}
	binary.NativeEndian.PutUint64(told[atCurrent:], 4711)
	binary.NativeEndian.PutUint64(told[atCurrent+8:], 42)
	if d, _ := decodeSA(told); d.octets != 4711 || d.packets != 42 {
		t.Errorf("%d octets, %d packets", d.octets, d.packets)
	}
	policy := hexFile(t, "xfrm-get-policy.hex")
	p, ok := decodePolicy(policy)
	if p.index == 0 {
		t.Error("no index")
	}
	if p.index = 0; !ok || p != *out {
		t.Errorf("%v %+v", ok, p)
	}

	// What is not ours is not seen: by its reqid, its protocol, its family.
	mark := 3 // the octet of a reqid that has it
	if bigEndian {
		mark = 0
	}
	for _, at := range []int{atReqID + mark, sizeSelector + 20, atReqID + 4} {
		x := bytes.Clone(told)
		x[at]++
		if _, ok := decodeSA(x); ok {
			t.Errorf("association with another octet %d is taken for ours", at)
		}
	}
	x := bytes.Clone(policy)
	x[sizePolicy+4+44+mark]++
	if _, ok := decodePolicy(x); ok {
		t.Error("a policy with another reqid is taken for ours")
	}
	x = bytes.Clone(told)
	copy(x[72:], []byte{0, 0, 0, 0}) // waits for somebody who negotiates
	if _, ok := decodeSA(x); ok {
		t.Error("an association without an SPI is taken for one")
	}
	for n := range told {
		if d, ok := decodeSA(told[:n]); ok && (n < sizeSA || d.algorithm == s.algorithm && n < sizeSA+4+aeadName) {
			t.Errorf("%d octets of an association are enough", n)
		}
	}
	for n := range sizePolicy + 4 + sizeTemplate {
		if _, ok := decodePolicy(policy[:n]); ok {
			t.Errorf("%d octets of a policy are enough", n)
		}
	}
}

func FuzzESPKernel(f *testing.F) {
	f.Add(make([]byte, sizeSA))
	f.Add(capturedSA().encode())
	f.Add((&espPolicy{reqid: capturedReqID}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := decodeSA(b); ok && (!espOurs(s.reqid) || len(s.algorithm) > aeadName) {
			t.Errorf("%+v", s)
		}
		if p, ok := decodePolicy(b); ok && !espOurs(p.reqid) {
			t.Errorf("%+v", p)
		}
	})
}
