package control

import (
	"context"
	"net/netip"
)

// Knock tells why nothing answers at a port. Nothing is said there.
func Knock(ctx context.Context, at netip.AddrPort) error {
	c, err := dialTCP(ctx, at)
	if err == nil {
		c.Close()
	}
	return err
}
