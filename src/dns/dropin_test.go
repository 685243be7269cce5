package dns

import (
	"bytes"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var proxyAddr = netip.MustParseAddrPort("127.0.0.1:4854")

func TestDropInBad(t *testing.T) {
	for _, c := range []struct {
		zone, lan string
		listen    netip.AddrPort
	}{
		{"", "lan", proxyAddr},
		{"x\nserver=/#/1.2.3.4", "lan", proxyAddr},
		{"lan", "lan", proxyAddr},
		{"homes.lan", "lan", proxyAddr},
		{"arpa", "lan", proxyAddr},
		{"internal", "lan/", proxyAddr},
		{"internal", "lan", netip.AddrPort{}},
	} {
		if b, err := DropIn(c.zone, c.lan, nil, nil, c.listen); err == nil || b != nil {
			t.Errorf("%q %q %s: %s", c.zone, c.lan, c.listen, b)
		}
	}
	b, err := DropIn("internal", "lan", []string{"org", "a/b.org", "x.lan", "good.example.org", "evil.org\naddress=/#/1.2.3.4"},
		[]netip.Prefix{{}, netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("10.0.0.0/8")}, proxyAddr)
	if err == nil || strings.Count(err.Error(), "\n") != 6 {
		t.Errorf("%v", err)
	}
	const want = `# Written by htip; gone when it stops. Change /etc/config/htip instead.
server=/internal/127.0.0.1#4854
rebind-domain-ok=/internal/
server=/good.example.org/127.0.0.1#4854
rebind-domain-ok=/good.example.org/
rev-server=10.0.0.0/8,127.0.0.1#4854
`
	if string(b) != want {
		t.Errorf("got\n%s", b)
	}
}

func TestDropInGolden(t *testing.T) {
	pools := prefixes("192.168.0.0/16", "172.16.0.0/12", "10.0.0.0/8", "10.83.4.0/22")
	got, err := DropIn("internal", "lan", []string{"Carol.example.org.", "bob.example.org", "bob.example.org"}, pools, proxyAddr)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/dropin.conf")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got\n%s", got)
	}
	slices.Reverse(pools)
	again, _ := DropIn("internal", "lan", []string{"bob.example.org", "carol.example.org"}, pools, proxyAddr)
	if !bytes.Equal(got, again) {
		t.Error("the order of the arguments changes the file: dnsmasq would be restarted for nothing")
	}
	file := filepath.Join(t.TempDir(), "htip.conf")
	if err := os.WriteFile(file, got, 0o644); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(dnsmasqPath(t), "--test", "--conf-file="+file).CombinedOutput(); err != nil {
		t.Errorf("dnsmasq refuses the file: %v: %s", err, out)
	}
}

func TestWholeOctets(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := netip.PrefixFrom(anyAddr(t), rapid.IntRange(1, 32).Draw(t, "bits")).Masked()
		list := wholeOctets(p)
		if n := 1 << (list[0].Bits() - p.Bits()); len(list) != n {
			t.Fatalf("%s: %d prefixes", p, len(list))
		}
		for i, q := range list {
			if q.Bits()%8 != 0 || q != q.Masked() || !p.Overlaps(q) || q.Bits() < p.Bits() || slices.Contains(list[:i], q) {
				t.Fatalf("%s: %v", p, list)
			}
		}
	})
}
