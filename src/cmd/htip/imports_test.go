package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// linked are the packages of the program, as it is built for routers.
func linked(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("go", "list", "-deps", ".")
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=mipsle", "CGO_ENABLED=0")
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	deps := strings.Fields(string(out))
	if !slices.Contains(deps, "htip/src/daemon") {
		t.Fatalf("not a list of packages: %.200s", out)
	}
	return deps
}

// TestNothingHeavy: the program lies on a router's flash. Each of these, and what
// is below them, would cost more than it brings; docs/performance.md has the
// figures.
func TestNothingHeavy(t *testing.T) {
	heavy := []string{
		"net/http", "net/rpc", "net/mail", "net/smtp", "expvar", "testing", "plugin",
		"encoding/json", "encoding/xml", "encoding/gob", "encoding/csv", "log/slog",
		"regexp", "text/template", "html/template", "text/tabwriter", "go",
		"compress", "archive", "database", "image", "debug", "runtime/pprof", "runtime/trace",
	}
	for _, d := range linked(t) {
		for _, h := range heavy {
			if d == h || strings.HasPrefix(d, h+"/") {
				t.Errorf("the program imports %s", d)
			}
		}
	}
}

// TestOtherModules: what is linked of other modules is this and no more. So no
// client of netlink as a whole (vishvananda/netlink, wgctrl), no second DNS
// library, no go-uci, no iptables by regexp; and nothing of x/net but the messages
// of DNS, which the standard library has as well.
func TestOtherModules(t *testing.T) {
	allowed := []string{"github.com/vishvananda/netlink/nl", "github.com/vishvananda/netns", "golang.org/x/net/dns/dnsmessage", "golang.org/x/sys/unix"}
	var got []string
	for _, d := range linked(t) {
		first, _, _ := strings.Cut(d, "/")
		if strings.Contains(first, ".") {
			got = append(got, d)
		}
		if strings.HasPrefix(d, "vendor/golang.org/x/net/") && d != "vendor/golang.org/x/net/dns/dnsmessage" {
			t.Errorf("the program imports %s", d)
		}
	}
	slices.Sort(got)
	if !slices.Equal(got, allowed) {
		t.Errorf("linked\n%q, allowed\n%q", got, allowed)
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
