package po

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// Where things are, from the module's directory on.
const (
	App      = "luci-app-htip"
	Template = App + "/po/templates/htip.pot"
	daemon   = "src/daemon"
)

// Languages are those there is a translation in.
var Languages = []string{"de", "ko"}

// Path is a language's file.
func Path(language string) string { return App + "/po/" + language + "/htip.po" }

// texts that are not written where they are translated.
var variable = map[string]bool{
	"row.format":        true, // a sentence of the doctor
	"sentence":          true, // without its advice, where the page has one of its own
	"advices[commands]": true, // this
}

// Text is what is to be translated.
type Text struct {
	Entry
	Doctor string // the doctor's sentence as it is on ubus; empty for the page's own
}

var blanks = regexp.MustCompile(`[ \t\n]+`)

// collapse makes of a text its msgid, as LuCI does before it looks for it.
func collapse(s string) string { return blanks.ReplaceAllString(strings.TrimSpace(s), " ") }

// Extract finds everything, in the order of LuCI's own templates. root is the module's
// directory.
func Extract(root string) ([]*Text, error) {
	var found []*Text
	var errs []error
	take := func(entries []*Entry, doctor bool, more []error) {
		errs = append(errs, more...)
		for _, e := range entries {
			t := &Text{Entry: *e}
			if doctor {
				t.Doctor = e.ID
			}
			t.ID, t.Plural, t.Context = collapse(e.ID), collapse(e.Plural), collapse(e.Context)
			if doctor && strings.Trim(t.ID, "% ") == "" {
				continue // nothing but arguments
			}
			found = append(found, t)
		}
	}
	err := fs.WalkDir(os.DirFS(root), App, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		parent := path.Base(path.Dir(name))
		js := path.Ext(name) == ".js"
		if !js && (path.Ext(name) != ".json" || parent != "menu.d" && parent != "acl.d") {
			return nil
		}
		src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
		if err != nil {
			return err
		}
		if js {
			entries, more := extractJS(name, string(src), variable)
			take(entries, false, more)
		} else {
			entries, more := extractJSON(name, string(src))
			take(entries, false, more)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	pages, err := advices(root)
	if err != nil {
		return nil, err
	}
	entries, more := extractDoctor(root, "htip", daemon)
	for _, e := range entries {
		text, advice, _ := strings.Cut(e.ID, "\n")
		if p := pages[advice]; p != nil {
			e.ID = text
			take([]*Entry{p}, true, nil)
		}
	}
	take(entries, true, more)
	merged, more := merge(found)
	return merged, errors.Join(append(errs, more...)...)
}

// advices is what the page says in the place of the doctor's advice, by that.
func advices(root string) (map[string]*Entry, error) {
	const name = App + "/htdocs/luci-static/resources/htip/common.js"
	src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		return nil, err
	}
	table, err := jsTable(name, string(src), "advices")
	out := map[string]*Entry{}
	for k, v := range table {
		out[k] = &Entry{Places: []Place{{name, v.line}}, ID: v.text}
	}
	return out, err
}

var titles = regexp.MustCompile(`"(?:title|description)"\s*:\s*("(?:[^"\\]|\\.)*")`)

// extractJSON finds titles and descriptions.
func extractJSON(file, src string) (out []*Entry, errs []error) {
	if !json.Valid([]byte(src)) {
		return nil, []error{fmt.Errorf("%s: not JSON", file)}
	}
	for _, m := range titles.FindAllStringSubmatchIndex(src, -1) {
		e := &Entry{Places: []Place{{file, 1 + strings.Count(src[:m[2]], "\n")}}}
		if err := json.Unmarshal([]byte(src[m[2]:m[3]]), &e.ID); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", e.Places[0], err))
		}
		out = append(out, e)
	}
	return out, errs
}

// merge puts together what is there at several places.
func merge(found []*Text) (out []*Text, errs []error) {
	by := map[key]*Text{}
	for _, t := range found {
		old := by[t.key()]
		if old == nil {
			by[t.key()] = t
			out = append(out, t)
			continue
		}
		if old.Plural != t.Plural || old.Doctor != t.Doctor {
			errs = append(errs, fmt.Errorf("%s: %q is another kind of text at %s", t.Places[0], t.ID, old.Places[0]))
		}
		for _, p := range t.Places {
			if !slices.Contains(old.Places, p) {
				old.Places = append(old.Places, p)
			}
		}
	}
	for _, t := range out {
		slices.SortFunc(t.Places, func(a, b Place) int {
			if a.File != b.File {
				return strings.Compare(a.File, b.File)
			}
			return a.Line - b.Line
		})
		if text, advice, ok := strings.Cut(t.Doctor, "\n"); ok && text != "" {
			words := strings.Fields(advice)
			t.Notes = []string{`Doctor: \n comes before the advice: ` + strings.Join(words[:min(4, len(words))], " ") + " …"}
		} else if t.Doctor != "" {
			t.Notes = []string{"Doctor"}
		}
	}
	slices.SortFunc(out, func(a, b *Text) int {
		if a.ID != b.ID {
			return strings.Compare(a.ID, b.ID)
		}
		return strings.Compare(a.Context, b.Context)
	})
	return out, errs
}

// forms are how many plural forms a header tells of.
func (f *File) forms() int {
	n := 0
	fmt.Sscanf(strings.ReplaceAll(f.Field("Plural-Forms"), " ", ""), "nplurals=%d", &n)
	return n
}

// NewTemplate is the file that translators begin with.
func NewTemplate(texts []*Text) *File {
	f := &File{Header: []string{"Content-Type: text/plain; charset=UTF-8"}}
	for _, t := range texts {
		e := t.Entry
		if e.Str = []string{""}; e.Plural != "" {
			e.Str = []string{"", ""}
		}
		f.Entries = append(f.Entries, &e)
	}
	return f
}

// Update is a translation with what the page and the doctor say now: what is new is empty,
// and what is gone is left away. Places are files only, so that translations change when
// texts do and not with every line.
func (f *File) Update(texts []*Text) *File {
	old := map[key]*Entry{}
	for _, e := range f.Entries {
		old[e.key()] = e
	}
	out := &File{Header: f.Header}
	for _, t := range texts {
		e := t.Entry
		e.Str = make([]string, 1)
		if e.Plural != "" {
			e.Str = make([]string, max(1, f.forms()))
		}
		if was := old[t.key()]; was != nil && (was.Plural == "") == (e.Plural == "") {
			copy(e.Str, was.Str)
			e.Flags = was.Flags
		}
		e.Places = nil
		for _, p := range t.Places {
			if p.Line = 0; !slices.Contains(e.Places, p) {
				e.Places = append(e.Places, p)
			}
		}
		out.Entries = append(out.Entries, &e)
	}
	return out
}
