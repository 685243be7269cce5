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
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
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
		control, err := control(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(&out, "%s\n\n", strings.Join(entry(control,
			"Filename: "+filepath.Base(name),
			fmt.Sprintf("Size: %d", len(data)),
			fmt.Sprintf("SHA256sum: %x", sha256.Sum256(data)),
		), "\n"))
	}
	return out.Bytes(), nil
}

// entry orders the fields of a package as LuCI's list needs them, which takes what stands
// before "Package" for the package before: that one is first. The description is last,
// because it may have several lines.
func entry(control string, extra ...string) []string {
	var first, fields, description []string
	at := &fields
	for line := range strings.Lines(control) {
		line = strings.TrimRight(line, "\n")
		switch name, _, _ := strings.Cut(line, ":"); {
		case strings.HasPrefix(line, " "): // goes on with the field before
		case name == "Package":
			at = &first
		case name == "Description":
			at = &description
		default:
			at = &fields
		}
		if strings.TrimSpace(line) != "" {
			*at = append(*at, line)
		}
	}
	return slices.Concat(first, fields, extra, description)
}

// control is the file with a package's fields. The package is read to its end: what is
// cut off anywhere must not get into a feed.
func control(ipk []byte) (string, error) {
	outer, err := unpack(ipk)
	if err != nil {
		return "", err
	}
	var inner map[string][]byte
	for _, name := range []string{"control.tar.gz", "data.tar.gz"} {
		data, found := outer[name]
		if !found {
			return "", fmt.Errorf("there is no %s in it", name)
		}
		files, err := unpack(data)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		if inner == nil {
			inner = files
		}
	}
	text, found := inner["control"]
	if !found {
		return "", errors.New("there is no control in it")
	}
	return string(text), nil
}

// unpack reads the files of a tar.gz archive.
func unpack(data []byte) (map[string][]byte, error) {
	zr, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if err == io.EOF {
			_, err = io.Copy(io.Discard, zr) // the digest is at the end
			return files, err
		}
		if err != nil {
			return nil, err
		}
		content, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		files[strings.TrimPrefix(h.Name, "./")] = content
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
	k, err := parseKey(data)
	if err != nil {
		return k, fmt.Errorf("%s: %w", name, err)
	}
	return k, nil
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

// Fingerprint names the key's file in /etc/opkg/keys: a number for usign, which writes
// it without leading zeros.
func (k Key) Fingerprint() string { return fmt.Sprintf("%x", binary.BigEndian.Uint64(k.number[:])) }

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
