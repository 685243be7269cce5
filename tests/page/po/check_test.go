package po

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../../.."

const anew = "make po makes it anew: go run ./tests/page/po/cmd/po"

func extracted(t *testing.T) []*Text {
	t.Helper()
	texts, err := Extract(root)
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

func load(t *testing.T, name string) (*File, string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	f, err := Parse(name, string(text))
	if err != nil {
		t.Fatal(err)
	}
	return f, string(text)
}

// without leaves away the numbers of lines: they may be old, or every change of a line
// would be one of the template, too.
func without(f *File) *File {
	for _, e := range f.Entries {
		var places []Place
		for _, p := range e.Places {
			if p.Line = 0; len(places) == 0 || places[len(places)-1] != p {
				places = append(places, p)
			}
		}
		e.Places = places
	}
	return f
}

// differ shows the first line that is another one.
func differ(got, want string) string {
	a, b := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			return "it has " + a[i] + "\nwhere " + b[i] + " should be"
		}
	}
	return "one of them ends too early"
}

func TestTemplate(t *testing.T) {
	f, text := load(t, Template)
	if text != f.String() {
		t.Errorf("%s is not as it is written: %s\n%s", Template, differ(text, f.String()), anew)
	}
	if got, want := without(f).String(), without(NewTemplate(extracted(t))).String(); got != want {
		t.Errorf("%s is old: %s\n%s", Template, differ(got, want), anew)
	}
}

func TestTranslations(t *testing.T) {
	texts := extracted(t)
	dirs, err := filepath.Glob(filepath.Join(root, App, "po/*/*.po"))
	if err != nil || len(dirs) != len(Languages) {
		t.Errorf("%d translations, %d languages", len(dirs), len(Languages))
	}
	for _, language := range Languages {
		f, text := load(t, Path(language))
		for _, err := range Check(language, f, texts) {
			t.Error(err)
		}
		if want := f.Update(texts).String(); text != want {
			t.Errorf("%s is old: %s\n%s", Path(language), differ(text, want), anew)
		}
		found(t, language, f, texts)
	}
}

// found looks for every text as the page does in what LuCI gives it of a compiled file.
func found(t *testing.T, language string, f *File, texts []*Text) {
	t.Helper()
	b, err := f.LMO()
	if err != nil {
		t.Errorf("%s: %v", language, err)
		return
	}
	number := func(at int) uint32 { return binary.BigEndian.Uint32(b[at:]) }
	table := map[uint32]string{}
	for at := int(number(len(b) - 4)); at < len(b)-4; at += 16 {
		offset := number(at + 8)
		table[number(at)] = string(b[offset : offset+number(at+12)])
	}
	if got := table[0]; got != plurals[language] {
		t.Errorf("%s: the formula for plurals is %q", language, got)
	}
	for _, text := range texts {
		for form := range text.translatedIn(f) {
			k := text.ID
			if text.Context != "" {
				k = text.Context + "\x01" + k
			}
			if text.Plural != "" {
				k = fmt.Sprintf("%s\x02%d", k, form)
			}
			if table[Hash(k)] == "" && text.translatedIn(f)[form] != k {
				t.Errorf("%s: %q is not found", language, k)
			}
		}
	}
}

func (t *Text) translatedIn(f *File) []string {
	for _, e := range f.Entries {
		if e.key() == t.key() {
			return e.Str
		}
	}
	return nil
}

func TestUpdate(t *testing.T) {
	old := &File{Header: []string{"Plural-Forms: nplurals=3; plural=0;"}, Entries: []*Entry{
		{ID: "gone", Str: []string{"weg"}},
		{ID: "kept", Str: []string{"geblieben"}, Flags: []string{"fuzzy"}},
		{ID: "many", Str: []string{"was no plural"}},
	}}
	texts := []*Text{
		{Entry: Entry{ID: "kept", Places: []Place{{"a.js", 3}, {"a.js", 9}, {"b.js", 1}}}},
		{Entry: Entry{ID: "many", Plural: "manies"}},
		{Entry: Entry{ID: "new", Context: "c"}},
	}
	const want = `msgid ""
msgstr "Plural-Forms: nplurals=3; plural=0;"

#: a.js
#: b.js
#, fuzzy
msgid "kept"
msgstr "geblieben"

msgid "many"
msgid_plural "manies"
msgstr[0] ""
msgstr[1] ""
msgstr[2] ""

msgctxt "c"
msgid "new"
msgstr ""
`
	if got := old.Update(texts).String(); got != want {
		t.Errorf("%s", got)
	}
}

