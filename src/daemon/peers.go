package daemon

import (
	"bytes"
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"htip/src/config"
	"htip/src/datapath"
	"htip/src/htip"
)

// lacks says what this router is missing for the protocols that it needs: those
// that are better than the best possible one, and those that a peer's section
// names. Who has WireGuard is not told to install xl2tpd.
func (d *Daemon) lacks() (out []string) {
	better := true
	for _, name := range d.listed() {
		i := slices.IndexFunc(d.caps, func(c datapath.Capability) bool { return c.Protocol == name })
		if i < 0 {
			continue
		}
		c := d.caps[i]
		better = better && !c.Possible()
		if better || slices.ContainsFunc(d.cfg.Peers, func(p config.Peer) bool { return slices.Contains(p.Protocols, name) }) {
			for _, m := range c.Missing {
				out = append(out, fmt.Sprintf("%s is not possible: %s", name, m))
			}
		}
		for _, w := range c.Warnings {
			if !slices.Contains(out, w) {
				out = append(out, w)
			}
		}
	}
	return out
}

// protocols are those that this router can do, in the configured order.
func (d *Daemon) protocols() []htip.Protocol {
	var out []htip.Protocol
	for _, name := range d.listed() {
		i := slices.IndexFunc(d.caps, func(c datapath.Capability) bool { return c.Protocol == name && c.Possible() })
		if p := htip.ParseProtocol(name); p != 0 && i >= 0 {
			out = append(out, p)
		}
	}
	return out
}

// esp says what this router can do with ESP.
func (d *Daemon) esp() (f htip.Features) {
	for i := range d.caps {
		for _, name := range d.caps[i].Ciphers {
			if htip.ParseCipher(name) == htip.AES {
				f |= htip.FeatureAES
			} else {
				f |= htip.FeatureChaCha
			}
		}
		if d.caps[i].FastAES {
			f |= htip.FeatureFastAES
		}
	}
	return f
}

// setPeers tells all parts which homes are configured.
func (d *Daemon) setPeers() {
	if i := slices.IndexFunc(d.cfg.Peers, func(p config.Peer) bool { return bytes.Equal(p.Key[:], d.id.Public()) }); i >= 0 {
		p := d.cfg.Peers[i]
		d.problems = append(d.problems, config.Problem{
			Severity: config.Error, Section: "peer " + p.Name, Option: "option key", Value: p.Key.String(), Want: "the key that htip key prints on the other router; this one is our own",
		})
		d.log.Warn("configuration", "err", d.problems[len(d.problems)-1])
		d.cfg.Peers = slices.Delete(slices.Clone(d.cfg.Peers), i, i+1)
	}
	records := map[string]htip.Record{}
	var peers []htip.Peer
	keys := map[string]bool{}
	for _, p := range d.cfg.Peers {
		if !p.Enabled {
			continue
		}
		if st, ok := d.state[p.Name]; ok && bytes.Equal(st.Key, p.Key[:]) {
			records[p.Name] = st.Record
		}
		keys[string(p.Key[:])] = true
		d.keys.Store(string(p.Key[:]), p.Name)
		peers = append(peers, htip.Peer{
			Name: p.Name, Domain: p.Domain, Key: p.Key[:], Auto: p.Auto || d.wanted(p.Name), Protocols: d.allowed(p),
		})
	}
	d.keys.Range(func(k, _ any) bool {
		if !keys[k.(string)] {
			d.keys.Delete(k)
		}
		return true
	})
	d.gw.SetProtocols(d.protocols(), d.impossible())
	d.act(d.gw.SetPeers(peers, records))
	d.warnWeak()
	for id, c := range d.conns {
		if name, ok := d.owner(c.Conn); !ok || name != c.peer {
			d.act([]htip.Action{htip.CloseConn{Conn: id}})
		}
	}
	for name := range d.progress {
		if d.peer(name) == nil {
			d.stopDial(name)
			delete(d.progress, name)
		}
	}
	for name := range d.ended {
		if d.peer(name) == nil {
			delete(d.ended, name)
		}
	}
	for name := range d.rates {
		if d.peer(name) == nil {
			delete(d.rates, name)
		}
	}
	d.friends.keep(d.peer)
	for name := range d.asked {
		if d.peer(name) == nil {
			delete(d.asked, name)
		}
	}
	d.setNames()
	d.setDropIn()
	d.accessChanged()
	d.settle()
}

