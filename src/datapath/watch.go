package datapath

import (
	"context"
	"slices"
	"time"
)

// Event is a change of a tunnel's state. Events of the same tunnel come in
// order; states that lasted an instant may be left out.
type Event struct {
	Device string
	// Up: the tunnel carries packets and its routes are set.
	Up bool
	// Ended: it will not come up (again) by itself. Never together with Up.
	Ended bool
	// Reason says in plain words why it is not up.
	Reason string
}

const (
	watchTick = time.Second
	// Ticks between two looks at logs' sizes and at everything else.
	watchRound = 30
)

// Watch sets the routes of links that come up and then reports them, and
// reports tunnels that go down or can't come up, until the context ends. The
// tunnels that are up already are reported first. Nothing happens before the
// first Apply: a daemon that starts while tunnels of its former life are up may
// watch at once. Watch waits while report runs.
func (m *Manager) Watch(ctx context.Context, report func(Event)) error {
	nudge := make(chan struct{}, 1)
	failed := make(chan error, 1)
	go func() {
		failed <- m.o.kernel.watch(ctx, func() {
			select {
			case nudge <- struct{}{}:
			default: // one is waiting already
			}
		})
	}()
	tick := time.NewTicker(watchTick)
	defer tick.Stop()
	states := map[string]State{}
	for ticks := 0; ; {
		round := false
		select {
		case err := <-failed:
			return err
		case <-nudge:
			round = true
		case <-tick.C:
			ticks++
			round = ticks%watchRound == 0
			if round {
				m.housekeep()
			}
		}
		for _, e := range m.look(states, round) {
			report(e)
		}
	}
}

// housekeep cuts long logs.
func (m *Manager) housekeep() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, t := range m.wanted.Tunnels {
		if err := m.drivers[t.Protocol].housekeep(t.Device); err != nil {
			m.log.Warn("log file", "tunnel", t.Device, "err", err)
		}
	}
}

// look compares the tunnels' states with those of the last look. Without all,
// only tunnels that are still starting are looked at: whether they have ended
// is nothing that the kernel tells.
func (m *Manager) look(states map[string]State, all bool) []Event {
	m.mu.Lock()
	defer m.mu.Unlock()
	for d := range states {
		if _, ok := m.wanted.find(d); !ok {
			delete(states, d) // the caller has ended it and knows
		}
	}
	var tunnels []Tunnel
	for _, t := range m.wanted.Tunnels {
		if state, known := states[t.Device]; all || !known || state == Starting {
			tunnels = append(tunnels, t)
		}
	}
	events := m.changed(states, tunnels)
	// Whoever hears that a link is up may send at once.
	if m.applied && (all || slices.ContainsFunc(events, func(e Event) bool { return e.Up })) {
		m.follow()
	}
	return events
}

// changed are the tunnels whose states are not the noted ones, and notes them.
func (m *Manager) changed(states map[string]State, tunnels []Tunnel) []Event {
	if len(tunnels) == 0 {
		return nil
	}
	links, err := m.o.kernel.links()
	if err != nil {
		m.log.Warn("links", "err", err)
		return nil
	}
	var events []Event
	for _, t := range tunnels {
		s, err := m.status(t.Device, links)
		if err != nil {
			m.log.Warn("status", "tunnel", t.Device, "err", err)
			continue
		}
		old, known := states[t.Device]
		states[t.Device] = s.State
		if s.State == old || !known && s.State == Starting {
			continue
		}
		events = append(events, Event{Device: t.Device, Up: s.State == Up, Ended: s.State == Ended, Reason: s.Reason})
	}
	return events
}

// follow lets the routes follow the links; there is nobody to return errors to.
func (m *Manager) follow() {
	var r Report
	if err := m.settle(&r); err != nil {
		m.log.Warn("routes", "err", err)
	}
	for _, d := range sortedKeys(r.Errors) {
		m.log.Warn("routes", "tunnel", d, "err", r.Errors[d])
	}
	for _, c := range r.Changes {
		m.log.Info("changed", "what", c)
	}
}
