package main

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestNothingHeavy: the program lies on a router's flash. Each of these would
// cost more than it brings; docs/performance.md has the figures.
func TestNothingHeavy(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "htip/src/daemon") {
		t.Fatalf("not a list of packages: %.200s", out)
	}
	for _, heavy := range []string{"net/http", "encoding/json", "log/slog", "regexp", "html/template", "text/template", "encoding/xml", "encoding/gob", "github.com/digineo/go-uci", "github.com/vishvananda/netlink", "pgregory.net/rapid"} {
		if slices.Contains(deps, heavy) {
			t.Errorf("the program imports %s", heavy)
		}
	}
}
