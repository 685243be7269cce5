package po

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A daemon in small.
const reportGo = `package daemon

type report struct{}

func (out *report) add(level, text string, args []string) {}
func (out *report) ok(text string, args ...string)        { out.add("ok", text, args) }
func (out *report) bad(text string, args ...string)       { out.add("bad", text, args) }

type other struct{}

func (other) bad(text string) {}
`

func doctorOf(t *testing.T, body string) (string, []error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"d/report.go": reportGo,
		"d/checks.go": "package daemon\n\nimport (\n\"m/names\"\n\"elsewhere.example/x\"\n)\n\n" + body,
		"d/x_test.go": "package daemon\n\nfunc test(out *report) { out.ok(\"no\") }\n",
		"names/n.go":  "package names\n\nconst Prefix = \"p-\"\n\nvar Variable = \"v\"\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	entries, errs := extractDoctor(dir, "m", "d")
	var got []string
	for _, e := range entries {
		got = append(got, e.ID)
	}
	return strings.Join(got, "|"), errs
}

func TestDoctorBad(t *testing.T) {
	for body, want := range map[string]string{
		`func f(out *report, s string) {}`:                              "no sentences",
		`func f(out *report) { out.bad(names.Variable) }`:               "names.Variable is no constant",
		`func f(out *report) { out.bad(x.Sprint("a")) }`:                "is no constant",
		`func f(out *report) { s := "a"; s += "b"; out.bad(s) }`:        "can't be followed",
		`func f(out *report) { s, t := g(); out.bad(s, t) }`:            "can't be followed",
		`func f(out *report) { for _, s := range l { out.bad(s) } }`:    "goes over a list",
		`func f(out *report, s string) { out.bad(s) }`:                  "s is no constant",
		`func f(out *report, s string) { s = s + "a"; out.bad(s) }`:     "depends on itself",
		`func f(out *report) { out.bad("a % %", "b") }`:                 "wants 2 arguments, not 1",
		`func f(out *report) { out.bad("a", "b") }`:                     "wants 0 arguments, not 1",
		`func f(out *report) { out.add("bad", "a", nil); out.ok("b") }`: "add() is for",
	} {
		if got, errs := doctorOf(t, body); len(errs) == 0 || !strings.Contains(errs[0].Error(), want) {
			t.Errorf("%s: %s, %v; want %s", body, got, errs, want)
		}
	}
}

func TestDoctor(t *testing.T) {
	for body, want := range map[string]string{
		`const c = "b" + names.Prefix; func f(out *report) { out.bad(("a"+c)+"\nd %", x.Y()) }`:                                        "abp-\nd %",
		`func f(out *report) { other{}.bad("no"); out.ok("a") }`:                                                                       "a",
		`func f(out *report, b bool) { s := "a"; if b { s = "b" }; out.ok("% "+s, "x") }`:                                              "% a|% b",
		`func f(out *report) { var s, t = "a", "b"; out.ok(s + t) }`:                                                                   "ab",
		`func f(out *report) { g(out, 1, "a"); out.g("b"); g(out, 2, "c") }; func g(o *report, n int, s string) { o.bad(s+"!") }`:      "a!|c!",
		`func f(out *report) { out.g("a %", "x") }; func (out *report) g(s string, args ...string) { out.bad(s+"%", append(args)...)}`: "a %%",
	} {
		if got, errs := doctorOf(t, body); got != want || len(errs) > 0 {
			t.Errorf("%s: %q, %v; want %q", body, got, errs, want)
		}
	}
}
