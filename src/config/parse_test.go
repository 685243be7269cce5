package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// show is what `uci show <name>` prints.
func show(name string, d document) string {
	var b strings.Builder
	labels := d.labels()
	for i, s := range d.sections {
		b.WriteString(name + "." + labels[i] + "=" + s.kind + "\n")
		for _, o := range s.options {
			b.WriteString(name + "." + labels[i] + "." + o.name + "=")
			for j, v := range o.values {
				if j > 0 {
					b.WriteByte(' ')
				}
				b.WriteString(quote(v))
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// render writes a document in normal form: one statement a line, every value in
// single quotes.
func render(d document) string {
	var b strings.Builder
	for _, s := range d.sections {
		b.WriteString("\n" + strings.Join(s.statements(), "\n\t") + "\n")
	}
	return b.String()
}

func equalDocs(a, b document) bool {
	return slices.EqualFunc(a.sections, b.sections, (*section).equal)
}

func mustParse(t interface{ Fatalf(string, ...any) }, text string) document {
	d, err := parse([]byte(text), nil)
	if err != nil {
		t.Fatalf("parse %q: %v", text, err)
	}
	return d
}

// The recordings come from the C program: output, error text and exit status must
// be the same for each.
func TestRecordedCases(t *testing.T) {
	dirs, err := filepath.Glob("testdata/uci-cases/*/htip")
	if err != nil || len(dirs) != 27 {
		t.Fatalf("%d cases, error %v; want 27", len(dirs), err)
	}
	for _, path := range dirs {
		dir := filepath.Dir(path)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			read := func(name string) string {
				b, err := os.ReadFile(filepath.Join(dir, name))
				if err != nil {
					t.Fatal(err)
				}
				return string(b)
			}
			d, err := parse([]byte(read("htip")), nil)
			out, stderr, exit := "", "", "0"
			if err != nil {
				var pe *ParseError
				if !errors.As(err, &pe) {
					t.Fatalf("%T, want a ParseError", err)
				}
				stderr, exit = "uci: P"+strings.TrimPrefix(err.Error(), "p")+"\n", "1"
			} else {
				out = show("htip", d)
			}
			if out != read("show") || stderr != read("stderr") || exit != strings.TrimSpace(read("exit")) {
				t.Errorf("got exit %s\n%s%s\nwant exit %s%s%s", exit, out, stderr, read("exit"), read("show"), read("stderr"))
			}
		})
	}
}

// What the recordings do not hold. Each but the zero byte is the C program's answer.
func TestParse(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		// bad ones first
		{"zero byte", "config a\n\x00\n", "parse error (zero byte) at line 2, byte 0"},
		{"unterminated double", "config \"a\nb", `parse error (EOF with unterminated ") at line 1, byte 11`},
		{"escape at the end", "config \"a\\", `parse error (EOF with unterminated ") at line 0, byte 10`},
		{"keyword at the end", "config", "parse error (config without name) at line 0, byte 0"},
		{"option at the end", "config a\n option", "parse error (option without name) at line 1, byte 1"},
		{"nothing behind it", "config \n", "parse error (insufficient arguments) at line 1, byte 8"},
		{"empty type", "config ''\n", "parse error (insufficient arguments) at line 1, byte 10"},
		{"blank in type", "config 'a b'\n", "parse error (invalid character in type field) at line 1, byte 13"},
		{"other type", "config a x\nconfig b x\n", "parse error (section of different type overwrites prior section with same name) at line 2, byte 11"},
		{"other type, generated name", "config a\nconfig b cfg01b606\n", "parse error (section of different type overwrites prior section with same name) at line 2, byte 19"},
		{"glued line", "config a\noption x y\\\nz 'u' v\n", "parse error (too many arguments) at line 3, byte 17"},
		{"semicolon at the end", "config 'a' 'b';\n", "parse error (invalid command) at line 1, byte 15"},
		{"package", "package a.b\n", "parse error (invalid character in name field) at line 1, byte 12"},
		// good ones
		{"other package", "package a-b_c\nconfig a\n", "htip.@a[0]=a\n"},
		{"short keywords", "c a b\no x 1\nl y 2\n", "htip.b=a\nhtip.b.x='1'\nhtip.b.y='2'\n"},
		{"lost behind a plain word", "config a b; option x 1\n", "htip.b=a\n"},
		{"kept behind a blank", "config a b ; option x 1 ; option y 2 # no\n", "htip.b=a\nhtip.b.x='1'\nhtip.b.y='2'\n"},
		{"glued word", "config a b\noption x u\\\nv\\\r\nw\n", "htip.b=a\nhtip.b.x='uvw'\n"},
		{"empty value keeps the old one", "config a b\noption x 1\noption x ''\n", "htip.b=a\nhtip.b.x='1'\n"},
		{"empty list value", "config a b\nlist x ''\nlist x\n", "htip.b=a\nhtip.b.x='' ''\n"},
		{"list keeps what repeats", "config a b\nlist x 1\nlist x 1\n", "htip.b=a\nhtip.b.x='1' '1'\n"},
		{"option then list", "config a b\noption x 1\noption y 2\nlist x 3\n", "htip.b=a\nhtip.b.x='1' '3'\nhtip.b.y='2'\n"},
		{"named between unnamed", "config a\nconfig a n\nconfig a\n", "htip.@a[0]=a\nhtip.n=a\nhtip.@a[2]=a\n"},
		{"by its generated name", "config a\nconfig a cfg01b606\noption x 1\n", "htip.@a[0]=a\nhtip.@a[0].x='1'\n"},
		{"odd type", "config 'a;#\"'\n", "htip.@a;#\"[0]=a;#\"\n"},
	} {
		d, err := parse([]byte(c.in), nil)
		got := show("htip", d)
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%s: %q\n got %q\nwant %q", c.name, c.in, got, c.want)
		}
	}
}

