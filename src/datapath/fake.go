package datapath

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
)

// Fake is a [Datapath] without a kernel, for tests of what stands on it. It
// keeps what was wanted and lets the test raise events.
type Fake struct {
	mu      sync.Mutex
	applied []Wanted
	cleaned int
	wanted  Wanted
	status  map[string]Status
	watches []chan Event
	refused map[string]Refused

	// ApplyFunc, if set, is asked by Apply after the wanted state is recorded.
	ApplyFunc func(Wanted) (Report, error)
	// StatusFunc, if set, is told by Status what it is about to answer.
	StatusFunc func(Status)
	// CapabilitiesValue is what Capabilities answers; nil: L2TP is possible.
	CapabilitiesValue []Capability
	// CleanUpErr is what CleanUp answers.
	CleanUpErr error
}

var _ Datapath = (*Fake)(nil)

// UserStatus knows of nobody.
func (f *Fake) UserStatus() ([]UserStatus, error) { return nil, nil }

// Apply records what is wanted. Like the real one it refuses bad tunnels one
// by one and reports a change only if there is one.
func (f *Fake) Apply(ctx context.Context, w Wanted) (Report, error) {
	f.mu.Lock()
	f.applied = append(f.applied, w)
	good, errs := w.check()
	var r Report
	for _, d := range sortedKeys(errs) {
		r.fail(d, errs[d])
	}
	if f.status == nil {
		f.status = map[string]Status{}
	}
	for _, old := range f.wanted.Tunnels {
		if now, ok := good.find(old.Device); !ok || !sameTunnel(old, now) && !completes(now, old) {
			delete(f.status, old.Device)
			r.changed("tunnel %s ended", old.Device)
		}
	}
	for _, t := range good.Tunnels {
		if _, runs := f.status[t.Device]; runs {
			continue
		}
		f.status[t.Device] = Status{
			Device: t.Device, Protocol: t.Protocol, State: Starting,
			LocalAddr: t.LocalAddr, PeerAddr: t.PeerAddr, MTU: t.mtu(), Kernel: true,
		}
		r.changed("tunnel %s started", t.Device)
	}
	f.wanted = good
	ask := f.ApplyFunc
	f.mu.Unlock()
	if ask != nil {
		return ask(w)
	}
	return r, ctx.Err()
}

// completes tells whether now is old, which only listened, with the rest.
func completes(now, old Tunnel) bool {
	now.LocalAddr, now.PeerAddr, now.Own, now.Peer = netip.Addr{}, netip.Addr{}, nil, nil
	return old.listening() && sameTunnel(old, now)
}

func sameTunnel(a, b Tunnel) bool {
	return a.Name == b.Name && a.Device == b.Device && a.Protocol == b.Protocol && a.Server == b.Server &&
		a.LocalPort == b.LocalPort && a.Remote == b.Remote && a.Local == b.Local && a.Cipher == b.Cipher && a.LocalAddr == b.LocalAddr && a.PeerAddr == b.PeerAddr &&
		slices.Equal(a.Own, b.Own) && slices.Equal(a.Peer, b.Peer) && string(a.Secret) == string(b.Secret) && a.mtu() == b.mtu()
}

// Watch hands out what [Fake.Raise] is given.
func (f *Fake) Watch(ctx context.Context, report func(Event)) error {
	c := make(chan Event, 64)
	f.mu.Lock()
	f.watches = append(f.watches, c)
	for _, d := range sortedKeys(f.status) {
		if f.status[d].State == Up {
			c <- Event{Device: d, Up: true}
		}
	}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.watches = slices.DeleteFunc(f.watches, func(o chan Event) bool { return o == c })
	}()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-c:
			report(e)
		}
	}
}

// Raise lets an event happen: the device's status follows, everybody who
// watches is told.
func (f *Fake) Raise(e Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if s, ok := f.status[e.Device]; ok {
		switch {
		case e.Up:
			s.State = Up
		case e.Ended:
			s.State = Ended
		default:
			s.State = Starting
		}
		s.Reason = e.Reason
		f.status[e.Device] = s
	}
	for _, c := range f.watches {
		c <- e
	}
}

// Watchers is how many Watch calls are running.
func (f *Fake) Watchers() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.watches)
}

// Status answers for tunnels that are wanted.
func (f *Fake) Status(device string) (Status, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	s, ok := f.status[device]
	if tell := f.StatusFunc; ok && tell != nil {
		f.mu.Unlock()
		tell(s)
		f.mu.Lock()
	}
	if !ok {
		return Status{}, fmt.Errorf("tunnel %q: %w", device, os.ErrNotExist)
	}
	return s, nil
}

// SetStatus changes what Status answers, for bytes, times and warnings.
func (f *Fake) SetStatus(s Status) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.status == nil {
		f.status = map[string]Status{}
	}
	f.status[s.Device] = s
}

// SetRefusals changes what Refusals answers.
func (f *Fake) SetRefusals(r map[string]Refused) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refused = r
}

// Refusals answers what SetRefusals said.
func (f *Fake) Refusals(context.Context) (map[string]Refused, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.refused, nil
}

// CleanUp forgets everything.
func (f *Fake) CleanUp(context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.cleaned++
	f.wanted, f.status = Wanted{}, nil
	return f.CleanUpErr
}

// Capabilities answers CapabilitiesValue.
func (f *Fake) Capabilities(context.Context) []Capability {
	if f.CapabilitiesValue != nil {
		return f.CapabilitiesValue
	}
	return []Capability{{Protocol: ProtocolL2TP}}
}

// Applied are all wanted states so far, oldest first.
func (f *Fake) Applied() []Wanted {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.applied)
}

// Wanted is the valid part of the last wanted state.
func (f *Fake) Wanted() Wanted {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.wanted
}

// Cleaned is how often CleanUp was called.
func (f *Fake) Cleaned() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.cleaned
}
