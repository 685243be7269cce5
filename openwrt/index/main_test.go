package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type file struct{ name, content string }

func archive(t *testing.T, files ...file) string {
	t.Helper()
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	tw := tar.NewWriter(zw)
	for _, f := range files {
		if err := tw.WriteHeader(&tar.Header{Name: f.name, Mode: 0o644, Size: int64(len(f.content))}); err != nil {
			t.Fatal(err)
		}
		if _, err := tw.Write([]byte(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// ipk is a package as the packer makes it: "./" before names, or not.
func ipk(t *testing.T, prefix, control string) string {
	t.Helper()
	return archive(t,
		file{prefix + "debian-binary", "2.0\n"},
		file{prefix + "control.tar.gz", archive(t, file{"./control", control}, file{"./conffiles", "\n"})},
		file{prefix + "data.tar.gz", archive(t, file{"./etc/config/x", "config x\n"})},
	)
}

func write(t *testing.T, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestIndex: LuCI's list takes all that is before "Package" for the package before.
func TestIndex(t *testing.T) {
	dir := t.TempDir()
	second := ipk(t, "./", "Architecture: all\nDescription: two lines,\n which are: two\n .\n three\nMaintainer: nobody\nPackage: b\nVersion: 2-r1\n")
	first := ipk(t, "", "Package: a\nVersion: 1-r1\nDepends: b, c\nArchitecture: all\nDescription: one\n\n")
	write(t, dir, "b_2-r1_all.ipk", second)
	write(t, dir, "a_1-r1_all.ipk", first)
	write(t, dir, "Packages", "of the last time")
	want := fmt.Sprintf(`Package: a
Version: 1-r1
Depends: b, c
Architecture: all
Filename: a_1-r1_all.ipk
Size: %d
SHA256sum: %x
Description: one

Package: b
Architecture: all
Maintainer: nobody
Version: 2-r1
Filename: b_2-r1_all.ipk
Size: %d
SHA256sum: %x
Description: two lines,
 which are: two
 .
 three

`, len(first), sha256.Sum256([]byte(first)), len(second), sha256.Sum256([]byte(second)))
	got, err := Index(dir)
	if err != nil || string(got) != want {
		t.Errorf("got %s\nwant %s (%v)", got, want, err)
	}
}

func TestIndexRefusesDamage(t *testing.T) {
	good := ipk(t, "./", "Package: a\n")
	flipped := []byte(good)
	flipped[len(flipped)-6] ^= 1 // in the digest of the whole
	for name, bad := range map[string]string{
		"empty":            "",
		"no archive":       "<html>404</html>",
		"cut off":          good[:len(good)/2],
		"its end cut off":  good[:len(good)-4],
		"another byte":     string(flipped),
		"no control":       archive(t, file{"control.tar.gz", archive(t)}, file{"data.tar.gz", archive(t)}),
		"no control.tar":   archive(t, file{"data.tar.gz", archive(t)}),
		"no data.tar":      archive(t, file{"control.tar.gz", archive(t, file{"control", "Package: a\n"})}),
		"data is no tar":   archive(t, file{"control.tar.gz", archive(t, file{"control", "Package: a\n"})}, file{"data.tar.gz", "?"}),
		"control is a tar": archive(t, file{"control.tar.gz", "?"}, file{"data.tar.gz", archive(t)}),
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir, "good.ipk", good)
			write(t, dir, "bad.ipk", bad)
			if err := run(dir, "", ""); err == nil || !strings.Contains(err.Error(), "bad.ipk") {
				t.Errorf("got %v, want an error with the name", err)
			}
			if _, err := os.Stat(filepath.Join(dir, "Packages")); err == nil {
				t.Error("there is a list")
			}
		})
	}
}

// TestRun: a feed is signed, and is the same when it is made again.
func TestRun(t *testing.T) {
	dir, public := t.TempDir(), t.TempDir()
	key := filepath.Join(t.TempDir(), "key")
	write(t, dir, "a.ipk", ipk(t, "./", "Package: a\n"))
	read := func(name string) string {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	var before map[string]string
	for range 2 {
		if err := run(dir, key, public); err != nil {
			t.Fatal(err)
		}
		keys, err := filepath.Glob(filepath.Join(public, "*.pub"))
		if err != nil || len(keys) != 1 {
			t.Fatalf("public keys %q, want one (%v)", keys, err)
		}
		now := map[string]string{"secret": read(key), "public": read(keys[0])}
		for _, name := range []string{"Packages", "Packages.gz", "Packages.sig"} {
			now[name] = read(filepath.Join(dir, name))
		}
		for name, content := range before {
			if now[name] != content {
				t.Errorf("%s is another one: %q, was %q", name, now[name], content)
			}
		}
		before = now
	}

	if info, err := os.Stat(key); err != nil || info.Mode() != 0o600 {
		t.Errorf("secret key: mode %v, want 0600 (%v)", info.Mode(), err)
	}
	zr, err := gzip.NewReader(strings.NewReader(before["Packages.gz"]))
	if err != nil {
		t.Fatal(err)
	}
	var text bytes.Buffer
	if _, err := text.ReadFrom(zr); err != nil || text.String() != before["Packages"] {
		t.Errorf("Packages.gz holds %q, want %q (%v)", &text, before["Packages"], err)
	}
	pub, sig := decode(t, before["public"]), decode(t, before["Packages.sig"])
	if !ed25519.Verify(pub[10:], []byte(before["Packages"]), sig[10:]) {
		t.Error("the signature is not that of Packages by the public key")
	}
}

// decode reads a file of usign: a comment that nobody trusts, and base64.
func decode(t *testing.T, text string) []byte {
	t.Helper()
	lines := strings.Split(text, "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[0], "untrusted comment: ") || lines[2] != "" {
		t.Fatalf("want a comment, a line and no more: %q", text)
	}
	raw, err := base64.StdEncoding.DecodeString(lines[1])
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// testKey is the first one of RFC 8032, section 7.1; its signature of nothing is there, too.
func testKey(number string) Key {
	seed := "\x9d\x61\xb1\x9d\xef\xfd\x5a\x60\xba\x84\x4a\xf4\x92\xec\x2c\xc4\x44\x49\xc5\x69\x7b\x32\x69\x19\x70\x3b\xac\x03\x1c\xae\x7f\x60"
	k := Key{secret: ed25519.NewKeyFromSeed([]byte(seed))}
	copy(k.number[:], number)
	return k
}

// TestLayout: "Ed", eight bytes by which a key is found, and a public key of 32 bytes or a
// signature of 64. A secret key is "Ed", "BK" for none with a password, four bytes of
// rounds, 16 of salt, 8 of a digest, the eight, and the 32 twice: secret, public.
func TestLayout(t *testing.T) {
	const public = "\xd7\x5a\x98\x01\x82\xb1\x0a\xb7\xd5\x4b\xfe\xd3\xc9\x64\x07\x3a\x0e\xe1\x72\xf3\xda\xa6\x23\x25\xaf\x02\x1a\x68\xf7\x07\x51\x1a"
	const signature = "\xe5\x56\x43\x00\xc3\x60\xac\x72\x90\x86\xe2\xcc\x80\x6e\x82\x8a\x84\x87\x7f\x1e\xb8\xe5\xd9\x74\xd8\x73\xe0\x65\x22\x49\x01\x55" +
		"\x5f\xb8\x82\x15\x90\xa3\x3b\xac\xc6\x1e\x39\x70\x1c\xf9\xb4\x6b\xd2\x5b\xf5\xf0\x59\x5b\xbe\x24\x65\x51\x41\x43\x8e\x7a\x10\x0b"
	k := testKey("HTIPfeed")
	for _, c := range []struct{ got, comment, raw string }{
		{string(k.Public()), "public key 4854495066656564", "EdHTIPfeed" + public},
		{string(k.Sign(nil)), "signed by key 4854495066656564", "EdHTIPfeed" + signature},
	} {
		want := "untrusted comment: " + c.comment + "\n" + base64.StdEncoding.EncodeToString([]byte(c.raw)) + "\n"
		if c.got != want {
			t.Errorf("got %q, want %q", c.got, want)
		}
	}
	secret := string(decode(t, string(k.Secret())))
	if len(secret) != 104 || !strings.HasPrefix(secret, "EdBK\x00\x00\x00\x00") || !strings.HasSuffix(secret, "HTIPfeed"+string(k.secret.Seed())+public) {
		t.Errorf("secret key: %q", secret)
	}
}

// TestFingerprint: usign looks for a key by a number without leading zeros.
func TestFingerprint(t *testing.T) {
	for number, want := range map[string]string{
		"\x00\x0a\xbc\x00\x00\x00\x00\x01": "abc0000000001",
		"\x0f\x00\x00\x00\x00\x00\x00\x00": "f00000000000000",
		"\xff\x00\x00\x00\x00\x00\x00\x00": "ff00000000000000",
	} {
		if got := testKey(number).Fingerprint(); got != want {
			t.Errorf("%x: got %s, want %s", number, got, want)
		}
	}
}

func TestSecretKey(t *testing.T) {
	k, err := newKey()
	if err != nil {
		t.Fatal(err)
	}
	good := string(k.Secret())
	back, err := parseKey([]byte(good))
	if err != nil || back.number != k.number || !back.secret.Equal(k.secret) {
		t.Errorf("got %v, want the same key (%v)", back, err)
	}
	raw := decode(t, good)
	changed := func(at int, to byte) string {
		other := bytes.Clone(raw)
		other[at] ^= to
		return "untrusted comment: x\n" + base64.StdEncoding.EncodeToString(other) + "\n"
	}
	for name, bad := range map[string]string{
		"empty":              "",
		"no comment":         strings.SplitAfter(good, "\n")[1],
		"cut off":            good[:len(good)-9],
		"public":             string(k.Public()),
		"no base64":          "untrusted comment: x\n???\n",
		"another algorithm":  changed(0, 1),
		"with a password":    changed(7, 42),
		"another digest":     changed(24, 1),
		"another secret":     changed(40, 1),
		"another public key": changed(103, 0x80),
	} {
		dir := t.TempDir()
		write(t, dir, "feed.key", bad)
		if _, err := loadKey(filepath.Join(dir, "feed.key")); err == nil || !strings.Contains(err.Error(), "feed.key") {
			t.Errorf("%s: got %v, want an error with the name", name, err)
		}
	}
}
