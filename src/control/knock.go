package control

import (
	"context"
	"errors"
	"net"
	"net/netip"
)

// Knock tells whether anything answers at a port. Nothing is said there.
func Knock(ctx context.Context, at netip.AddrPort) error {
	d := net.Dialer{KeepAlive: -1}
	c, err := d.DialTCP(ctx, "tcp4", netip.AddrPort{}, at)
	if err == nil {
		return c.Close()
	}
	var op *net.OpError
	if errors.As(err, &op) {
		if op.Timeout() {
			return errors.New("no answer in time")
		}
		err = op.Err
	}
	return err
}
