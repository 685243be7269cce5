package datapath

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"os"
	"slices"
	"strings"
	"testing"
)

var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// hexFile reads captured bytes. They are of little-endian machines; on another
// one they become what that would have sent, by the types in the kernel's headers.
func hexFile(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile("testdata/" + name)
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ = bytes.Cut(text, []byte("\n"))
	b, err := hex.DecodeString(strings.ReplaceAll(string(text), "\n", ""))
	if err != nil {
		t.Fatal(err)
	}
	if bigEndian {
		turn(b, name)
	}
	return b
}

// turn changes the order of every number that is in the machine's own.
func turn(b []byte, name string) {
	i := slices.IndexFunc(capturedLayouts, func(l layout) bool { return strings.HasPrefix(name, l.prefix) })
	l := capturedLayouts[i]
	l.fields.turn(b)
	turnAttributes(b[l.size:], l.attributes)
}

// fields are offsets of numbers, by their size in octets.
type fields map[int][]int

func (f fields) turn(b []byte) {
	for size, offsets := range f {
		for _, at := range offsets {
			slices.Reverse(b[at : at+size])
		}
	}
}

// attribute says what is in one: numbers, nothing but numbers of 4 octets, or
// attributes, by their kind.
type attribute struct {
	fields fields
	words  bool
	nested map[uint16]attribute
}

func turnAttributes(b []byte, kinds map[uint16]attribute) {
	for len(b) >= 4 {
		n, kind := int(binary.LittleEndian.Uint16(b)), binary.LittleEndian.Uint16(b[2:])&0x3fff
		fields{2: {0, 2}}.turn(b)
		a, v := kinds[kind], b[4:n]
		a.fields.turn(v)
		for at := 0; a.words && at < len(v); at += 4 {
			slices.Reverse(v[at : at+4])
		}
		if a.nested != nil {
			turnAttributes(v, a.nested)
		}
		b = b[min((n+3)&^3, len(b)):]
	}
}

type layout struct {
	prefix     string
	size       int // of what is before the attributes
	fields     fields
	attributes map[uint16]attribute
}

// longs are the offsets of n numbers of 8 octets.
func longs(at, n int) (out []int) {
	for i := range n {
		out = append(out, at+8*i)
	}
	return out
}

var number = map[int]attribute{2: {fields: fields{2: {0}}}, 4: {fields: fields{4: {0}}}, 8: {fields: fields{8: {0}}}}

// From linux/xfrm.h and linux/wireguard.h; first come longer names.
var capturedLayouts = []layout{
	{"xfrm-delsa", 24, fields{2: {20}}, nil}, // struct xfrm_usersa_id; its SPI is in the net's order
	{"xfrm-delpolicy", 64, fields{2: {40}, 4: {48, 52, 56}}, nil},
	// struct xfrm_usersa_info: selector, limits, state, statistics, numbers.
	{"xfrm-sa", sizeSA, saFields, xfrmAttributes},
	{"xfrm-get-sa", sizeSA, saFields, xfrmAttributes},
	// struct xfrm_userpolicy_info: selector, limits, state, priority and index.
	{"xfrm-policy", sizePolicy, policyFields, xfrmAttributes},
	{"xfrm-get-policy", sizePolicy, policyFields, xfrmAttributes},
	{"wg-", 4, nil, map[uint16]attribute{
		1: number[4], 5: number[4], 6: number[2], 7: number[4],
		8: {nested: map[uint16]attribute{0: {nested: map[uint16]attribute{
			3: number[4], 5: number[2], 7: number[8], 8: number[8], 10: number[4],
			4: {fields: fields{2: {0}}},    // the family of an address
			6: {fields: fields{8: {0, 8}}}, // struct __kernel_timespec
			9: {nested: map[uint16]attribute{0: {nested: map[uint16]attribute{1: number[2]}}}},
		}}}},
	}},
}

var (
	saFields = fields{
		2: {40, 212}, 4: {48, 52, 192, 196, 200, 204, 208},
		8: append(longs(96, 8), longs(160, 4)...),
	}
	policyFields   = fields{2: {40}, 4: {48, 52, 152, 156}, 8: longs(56, 12)}
	xfrmAttributes = map[uint16]attribute{
		xfrmTemplate: {fields: fields{2: {24}, 4: {44, 52, 56, 60}}}, // struct xfrm_user_tmpl
		xfrmAEAD:     {fields: fields{4: {64, 68}}},
		xfrmReplay:   {words: true},
	}
)
