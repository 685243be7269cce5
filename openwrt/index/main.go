// Command index makes a folder of .ipk files a feed that opkg can use: Packages,
// Packages.gz and, given a key, Packages.sig as usign makes it.
package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	key := flag.String("key", "", "secret key `file`; made when it isn't there")
	public := flag.String("public", "", "`directory` to put the public key into")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: index [-key FILE [-public DIRECTORY]] DIRECTORY")
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *key, *public); err != nil {
		fmt.Fprintln(os.Stderr, "index:", err)
		os.Exit(1)
	}
}

func run(dir, keyFile, public string) error {
	text, err := Index(dir)
	if err != nil {
		return err
	}
	var zipped bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&zipped, gzip.BestCompression) // no name and no time: the same bytes each time
	if _, err := zw.Write(text); err != nil {
		return err
	}
	if err := zw.Close(); err != nil {
		return err
	}
	err = errors.Join(os.WriteFile(filepath.Join(dir, "Packages"), text, 0o644), os.WriteFile(filepath.Join(dir, "Packages.gz"), zipped.Bytes(), 0o644))
	if err != nil || keyFile == "" {
		return err
	}
	k, err := loadKey(keyFile)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "Packages.sig"), k.Sign(text), 0o644); err != nil || public == "" {
		return err
	}
	return os.WriteFile(filepath.Join(public, k.Fingerprint()+".pub"), k.Public(), 0o644)
}

// Index lists the packages of a folder as opkg's Packages file does: their control
// fields, with name, size and digest of the file.
func Index(dir string) ([]byte, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.ipk")) // sorted
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		control, err := member(data, "control.tar.gz")
		if err == nil {
			control, err = member(control, "control")
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		lines := strings.Split(strings.TrimRight(string(control), "\n"), "\n")
		// Description is last, because it may have several lines.
		at := len(lines)
		for i, l := range lines {
			if strings.HasPrefix(l, "Description:") {
				at = i
			}
		}
		extra := []string{
			"Filename: " + filepath.Base(name),
			fmt.Sprintf("Size: %d", len(data)),
			fmt.Sprintf("SHA256sum: %x", sha256.Sum256(data)),
		}
		all := append(append(append([]string{}, lines[:at]...), extra...), lines[at:]...)
		fmt.Fprintf(&out, "%s\n\n", strings.Join(all, "\n"))
	}
	return out.Bytes(), nil
}

// member is a file of a tar.gz archive.
func member(data []byte, name string) ([]byte, error) {
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil, fmt.Errorf("there is no %s in it", name)
		}
		if err != nil {
			return nil, err
		}
		if strings.TrimPrefix(h.Name, "./") == name {
			return io.ReadAll(tr)
		}
	}
}

// Key is a signing key in the form of signify, which usign reads: an Ed25519 key
// and a number by which the public key is found.
type Key struct {
	number [8]byte
	secret ed25519.PrivateKey
}

// secretForm is how signify writes an unencrypted secret key: algorithm, no KDF,
// its rounds, salt, the first bytes of a digest of the key, number, key.
const secretForm = 2 + 2 + 4 + 16 + 8 + 8 + ed25519.PrivateKeySize

func loadKey(name string) (Key, error) {
	data, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		k, err := newKey()
		if err != nil {
			return k, err
		}
		return k, os.WriteFile(name, k.Secret(), 0o600)
	}
	if err != nil {
		return Key{}, err
	}
	return parseKey(data)
}

func newKey() (k Key, err error) {
	rand.Read(k.number[:])
	_, k.secret, err = ed25519.GenerateKey(rand.Reader)
	return k, err
}

func parseKey(data []byte) (k Key, err error) {
	_, text, _ := strings.Cut(string(data), "\n")
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text))
	if err != nil || len(raw) != secretForm || string(raw[:4]) != "EdBK" || !bytes.Equal(raw[4:8], make([]byte, 4)) {
		return k, errors.New("want a secret key of usign without a password")
	}
	copy(k.number[:], raw[32:40])
	k.secret = ed25519.PrivateKey(raw[40:])
	sum := sha512.Sum512(k.secret)
	if !bytes.Equal(sum[:8], raw[24:32]) {
		return k, errors.New("the secret key is damaged")
	}
	return k, nil
}

// Fingerprint names the key's file in /etc/opkg/keys.
func (k Key) Fingerprint() string { return fmt.Sprintf("%x", k.number) }

func armoured(comment string, parts ...[]byte) []byte {
	return fmt.Appendf(nil, "untrusted comment: %s\n%s\n", comment, base64.StdEncoding.EncodeToString(bytes.Join(parts, nil)))
}

// Secret is the key's file; its owner keeps it.
func (k Key) Secret() []byte {
	sum := sha512.Sum512(k.secret)
	return armoured("private key "+k.Fingerprint(), []byte("EdBK"), make([]byte, 4), make([]byte, 16), sum[:8], k.number[:], k.secret)
}

// Public is what routers get.
func (k Key) Public() []byte {
	return armoured("public key "+k.Fingerprint(), []byte("Ed"), k.number[:], k.secret.Public().(ed25519.PublicKey))
}

// Sign is the content of a .sig file.
func (k Key) Sign(message []byte) []byte {
	return armoured("signed by key "+k.Fingerprint(), []byte("Ed"), k.number[:], ed25519.Sign(k.secret, message))
}
