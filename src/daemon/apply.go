package daemon

import (
	"context"
	"slices"
	"sort"
	"time"

	"htip/src/datapath"
	"htip/src/htip"
)

// kick asks for the kernel to be brought in line; many kicks make one change.
func (d *Daemon) kick() {
	select {
	case d.dirty <- struct{}{}:
	default:
	}
}

// wish is what one run of the applier works on.
type wish struct {
	wanted datapath.Wanted
	ids    map[string]uint32 // tunnel IDs by device, as wished
	peers  map[string]string // peers by device
}

func (d *Daemon) wish() wish {
	w := wish{ids: map[string]uint32{}, peers: map[string]string{}}
	for _, name := range sorted(d.tunnels) { // in order: the same wish is the same text
		t := d.tunnels[name]
		p := t.path()
		p.Access, _ = d.accessOf(name, t.Entry.Own)
		w.wanted.Tunnels = append(w.wanted.Tunnels, p)
		w.ids[device(name)] = t.Entry.TunnelID
		w.peers[device(name)] = name
	}
	w.wanted.Known, w.wanted.Door, w.wanted.Users = d.gw.Known(), d.door(), d.wantedUsers(d.tunnels)
	return w
}

// apply is the task that brings the kernel in line, one change at a time.
func (d *Daemon) apply(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-d.dirty:
		}
		var w wish
		if !d.call(ctx, func() { w = d.wish() }) {
			return nil
		}
		limit, cancel := context.WithTimeout(ctx, applyLimit)
		report, err := d.path.Apply(limit, w.wanted)
		cancel()
		stats := d.look(w.devices())
		if ctx.Err() != nil {
			return nil
		}
		d.post(func() { d.stats = stats; d.applied(w, report, err) })
	}
}

// applied tells the protocol what became of a wish.
func (d *Daemon) applied(w wish, report datapath.Report, err error) {
	for _, c := range report.Changes {
		d.log.Debug("data path", "change", c)
	}
	for _, c := range report.Warnings {
		d.log.Warn("data path", "warning", c)
	}
	again := false
	if err != nil {
		d.log.Error("data path", "err", err)
		again = true
	}
	before := d.usersErr
	if d.usersErr = report.Errors[datapath.UsersDevice]; d.usersErr != nil && (before == nil || before.Error() != d.usersErr.Error()) {
		d.log.Error("users can't come in", "err", d.usersErr) // it may last for months, and is tried again with each recheck
	}
	for dev, id := range w.ids {
		name := w.peers[dev]
		t := d.tunnels[name]
		if t == nil || t.Entry.TunnelID != id {
			continue
		}
		e := report.Errors[dev]
		if e == nil {
			e = err
		}
		switch {
		case e != nil && !t.started:
			d.handle(name, htip.StartFailed{TunnelID: id, Text: plain(e)})
		case e != nil && datapath.IsPermanent(e):
			d.handle(name, htip.LinkDown{TunnelID: id, Text: plain(e)})
		case e != nil:
			d.log.Warn("data path of a tunnel is not complete", "peer", name, "err", e)
			again = true
		case !t.started:
			t.started = true
			t.link = d.stats[dev].State == datapath.Up // earlier events may have been of an older tunnel
			d.handle(name, htip.Started{TunnelID: id})
			d.linkUp(name, t)
			if !t.link {
				d.lookAgain(name, t)
			}
		}
	}
	if again {
		time.AfterFunc(2*time.Second, d.kick)
	}
}

// lookAgain looks at the link of a tunnel that has just started: it may have
// come up after the last look, and before its events counted.
func (d *Daemon) lookAgain(name string, t *tunnel) {
	d.tasks.Go(func() {
		dev := device(name)
		up := d.look([]string{dev})[dev].State == datapath.Up
		d.post(func() {
			if up && d.tunnels[name] == t {
				t.link = true
				d.linkUp(name, t)
			}
		})
	})
}

// plain is an error without the tunnel's name in front: the reader knows whose
// it is.
func plain(err error) string {
	if e, ok := err.(*datapath.Error); ok {
		return e.Err.Error()
	}
	return err.Error()
}

// linkChanged takes what the data path says of our devices.
func (d *Daemon) linkChanged(ev datapath.Event) {
	d.post(func() {
		for name, t := range d.tunnels {
			if device(name) != ev.Device {
				continue
			}
			if !t.started { // of an older tunnel of the same name, or looked at again when it has started
				return
			}
			switch {
			case ev.Up:
				t.link = true
				d.linkUp(name, t)
			case t.link || ev.Ended:
				t.link = false
				d.handle(name, htip.LinkDown{TunnelID: t.Entry.TunnelID, Text: ev.Reason})
			}
			return
		}
	})
}

// linkUp tells the protocol of a link that is up, once, and after it heard that
// the programs run.
func (d *Daemon) linkUp(name string, t *tunnel) {
	if d.tunnels[name] != t || !t.started || !t.link || t.linked || !t.agreed() {
		return
	}
	t.linked = true
	d.setNames()
	d.handle(name, htip.LinkUp{TunnelID: t.Entry.TunnelID})
}

func sameHome(a, b htip.Home) bool {
	return slices.Equal(a.Networks, b.Networks) && a.Gateway == b.Gateway && slices.Equal(a.Occupied, b.Occupied) &&
		slices.Equal(a.Pool, b.Pool) && a.Order == b.Order
}

func sorted[V any](m map[string]V) []string {
	names := make([]string, 0, len(m))
	for n := range m {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

func (w *wish) devices() []string {
	var out []string
	for _, t := range w.wanted.Tunnels {
		out = append(out, t.Device)
	}
	return out
}

// look asks the data path how devices are. It may wait for a change under way,
// so it never runs in the loop.
func (d *Daemon) look(devices []string) map[string]datapath.Status {
	out := map[string]datapath.Status{}
	for _, dev := range devices {
		if st, err := d.path.Status(dev); err == nil {
			out[dev] = st
		}
	}
	return out
}
