package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func testPeer(t interface{ Fatalf(string, ...any) }, name, key string) Peer {
	k, ok := parseKey(key)
	if !ok {
		t.Fatalf("key %s", key)
	}
	p := NewPeer(name)
	p.Key = k
	return p
}

const head = `# my file

config htip 'main' # this home
	option enabled '1'	# on

`

// Files before and after one edit, byte for byte.
func TestSetPeer(t *testing.T) {
	bob := testPeer(t, "bob", bobKey)
	bob.Domain = "bob.example.org"
	l2tp := bob
	l2tp.Protocols = []string{"wireguard", "l2tp"}
	off := bob
	off.Enabled, off.Auto, off.Encryption, off.Port = false, true, "off", 80
	hyphen := bob
	hyphen.Name = "bobs-home"
	keyLine := "\toption key '" + bobKey + "'\n"
	domLine := "\toption domain 'bob.example.org'\n"
	for _, c := range []struct {
		name, before string
		peer         Peer
		after        string
	}{
		{"empty file", "", bob, "config peer 'bob'\n" + domLine + keyLine},
		{"new", head, bob, head + "\nconfig peer 'bob'\n" + domLine + keyLine},
		{"no line end", "config htip main", bob, "config htip main\n\nconfig peer 'bob'\n" + domLine + keyLine},
		{"backslash at the end", "config htip main\noption name a\\", bob, "config htip main\noption name a\\\n\n\nconfig peer 'bob'\n" + domLine + keyLine},
		{"semicolon at the end", "config htip main ; ", bob, "config htip main ; #\n\nconfig peer 'bob'\n" + domLine + keyLine},
		{"everything", "", off, "config peer 'bob'\n\toption enabled '0'\n" + domLine + "\toption port '80'\n" + keyLine + "\toption auto '1'\n\toption encryption 'off'\n"},
		{"hyphen", "", hyphen, "config peer 'bobs_home'\n\toption name 'bobs-home'\n" + domLine + keyLine},
		{"hyphen, name taken", "config htip 'bobs_home'\n", hyphen, "config htip 'bobs_home'\n\nconfig peer\n\toption name 'bobs-home'\n" + domLine + keyLine},
		{"mended", head + "config peer 'bob'\n\toption key 'abc' # todo\n", bob, head + "config peer 'bob'\n\toption key '" + bobKey + "' # todo\n" + domLine},
		{"the same in other words", head + "config peer BOB\n\toption port 4847\n\toption auto no\n\toption key \"" + bobKey + "\"\n\toption domain Bob.Example.Org.\n", bob,
			head + "config peer BOB\n\toption port 4847\n\toption auto no\n\toption key \"" + bobKey + "\"\n\toption domain Bob.Example.Org.\n"},
		{"unnamed", "config peer\n\toption name 'Bob' # him\n" + keyLine + "# end\n", bob, "config peer\n\toption name 'Bob' # him\n" + keyLine + domLine + "# end\n"},
		{"back to a default", "config peer 'bob'\n" + keyLine + "\t# why?\n\toption auto '1'\n\toption port '80'\n" + domLine, bob, "config peer 'bob'\n" + keyLine + "\t# why?\n" + domLine},
		{"list grows", "config peer 'bob'\n" + keyLine + "\tlist protocol 'wireguard' # best\n" + domLine, l2tp,
			"config peer 'bob'\n" + keyLine + "\tlist protocol 'wireguard' # best\n\tlist protocol 'l2tp'\n" + domLine},
		{"list goes", "config peer 'bob'\n" + keyLine + "\tlist protocol 'wireguard'\n\tlist protocol 'l2tp' # x\n" + domLine, bob,
			"config peer 'bob'\n" + keyLine + "\t # x\n" + domLine},
		{"option becomes list", "config peer 'bob'\n" + keyLine + "\toption protocol 'pptp'\n" + domLine, l2tp,
			"config peer 'bob'\n" + keyLine + "\tlist protocol 'wireguard'\n\tlist protocol 'l2tp'\n" + domLine},
		{"said twice", "config peer 'bob'\n\toption key 'x'\n\toption key 'y'\n\toption key ''\n" + domLine, bob, "config peer 'bob'\n" + keyLine + domLine},
		{"semicolons", "config peer 'bob'; option auto '1'; option key 'x'; config peer 'carol' ; option key '" + carolKey + "'\n", bob,
			"config peer 'bob'; option key '" + bobKey + "'; option domain 'bob.example.org'; config peer 'carol' ; option key '" + carolKey + "'\n"},
		{"dead text", "config peer 'bob'\n" + keyLine + "\toption domain x; option auto '1'\n", bob,
			"config peer 'bob'\n" + keyLine + "\toption domain 'bob.example.org' #; option auto '1'\n"},
		{"dead text to be deleted", "config peer 'bob'\n" + keyLine + domLine + "\toption auto 1; junk\n", bob,
			"config peer 'bob'\n" + keyLine + domLine + "\t#; junk\n"},
		{"over two lines", "config peer 'bob'\n\toption domain 'bob\n.example'\n" + keyLine, bob, "config peer 'bob'\n" + domLine + keyLine},
		{"CRLF", "config peer 'bob'\r\n\toption key 'x'\r\n", bob, "config peer 'bob'\r\n\toption key '" + bobKey + "'\r\n" + domLine},
		{"in two places", "config peer 'bob'\n\toption auto '1'\nconfig htip 'main'\n\toption name 'a'\nconfig peer 'bob'\n" + keyLine, bob,
			"config peer 'bob'\nconfig htip 'main'\n\toption name 'a'\nconfig peer 'bob'\n" + keyLine + domLine},
	} {
		got, err := setPeer([]byte(c.before), c.peer)
		if err != nil || string(got) != c.after {
			t.Errorf("%s: %v\n got %q\nwant %q", c.name, err, got, c.after)
		}
		if again, err := setPeer(got, c.peer); err != nil || string(again) != string(got) {
			t.Errorf("%s, once more: %v %q", c.name, err, again)
		}
	}
}

