package control

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"

	"htip/src/htip"
)

// Learn asks the gateway at addr for its public key: a handshake, and nothing
// more is said. Whose key it is only a person can tell, by its fingerprint.
func Learn(ctx context.Context, id *Identity, addr netip.AddrPort) (key []byte, err error) {
	config := id.config()
	config.VerifyConnection = func(s tls.ConnectionState) (err error) {
		key, err = peerKey(s)
		return err
	}
	c, err := dial(ctx, addr, config)
	if err != nil {
		return nil, err // the key was shown, but not proven
	}
	c.Close()
	return key, nil
}

// dial connects and shakes hands.
func dial(ctx context.Context, addr netip.AddrPort, config *tls.Config) (*tls.Conn, error) {
	raw, err := dialTCP(ctx, addr)
	if err != nil {
		return nil, err
	}
	return shake(ctx, raw, config)
}

func dialTCP(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{Timeout: handshakeLimit, KeepAlive: htip.KeepaliveEvery}
	c, err := d.DialTCP(ctx, "tcp", netip.AddrPort{}, addr)
	if err != nil {
		return nil, err // not a nil connection in an interface
	}
	return c, nil
}

func shake(ctx context.Context, raw net.Conn, config *tls.Config) (*tls.Conn, error) {
	c := tls.Client(raw, config)
	ctx, cancel := context.WithTimeout(ctx, handshakeLimit)
	defer cancel()
	if err := c.HandshakeContext(ctx); err != nil {
		raw.Close()
		return nil, explain(err)
	}
	return c, nil
}

// Over is Dial over a TCP connection that is open already.
func Over(ctx context.Context, raw net.Conn, id *Identity, key []byte) (*Conn, error) {
	c, err := shake(ctx, raw, id.clientConfig(key))
	if err != nil {
		return nil, err
	}
	return newConn(c, key), nil
}
