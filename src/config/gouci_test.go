package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	uci "github.com/digineo/go-uci"
	"pgregory.net/rapid"
)

// goUCI tells how go-uci's answer for a file differs from the document's; "" when
// it does not, as far as its API lets one look.
func goUCI(dir string, text []byte, d document) (diff string) {
	defer func() {
		if r := recover(); r != nil {
			diff = fmt.Sprintf("panics: %v", r)
		}
	}()
	if err := os.WriteFile(filepath.Join(dir, "htip"), text, 0o600); err != nil {
		return err.Error()
	}
	tree := uci.NewTree(dir)
	if err := tree.LoadConfig("htip", true); err != nil {
		return "refuses: " + err.Error()
	}
	labels := d.labels()
	for _, s := range d.sections {
		var want []string
		for i, other := range d.sections {
			if other.kind == s.kind {
				want = append(want, labels[i])
			}
		}
		if got, ok := tree.GetSections("htip", s.kind); !ok || !slices.Equal(got, want) {
			return fmt.Sprintf("sections of type %s: %q", s.kind, got)
		}
	}
	for i, s := range d.sections {
		for _, o := range s.options {
			if got, _ := tree.Get("htip", labels[i], o.name); !slices.Equal(got, o.values) {
				return fmt.Sprintf("%s.%s: %q", labels[i], o.name, got)
			}
		}
	}
	return ""
}

// TestGoUCI holds the reason why go-uci is not used (see the package comment): the
// recorded cases that go-uci refuses, decodes otherwise than uci, or accepts when
// uci doesn't. When a later version shortens the list, look again.
func TestGoUCI(t *testing.T) {
	known := map[string]string{
		"03-double":           "decodes",
		"04-apostrophe":       "refuses",
		"05-adjacent":         "refuses",
		"06-multiline":        "refuses",
		"07-package":          "refuses",
		"08-crlf":             "refuses",
		"09-quoted-type":      "refuses",
		"10-empty-last":       "refuses",
		"15-backslash":        "decodes",
		"16-semicolon":        "refuses",
		"30-bad-option-name":  "accepts",
		"33-bad-section-name": "accepts",
		"35-no-value":         "refuses",
	}
	paths, err := filepath.Glob("testdata/uci-cases/*/htip")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		text, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		d, err := parse(text, nil)
		diff, fault := goUCI(t.TempDir(), text, d), ""
		switch refuses := strings.HasPrefix(diff, "refuses"); {
		case err == nil && refuses:
			fault = "refuses"
		case err == nil && diff != "":
			fault = "decodes"
		case err != nil && !refuses:
			fault = "accepts"
		}
		if c := filepath.Base(filepath.Dir(p)); fault != known[c] {
			t.Errorf("%s: go-uci's fault is %q, was %q (%s)", c, fault, known[c], diff)
		}
	}
}

// Within what both understand, go-uci reads our normal form as we do.
func TestGoUCIReadsNormalForm(t *testing.T) {
	dir := t.TempDir()
	name := rapid.StringMatching(`[a-z][a-z0-9_]{0,7}`)
	value := rapid.StringMatching(`[ -&(-[\]-~é]{1,12}`)
	rapid.Check(t, func(t *rapid.T) {
		d := document{sections: []*section{{kind: "htip", name: "main"}}}
		for _, n := range rapid.SliceOfNDistinct(name, 1, 4, rapid.ID).Draw(t, "options") {
			o := &option{name: n, list: rapid.Bool().Draw(t, "list"), values: []string{value.Draw(t, "value")}}
			if o.list {
				o.values = rapid.SliceOfNDistinct(value, 1, 3, rapid.ID).Draw(t, "values")
			}
			d.sections[0].options = append(d.sections[0].options, o)
		}
		if diff := goUCI(dir, []byte(render(d)), d); diff != "" {
			t.Fatalf("%s\n%s", diff, render(d))
		}
	})
}
