// Package docs holds the documentation against the source.
package docs

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const root = "../.."

// testsOf are the names of all tests and fuzz targets of the source, and the
// names of subtests as far as they are written as texts.
func testsOf(t *testing.T) (tests map[string]bool, texts map[string]bool) {
	tests, texts = map[string]bool{}, map[string]bool{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "build" || d.Name() == ".git") {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				tests[fn.Name.Name] = true
			}
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
				texts[strings.ReplaceAll(strings.Trim(l.Value, "`\""), " ", "_")] = true
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return tests, texts
}

var named = regexp.MustCompile("`((?:Test|Fuzz|Benchmark)[A-Z0-9][A-Za-z0-9]*)(?:/([^`]+))?`")

// TestNamedTestsExist: a test that the documentation names is there.
func TestNamedTestsExist(t *testing.T) {
	tests, texts := testsOf(t)
	files, err := filepath.Glob(root + "/docs/*.md")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	seen := 0
	for _, path := range append(files, root+"/README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range named.FindAllStringSubmatch(string(text), -1) {
			seen++
			if !tests[m[1]] {
				t.Errorf("%s: there is no %s", filepath.Base(path), m[1])
			}
			for sub := range strings.SplitSeq(m[2], "/") {
				if sub = strings.ReplaceAll(sub, " ", "_"); sub != "" && !texts[sub] {
					t.Errorf("%s: no test has a part %q, as in %s", filepath.Base(path), sub, m[0])
				}
			}
		}
	}
	if seen < 50 {
		t.Errorf("only %d tests are named: looked at the wrong place?", seen)
	}
}

// TestPromisesNameTests: every promise about security says what holds it.
func TestPromisesNameTests(t *testing.T) {
	text, err := os.ReadFile(root + "/docs/security.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(text), "| promise | held by |\n|---|---|\n")
	rows := 0
	for line := range strings.Lines(table) {
		if !strings.HasPrefix(line, "|") {
			break
		}
		rows++
		_, by, _ := strings.Cut(strings.TrimSuffix(strings.TrimSpace(line), "|")[2:], " | ")
		if !named.MatchString(by) && !strings.Contains(by, "by construction") {
			t.Errorf("no test holds: %s", line)
		}
	}
	if !ok || rows < 20 {
		t.Errorf("%d promises in the table", rows)
	}
}
