package po

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// What the function sfh of LuCI's cbi.js gives.
func TestHash(t *testing.T) {
	for text, want := range map[string]uint32{
		"":                        0,
		"a":                       0x115ea782,
		"ab":                      0x516b8b44,
		"abc":                     0xd2be198a,
		"abcd":                    0xdad8b8db,
		"abcde":                   0x51ed072e,
		"Overview":                0xadbaae97,
		"ctx\x01open":             0xc3d02aa0,
		"ü":                       0x787e0cc7, // its bytes have signs
		"öä":                      0x433914a8,
		"한국어":                     0x995a2873,
		"…é":                      0x3254bc38,
		"Größe":                   0xf057b2cf,
		"other homes may reach %": 0xe21f4dff,
		"x…":                      0x8a12eaa3,
	} {
		if got := Hash(text); got != want {
			t.Errorf("%q: %08x, want %08x", text, got, want)
		}
	}
}

// What LuCI's po2lmo makes of this file.
const (
	small = `msgid ""
msgstr ""
"Language: de\n"
"Plural-Forms: nplurals=2; plural=n != 1;\n"

#~ msgid "gone"
#~ msgstr "weg"

#: a.js
msgid "%d day"
msgid_plural "%d days"
msgstr[0] "%d Tag"
msgstr[1] "%d Tage"

msgctxt "invite"
msgid "open"
msgstr "offen"

msgid "not yet"
msgstr ""

msgid "as it is"
msgstr "as it is"

msgid "a \"b\" c"
msgstr ""
"ein \"b\" "
"\\ c\nzwei"
`
	smallLMO = `
		6e706c75 72616c73 3d323b20 706c7572 616c3d6e 20213d20 313b0000 25642054
		61670000 25642054 61676500 6f666665 6e000000 65696e20 22622220 5c20635c
		6e7a7765 69000000 00000000 00000000 00000000 0000001a 0a7a9e8a 00000002
		00000024 00000007 45fc01ae 00000001 0000002c 00000005 68c205c8 00000002
		0000001c 00000006 866cbf6a 00000001 00000034 00000011 00000048`
)

func TestLMO(t *testing.T) {
	f, err := Parse("small.po", small)
	if err != nil {
		t.Fatal(err)
	}
	got, err := f.LMO()
	if err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(strings.Join(strings.Fields(smallLMO), ""))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%swant\n%s", hex.Dump(got), hex.Dump(want))
	}
}

func TestLMONothing(t *testing.T) {
	f, err := Parse("x.po", "msgid \"\"\nmsgstr \"Content-Type: text/plain; charset=UTF-8\"\n\nmsgid \"a\"\nmsgstr \"\"\n")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := f.LMO(); out != nil || err != nil {
		t.Errorf("%x, %v", out, err)
	}
}

func TestLMOTwice(t *testing.T) {
	f := &File{Entries: []*Entry{{ID: "a", Str: []string{"b"}}, {ID: "a", Str: []string{"c"}}}}
	if _, err := f.LMO(); err == nil || !strings.Contains(err.Error(), "twice") {
		t.Errorf("%v", err)
	}
}
