package htip

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestDecodeRefuses(t *testing.T) {
	const talk = "0000000000000001"
	for _, c := range []struct{ name, hex, want string }{
		{"empty", "", "shorter than a header"},
		{"short header", "0101000c00", "shorter than a header"},
		{"other version", "0201000c" + talk, "version 2"},
		{"length below the header", "0101000b" + talk, "length 11"},
		{"length beyond the limit", "0101ffff" + talk, "length 65535"},
		{"length of another message", "0101000d" + talk, "length says 13"},
		{"unknown type", "0163000c" + talk, "unknown type"},
		{"cut parameter header", "0106000e" + talk + "0008", "cut parameter header"},
		{"cut parameter", "01060010" + talk + "00080004", "parameter 8 is cut"},
		{"scalar twice", "0107001c" + talk + "0008000400000001" + "0008000400000001", "comes twice"},
		{"wrong size", "01070012" + talk + "000800020001", "2 octets, not 4"},
		{"no tunnel ID", "0107000c" + talk, "no tunnel ID"},
		{"prefix of 33 bits", "01030015" + talk + "000c0005210a000000", "no prefix"},
		{"host bits set", "01030015" + talk + "000c0005180a000001", "no prefix"},
		{"half a prefix", "01030014" + talk + "000c0004180a0000", "no list of"},
		{"candidate smaller than its network", "0101001a" + talk + "0004000a180a000000190a000100", "smaller"},
		{"control characters in a text", "01060012" + talk + "000d00021b5b", "no printable"},
		{"a domain that is none", "01010012" + talk + "000200022e2e", "no domain name"},
		{"too many protocols", "01010019" + talk + "00030009010101010101010101", "9 protocols"},
		{"default route as network", "01010027" + talk + "000300010100" + "050004" + "0a000001" + "0004000a0000000000" + "0000000000", "not in 8..30"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Decode(unhex(t, c.hex))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			var v VersionError
			var m *MalformedError
			if !errors.As(err, &v) && !errors.As(err, &m) {
				t.Errorf("error of type %T", err)
			}
		})
	}
}

func TestUnknownParametersAreSkipped(t *testing.T) {
	m := &Message{Type: Keepalive, Talk: 7, TunnelID: 9}
	b, err := m.Encode()
	if err != nil {
		t.Fatal(err)
	}
	b = append(b, unhex(t, "7fff0003616263 7fff0000")...)
	b[3] = byte(len(b))
	got, err := Decode(b)
	if err != nil || !reflect.DeepEqual(got, m) {
		t.Fatalf("%+v, %v", got, err)
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	for name, m := range map[string]*Message{
		"no type":              {},
		"READY without a port": {Type: Ready, Protocols: []Protocol{L2TP}, Initiator: []Mapping{{px("10.0.0.0/24"), px("10.0.0.0/24")}}, Responder: []Mapping{{px("10.0.0.0/24"), px("10.0.0.0/24")}}, TunnelID: 1},
		"lengths differ":       {Type: Ack, Protocols: []Protocol{L2TP}, Initiator: []Mapping{{px("10.0.0.0/24"), px("10.0.0.0/16")}}, Responder: []Mapping{{px("10.0.0.0/24"), px("10.0.0.0/24")}}},
		"zero prefix":          {Type: Nak, Reason: 1, Refused: 1, Avoid: []netip.Prefix{{}}},
		"long text":            {Type: Close, TunnelID: 1, Reason: ReasonUser, Text: strings.Repeat("x", 256)},
		"gateway elsewhere":    {Type: Request, Protocols: []Protocol{L2TP}, Gateway: netip.MustParseAddr("10.0.1.1"), Offers: []Offer{{px("10.0.0.0/24"), []netip.Prefix{px("10.0.0.0/24")}}}},
		"networks overlap":     {Type: Request, Protocols: []Protocol{L2TP}, Gateway: netip.MustParseAddr("10.0.0.1"), Offers: []Offer{{px("10.0.0.0/24"), []netip.Prefix{px("10.0.0.0/24")}}, {px("10.0.0.0/16"), []netip.Prefix{px("10.0.0.0/16")}}}},
	} {
		if b, err := m.Encode(); err == nil {
			t.Errorf("%s: encoded to %x", name, b)
		}
	}
}

// anyMessage draws messages that are whole.
func anyMessage(t *rapid.T) *Message {
	prefix := func(lo, hi int) netip.Prefix {
		return netip.PrefixFrom(fromUint(rapid.Uint32().Draw(t, "addr")), rapid.IntRange(lo, hi).Draw(t, "bits")).Masked()
	}
	mappings := func() (ms []Mapping) {
		for range rapid.IntRange(1, MaxNetworks).Draw(t, "mappings") {
			n := prefix(MinBits, MaxBits)
			ms = append(ms, Mapping{n, prefix(n.Bits(), n.Bits())})
		}
		return ms
	}
	m := &Message{Type: Type(rapid.IntRange(1, 7).Draw(t, "type")), Talk: rapid.Uint64().Draw(t, "talk")}
	text := func() string { return clip(rapid.String().Draw(t, "text")) }
	switch m.Type {
	case Request, Response:
		m.Features = Features(rapid.Uint32().Draw(t, "features"))
		m.Domain = rapid.SampledFrom([]string{"", "bob.example.org", "x", "a-b.c"}).Draw(t, "domain")
		var nets []netip.Prefix
		for range rapid.IntRange(1, MaxNetworks).Draw(t, "offers") {
			n := prefix(MinBits, MaxBits)
			if overlapsAny(n, nets) {
				continue
			}
			nets = append(nets, n)
			o := Offer{Network: n}
			for range rapid.IntRange(1, maxCandidates).Draw(t, "candidates") {
				o.Candidates = append(o.Candidates, prefix(0, n.Bits()))
			}
			m.Offers = append(m.Offers, o)
		}
		m.Gateway = nets[0].Addr().Next()
		m.Protocols = []Protocol{L2TP}
		if m.Type == Response {
			m.Initiator = mappings()
			if m.Features&FeatureThreeMessages != 0 {
				m.TunnelID, m.Port = 1+rapid.Uint32Max(1<<31).Draw(t, "id"), 1+rapid.Uint16Max(1<<15).Draw(t, "port")
			}
		}
	case Nak:
		m.Reason, m.Refused, m.Text = ReasonClash, Response, text()
		for range rapid.IntRange(0, maxAvoid).Draw(t, "avoid") {
			m.Avoid = append(m.Avoid, prefix(0, 32))
		}
	case Ack, Ready:
		m.Protocols, m.Initiator, m.Responder = []Protocol{WireGuard}, mappings(), mappings()
		if m.Type == Ready {
			m.TunnelID, m.Port = 1+rapid.Uint32Max(1<<31).Draw(t, "id"), 1+rapid.Uint16Max(1<<15).Draw(t, "port")
		}
	default:
		m.TunnelID = 1 + rapid.Uint32Max(1<<31).Draw(t, "id")
		if m.Type == Close {
			m.Reason, m.Text = ReasonUser, text()
		}
	}
	return m
}

func TestDecodeUndoesEncode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMessage(t)
		b, err := m.Encode()
		if err != nil {
			t.Fatalf("%+v: %v", m, err)
		}
		got, err := Decode(b)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, m) {
			t.Fatalf("got  %+v\nwant %+v", got, m)
		}
	})
}

