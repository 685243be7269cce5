package ubus_test

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// The package needs nothing but the standard library, our slog and x/sys, and nothing
// heavy of the former: it is part of a daemon for small routers.
func TestImports(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			path, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				t.Fatal(err)
			}
			outside := strings.Contains(path, ".") && path != "golang.org/x/sys/unix"
			if outside || strings.HasPrefix(path, "htip/") && path != "htip/src/slog" || path == "net/http" || path == "regexp" || path == "reflect" {
				t.Errorf("%s imports %s", name, path)
			}
		}
	}
}
