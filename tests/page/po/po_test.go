package po

import (
	"strings"
	"testing"
)

func TestParseBad(t *testing.T) {
	for text, want := range map[string]string{
		"msgid \"a":                    "1: no text in quotation marks",
		"msgid a":                      "1: no text in quotation marks",
		"\"a\"":                        "belongs to nothing",
		"msgid \"a\"b\"":               "without a backslash",
		`msgid "a\r"`:                  `\r is not known`,
		`msgid "a\"`:                   "a backslash at the end",
		"msgid \"a\"\nmsgstr[1] \"b\"": "2: msgstr[1] is not expected",
		"msgid \"a\"\nmsgstr \"b\"\nmsgfoo \"c\"\n":  "3: msgfoo is not expected",
		"msgid \"a\"\nmsgstr \"\xff\"\n":             "not UTF-8",
		"msgid \"a\"\nmsgstr \"b\"\n# new\n\"more\"": "4: a text that belongs to nothing",
	} {
		if _, err := Parse("x.po", text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestParseWrite(t *testing.T) {
	const text = `msgid ""
msgstr ""
"Language: de\n"
"Plural-Forms: nplurals=2; plural=n != 1;\n"

#. a note
#: a.js:12
#: b.js
#, fuzzy
msgctxt "c"
msgid "one \"thing\"\n"
msgid_plural "more"
msgstr[0] "ein\tDing \\"
msgstr[1] ""
`
	f, err := Parse("x.po", text)
	if err != nil {
		t.Fatal(err)
	}
	if got := f.String(); got != text {
		t.Errorf("got\n%s", got)
	}
	if f.Field("language") != "de" || f.Field("plural-forms") != "nplurals=2; plural=n != 1;" {
		t.Errorf("%q", f.Header)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(small)
	f.Add("#: a:1\n#, x\n#. y\nmsgctxt \"c\"\nmsgid \"a\"\nmsgstr \"b\"")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := Parse("x", text)
		if err != nil {
			return
		}
		a.LMO()
		b, err := Parse("x", a.String())
		if err != nil {
			t.Fatalf("%v of\n%s", err, a)
		}
		if a.String() != b.String() {
			t.Fatalf("%s\nbecomes\n%s", a, b)
		}
	})
}
