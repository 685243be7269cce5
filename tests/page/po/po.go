// Package po has the texts of the page and of the doctor in other languages: it finds what
// is to be translated, keeps the files of translators up to date, checks them, and makes of
// them the files that LuCI reads.
package po

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Entry is one text and its translation.
type Entry struct {
	Places  []Place // where it is used
	Notes   []string
	Flags   []string
	Context string
	ID      string
	Plural  string   // the text for more than one; empty: there is no such
	Str     []string // one for each plural form; a single one without Plural
}

// Place is a line of a file; Line 0: the file is named only.
type Place struct {
	File string
	Line int
}

func (p Place) String() string {
	if p.Line == 0 {
		return p.File
	}
	return fmt.Sprintf("%s:%d", p.File, p.Line)
}

// key is what an entry is found by.
type key struct{ context, id string }

func (e *Entry) key() key { return key{e.Context, e.ID} }

// translated tells whether every form has a text.
func (e *Entry) translated() bool { return len(e.Str) > 0 && !slices.Contains(e.Str, "") }

// File is a .po or .pot file.
type File struct {
	Header  []string // its lines, such as "Language: de"
	Entries []*Entry
}

// sort puts the entries into LuCI's order: by text, then by context.
func (f *File) sort() {
	slices.SortStableFunc(f.Entries, func(a, b *Entry) int {
		return cmp.Or(strings.Compare(a.ID, b.ID), strings.Compare(a.Context, b.Context))
	})
}

// Field is a field of the header, or "".
func (f *File) Field(name string) string {
	for _, h := range f.Header {
		if k, v, ok := strings.Cut(h, ":"); ok && strings.EqualFold(k, name) {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`, "\t", `\t`)

func quote(s string) string { return `"` + escapes.Replace(s) + `"` }

// unquote takes what stands between the quotation marks at the end of a line.
func unquote(s string) (string, error) {
	s = strings.TrimRight(s, " \t\r")
	if len(s) < 2 || s[0] != '"' || s[len(s)-1] != '"' {
		return "", fmt.Errorf("no text in quotation marks: %s", s)
	}
	s = s[1 : len(s)-1]
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '"' {
			return "", fmt.Errorf("a quotation mark without a backslash: %s", s)
		}
		if c == '\\' {
			i++
			if i == len(s) {
				return "", fmt.Errorf("a backslash at the end: %s", s)
			}
			switch s[i] {
			case 'n':
				c = '\n'
			case 't':
				c = '\t'
			case '"', '\\':
				c = s[i]
			default:
				return "", fmt.Errorf(`\%c is not known: %s`, s[i], s)
			}
		}
		out.WriteByte(c)
	}
	return out.String(), nil
}

// Parse reads a .po or .pot file. Entries that are commented out are left away.
func Parse(name, text string) (*File, error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("%s: not UTF-8", name)
	}
	f, e := &File{}, &Entry{}
	var into *string
	begun := false // e has a msgctxt or msgid
	done := func() {
		switch {
		case !begun:
		case e.ID == "" && e.Context == "":
			f.Header = strings.FieldsFunc(strings.Join(e.Str, ""), func(r rune) bool { return r == '\n' })
		default:
			f.Entries = append(f.Entries, e)
		}
		e, into, begun = &Entry{}, nil, false
	}
	for i, line := range strings.Split(text, "\n") {
		word, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		var err error
		switch {
		case word == "":
		case word[0] == '"':
			if into == nil {
				err = fmt.Errorf("a text that belongs to nothing")
				break
			}
			var s string
			s, err = unquote(strings.TrimSpace(line))
			*into += s
		case word[0] == '#':
			if len(e.Str) > 0 {
				done()
			}
			switch word {
			case "#:":
				for p := range strings.FieldsSeq(rest) {
					at := Place{File: p}
					if file, n, ok := strings.Cut(p, ":"); ok {
						at.File = file
						fmt.Sscan(n, &at.Line)
					}
					e.Places = append(e.Places, at)
				}
			case "#,":
				for w := range strings.SplitSeq(rest, ",") {
					e.Flags = append(e.Flags, strings.TrimSpace(w))
				}
			case "#.":
				e.Notes = append(e.Notes, rest)
			}
		default:
			if (word == "msgctxt" || word == "msgid") && len(e.Str) > 0 {
				done()
			}
			switch {
			case word == "msgctxt":
				into = &e.Context
			case word == "msgid":
				into = &e.ID
			case word == "msgid_plural":
				into = &e.Plural
			case word == "msgstr", word == fmt.Sprintf("msgstr[%d]", len(e.Str)):
				e.Str = append(e.Str, "")
				into = &e.Str[len(e.Str)-1]
			default:
				err = fmt.Errorf("%s is not expected", word)
			}
			if err == nil {
				begun = true
				*into, err = unquote(strings.TrimSpace(rest))
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, i+1, err)
		}
	}
	done()
	return f, nil
}

// String is the file as LuCI writes it: each text on one line.
func (f *File) String() string {
	var out strings.Builder
	out.WriteString("msgid \"\"\n")
	if len(f.Header) == 1 {
		fmt.Fprintf(&out, "msgstr %s\n", quote(f.Header[0]))
	} else {
		out.WriteString("msgstr \"\"\n")
		for _, h := range f.Header {
			fmt.Fprintln(&out, quote(h+"\n"))
		}
	}
	for _, e := range f.Entries {
		out.WriteString("\n")
		for _, n := range e.Notes {
			fmt.Fprintf(&out, "#. %s\n", n)
		}
		for _, p := range e.Places {
			fmt.Fprintf(&out, "#: %s\n", p)
		}
		if len(e.Flags) > 0 {
			fmt.Fprintf(&out, "#, %s\n", strings.Join(e.Flags, ", "))
		}
		if e.Context != "" {
			fmt.Fprintf(&out, "msgctxt %s\n", quote(e.Context))
		}
		fmt.Fprintf(&out, "msgid %s\n", quote(e.ID))
		if e.Plural == "" {
			fmt.Fprintf(&out, "msgstr %s\n", quote(strings.Join(e.Str, "")))
			continue
		}
		fmt.Fprintf(&out, "msgid_plural %s\n", quote(e.Plural))
		for i, s := range e.Str {
			fmt.Fprintf(&out, "msgstr[%d] %s\n", i, quote(s))
		}
	}
	return out.String()
}

// Untranslated is how many entries have no text, or not in every form.
func (f *File) Untranslated() (n int) {
	for _, e := range f.Entries {
		if !e.translated() {
			n++
		}
	}
	return n
}