func TestSetPeerRefuses(t *testing.T) {
	bob := testPeer(t, "bob", bobKey)
	with := func(f func(*Peer)) Peer {
		p := bob
		f(&p)
		return p
	}
	for name, c := range map[string]struct {
		before string
		peer   Peer
		want   string
	}{
		"no name":     {"", with(func(p *Peer) { p.Name = "" }), "option name ''"},
		"name":        {"", with(func(p *Peer) { p.Name = "a'\noption x" }), `option name 'a'\noption x'`},
		"domain":      {"", with(func(p *Peer) { p.Domain = "x' y.org" }), "option domain"},
		"port":        {"", with(func(p *Peer) { p.Port = 0 }), "option port '0'"},
		"no key":      {"", with(func(p *Peer) { p.Key = Key{} }), "option key"},
		"encryption":  {"", with(func(p *Peer) { p.Encryption = "" }), "option encryption ''"},
		"auto":        {"", with(func(p *Peer) { p.Auto = true }), "option domain is missing"},
		"broken file": {"config peer 'bob\n", bob, "line 1"},
		"other's key": {"config peer 'carol'\n\toption key '" + bobKey + "'\n", bob, "want another one than peer carol has"},
		"own domain":  {"config htip 'main'\n\toption domain 'a.example.org'\n", with(func(p *Peer) { p.Domain = "A.example.org" }), "this is our own"},
		"unusual":     {"config peer 'bob' '' config peer 'carol'\n", bob, "edit it by hand"},
	} {
		got, err := setPeer([]byte(c.before), c.peer)
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, %q", name, err, got)
		}
	}
}

func TestRemovePeer(t *testing.T) {
	key := "\toption key '" + bobKey + "'\n"
	for _, c := range []struct{ name, before, after string }{
		{"not there", head, head},
		{"empty", "", ""},
		{"between", head + "config peer 'bob'\n" + key + "\nconfig peer 'carol'\n", head + "config peer 'carol'\n"},
		{"comments stay", "config peer 'bob' # friend\n\t# his key\n" + key + "# end\n", " # friend\n\t# his key\n# end\n"},
		{"the last", "config htip 'main'\n\nconfig peer 'Bob'\n" + key, "config htip 'main'\n"},
		{"unnamed, and twice", "config peer\n\toption name bob\nconfig peer\n\toption name x\nconfig peer bob\n" + key, "config peer\n\toption name x\n"},
		{"semicolons", "config htip 'main'; config peer 'bob'; option auto '1'; config peer 'carol'; option port '1'\n", "config htip 'main'; config peer 'carol'; option port '1'\n"},
		{"semicolons, the last", "config htip 'main'; config peer 'bob'; option auto '1'\n", "config htip 'main'\n"},
		{"alone on its line", "config peer 'bob'; option auto '1'\n", ""},
		{"in two places", "config peer 'bob'\n" + key + "config htip 'main'\nconfig peer 'bob'\n\toption auto '1'\n", "config htip 'main'\n"},
	} {
		got, err := removePeer([]byte(c.before), "BOB")
		if err != nil || string(got) != c.after {
			t.Errorf("%s: %v\n got %q\nwant %q", c.name, err, got, c.after)
		}
	}
}

