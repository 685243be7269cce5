package daemon

import (
	"path/filepath"
	"slices"
	"time"

	"htip/src/control"
	"htip/src/htip"
)

// Substitutes of a peer that reach the flash: some at once, then one in a while.
// With a peer that renumbers itself all day the last ones are kept in memory
// meanwhile. What people here say is written at once.
const (
	saveBurst = 8
	saveEvery = time.Hour
)

// remember changes what is kept of a peer, and writes it only when it differs.
func (d *Daemon) remember(peer string, change func(*homeState)) {
	if d.change(peer, change) {
		d.writeState()
	}
}

// saveRecord is remember for what a peer can bring about.
func (d *Daemon) saveRecord(peer string, r htip.Record) {
	if !d.change(peer, func(st *homeState) { st.Record = r }) {
		return
	}
	if d.rate(peer).saves.Take(control.Now(), saveBurst, saveEvery) {
		d.writeState()
	} else if d.unsaved == nil {
		d.unsaved = time.AfterFunc(saveEvery, func() { d.post(d.writeUnsaved) })
	}
}

// writeUnsaved writes what had to wait.
func (d *Daemon) writeUnsaved() {
	if d.unsaved != nil {
		d.writeState()
	}
}

func (d *Daemon) writeState() {
	if d.unsaved != nil {
		d.unsaved.Stop()
		d.unsaved = nil
	}
	if err := writeTable(filepath.Join(d.opt.StateDir, stateFile), encodeState(d.state)); err != nil {
		d.log.Error("what we know of other homes is not saved", "err", err)
	}
}

// change changes what is known of a peer, and tells whether it differs now.
func (d *Daemon) change(peer string, change func(*homeState)) bool {
	p := d.peer(peer)
	if p == nil {
		return false
	}
	old := d.state[peer]
	st := old
	if !slices.Equal(st.Key, p.Key[:]) {
		st = homeState{Key: p.Key[:]}
	}
	change(&st)
	if st.Wanted == old.Wanted && st.Ended == old.Ended && slices.Equal(st.Invite, old.Invite) && st.Record.Equal(old.Record) && slices.Equal(st.Key, old.Key) {
		return false
	}
	d.state[peer] = st
	return true
}

// isEnded tells whether a user of either home has ended the tunnel for now.
func (d *Daemon) isEnded(peer string) bool { return d.endedNow(peer) || d.known(peer).Ended }

// endedNow is isEnded as far as this process remembers.
func (d *Daemon) endedNow(peer string) bool {
	key, ok := d.ended[peer]
	p := d.peer(peer)
	return ok && p != nil && p.Key == key // another home under an old name is another home
}

func (d *Daemon) markEnded(peer string) {
	if p := d.peer(peer); p != nil {
		d.ended[peer] = p.Key
	}
}

// begun: a person here wants the tunnel again.
func (d *Daemon) begun(peer string) {
	delete(d.ended, peer)
	if d.known(peer).Ended {
		d.remember(peer, func(st *homeState) { st.Ended = false })
	}
}

func (d *Daemon) forget(peer string) {
	if d.wanted(peer) {
		d.remember(peer, func(st *homeState) { st.Wanted = false })
	}
	if p := d.peer(peer); p != nil {
		d.gw.SetAuto(peer, p.Auto)
	}
}
