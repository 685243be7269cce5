package control

import (
	"context"
	"net"
	"net/netip"
)

// Knock tells why nothing answers at a port. Nothing is said there.
func Knock(ctx context.Context, at netip.AddrPort) error {
	var d net.Dialer
	c, err := d.DialTCP(ctx, "tcp", netip.AddrPort{}, at)
	if err == nil {
		c.Close()
	}
	return err
}
