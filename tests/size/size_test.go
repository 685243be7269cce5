package main

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
)

func TestPackagesRefuses(t *testing.T) {
	for name, c := range map[string][2]string{
		"nothing":      {"", "is the program stripped?"},
		"other output": {"4a6580 main.main is here\n", "no line of go tool nm"},
		"no size":      {"  4a6580          x T main.main\n", "no line of go tool nm"},
		"no end":       {" 1000 0 d runtime.bss\n", "no runtime.bss and runtime.ebss among 1 symbols"},
	} {
		if got, err := Packages(c[0]); err == nil || !strings.Contains(err.Error(), c[1]) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}

// TestPackages: testdata/nm.txt has lines of a program for mipsle. The 32 MB that
// start as zeros are in no file.
func TestPackages(t *testing.T) {
	nm, err := os.ReadFile("testdata/nm.txt")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Packages(string(nm) + "         U sigaction\n")
	want := map[string]int{
		linker:    48 + 8 + 196 + 16 + 155228,
		"runtime": 544, "log": 164 + 96, "main": 884, "crypto/tls": 848, "slices": 240 + 316,
		"crypto/internal/fips140cache":        568,
		"vendor/golang.org/x/crypto/chacha20": 284,
		"github.com/vishvananda/netlink/nl":   316 + 284 + 276,
		"golang.org/x/net/dns/dnsmessage":     1044,
		"htip/src/dns":                        152,
		"htip/src/daemon":                     4092,
	}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v\ngot  %v\nwant %v", err, got, want)
	}
	if got := packageOf("gopkg.in/yaml%2ev3.Marshal"); got != "gopkg.in/yaml.v3" {
		t.Error(got)
	}
}

const someDeps = `runtime -
io - runtime
log - io
example.org/ns example.org/ns io
example.org/nl example.org/nl log example.org/ns
vendor/golang.org/x/text -
net - io golang.org/x/text
example.org/more example.org/nl io
prog/a prog net io example.org/nl
prog prog prog/a example.org/more
`

func TestAlone(t *testing.T) {
	deps := ParseDeps(someDeps)
	for module, want := range map[string][]string{
		"example.org/nl": {"log", "example.org/ns"}, "example.org/ns": nil, "example.org/none": nil,
	} {
		if got := Alone(deps, module); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", module, got, want)
		}
	}
}

func TestReport(t *testing.T) {
	sizes := map[string]int{"runtime": 500, "log": 40, "example.org/ns": 10, "example.org/nl": 100, "example.org/more": 50, "prog": 300}
	got := Report(sizes, ParseDeps(someDeps), []string{"example.org/nl", "example.org/ns", "example.org/none"}, 2)
	for _, line := range []string{
		"The largest of 6 packages",
		"       500  50.0 %  runtime\n       300  30.0 %  prog\n      1000          all",
		"       200  20.0 %  example.org/nl, of that 50 in log, example.org/ns\n",
		"        10   1.0 %  example.org/ns\n",
		"         -          example.org/none: tests only\n",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("no %q in\n%s", line, got)
		}
	}
}
