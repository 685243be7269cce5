package config

import (
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "write the golden texts anew")

func decodeText(t testing.TB, text string) (Config, Problems) {
	t.Helper()
	d, err := parse([]byte(text), nil)
	if err != nil {
		t.Fatalf("parse %q: %v", text, err)
	}
	return decode(d)
}

func lines(ps Problems) string {
	var b strings.Builder
	for _, p := range ps {
		b.WriteString(p.Severity.String() + ": " + p.String() + "\n")
	}
	return b.String()
}

const (
	bobKey   = "Ym9iYm9iYm9iYm9iYm9iYm9iYm9iYm9iYm9iYm9iYm8="
	carolKey = "Y2Fyb2xjYXJvbGNhcm9sY2Fyb2xjYXJvbGNhcm9sY2E="
)

// Files with mistakes, and every word that is said about them.
func TestProblems(t *testing.T) {
	paths, err := filepath.Glob("testdata/problems/*.conf")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, p := range paths {
		golden := strings.TrimSuffix(p, ".conf") + ".golden"
		_, ps, err := Load(p)
		if err != nil {
			t.Fatal(err)
		}
		if *update {
			if err := os.WriteFile(golden, []byte(lines(ps)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got := lines(ps); got != string(want) {
			t.Errorf("%s:\n%s\nwant:\n%s", p, got, want)
		}
	}
}

// One value of one option of the main section: what becomes of it.
func TestMainOptions(t *testing.T) {
	d := Defaults().Main
	for _, c := range []struct {
		text string
		bad  int // problems
		ok   func(m Main) bool
	}{
		{"option enabled 'maybe'", 1, func(m Main) bool { return !m.Enabled }},
		{"option enabled 'TRUE'", 1, func(m Main) bool { return !m.Enabled }},
		{"option domain 'alice'", 1, func(m Main) bool { return m.Domain == "" && m.Name == "home" }},
		{"option domain '203.0.113.9'", 1, func(m Main) bool { return m.Domain == "" }},
		{"option domain 'a_b.example.org'", 1, func(m Main) bool { return m.Domain == "" }},
		{"option domain 'höme.example.org'", 1, func(m Main) bool { return m.Domain == "" }},
		{"option domain 'alice.example.org..'", 1, func(m Main) bool { return m.Domain == "" }},
		{"option domain '-a.example.org'", 1, func(m Main) bool { return m.Domain == "" }},
		{"option domain 'a.internal'", 1, func(m Main) bool { return m.Domain == "" && m.Name == "home" }},
		{"option domain 'lan'", 1, func(m Main) bool { return m.Domain == "" }},
		{"option domain '\u212aelvin.example.org'", 1, func(m Main) bool { return m.Domain == "" }},
		{"option name 'Al ice'", 1, func(m Main) bool { return m.Name == "home" }},
		{"option port '0'", 1, func(m Main) bool { return m.Port == 4847 }},
		{"option port '65536'", 1, func(m Main) bool { return m.Port == 4847 }},
		{"option port '4294967297'", 1, func(m Main) bool { return m.Port == 4847 }},
		{"option port '+80'", 1, func(m Main) bool { return m.Port == 4847 }},
		{"list port '80'\nlist port '81'", 1, func(m Main) bool { return m.Port == 4847 }},
		{"list network '10.0.0.0/24'\nlist network '10.0.0.0/31'", 1, func(m Main) bool { return len(m.Networks) == 1 }},
		{"list network '10.0.0.0/24'\nlist network '10.0.0.128/25'", 1, func(m Main) bool { return len(m.Networks) == 1 }},
		{"list network '10.0.0.0/24'\nlist network '0.0.0.0/7'", 1, func(m Main) bool { return len(m.Networks) == 1 }},
		{"list network '10.0.0.0/24'\nlist network 'fd00::/64'", 1, func(m Main) bool { return len(m.Networks) == 1 }},
		{"list network '10.0.0.0/24'\nlist network '127.0.0.0/24'", 1, func(m Main) bool { return len(m.Networks) == 1 }},
		{"list network '10.0.0.0/24'\nlist network '239.0.0.0/24'", 1, func(m Main) bool { return len(m.Networks) == 1 }},
		{"list network '10.0.0.0/24'\nlist network ''", 1, func(m Main) bool { return len(m.Networks) == 1 }},
		// What is shared is never more than what was meant: the second problem is fatal.
		{"option lan_device 'a-device-that-is-too-long'", 2, func(m Main) bool { return m.LANDevices == nil && !m.Enabled }},
		{"option lan_device '..'", 2, func(m Main) bool { return m.LANDevices == nil && !m.Enabled }},
		{"option lan_device 'br-lan br-guest'", 2, func(m Main) bool { return m.LANDevices == nil && !m.Enabled }},
		{"list interface 'br-lan'", 2, func(m Main) bool { return !m.Enabled }},
		{"list interface 'lan guest'\nlist interface ''", 3, func(m Main) bool { return !m.Enabled }},
		{"option enabled 1\nlist network '10.0.0.0/24'\noption lan_device '..'\nlist interface '..'", 2, func(m Main) bool { return m.Enabled && len(m.Networks) == 1 }},
		{"option interface '" + strings.Repeat("x", 65) + "'", 2, func(m Main) bool { return !m.Enabled }},
		{"option enabled 1\nlist interface 'lan'\nlist interface 'lan'\nlist interface '@lan'", 2, func(m Main) bool { return m.Enabled && slices.Equal(m.Interfaces, []string{"lan"}) }},
		{"option enabled 1\nlist lan_device 'br-lan'\nlist lan_device 'a/b'", 1, func(m Main) bool { return m.Enabled && slices.Equal(m.LANDevices, []string{"br-lan"}) }},
		{"option wan_device 'a/b'", 1, func(m Main) bool { return m.WANDevice == "" }},
		{"option pool '10.0.0.0'", 1, func(m Main) bool { return slices.Equal(m.Pool, d.Pool) }},
		{"option candidates 'random'", 1, func(m Main) bool { return m.Candidates == Derived }},
		{"option zone 'lan'", 1, func(m Main) bool { return m.Zone == "internal" && m.LANDomain == "lan" }},
		{"option lan_domain 'internal'", 1, func(m Main) bool { return m.Zone == "internal" && m.LANDomain == "lan" }},
		{"option zone 'in ternal'", 1, func(m Main) bool { return m.Zone == "internal" }},
		{"list protocol 'L2TP'", 1, func(m Main) bool { return slices.Equal(m.Protocols, d.Protocols) }},
		{"list protocol 'pptp'\nlist protocol 'pptp'", 1, func(m Main) bool { return slices.Equal(m.Protocols, []string{"pptp"}) }},
		{"option l2tp_port '65473'", 1, func(m Main) bool { return m.L2TPPort == 17010 }},
		{"option mtu '575'", 1, func(m Main) bool { return m.MTU == 0 }},
		{"option mtu '1463'", 1, func(m Main) bool { return m.MTU == 0 }},
		{"option log_level 'loud'", 1, func(m Main) bool { return m.LogLevel == "info" }},
		{"option colour 'red'", 1, func(m Main) bool { return m.Equal(d) }},

		{"option enabled 'on'", 0, func(m Main) bool { return m.Enabled }},
		{"option domain 'Alice.Example.ORG.'", 0, func(m Main) bool { return m.Domain == "alice.example.org" && m.Name == "alice" }},
		{"option domain 'a.xn--hme-sna.example'", 0, func(m Main) bool { return m.Name == "a" }},
		{"option name 'My-House'", 0, func(m Main) bool { return m.Name == "my-house" }},
		{"option port '65535'", 0, func(m Main) bool { return m.Port == 65535 }},
		{"list port '80'", 0, func(m Main) bool { return m.Port == 80 }},
		{"option network '192.168.1.77/24'", 0, func(m Main) bool {
			return slices.Equal(m.Networks, []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")})
		}},
		{"list network '10.0.0.0/8'\nlist network '172.16.0.0/30'", 0, func(m Main) bool { return len(m.Networks) == 2 }},
		{"list network '100.64.0.0/24'", 1, func(m Main) bool { return len(m.Networks) == 1 }}, // taken, with a warning
		{"option lan_device 'br-lan.10'", 0, func(m Main) bool { return slices.Equal(m.LANDevices, []string{"br-lan.10"}) }},
		{"list lan_device 'br-lan'\nlist lan_device 'br-guest'", 0, func(m Main) bool { return slices.Equal(m.LANDevices, []string{"br-lan", "br-guest"}) }},
		{"option enabled 1", 0, func(m Main) bool {
			return m.Enabled && slices.Equal(m.Interfaces, []string{"lan"}) && m.LANDevices == nil
		}},
		{"list interface 'lan'\nlist interface 'Guest_2'", 0, func(m Main) bool { return slices.Equal(m.Interfaces, []string{"lan", "Guest_2"}) }},
		{"list pool '10.128.0.0/9'", 0, func(m Main) bool { return len(m.Pool) == 1 }},
		{"option candidates 'sequential'", 0, func(m Main) bool { return m.Candidates == Sequential }},
		{"option zone 'Homes.'", 0, func(m Main) bool { return m.Zone == "homes" }},
		{"list protocol 'wireguard'\nlist protocol 'l2tp'", 0, func(m Main) bool { return slices.Equal(m.Protocols, []string{"wireguard", "l2tp"}) }},
		{"option l2tp_port '65472'", 0, func(m Main) bool { return m.L2TPPort == 65472 }},
		{"option mtu '1462'", 0, func(m Main) bool { return m.MTU == 1462 }},
	} {
		cfg, ps := decodeText(t, "config htip 'main'\n"+c.text+"\n")
		if len(ps) != c.bad || !c.ok(cfg.Main) {
			t.Errorf("%s: %+v\n%s", c.text, cfg.Main, lines(ps))
		}
	}
}

// A peer with a mistake is left out and named; its neighbours stay.
func TestPeers(t *testing.T) {
	const good = "\nconfig peer 'dora'\n option key 'ZG9yYWRvcmFkb3JhZG9yYWRvcmFkb3JhZG9yYWRvcmE='\n option domain 'dora.example.org'\n"
	key := " option key '" + bobKey + "'\n"
	for name, text := range map[string]string{
		"no key":             "config peer bob\n option domain 'bob.example.org'\n",
		"short key":          "config peer bob\n option key 'abc'\n",
		"key with line end":  "config peer bob\n option key '" + bobKey[:20] + "\n" + bobKey[20:] + "'\n",
		"key of 31 bytes":    "config peer bob\n option key 'Ym9iYm9iYm9iYm9iYm9iYm9iYm9iYm9iYm9iYm9iYg=='\n",
		"key, stray bits":    "config peer bob\n option key '" + bobKey[:42] + "9='\n",
		"weak key":           "config peer bob\n option key 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='\n",
		"underscore":         "config peer bobs_home\n" + key,
		"no name":            "config peer\n" + key,
		"bad name":           "config peer bob\n option name 'bob home'\n" + key,
		"own domain":         "config peer bob\n option domain 'alice.example.org'\n" + key,
		"top-level domain":   "config peer bob\n option domain 'org'\n" + key,
		"domain in the zone": "config peer bob\n option domain 'x.internal'\n" + key,
		"domain in the LAN":  "config peer bob\n option domain 'nas.lan'\n" + key,
		"auto, no domain":    "config peer bob\n option auto '1'\n" + key,
		"bad auto":           "config peer bob\n option auto 'always'\n" + key,
		"bad enabled":        "config peer bob\n option enabled '2'\n" + key,
		"bad encryption":     "config peer bob\n option encryption 'none'\n" + key,
		"bad protocol":       "config peer bob\n list protocol 'l2tp'\n list protocol 'ipsec'\n" + key,
		"same name":          "config peer\n option name 'Dora'\n" + key,
		"same key":           "config peer bob\n option key 'ZG9yYWRvcmFkb3JhZG9yYWRvcmFkb3JhZG9yYWRvcmE='\n",
		"same domain":        "config peer bob\n option domain 'Dora.example.org.'\n" + key,
	} {
		c, ps := decodeText(t, "config htip 'main'\n option enabled 1\n option domain 'alice.example.org'\n"+good+text)
		if len(c.Peers) != 1 || c.Peers[0].Name != "dora" || len(c.LeftOut) != 1 || len(ps) != 1 || ps[0].Severity != Error || !c.Main.Enabled {
			t.Errorf("%s: peers %+v, left out %q, problems\n%s", name, c.Peers, c.LeftOut, lines(ps))
		}
	}

	c, ps := decodeText(t, `
config peer 'Bob'
	option key '`+bobKey+`'
	option domain 'Bob.example.org'
	option port '4848'
	option auto 'yes'
	option enabled '0'
	option encryption 'off'
	list protocol 'pptp'
config peer
	option name 'carols-home'
	option key '`+carolKey+`'
config htip
`)
	k1, _ := parseKey(bobKey)
	k2, _ := parseKey(carolKey)
	carol := NewPeer("carols-home")
	carol.Key = k2
	want := []Peer{{Name: "bob", Domain: "bob.example.org", Port: 4848, Key: k1, Auto: true, Encryption: EncryptionOff, Protocols: []string{"pptp"}}, carol}
	if len(ps) > 0 || !slices.EqualFunc(c.Peers, want, Peer.Equal) {
		t.Errorf("%+v\n%s", c.Peers, lines(ps))
	}
	if p, ok := c.Peer("BOB"); !ok || p.Key.String() != bobKey {
		t.Errorf("bob: %+v, %v", p, ok)
	}
}

// Not naming a network would offer the whole LAN, which is not what was meant.
func TestFatal(t *testing.T) {
	c, ps := decodeText(t, "config htip 'main'\n option enabled 1\n list network '192.168.1.0'\nconfig peer bob\n option key '"+bobKey+"'\n")
	if err := ps.Fatal(); err == nil || !strings.Contains(err.Error(), "list network") {
		t.Errorf("fatal: %v", err)
	}
	if c.Main.Enabled || len(c.Main.Networks) != 0 || len(c.Peers) != 1 {
		t.Errorf("%+v", c)
	}
}

// A file of nothing but mistakes is told of in a few lines, and is as fatal as it is.
func TestManyProblems(t *testing.T) {
	c, ps := decodeText(t, strings.Repeat("config peer\n", 1000)+"config htip main\n option enabled 1\n "+strings.Repeat(" list network x\n", 200))
	if len(ps) != maxProblems+1 || ps[maxProblems].String() != "file: 2101 more problems" || ps[maxProblems].Severity != Fatal {
		t.Errorf("%d: %v", len(ps), ps[len(ps)-1])
	}
	if ps.Fatal() == nil || c.Main.Enabled || len(c.LeftOut) != 1000 {
		t.Errorf("fatal %v, %+v", ps.Fatal(), c.Main)
	}
}

func TestLoad(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	var pe *ParseError
	for name, c := range map[string]struct {
		path string
		ok   func(error) bool
	}{
		"missing":   {filepath.Join(dir, "none"), func(err error) bool { return errors.Is(err, os.ErrNotExist) }},
		"directory": {dir, func(err error) bool { return strings.Contains(err.Error(), "not a regular file") }},
		"device":    {"/dev/zero", func(err error) bool { return strings.Contains(err.Error(), "not a regular file") }},
		"too large": {write("large", strings.Repeat("#", MaxSize+1)), func(err error) bool { return strings.Contains(err.Error(), "larger than 262144 bytes") }},
		"broken":    {write("broken", "config htip 'main'\n\toption enabled '1\n"), func(err error) bool { return errors.As(err, &pe) && pe.Line == 2 }},
	} {
		cfg, ps, err := Load(c.path)
		if err == nil || !c.ok(err) || len(ps) != 0 || !Diff(Defaults(), cfg).None() {
			t.Errorf("%s: %v, %v, %+v", name, err, ps, cfg)
		}
	}
	cfg, ps, err := Load(write("full", strings.Repeat("#", MaxSize)))
	if err != nil || ps != nil || !Diff(Defaults(), cfg).None() {
		t.Errorf("largest: %v %v", err, ps)
	}
}

// The file that the package ships is disabled and without problems, and every
// default that it shows is the default, examples apart.
func TestShippedFile(t *testing.T) {
	const path = "../../openwrt/files/htip.config"
	c, ps, err := Load(path)
	if err != nil || len(ps) > 0 || !Diff(Defaults(), c).None() {
		t.Fatalf("%v\n%s%+v", err, lines(ps), c)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	all := regexp.MustCompile(`(?m)^(\t?)#(\t?(option|list|config) )`).ReplaceAllString(string(text), "$1$2")
	const placeholder = `'what "htip key" prints on bob'\''s router'`
	if _, ps := decodeText(t, all); len(ps) != 1 || ps[0].Want != wantKey || !strings.Contains(all, placeholder) {
		t.Fatal(lines(ps))
	}
	c, ps = decodeText(t, strings.Replace(all, placeholder, bobKey, 1))
	if len(ps) > 0 {
		t.Fatal(lines(ps))
	}
	want := Defaults().Main
	want.Domain, want.Name, want.WANDevice = "alice.example.org", "alice", "wan"
	want.LANDevices = []string{"br-lan"}
	want.Networks, want.MTU = []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}, 1400
	if ch := want.changed(c.Main); len(ch) > 0 {
		t.Errorf("shown defaults that aren't: %q", ch)
	}
	bob := NewPeer("bob")
	bob.Domain, bob.Protocols, bob.Access = "bob.example.org", []string{"wireguard"}, []string{AccessAll}
	bob.Key, _ = parseKey(bobKey)
	if len(c.Peers) != 1 || !c.Peers[0].Equal(bob) {
		t.Errorf("peers %+v", c.Peers)
	}
	for _, f := range mainFields {
		if !regexp.MustCompile(`(?m)(option|list) ` + f.name + ` '`).MatchString(string(text)) {
			t.Errorf("option %s is not shown", f.name)
		}
	}
}

func TestDiff(t *testing.T) {
	peer := func(name string, f func(*Peer)) Peer {
		p := NewPeer(name)
		f(&p)
		return p
	}
	same := func(*Peer) {}
	old, new := Defaults(), Defaults()
	old.Peers = []Peer{peer("a", same), peer("b", same), peer("c", same), peer("d", same)}
	new.Peers = []Peer{peer("e", same), peer("d", func(p *Peer) { p.Auto = true }), peer("b", func(p *Peer) { p.Key[0] = 1 }), peer("a", same)}
	new.Main.LogLevel = "debug"
	c := Diff(old, new)
	if len(c.Added) != 1 || c.Added[0].Name != "e" || len(c.Removed) != 1 || c.Removed[0].Name != "c" {
		t.Errorf("added %+v, removed %+v", c.Added, c.Removed)
	}
	if len(c.Changed) != 2 || c.Changed[0].New.Name != "b" || !c.Changed[0].Tunnel() || c.Changed[1].New.Name != "d" || c.Changed[1].Tunnel() {
		t.Errorf("changed %+v", c.Changed)
	}
	if !slices.Equal(c.Main, []string{"log_level"}) || c.Tunnels || c.None() {
		t.Errorf("main %q, tunnels %v", c.Main, c.Tunnels)
	}
	new.Main.MTU = 1400
	if c := Diff(old, new); !c.Tunnels {
		t.Errorf("mtu: %+v", c)
	}
	if !Diff(new, new).None() {
		t.Error("a configuration differs from itself")
	}
}

// Each option of the main section is compared, and known by its name in the file.
func TestDiffKnowsEveryOption(t *testing.T) {
	other := map[string]string{"enabled": "1", "domain": "x.example.org", "name": "x", "port": "1", "network": "10.0.0.0/24", "lan_device": "x", "interface": "x",
		"wan_device": "x", "pool": "10.0.0.0/9", "candidates": "sequential", "zone": "x", "lan_domain": "x", "protocol": "pptp", "l2tp_port": "2000",
		"mtu": "600", "log_level": "warn", "accept": "none"}
	for _, f := range mainFields {
		c, ps := decodeText(t, "config htip main\noption name home\noption "+f.name+" "+other[f.name]+"\n")
		if got := Diff(Defaults(), c).Main; len(ps) > 0 || !slices.Equal(got, []string{f.name}) {
			t.Errorf("%s: %q %s", f.name, got, lines(ps))
		}
	}
}

func TestShown(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "value")
		if got := shown(v); strings.ContainsAny(got, "\n\r\x00\x1b\u202e") || len(got) > 80*10+3 {
			t.Fatalf("%q", got)
		}
	})
	if got := shown("it's \"ö\"\n" + strings.Repeat("é", 60)); got != `it's "ö"\n`+strings.Repeat("é", 35)+"…" {
		t.Error(got)
	}
}

// Whatever a file says: peers that come out are complete and unique, and each
// problem is one line.
func FuzzDecode(f *testing.F) {
	for _, glob := range []string{"testdata/problems/*.conf", "testdata/uci-cases/*/htip", "../../openwrt/files/htip.config"} {
		paths, err := filepath.Glob(glob)
		if err != nil {
			f.Fatal(err)
		}
		for _, p := range paths {
			b, err := os.ReadFile(p)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := parse(data, nil)
		if err != nil {
			return
		}
		c, ps := decode(d)
		for _, p := range ps {
			if strings.ContainsAny(p.String(), "\n\r\x1b") {
				t.Fatalf("%q", p.String())
			}
		}
		for i, p := range c.Peers {
			if q, err := checkPeer(p); err != nil || !q.Equal(p) {
				t.Fatalf("%+v: %v", p, err)
			}
			for _, q := range c.Peers[:i] {
				if p.Name == q.Name || p.Key == q.Key || p.Domain == q.Domain && p.Domain != "" {
					t.Fatalf("%+v and %+v", p, q)
				}
			}
		}
		if len(c.Peers)+len(c.LeftOut) > len(d.sections) || c.Main.Name == "" || len(c.Main.Pool) == 0 || len(c.Main.Protocols) == 0 {
			t.Fatalf("%+v", c)
		}
	})
}

// TestNobodyIsCalledAll: "htip user add phone --home all" means every home.
func TestNobodyIsCalledAll(t *testing.T) {
	if name, ok := PeerName("All"); ok {
		t.Error(name)
	}
	if name := (Config{}).FreeName("all.example.org"); name != "all-2" {
		t.Error(name)
	}
	key := "option key 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8='\n"
	for _, section := range []string{"config peer 'all'\n", "config peer 'x'\noption name 'ALL'\n"} {
		c, problems := decodeText(t, "config htip 'main'\n"+section+key)
		if len(c.Peers) != 0 || !strings.Contains(lines(problems), "other than all") {
			t.Errorf("%+v, %s", c.Peers, lines(problems))
		}
	}
}

// TestPeersOfOneDevice: of two names whose devices would be called the same the
// first one stays, and nobody gets the second by what he calls himself.
func TestPeersOfOneDevice(t *testing.T) {
	const long, like = "bobs-home-in-berlin", "bobs-029a0"
	if Short(long) != like || Short(like) != like {
		t.Fatal(Short(long))
	}
	key := func(s string) string { return "option key 'AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdH" + s + "='\n" }
	c, problems := decodeText(t, "config htip 'main'\nconfig peer\noption name '"+long+"'\n"+key("h8")+"config peer\noption name '"+like+"'\n"+key("h4"))
	if len(c.Peers) != 1 || c.Peers[0].Name != long || !strings.Contains(lines(problems), like) {
		t.Errorf("%+v, %s", c.Peers, lines(problems))
	}
	if name := c.FreeName(like + ".example.org"); name != like+"-2" {
		t.Error(name)
	}
	if p, ok := c.Like(like); !ok || p.Name != long {
		t.Error(p, ok)
	}
}
