package daemon

import (
	"path/filepath"
	"slices"
)

// remember changes what is kept of a peer, and writes it only when it differs.
func (d *Daemon) remember(peer string, change func(*homeState)) {
	p := d.peer(peer)
	if p == nil {
		return
	}
	old := d.state[peer]
	st := old
	if !slices.Equal(st.Key, p.Key[:]) {
		st = homeState{Key: p.Key[:]}
	}
	change(&st)
	if st.Wanted == old.Wanted && st.Ended == old.Ended && slices.Equal(st.Invite, old.Invite) && st.Record.Equal(old.Record) && slices.Equal(st.Key, old.Key) {
		return
	}
	d.state[peer] = st
	if err := writeTable(filepath.Join(d.opt.StateDir, stateFile), encodeState(d.state)); err != nil {
		d.log.Error("what we know of a home is not saved", "peer", peer, "err", err)
	}
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