// genFile is a file as people write them.
func genFile(t *rapid.T) string {
	d := genDocument(t)
	var b strings.Builder
	for _, s := range d.sections {
		if rapid.Bool().Draw(t, "peer") {
			s.kind = kindPeer
		}
		for i, st := range s.statements() {
			if i > 0 {
				b.WriteString(rapid.SampledFrom([]string{"\t", "", "  "}).Draw(t, "indent"))
			}
			b.WriteString(st)
			b.WriteString(rapid.SampledFrom([]string{"\n", "\n", "\n", "; ", " # it's; \"\n", "\r\n", "\n\n\t# c\n"}).Draw(t, "end"))
		}
	}
	if rapid.Bool().Draw(t, "line end") {
		b.WriteString("\n")
	}
	return b.String()
}

func genPeer(t *rapid.T) Peer {
	p := NewPeer(rapid.StringMatching(`[a-z]([a-z0-9-]{0,6}[a-z0-9])?`).Draw(t, "name"))
	p.Enabled = rapid.Bool().Draw(t, "enabled")
	p.Domain = rapid.SampledFrom([]string{"", "bob.example.org", "a.b.example"}).Draw(t, "domain")
	p.Port = rapid.Uint16Min(1).Draw(t, "port")
	p.Auto = p.Domain != "" && rapid.Bool().Draw(t, "auto")
	p.Encryption = rapid.SampledFrom([]string{EncryptionRequired, EncryptionOff}).Draw(t, "encryption")
	p.Protocols = rapid.SampledFrom([][]string{nil, {"l2tp"}, {"pptp", "wireguard"}}).Draw(t, "protocols")
	copy(p.Key[:], rapid.SliceOfN(rapid.Byte(), 31, 31).Draw(t, "key"))
	p.Key[30] |= 1
	p.Key[31] = 0x33
	return p
}

// What was set can be read, by go-uci as well; what was added and removed again
// was never there.
func TestSetRemove(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		file, p, q := genFile(t), genPeer(t), genPeer(t)
		before, err := parse([]byte(file), nil)
		if err != nil {
			t.Skip("not a file: ", err)
		}
		there := findPeer(before, p.Name) >= 0
		with, err := setPeer([]byte(file), p)
		if err != nil {
			t.Fatalf("%q: %v", file, err)
		}
		d := mustParse(t, string(with))
		if c, ps := decode(d); !slices.ContainsFunc(c.Peers, p.Equal) {
			t.Fatalf("%+v\n%s", c.Peers, lines(ps))
		}
		without, err := removePeer(with, p.Name)
		if err != nil {
			t.Fatal(err)
		}
		if !there && strings.HasSuffix(file, "\n") && string(without) != file {
			t.Fatalf("%q\nbecame %q", file, without)
		}
		q.Name = p.Name
		changed, err := setPeer(with, q)
		if err != nil {
			t.Fatal(err)
		}
		if c, _ := decode(mustParse(t, string(changed))); !slices.ContainsFunc(c.Peers, q.Equal) {
			t.Fatalf("%q\nbecame %q", with, changed)
		}
		alone, err := setPeer(nil, p)
		if err != nil {
			t.Fatal(err)
		}
		if diff := goUCI(dir, alone, mustParse(t, string(alone))); diff != "" {
			t.Fatalf("go-uci: %s\n%s", diff, alone)
		}
	})
}

func TestFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "htip")
	bob := testPeer(t, "bob", bobKey)
	if err := RemovePeer(path, "bob"); err != nil {
		t.Errorf("no file: %v", err)
	}
	if err := SetPeer(path, bob); err != nil {
		t.Fatal(err)
	}
	mode := func() os.FileMode {
		st, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return st.Mode()
	}
	if mode() != 0o600 {
		t.Errorf("mode %v", mode())
	}
	c, ps, err := Load(path)
	if err != nil || len(ps) != 1 || len(c.Peers) != 1 || !c.Peers[0].Equal(bob) {
		t.Errorf("%v %v %+v", err, ps, c)
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink("htip", link); err != nil {
		t.Fatal(err)
	}
	bob.Port = 80
	if err := SetPeer(link, bob); err != nil {
		t.Fatal(err)
	}
	if c, _, err := Load(link); err != nil || mode() != 0o644 || c.Peers[0].Port != 80 {
		t.Errorf("through a link: %v, mode %v, %+v", err, mode(), c)
	}
	before, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := SetPeer(path, bob); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(path); err != nil || !os.SameFile(before, after) {
		t.Errorf("written without a change: %v", err)
	}
	bad := bob
	bad.Domain = "bob"
	if err := SetPeer(path, bad); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("bad peer: %v", err)
	}
	if err := SetPeer(filepath.Join(dir, "none", "htip"), bob); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no directory: %v", err)
	}
	if err := SetPeer(dir, bob); err == nil {
		t.Error("wrote a directory")
	}
	if err := os.WriteFile(path, []byte(strings.Repeat("#", MaxSize-10)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := SetPeer(path, bob); err == nil || !strings.Contains(err.Error(), "larger") {
		t.Errorf("large: %v", err)
	}
	names, err := os.ReadDir(dir)
	if err != nil || len(names) != 2 {
		t.Errorf("left behind: %v %v", names, err)
	}
}

// Two that write at once both get through, and a lock that stays is an error.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "htip")
	if err := os.WriteFile(path, []byte(head), 0o600); err != nil {
		t.Fatal(err)
	}
	bob := testPeer(t, "bob", bobKey)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			p := bob
			p.Name += string(rune('a' + i))
			p.Key[0] = byte(i)
			err := SetPeer(path, p)
			for end := time.Now().Add(time.Minute); err != nil && strings.Contains(err.Error(), "locking ") && time.Now().Before(end); {
				err = SetPeer(path, p) // a slow disk, and no lost lock
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if c, ps, err := Load(path); err != nil || len(ps) > 0 || len(c.Peers) != 8 {
		t.Errorf("%d peers, %v %v", len(c.Peers), ps, err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_SH); err != nil {
		t.Fatal(err)
	}
	if _, err := openLocked(path, 50*time.Millisecond); err == nil || !errors.Is(err, syscall.EWOULDBLOCK) {
		t.Errorf("locked by another: %v", err)
	}
}

// Over whatever file: an edit is refused or does only what it should.
func FuzzEdit(f *testing.F) {
	paths, err := filepath.Glob("testdata/uci-cases/*/htip")
	if err != nil {
		f.Fatal(err)
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, "bob", "bob.example.org", uint16(4847), true)
	}
	f.Add([]byte("config peer 'bob'; option auto '1'; option key 'x'; config peer 'carol' ; "), "bob", "", uint16(80), false)
	f.Add([]byte("config peer\n\toption name bob\n\toption port 1; junk\n\toption domain 'a\nb' # c\nconfig peer bob"), "bob", "b.example", uint16(80), true)
	f.Fuzz(func(t *testing.T, data []byte, name, domain string, port uint16, auto bool) {
		p := testPeer(t, name, bobKey)
		p.Domain, p.Port, p.Auto = domain, port, auto
		given := string(data)
		with, err := setPeer(data, p)
		if string(data) != given {
			t.Fatal("the given text was changed")
		}
		if err != nil {
			return
		}
		if c, ps := decode(mustParse(t, string(with))); !slices.ContainsFunc(c.Peers, func(q Peer) bool { return q.Key == p.Key && q.Port == port && q.Auto == auto }) {
			t.Fatalf("%q\n%s", with, lines(ps))
		}
		before, err := removePeer(data, name)
		if err != nil {
			return
		}
		after, err := removePeer(with, name)
		if err != nil {
			return
		}
		if a, b := mustParse(t, string(before)), mustParse(t, string(after)); !equalDocs(a, b) {
			t.Fatalf("%q\nbecame %q", render(a), render(b))
		}
	})
}
