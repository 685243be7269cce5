package datapath

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
)

// watchful is a driver that notes how many rules there were when it was called.
type watchful struct {
	*fakeDriver
	fw    *toyFirewall
	execs map[string]string // programs run so far, by device
	err   map[string]error
}

func (d *watchful) adopt(t Tunnel) error {
	d.execs[t.Device] = strings.Join(d.fw.execs, " ")
	return errors.Join(d.err[t.Device], d.fakeDriver.adopt(t))
}

// A server that listened early takes its call only when its rules stand: a
// packet that came before would be neither checked nor translated.
func TestAdoptAfterRules(t *testing.T) {
	b := newBench(t)
	d := &watchful{b.driver, b.fw, map[string]string{}, map[string]error{}}
	b.Manager.drivers[ProtocolL2TP] = d
	early, other := homeA(), homeC()
	early.Server, early.LocalPort = true, 17010
	b.driver.tunnels[early.Device], b.driver.tunnels[other.Device] = early, other
	d.err[other.Device] = errors.New("the pipe is gone")
	r, err := b.Apply(context.Background(), Wanted{Tunnels: []Tunnel{other, early}})
	if err != nil {
		t.Fatal(err)
	}
	if got := d.execs[early.Device]; got != "save restore" {
		t.Errorf("adopted after %q, the rules came later or never", got)
	}
	// One tunnel's error is its own.
	if e := r.Errors[other.Device]; e == nil || !strings.Contains(e.Error(), "the pipe is gone") {
		t.Errorf("the error was swallowed: %v", r.Errors)
	}
	if r.Errors[early.Device] != nil || !slices.Contains(b.driver.calls, "adopt "+early.Device) {
		t.Errorf("%v, %q", r.Errors, b.driver.calls)
	}
	// Without rules nothing is adopted.
	delete(d.execs, early.Device)
	b.fw.rules, b.fw.fail = mustParse(t, savedLegacy), "no"
	if _, err := b.Apply(context.Background(), Wanted{Tunnels: []Tunnel{other, early}}); err == nil || len(d.execs) > 1 || d.execs[early.Device] != "" {
		t.Errorf("adopted without rules: %v, %v", d.execs, err)
	}
}
