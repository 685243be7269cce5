package ubus

import (
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"testing"
)

func TestParseJSONBad(t *testing.T) {
	for _, in := range []string{"", " ", "[]", "1", "null", "{", `{"a"`, `{"a":}`, `{"a":1,}`, `{1:2}`, `{} x`, `{}{}`,
		`{"a":9223372036854775808}`, `{"a":1e999}`, `{"a":tru}`, strings.Repeat(`{"a":`, MaxDepth+1) + "1" + strings.Repeat("}", MaxDepth+1)} {
		if got, err := ParseJSON([]byte(in)); err == nil {
			t.Errorf("%.40q: got %v", in, got)
		}
	}
}

// The arguments of recording 04, and the types that they had on the wire.
func TestParseJSON(t *testing.T) {
	got, err := ParseJSON([]byte(`{"s":"hello","i":-2,"b":true,"t":{"k":"v","n":{"deep":[1,2,{"x":false}]}},"l":4294967296,` +
		`"j":2147483648,"m":-2147483648,"d":1.25,"e":1e3,"any":null,"a":[],"long key with spaces":"\u00e9\u4e16","i":5}`))
	want := Table{F("s", "hello"), F("i", int32(5)), F("b", true),
		F("t", Table{F("k", "v"), F("n", Table{F("deep", Array{int32(1), int32(2), Table{F("x", false)}})})}),
		F("l", int64(4294967296)), F("j", int64(2147483648)), F("m", int32(math.MinInt32)), F("d", 1.25), F("e", 1000.0),
		F("any", nil), F("a", Array{}), F("long key with spaces", "é世")}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v, %v", got, err)
	}
}

func TestAppendJSON(t *testing.T) {
	in := Table{F("s", "q\"\\\n\t\r\x01<é\xff"), F("i", int32(-1)), F("n", nil), F("d", 1.0), F("e", 1e300), F("nan", math.NaN()),
		F("a", Array{true, int16(2), Table{}}), F("ss", []string{"x"}), F("tt", []Table{{F("k", 5)}}), F("u", uint64(math.MaxUint64))}
	want := `{"s":"q\"\\\n\t\r\u0001<é` + "\ufffd" + `","i":-1,"n":null,"d":1.0,"e":1e+300,"nan":null,` +
		`"a":[true,2,{}],"ss":["x"],"tt":[{"k":5}],"u":18446744073709551615}`
	if got := string(AppendJSON(nil, in)); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	b, err := json.Marshal(map[string]any{"t": Table{F("z", 1), F("a", Array{})}})
	if err != nil || string(b) != `{"t":{"z":1,"a":[]}}` {
		t.Errorf("through encoding/json: %s, %v", b, err)
	}
}
