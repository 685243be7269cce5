package control

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// KeySize is the length of a public key in octets (RFC 8032 §5.1.5).
const KeySize = ed25519.PublicKeySize

// Identity is a gateway's key pair and the certificate that carries it.
type Identity struct {
	key  ed25519.PrivateKey
	cert tls.Certificate
}

// LoadIdentity reads the key at path, or makes one there at the first start;
// made tells which. The file holds the 32-octet seed (RFC 8032 §5.1.5) in
// base64 and is readable by its owner only. A file that can't be read or
// understood is an error and never replaced: a gateway with a new key is a
// stranger to all its friends.
func LoadIdentity(path string) (id *Identity, made bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		id, err = makeIdentity(path)
		return id, true, err
	}
	if err != nil {
		return nil, false, fmt.Errorf("reading our key: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return nil, false, fmt.Errorf("reading our key: %w", err)
	}
	seed, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(seed) != ed25519.SeedSize {
		return nil, false, fmt.Errorf("key file %s is damaged: restore it from a backup, or delete it for a new key that every friend has to be told", path)
	}
	if st, err := f.Stat(); err == nil && st.Mode().Perm()&0o077 != 0 {
		if err := f.Chmod(0o600); err != nil {
			return nil, false, fmt.Errorf("key file %s is readable by others: %w", path, err)
		}
	}
	return newIdentity(ed25519.NewKeyFromSeed(seed)), false, nil
}

func makeIdentity(path string) (*Identity, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("storing our key: %w", err)
	}
	if err := WriteFile(path, append(base64.StdEncoding.AppendEncode(nil, key.Seed()), '\n')); err != nil {
		return nil, fmt.Errorf("storing our key: %w", err)
	}
	return newIdentity(key), nil
}

// WriteFile replaces a file of ours so that after a power cut it holds the old
// or the new content, readable by its owner only.
func WriteFile(path string, content []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // made with 0600
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if _, err = f.Write(content); err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func newIdentity(key ed25519.PrivateKey) *Identity {
	return &Identity{key, tls.Certificate{Certificate: [][]byte{certificate(key)}, PrivateKey: key}}
}

// certificate wraps a key in the smallest X.509 certificate that crypto/tls
// takes (RFC 5280 §4.1, RFC 8410): version 1, serial number 1, empty names,
// valid for ever. Nothing in it but the key is looked at by anybody.
//
// x509.CreateCertificate would do it in one line, and with what it needs of
// encoding/asn1 costs 9 kB of the packed program on mipsle.
func certificate(key ed25519.PrivateKey) []byte {
	algorithm := tlv(0x30, []byte{0x06, 0x03, 0x2b, 0x65, 0x70}) // id-Ed25519
	name := tlv(0x30, nil)
	validity := tlv(0x30, tlv(0x18, []byte("19700101000000Z")), tlv(0x18, []byte("99991231235959Z")))
	public := tlv(0x30, algorithm, tlv(0x03, []byte{0}, key.Public().(ed25519.PublicKey)))
	tbs := tlv(0x30, tlv(0x02, []byte{1}), algorithm, name, validity, name, public)
	return tlv(0x30, tbs, algorithm, tlv(0x03, []byte{0}, ed25519.Sign(key, tbs)))
}

// tlv is a DER value; its parts have fewer than 65,536 octets together.
func tlv(tag byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	n := len(body)
	switch {
	case n < 0x80:
		return append([]byte{tag, byte(n)}, body...)
	case n < 0x100:
		return append([]byte{tag, 0x81, byte(n)}, body...)
	}
	return append([]byte{tag, 0x82, byte(n >> 8), byte(n)}, body...)
}

// Public is the public key, KeySize octets.
func (id *Identity) Public() []byte { return id.key.Public().(ed25519.PublicKey) }

// Fingerprint is a public key as people compare it: the first 80 bits of its
// SHA-256 in base32, "ABCD-EFGH-IJKL-MNOP".
func Fingerprint(public []byte) string {
	sum := sha256.Sum256(public)
	s := base32.StdEncoding.EncodeToString(sum[:10])
	return s[:4] + "-" + s[4:8] + "-" + s[8:12] + "-" + s[12:]
}

// EncodeKey is a public key as it stands in a configuration: base64, 44
// characters.
func EncodeKey(public []byte) string { return base64.StdEncoding.EncodeToString(public) }