func genDocument(t *rapid.T) document {
	name := rapid.StringMatching(`[a-zA-Z0-9_]{1,8}`)
	value := rapid.OneOf(
		rapid.StringOfN(rapid.SampledFrom([]rune("'\"\\;# \t\r\naé")), 0, 8, -1),
		rapid.String().Filter(func(s string) bool { return !strings.Contains(s, "\x00") }),
	)
	var d document
	seen := map[string]bool{}
	for range rapid.IntRange(0, 5).Draw(t, "sections") {
		s := &section{kind: rapid.StringMatching(`[!-~]{1,6}`).Draw(t, "kind")}
		if n := name.Draw(t, "name"); rapid.Bool().Draw(t, "named") && !seen[n] && !strings.HasPrefix(n, "cfg") {
			s.name, seen[n] = n, true
		}
		for _, n := range rapid.SliceOfNDistinct(name, 0, 4, rapid.ID).Draw(t, "options") {
			o := &option{name: n, list: rapid.Bool().Draw(t, "list")}
			if o.list {
				o.values = rapid.SliceOfN(value, 1, 3).Draw(t, "values")
			} else {
				o.values = []string{value.Filter(func(s string) bool { return s != "" }).Draw(t, "value")}
			}
			s.options = append(s.options, o)
		}
		d.sections = append(d.sections, s)
	}
	return d
}

func TestRenderParse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := genDocument(t)
		if got := mustParse(t, render(d)); !equalDocs(got, d) {
			t.Fatalf("%q\nbecame %q", render(d), render(got))
		}
	})
}

func FuzzParse(f *testing.F) {
	dirs, err := filepath.Glob("testdata/uci-cases/*/htip")
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range dirs {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		size, last := 0, 0
		d, err := parse(data, func(st statement) {
			if st.start < last || st.end < st.start || st.end > len(data) || st.sep >= 0 && (st.sep < st.end || data[st.sep] != ';') {
				t.Fatalf("statement %+v behind byte %d", st, last)
			}
			last = st.end
		})
		if err != nil {
			return
		}
		for _, s := range d.sections {
			size += len(s.kind) + len(s.name)
			for _, o := range s.options {
				if len(o.values) == 0 || !o.list && (len(o.values) != 1 || o.values[0] == "") {
					t.Fatalf("option %+v", o)
				}
				for _, v := range o.values {
					size += len(v)
				}
			}
		}
		if size > len(data) {
			t.Fatalf("%d bytes of text out of %d", size, len(data))
		}
		// A section that goes by a generated name stands in another place once
		// it is merged, so the second round is the one that must not change.
		once := mustParse(t, render(d))
		if !equalDocs(once, d) && !strings.Contains(string(data), "cfg") {
			t.Fatalf("%q\nbecame %q", render(d), render(once))
		}
	})
}
