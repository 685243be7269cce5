package dns

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestReached: whether a real dnsmasq hands the zone's names on to us.
func TestReached(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	nobody := netip.MustParseAddrPort("127.0.0.1:9")
	h := newHome(t, nil, nil)
	if err := h.Reached(ctx); err == nil || strings.Contains(err.Error(), "itself") {
		t.Errorf("there is no dnsmasq, but: %v", err)
	}
	h.startDnsmasq(t, nil, nobody)
	if err := h.Reached(ctx); err != nil {
		t.Error(err)
	}
	// A dnsmasq that has another's drop-in: names of the zone go elsewhere.
	other := newHome(t, nil, nil)
	listen := other.opt.Listen
	other.opt.Listen = nobody
	other.startDnsmasq(t, nil, nobody)
	if err := other.Reached(ctx); err == nil || !strings.Contains(err.Error(), "itself") && !strings.Contains(err.Error(), "no answer") {
		t.Errorf("dnsmasq asks %v, not %v, but: %v", nobody, listen, err)
	}
}

func TestInPlace(t *testing.T) {
	ctx := context.Background()
	restart := errors.New("no")
	d := &Dnsmasq{Dir: t.TempDir(), Restart: func(context.Context) error { return restart }}
	file := filepath.Join(d.Dir, "htip.conf")
	bad := func(what string) {
		t.Helper()
		if d.InPlace() == nil {
			t.Errorf("in place, though %s", what)
		}
	}
	bad("nothing was set")
	d.Set([]byte("x\n"))
	bad("nothing was written")
	d.Apply(ctx)
	bad("dnsmasq was not restarted")
	restart = nil
	d.Apply(ctx)
	if err := d.InPlace(); err != nil {
		t.Error(err)
	}
	os.WriteFile(file, []byte("y\n"), 0o644)
	bad("somebody has changed it")
	os.Remove(file)
	bad("somebody has removed it")
}