// wanted tells whether somebody here asked for the tunnel to this very home.
func (d *Daemon) wanted(peer string) bool { return d.known(peer).Wanted }

// known is what is remembered of the very home that the peer is now.
func (d *Daemon) known(peer string) homeState {
	st, p := d.state[peer], d.peer(peer)
	if p == nil || !bytes.Equal(st.Key, p.Key[:]) {
		return homeState{}
	}
	return st
}

// allowed are the protocols that may be used with a peer: an encrypted one
// unless the user says otherwise.
func allowed(p config.Peer) []htip.Protocol {
	var out []htip.Protocol
	for _, name := range []htip.Protocol{htip.WireGuard, htip.L2TPESP, htip.L2TP, htip.PPTP} {
		if !name.Encrypted() && p.Encryption != config.EncryptionOff {
			continue
		}
		if len(p.Protocols) > 0 && !slices.Contains(p.Protocols, name.String()) {
			continue
		}
		out = append(out, name)
	}
	return out
}

// adopt takes tunnels over that stand from a former process. The kernel is
// asked, not the file: what does not run exactly as it was wanted is started
// afresh and negotiated anew.
func (d *Daemon) adopt(ctx context.Context) {
	t, err := readTable(filepath.Join(d.opt.RunDir, tunnelsFile))
	var left map[string]*tunnel
	if err == nil {
		left, err = decodeTunnels(t)
	}
	if err != nil {
		d.log.Warn("tunnels of a former process can't be taken over", "err", err)
	}
	if len(left) > 0 { // what is allowed shall not stop for a moment
		d.hosts = d.lookHosts(ctx, named(d.cfg.Peers), nil)
	}
	w := datapath.Wanted{Known: d.gw.Known()}
	for name, t := range left {
		p := d.peer(name)
		if p == nil || t.Since == 0 || !bytes.Equal(t.Key, p.Key[:]) || !slices.Contains(d.allowed(*p), t.Entry.Protocol) {
			delete(left, name) // another home by now, or no longer allowed
			continue
		}
		x := t.path()
		x.Access, _ = d.accessOf(name, t.Entry.Own)
		w.Tunnels = append(w.Tunnels, x)
		for _, s := range htip.Substitutes(t.Entry.Theirs) {
			if !slices.Contains(w.Known, s) {
				w.Known = append(w.Known, s)
			}
		}
	}
	if len(w.Tunnels) == 0 {
		return
	}
	w.Users = d.wantedUsers(left)
	report, err := d.path.Apply(ctx, w)
	if err != nil {
		d.log.Error("tunnels of a former process can't be taken over", "err", err)
		return
	}
	for name, t := range left {
		st, err := d.path.Status(device(name))
		if err != nil || report.Errors[device(name)] != nil || st.State != datapath.Up {
			d.log.Info("tunnel of a former process is down", "peer", name)
			continue
		}
		t.started, t.link, t.linked = true, true, true
		t.way = d.opt.Way(t.Local, t.Remote)
		d.tunnels[name] = t
		d.friends.add(t.Remote, name)
		d.log.Info("tunnel taken over", "peer", name, "device", device(name), "changes", fmt.Sprint(report.Changes))
		d.act(d.gw.Adopt(t.Entry))
	}
	d.setNames()
}

// connectWanted starts the tunnels that shall be up without being asked.
func (d *Daemon) connectWanted() {
	for _, p := range d.cfg.Peers {
		if p.Enabled && p.Domain != "" && (p.Auto || d.wanted(p.Name)) && d.tunnels[p.Name] == nil && !d.endedNow(p.Name) {
			d.handle(p.Name, htip.Connect{})
		}
	}
}

func (d *Daemon) peer(name string) *config.Peer {
	for i := range d.cfg.Peers {
		if d.cfg.Peers[i].Name == name && d.cfg.Peers[i].Enabled {
			return &d.cfg.Peers[i]
		}
	}
	return nil
}

// device is the name of the tunnel to a peer.
func device(peer string) string { return datapath.DevicePrefix + config.Short(peer) }