// allocated is how many octets of memory a call takes, as far as the runtime can
// tell. A prefix takes 5 octets on the wire and 32 in memory.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// TestDecodeTakesLittleMemory: the largest messages that are accepted, and
// larger ones that are not.
func TestDecodeTakesLittleMemory(t *testing.T) {
	long := &Message{Type: Request, Talk: 1, Protocols: []Protocol{L2TP}, Gateway: netip.MustParseAddr("10.0.0.1"), Domain: strings.Repeat("x.", 126) + "x"}
	for i := range MaxNetworks {
		o := Offer{Network: netip.PrefixFrom(fromUint(10<<24|uint32(i)<<16), 24)}
		for range maxCandidates {
			o.Candidates = append(o.Candidates, o.Network)
		}
		long.Offers = append(long.Offers, o)
	}
	b, err := long.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if n := allocated(func() { Decode(b) }); n > 32*MaxMessage {
		t.Errorf("%d octets for a message of %d", n, len(b))
	}
	huge := make([]byte, 1<<20)
	copy(huge, b)
	huge[2], huge[3] = 0xff, 0xff
	if n := allocated(func() { _, err = Decode(huge) }); err == nil || n > 4096 {
		t.Errorf("%d octets for a message that is too long: %v", n, err)
	}
	// Many parameters that are skipped, and many of one that may come often.
	for _, param := range []byte{99, paramOffer, paramInitiator} {
		b := []byte{Version, byte(Nak), 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}
		for len(b)+14 <= MaxMessage {
			b = append(b, 0, param, 0, 10, 24, 10, 0, 0, 0, 24, 10, 0, 0, 0)
		}
		b[2], b[3] = byte(len(b)>>8), byte(len(b))
		if n := allocated(func() { _, err = Decode(b) }); err == nil || n > 8192 {
			t.Errorf("parameter %d: %d octets, %v", param, n, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	files, err := filepath.Glob("testdata/*.golden")
	if err != nil || len(files) == 0 {
		f.Fatal("no golden talks to start from: ", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var msg string
		for _, l := range strings.Split(string(text), "\n") {
			if strings.HasPrefix(l, "  ") {
				msg += l
				continue
			}
			f.Add(unhex(f, msg))
			msg = ""
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m *Message
		var err error
		if n := allocated(func() { m, err = Decode(b) }); n > 4096+32*uint64(min(len(b), MaxMessage)) {
			t.Fatalf("%d octets of message made %d octets of memory", len(b), n)
		}
		if err != nil {
			return
		}
		again, err := m.Encode()
		if err != nil {
			t.Fatalf("decoded %+v can't be encoded: %v", m, err)
		}
		if len(again) > len(b) {
			t.Fatalf("%d octets became %d", len(b), len(again))
		}
		m2, err := Decode(again)
		if err != nil || !reflect.DeepEqual(m, m2) {
			t.Fatalf("%+v became %+v, %v", m, m2, err)
		}
		if third, err := m2.Encode(); err != nil || !bytes.Equal(again, third) {
			t.Fatal("encoding is not stable")
		}
	})
}
