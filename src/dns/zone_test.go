package dns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/miekg/dns"
	"golang.org/x/sys/unix"
)

const leases = `1700000000 02:00:00:00:00:05 10.0.0.5 nas 01:02:00:00:00:00:05
1700000000 02:00:00:00:00:06 10.0.0.6 * 01:02:00:00:00:00:06
0 02:00:00:00:00:07 10.0.0.7 TV *
1700000000 02:00:00:00:00:08 10.0.0.8 o'brien *
1700000000 02:00:00:00:00:09 10.0.0.9 my pc *
1700000000 02:00:00:00:00:0a 10.0.0.10 küche *
1700000000 02:00:00:00:00:0b 10.0.0.11 nas.evil.example *
1700000000 02:00:00:00:00:0c 10.0.0.12 $(reboot) *
1700000000 02:00:00:00:00:0d 300.0.0.1 bad *
1700000000 02:00:00:00:00:0e 192.168.9.2 guest *
duid 00:01:00:01
1700000000 123 fd00::5 nas6 00:01

broken
`

func TestParseLeases(t *testing.T) {
	want := []record{{"nas", addr("10.0.0.5")}, {"tv", addr("10.0.0.7")}, {"guest", addr("192.168.9.2")}}
	if got := parseLeases(leases, "lan."); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

func TestParseHosts(t *testing.T) {
	const hosts = "# comment\n10.0.0.1 OpenWrt.lan OpenWrt # router\n10.0.0.5\tfiles a.b.lan. a.b x.corp bad'name\n::1 six\n10.0.0.9\nnonsense name\n\xff\xfe \xff\n"
	want := []record{
		{"openwrt", addr("10.0.0.1")}, {"openwrt", addr("10.0.0.1")},
		{"files", addr("10.0.0.5")}, {"a.b", addr("10.0.0.5")},
	}
	if got := parseHosts(hosts, "lan."); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	long := strings.Repeat("10.0.0.5 a\n", 3*maxHosts)
	if n := len(parseHosts(long, "lan.")); n != maxHosts {
		t.Errorf("%d records", n)
	}
}

func TestTellZone(t *testing.T) {
	own := []Mapping{mapping("10.0.0.0/24", "10.0.2.0/24")}
	got := tellZone([]record{{"tv", addr("10.0.0.7")}, {"guest", addr("192.168.9.2")}, {"nas", addr("10.0.0.5")}, {"nas", addr("10.0.0.5")}}, own)
	if want := []record{{"nas", addr("10.0.2.5")}, {"tv", addr("10.0.2.7")}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
}

func TestTransferBad(t *testing.T) {
	const apex = "htip. 5 SOA gateway.htip. nobody.htip. 1 1 1 1 1"
	for _, c := range []struct {
		want     string
		messages []*msg
	}{
		{"answered REFUSED", []*msg{message(t, dns.RcodeRefused)}},
		{"no beginning", []*msg{message(t, 0, "nas.htip. 5 A 10.0.2.5")}},
		{"no beginning", []*msg{message(t, 0, "lan. 5 SOA a. b. 1 1 1 1 1")}},
		{"outside the peer's substitutes", []*msg{message(t, 0, apex, "nas.htip. 5 A 192.168.1.1", apex)}},
		{"outside the peer's substitutes", []*msg{message(t, 0, apex, "nas.htip. 5 AAAA ::1", apex)}},
		{"has no end", endless(t, apex, maxMessages+1, 0)},
		{"more than 1024 hosts", endless(t, apex, 40, 200)},
	} {
		tr := transfer{substitutes: prefixes("10.0.2.0/24")}
		var err error
		done := false
		for _, m := range c.messages {
			if done, err = tr.add(m); err != nil || done {
				break
			}
		}
		if done || err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("want %q: %v, %v", c.want, done, err)
		}
	}
}

func endless(t *testing.T, apex string, n, each int) []*msg {
	list := []*msg{message(t, 0, apex)}
	for i := range n {
		m := message(t, 0)
		for j := range each {
			m.Answer = append(m.Answer, newA(fmt.Sprintf("h%d-%d.htip.", i, j), 1, addr("10.0.2.5")))
		}
		list = append(list, m)
	}
	return list
}

func TestTransferSkips(t *testing.T) {
	const apex = "htip. 5 SOA gateway.htip. nobody.htip. 1 1 1 1 1"
	tr := transfer{substitutes: prefixes("10.0.2.0/24")}
	if done, err := tr.add(message(t, 0, apex, `my\032pc.htip. 5 A 10.0.2.5`, "nas.lan. 5 A 10.0.2.5", "htip. 5 A 10.0.2.1", "nas.htip. 5 TXT x", "nas.htip. 5 A 10.0.2.5")); done || err != nil {
		t.Fatal(done, err)
	}
	if done, err := tr.add(message(t, 0, "tv.htip. 5 A 10.0.2.7", apex)); !done || err != nil {
		t.Fatal(done, err)
	}
	if want := []record{{"nas", addr("10.0.2.5")}, {"tv", addr("10.0.2.7")}}; !reflect.DeepEqual(tr.records, want) {
		t.Errorf("%v", tr.records)
	}
}

func TestHostsFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b", "a", ".hidden"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "dir"), 0o700); err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(dir, "a"), filepath.Join(dir, "b"), "/nowhere"}
	if got := hostsFiles([]string{dir, "/nowhere"}); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if _, err := readSome(filepath.Join(dir, "fifo"), 10); err == nil {
		t.Error("a FIFO was read")
	}
	if _, err := readSome("/nowhere", 10); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
