package ubus

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestDecodeHeaderBad(t *testing.T) {
	for name, in := range map[string]string{
		"empty":             "",
		"11 bytes":          "0003000100000000000000",
		"length 0":          "000300010000000000000000",
		"length 3":          "000300010000000000000003",
		"1 MiB and a byte":  "000300010000000000100001",
		"the biggest there": "0003000100000000ffffffff",
	} {
		if _, _, err := DecodeHeader(unhex(t, in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, n, err := DecodeHeader(unhex(t, "000300010000000000100000")); err != nil || n != MaxMessage-4 {
		t.Errorf("1 MiB: %d, %v", n, err)
	}
}

func TestDecodeMessageBad(t *testing.T) {
	for name, in := range map[string]string{
		"cut":       "00010001000000000000000c 01000008 0000",
		"something": "00010001000000000000000c 01000008 00000000 00",
	} {
		if _, err := DecodeMessage(unhex(t, in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Attributes of a wrong size are absent, the order is free, the last counts.
func TestParseAttrs(t *testing.T) {
	for name, tc := range map[string]struct {
		in   string
		want Attrs
	}{
		"empty":                   {"", Attrs{}},
		"status of 2 bytes":       {"01000006 00040000", Attrs{}},
		"path without NUL":        {"02000008 61616161", Attrs{}},
		"path of no bytes":        {"02000004", Attrs{}},
		"active of 4 bytes":       {"09000008 00000001", Attrs{}},
		"unknown":                 {"0e000008 00000001 7f000004", Attrs{}},
		"junk after":              {"03000008 00000007 01000003", Attrs{has: 1 << AttrObjID, ObjID: 7}},
		"last counts":             {"03000008 00000007 03000008 00000008", Attrs{has: 1 << AttrObjID, ObjID: 8}},
		"last malformed":          {"03000008 00000007 03000006 00080000", Attrs{has: 1 << AttrObjID, ObjID: 7}},
		"status before object id": {"01000008 00000004 03000008 00000007", Attrs{has: 1<<AttrStatus | 1<<AttrObjID, Status: 4, ObjID: 7}},
		"NUL inside":              {"04000009 61006200 00000000", Attrs{has: 1 << AttrMethod, Method: "a"}},
		"subscribers":             {"0b000014 00000008 00000005 00000008 00000006", Attrs{has: 1 << AttrSubscribers, Subscribers: []uint32{5, 6}}},
		"extended":                {"83000008 00000007", Attrs{has: 1 << AttrObjID, ObjID: 7}},
	} {
		if got := ParseAttrs(unhex(t, tc.in)); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%s: got %+v", name, got)
		}
	}
}

func TestBuilderBad(t *testing.T) {
	for name, b := range map[string]*Builder{
		"NUL":        NewMessage(MsgLookup, 1, 0).Text(AttrPath, "a\x00"),
		"long text":  NewMessage(MsgLookup, 1, 0).Text(AttrPath, strings.Repeat("x", MaxMessage)),
		"longer":     NewMessage(MsgLookup, 1, 0).Text(AttrPath, strings.Repeat("x", 17<<20)),
		"long raw":   NewMessage(MsgInvoke, 1, 0).Raw(AttrData, make([]byte, MaxMessage+1)),
		"many ids":   NewMessage(MsgStatus, 1, 0).IDs(AttrSubscribers, make([]uint32, MaxMessage/4)),
		"bad value":  NewMessage(MsgInvoke, 1, 0).Table(AttrData, Table{F("x", struct{}{})}).Table(AttrData, nil),
		"in the sum": NewMessage(MsgInvoke, 1, 0).Raw(AttrData, make([]byte, MaxMessage/2)).Raw(AttrData, make([]byte, MaxMessage/2)),
	} {
		if raw, err := b.Bytes(); err == nil {
			t.Errorf("%s: %d bytes", name, len(raw))
		}
	}
}

func TestMessageAppend(t *testing.T) {
	m := Message{Version: 1, Type: MsgPing, Seq: 2, Peer: 0x11223344, Body: unhex(t, "07000004")}
	raw, err := m.Append([]byte("x"))
	if want := append([]byte("x"), unhex(t, "010300021122334400000008 07000004")...); err != nil || !bytes.Equal(raw, want) {
		t.Errorf("%x, %v", raw, err)
	}
	m.Body = make([]byte, MaxMessage)
	if _, err := m.Append(nil); !errors.Is(err, ErrTooBig) {
		t.Errorf("too big: %v", err)
	}
}

func TestNames(t *testing.T) {
	for got, want := range map[string]string{
		MsgInvoke.String(): "INVOKE", MsgType(200).String(): "type 200",
		TypeInt32.String(): "int32", Type(77).String(): "unknown",
		StatusNotFound.Error(): "not found", Status(99).Error(): "status 99",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
