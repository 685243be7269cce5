package main

import (
	"os/exec"
	"path/filepath"
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
	for _, heavy := range []string{"net/http", "encoding/json", "log/slog", "regexp", "html/template", "text/template", "encoding/xml", "encoding/gob", "github.com/digineo/go-uci", "github.com/miekg/dns", "github.com/vishvananda/netlink", "pgregory.net/rapid"} {
		if slices.Contains(deps, heavy) {
			t.Errorf("the program imports %s", heavy)
		}
	}
}

// TestNoResolver: one call that may have to look a name up ([net.Dial],
// [net.Listen], [net.ListenConfig]) keeps the library's whole resolver in the
// program, 36 kB packed. Names are asked for by src/dns alone.
func TestNoResolver(t *testing.T) {
	program := filepath.Join(t.TempDir(), "htip")
	if out, err := exec.Command("go", "build", "-o", program, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	out, err := exec.Command("go", "tool", "nm", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	symbols := string(out)
	if !strings.Contains(symbols, "htip/src/daemon.Main") {
		t.Fatalf("not a list of symbols: %.200s", symbols)
	}
	for _, name := range []string{"net.(*Resolver).", "net.dnsReadConfig", "vendor/golang.org/x/net/dns/dnsmessage.(*Parser)."} {
		if strings.Contains(symbols, name) {
			t.Errorf("the program contains %s", name)
		}
	}
}
