package po

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"htip/src/htip"
)

// The page has words for every reason of the daemon, and for no other.
func TestReasons(t *testing.T) {
	const name = App + "/htdocs/luci-static/resources/htip/common.js"
	src, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	table, err := jsTable(name, string(src), "reasons")
	if err != nil {
		t.Fatal(err)
	}
	got, want := slices.Sorted(maps.Keys(table)), []string{}
	for r := htip.Reason(1); r.String() != fmt.Sprintf("reason %d", uint16(r)); r++ {
		want = append(want, r.String())
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the page has\n%s\n\nthe daemon has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// terminal is what only helps people who have a terminal open.
var terminal = regexp.MustCompile(`/etc/|\.sh\b|\buci |\bhtip (?:access|accept|connect|doctor|invite|key|peers|requests|watch)\b|\b(?:option|list) [a-z_]|\bifstatus|\bfw4 `)

// What the doctor says on the page can be done on pages: where its advice names commands,
// files or options, the page has its own, with no more arguments, and for no other advice.
func TestAdvice(t *testing.T) {
	own, err := advices(root)
	if err != nil {
		t.Fatal(err)
	}
	entries, errs := extractDoctor(root, "htip", daemon)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for _, e := range own {
		if terminal.MatchString(e.ID) {
			t.Errorf("%s: not for pages: %s", e.Places[0], e.ID)
		}
	}
	used := map[string]bool{}
	for _, e := range entries {
		text, advice, _ := strings.Cut(e.ID, "\n")
		if terminal.MatchString(strings.ReplaceAll(text, "option %", "")) {
			t.Errorf("%s: the advice is the place for commands: %s", e.Places[0], text)
		}
		p := own[advice]
		if used[advice] = true; p == nil {
			if terminal.MatchString(advice) {
				t.Errorf("%s: the page can't say %q", e.Places[0], advice)
			}
			continue
		}
		plain, numbered := strings.Count(p.ID, "%"), 0
		for _, m := range regexp.MustCompile(`%[1-9]`).FindAllString(p.ID, -1) {
			plain, numbered = plain-1, max(numbered, int(m[1]-'0'))
		}
		if plain > 0 && numbered > 0 || plain > strings.Count(advice, "%") || numbered > strings.Count(e.ID, "%") {
			t.Errorf("%s: arguments of %q, in the place of %q", p.Places[0], p.ID, advice)
		}
	}
	for advice, e := range own {
		if !used[advice] {
			t.Errorf("%s: the doctor does not say %q", e.Places[0], advice)
		}
	}
}