func TestCheckBad(t *testing.T) {
	const header = "Language: de|Content-Type: text/plain; charset=UTF-8|Plural-Forms: nplurals=2; plural=n != 1;"
	page := func(id, plural string, str ...string) (*Text, *Entry) {
		return &Text{Entry: Entry{ID: collapse(id), Plural: plural}}, &Entry{ID: collapse(id), Plural: plural, Str: str}
	}
	doctor := func(format, str string) (*Text, *Entry) {
		t, e := page(format, "", str)
		t.Doctor = format
		return t, e
	}
	type pair struct {
		t *Text
		e *Entry
	}
	of := func(t *Text, e *Entry) pair { return pair{t, e} }
	change := func(p pair, f func(*Entry)) pair { f(p.e); return p }
	for _, c := range []struct {
		name string
		pair
		want string // a part of the only complaint; "": there is none
	}{
		{"empty", of(page("a", "", "")), "is not translated"},
		{"a form empty", of(page("%d a", "%d as", "%d b", "")), "is not translated"},
		{"a form missing", of(page("%d a", "%d as", "%d b")), "has 1 plural forms, not 2"},
		{"another plural", change(of(page("%d a", "%d as", "%d b", "%d bs")), func(e *Entry) { e.Plural = "%d az" }), "its plural is"},
		{"fuzzy", change(of(page("a", "", "b")), func(e *Entry) { e.Flags = []string{"fuzzy"} }), "is fuzzy"},
		{"obsolete", change(of(page("a", "", "b")), func(e *Entry) { e.ID = "z" }), "is not"},
		{"blank", of(page("a", "", "b ")), "blanks around"},
		{"two blanks", of(page("a b", "", "a  b")), "two blanks"},
		{"line", of(page("a b", "", "a\nb")), "more than a line"},
		{"dots", of(page("a …", "", "b")), "a … at the end"},
		{"hole missing", of(page("%s a %d", "", "%s b")), `not ["%s" "%d"]`},
		{"holes turned round", of(page("%s a %d", "", "%d b %s")), `not ["%s" "%d"]`},
		{"hole in a form missing", of(page("%d a", "%d as", "ein b", "%d bs")), `not ["%d"]`},
		{"path", of(page("see /etc/config/htip.", "", "siehe /etc/konfig/htip.")), `lacks "/etc/config/htip"`},
		{"argument missing", of(doctor("% a %", "% b")), "names the arguments [1], not [1 2]"},
		{"argument too many", of(doctor("% a", "%1 b %2")), "names the arguments [1 2], not [1]"},
		{"both ways", of(doctor("% a %", "%2 b %")), "both with and without"},
		{"advice missing", of(doctor("a\nb", "c d")), `\n 0 times, not 1`},
		{"advice empty", of(doctor("a\nb", "c\n")), `beside \n`},
		{"command", of(doctor("a\nthen: htip doctor", "c\ndann: htip arzt")), `lacks "htip doctor"`},

		{"good", of(page("%s a %d …", "", "%s b %d …")), ""},
		{"good plural", of(page("%d a", "%d as", "%d b", "%d bs")), ""},
		{"good turned round", of(doctor("% a %\nb %", "%2 c %1\n%3 d")), ""},
		{"good twice", of(doctor("% a %", "%1 b %2 c %1")), ""},
		{"good, only an advice", of(doctor("%\nb", "%\nc")), ""},
	} {
		f := &File{Header: strings.Split(header, "|"), Entries: []*Entry{c.e}}
		errs := Check("de", f, []*Text{c.t})
		switch {
		case c.want == "" && len(errs) > 0:
			t.Errorf("%s: %v", c.name, errs)
		case c.want != "" && (len(errs) == 0 || !strings.Contains(errs[0].Error(), c.want)):
			t.Errorf("%s: %v, want %s", c.name, errs, c.want)
		}
	}
	if errs := Check("ko", &File{}, nil); len(errs) != 3 {
		t.Errorf("no header: %v", errs)
	}
}
