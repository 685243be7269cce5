package ubus

import (
	"encoding/hex"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeTableBad(t *testing.T) {
	for name, in := range map[string]string{
		"half a header":               "8300",
		"length under 4":              "83000003 00000000",
		"length beyond the end":       "83000010 0001 61 00",
		"padding beyond the end":      "83000009 0000 0000 00",
		"not extended":                "0300000c 0001 6100 78000000",
		"no name header":              "83000004",
		"name beyond the value":       "8300000c 0009 6100 78000000",
		"name without NUL":            "8300000c 0001 6162 78000000",
		"name header without padding": "8000000a 0003 61626300 0000",
		"string without NUL":          "8300000c 0001 6100 78787878",
		"empty string value":          "83000008 0001 6100",
		"int32 of 2 bytes":            "8500000a 0001 6100 00010000",
		"int32 of 8 bytes":            "85000010 0001 6100 0000000000000001",
		"int64 of 4 bytes":            "8400000c 0001 6100 00000001",
		"int16 of 4 bytes":            "8600000c 0001 6100 00000001",
		"bool of 4 bytes":             "8700000c 0001 6100 00000001",
		"double of 4 bytes":           "8800000c 0001 6100 00000001",
		"type 9":                      "8900000c 0001 6100 00000001",
		"junk in a table":             "8200000c 0001 6100 83000003",
		"junk in an array":            "8100000a 0001 6100 83000000",
		"second value is junk":        "8700000a 0001 6100 01000000 ff",
	} {
		if got, err := DecodeTable(unhex(t, in)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestEncodeTableBad(t *testing.T) {
	deep := Table{}
	for range MaxDepth {
		deep = Table{F("t", deep)}
	}
	for name, in := range map[string]Table{
		"struct":            {F("a", struct{}{})},
		"map":               {F("a", map[string]int{})},
		"uint64 too big":    {F("a", uint64(math.MaxUint64))},
		"NUL in a string":   {F("a", "x\x00y")},
		"NUL in a name":     {F("a\x00b", 1)},
		"name too long":     {F(strings.Repeat("n", 65536), 1)},
		"string too long":   {F("a", strings.Repeat("s", MaxMessage))},
		"together too long": {F("a", strings.Repeat("s", MaxMessage/2)), F("b", strings.Repeat("s", MaxMessage/2))},
		"too deep":          deep,
		"inside":            {F("a", Array{Table{F("b", complex(1, 1))}})},
	} {
		dst := []byte("before")
		got, err := AppendTable(dst, in)
		if err == nil || string(got) != "before" {
			t.Errorf("%s: got %d bytes, %v", name, len(got), err)
		}
	}
}

func TestDepth(t *testing.T) {
	v := any("leaf")
	for range MaxDepth - 1 {
		v = Array{v}
	}
	b, err := AppendTable(nil, Table{F("a", v)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := DecodeTable(b); err != nil {
		t.Errorf("%d levels: %v", MaxDepth, err)
	}
	// One more around it, made by hand.
	wrapped, start := beginBlob(nil, 0x81)
	wrapped = endBlob(append(append(wrapped, 0, 0, 0, 0), b...), start)
	if _, err := DecodeTable(wrapped); !errors.Is(err, ErrMalformed) {
		t.Errorf("%d levels: %v", MaxDepth+1, err)
	}
}

// The bytes of every type, from the recordings and their description.
func TestTableBytes(t *testing.T) {
	for _, tc := range []struct {
		value any
		want  string
	}{
		{nil, "80000008 0001 6b00"},
		{Array{}, "81000008 0001 6b00"},
		{Table{}, "82000008 0001 6b00"},
		{"", "83000009 0001 6b00 00000000"},
		{"hi", "8300000b 0001 6b00 68690000"},
		{int64(1234605616436508552), "84000010 0001 6b00 1122334455667788"},
		{int32(-2), "8500000c 0001 6b00 fffffffe"},
		{int16(4660), "8600000a 0001 6b00 12340000"},
		{true, "87000009 0001 6b00 01000000"},
		{false, "87000009 0001 6b00 00000000"},
		{1.5, "88000010 0001 6b00 3ff8000000000000"},
		{Array{int32(1), "x"}, "81000020 0001 6b00 8500000c 0000 0000 00000001 8300000a 0000 0000 7800 0000"},
		{Table{F("deep", true)}, "82000018 0001 6b00 8700000d 0004 6465657000 00 01000000"},
	} {
		want := unhex(t, tc.want)
		in := Table{F("k", tc.value)}
		got, err := AppendTable(nil, in)
		if err != nil || hex.EncodeToString(got) != hex.EncodeToString(want) {
			t.Errorf("%#v:\n got %x, %v\nwant %x", tc.value, got, err, want)
		}
		back, err := DecodeTable(got)
		if err != nil || !reflect.DeepEqual(back, in) {
			t.Errorf("%#v: back %#v, %v", tc.value, back, err)
		}
	}
}

// Other Go types become what a number of JSON becomes.
func TestConveniences(t *testing.T) {
	in := Table{F("i", 7), F("big", uint64(1<<40)), F("u", uint32(math.MaxUint32)), F("b", uint8(3)),
		F("u64", uint64(5)), F("s", []string{"a", "b"}), F("t", []Table{{F("x", 1)}}), F("v", []any{true})}
	want := Table{F("i", int32(7)), F("big", int64(1<<40)), F("u", int64(math.MaxUint32)), F("b", int32(3)),
		F("u64", int32(5)), F("s", Array{"a", "b"}), F("t", Array{Table{F("x", int32(1))}}), F("v", Array{true})}
	b, err := AppendTable(nil, in)
	if err != nil {
		t.Fatal(err)
	}
	got, err := DecodeTable(b)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, %v", got, err)
	}
}

// What a lenient reader takes: bytes in the padding, NULs inside, other bools.
func TestLenient(t *testing.T) {
	for in, want := range map[string]Table{
		"8700000a 0001 6100 01ffffff":                                 nil, // of 2 bytes: no
		"87000009 0001 6100 07ffffff":                                 {F("a", true)},
		"8300000d 0001 6100 78007900 00000000":                        {F("a", "x")},
		"8500000c 0001 6100 00000001" + "87000009 0001 6100 01000000": {F("a", int32(1)), F("a", true)},
	} {
		got, err := DecodeTable(unhex(t, in))
		if (err != nil) != (want == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %#v, %v", in, got, err)
		}
	}
}

func TestGet(t *testing.T) {
	tab := Table{F("a", int32(1)), F("a", "second"), F("w", int64(1<<40)), F("h", int16(2)), F("d", 1.5),
		F("s", "text"), F("l", Array{"x", "y"}), F("m", Array{"x", int32(1)}), F("t", Table{F("k", true)}), F("n", nil)}
	if n, ok := tab.GetInt("a"); n != 1 || !ok {
		t.Errorf("the first of two counts: %d, %v", n, ok)
	}
	if _, ok := tab.GetString("a"); ok {
		t.Error("a number is no string")
	}
	if n, _ := tab.GetInt("w"); n != 1<<40 {
		t.Errorf("w = %d", n)
	}
	if n, _ := tab.GetInt("h"); n != 2 {
		t.Errorf("h = %d", n)
	}
	if f, ok := tab.GetFloat("a"); f != 1 || !ok {
		t.Errorf("a = %v", f)
	}
	if f, ok := tab.GetFloat("d"); f != 1.5 || !ok {
		t.Errorf("d = %v", f)
	}
	if l, ok := tab.GetStrings("l"); len(l) != 2 || !ok {
		t.Errorf("l = %v", l)
	}
	if _, ok := tab.GetStrings("m"); ok {
		t.Error("m holds a number")
	}
	inner, _ := tab.GetTable("t")
	if k, ok := inner.GetBool("k"); !k || !ok {
		t.Error("t.k")
	}
	if v, ok := tab.Get("n"); v != nil || !ok {
		t.Error("n is there and null")
	}
	if _, ok := tab.Get("none"); ok {
		t.Error("none is not there")
	}
	tab.Set("s", "new")
	tab.Set("z", true)
	if s, _ := tab.GetString("s"); s != "new" || tab[len(tab)-1].Name != "z" {
		t.Errorf("after Set: %v", tab)
	}
}

// genValue draws a value as DecodeTable could give it.
func genValue(depth int) *rapid.Generator[any] {
	return rapid.Custom(func(t *rapid.T) any {
		top := 9
		if depth == 0 {
			top = 6
		}
		switch rapid.IntRange(0, top).Draw(t, "kind") {
		case 0:
			return nil
		case 1:
			return strings.ReplaceAll(rapid.String().Draw(t, "s"), "\x00", "")
		case 2:
			return rapid.Int64().Draw(t, "i64")
		case 3:
			return rapid.Int32().Draw(t, "i32")
		case 4:
			return rapid.Int16().Draw(t, "i16")
		case 5:
			return rapid.Bool().Draw(t, "b")
		case 6:
			return rapid.Float64().Draw(t, "d")
		case 7:
			return append(Array{}, rapid.SliceOfN(genValue(depth-1), 0, 5).Draw(t, "array")...)
		}
		return genTable(depth-1).Draw(t, "table")
	})
}

func genTable(depth int) *rapid.Generator[Table] {
	return rapid.Custom(func(t *rapid.T) Table {
		out := Table{}
		for range rapid.IntRange(0, 5).Draw(t, "n") {
			name := strings.ReplaceAll(rapid.StringN(0, 20, 60).Draw(t, "name"), "\x00", "")
			out = append(out, F(name, genValue(depth).Draw(t, "value")))
		}
		return out
	})
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := genTable(3).Draw(t, "table")
		b, err := AppendTable(nil, in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeFields(b, 1, true); err != nil {
			t.Fatalf("not strict: %v", err)
		}
		got, err := DecodeTable(b)
		if err != nil || !reflect.DeepEqual(got, in) {
			t.Fatalf("in %#v\ngot %#v, %v", in, got, err)
		}
	})
}

// A message that claims much must not make us allocate much.
func TestNoAllocationBeyondTheMessage(t *testing.T) {
	claims := unhex(t, "81fffffc 0001 6100 81fffff0 0000 0000 83ffffe0 0000 0000")
	if n := testing.AllocsPerRun(10, func() {
		if _, err := DecodeTable(claims); err == nil {
			t.Fatal("accepted")
		}
	}); n > 10 {
		t.Errorf("%v allocations for junk", n)
	}
}
