package control

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
)

const alpn = "htip/1"

// WrongKeyError says that somebody else than the expected peer answered.
type WrongKeyError struct{ Got []byte }

func (e *WrongKeyError) Error() string {
	return "the gateway that answered has another key, fingerprint " + Fingerprint(e.Got)
}

// ErrNotKnown says that the other gateway refused our key.
var ErrNotKnown = errors.New("the other gateway does not know our key")

func (id *Identity) config() *tls.Config {
	return &tls.Config{
		Certificates:           []tls.Certificate{id.cert},
		MinVersion:             tls.VersionTLS13,
		NextProtos:             []string{alpn},
		SessionTicketsDisabled: true,                     // a resumed session would show no certificate
		ClientAuth:             tls.RequireAnyClientCert, // checked by key in VerifyConnection
		InsecureSkipVerify:     true,                     // the same for the server's
	}
}

// peerKey is the Ed25519 key of the certificate that the other side has proven
// to own.
func peerKey(s tls.ConnectionState) ([]byte, error) {
	if s.NegotiatedProtocol != alpn {
		return nil, fmt.Errorf("no %s spoken", alpn)
	}
	if len(s.PeerCertificates) != 1 {
		return nil, fmt.Errorf("%d certificates presented instead of one", len(s.PeerCertificates))
	}
	key, ok := s.PeerCertificates[0].PublicKey.(ed25519.PublicKey)
	if !ok || len(key) != KeySize {
		return nil, errors.New("the certificate has no Ed25519 key")
	}
	return key, nil
}

func (id *Identity) clientConfig(want []byte) *tls.Config {
	c := id.config()
	c.VerifyConnection = func(s tls.ConnectionState) error {
		got, err := peerKey(s)
		if err == nil && !bytes.Equal(got, want) {
			err = &WrongKeyError{got}
		}
		return err
	}
	return c
}

// explain turns an error of a connection into what it means for people. A TLS
// 1.3 client learns from its first read that the server refused its
// certificate.
func explain(err error) error {
	var alert tls.AlertError
	var op *net.OpError
	switch {
	case errors.As(err, &alert) && strings.Contains(alert.Error(), "bad certificate"),
		errors.As(err, &op) && op.Op == "remote error" && strings.Contains(op.Err.Error(), "bad certificate"):
		return ErrNotKnown
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrClosed):
		return fmt.Errorf("the connection was closed: %w", err)
	}
	var t net.Error
	if errors.As(err, &t) && t.Timeout() {
		return fmt.Errorf("the other gateway has fallen silent: %w", err)
	}
	return err
}
