package ubus

import (
	"math"
	"reflect"
	"testing"
)

// sameValue compares decoded values; a NaN equals itself here.
func sameValue(a, b any) bool {
	switch a := a.(type) {
	case float64:
		b, ok := b.(float64)
		return ok && math.Float64bits(a) == math.Float64bits(b)
	case Array:
		b, ok := b.(Array)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !sameValue(a[i], b[i]) {
				return false
			}
		}
		return true
	case Table:
		b, ok := b.(Table)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if a[i].Name != b[i].Name || !sameValue(a[i].Value, b[i].Value) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

// FuzzTable: decoding never panics, and what was decoded is the same after
// another encoding and decoding. What passes the strict check is reproduced byte
// for byte.
func FuzzTable(f *testing.F) {
	for _, s := range []string{
		"",
		"8500000c 0004 6563686f 00 00 00000001",
		"8200001c 0003 746162 0000 00 8300000a 0001 7300 78000000",
		"8100000a 0000 0000 8000",
		"8800000c 0001 6400 7ff80000 00000001",
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := DecodeTable(in)
		if err != nil {
			return
		}
		b, err := AppendTable(nil, v)
		if err != nil {
			if len(in) <= MaxMessage {
				t.Fatalf("%x does not encode again: %v", in, err)
			}
			return
		}
		again, err := DecodeTable(b)
		if err != nil || !sameValue(v, again) {
			t.Fatalf("%#v became %#v, %v", v, again, err)
		}
		if _, err := decodeFields(in, 1, true); err == nil && string(b) != string(in) {
			t.Fatalf("strict %x became %x", in, b)
		}
	})
}

// FuzzMessage: nothing that reads a message panics, whatever the bytes.
func FuzzMessage(f *testing.F) {
	for _, s := range []string{
		"00000000f8bbb32900000004",
		"0006000a0000000000000004",
		"00050009ac22b9910000002403000008ac22b991040000096661696c000000000a0000050100000007000004",
		"00010003cc46aa7700000020 03000008cc46aa77 0b00000c 000000084c5f07cd 0100000800000000",
		"000b0001000000000000003800000008 4212ee1a0100000800000003 0300000800000001 0400000800000001 0200000501000000 0500000c0100000800000000",
	} {
		f.Add(unhex(f, s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		m, err := DecodeMessage(in)
		strict := CheckMessage(in)
		if err != nil {
			if strict == nil {
				t.Fatal("strict where lenient is not")
			}
			return
		}
		a := ParseAttrs(m.Body)
		if _, err := ParseSignature(a.Signature); err != nil && !a.Has(AttrSignature) {
			t.Fatal(err)
		}
		out, err := m.Append(nil)
		if err != nil || in[8] == 0 && string(out) != string(in) {
			t.Fatalf("%x became %x, %v", in, out, err)
		}
	})
}

// FuzzJSON: reading JSON never panics, and what was read survives being written
// and read again.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{"{}", `{"a":[1,2.5,-3000000000,null,true,"\u00e9\ud800"],"b":{"c":{}},"a":1e5}`, `{"":-0.0}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		v, err := ParseJSON(in)
		if err != nil {
			return
		}
		again, err := ParseJSON(AppendJSON(nil, v))
		if err != nil || !sameValue(v, again) {
			t.Fatalf("%#v became %#v, %v", v, again, err)
		}
	})
}
