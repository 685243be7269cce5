package daemon

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"time"

	"htip/src/config"
	"htip/src/datapath"
	"htip/src/htip"
	"htip/src/ubus"
)

const (
	hostEvery = 10 * time.Second // how soon access follows a host to its new address
	hostLimit = 2 * time.Second  // for one name
)

// reach turns a peer's list access into what the data path allows. hosts are
// the addresses of this home's hosts by name, own the networks that the peer
// knows. nowhere are names that lead to no address in them: they allow nothing.
func reach(list []string, hosts map[string][]netip.Addr, own []htip.Mapping) (a datapath.Access, nowhere []string) {
	if len(list) == 0 || slices.Equal(list, []string{config.AccessAll}) {
		return datapath.Access{}, nil
	}
	a.Limited = true
	for _, v := range list {
		x, ok := config.ParseAccess(v)
		if !ok { // "none"
			continue
		}
		rule := datapath.Allowed{Protocol: x.Protocol, Low: x.Low, High: x.High}
		if x.Host == config.AccessRouter {
			rule.Router = true
			a.Allow = append(a.Allow, rule)
			continue
		}
		addrs := hosts[x.Host]
		if x.Addr.IsValid() {
			addrs = []netip.Addr{x.Addr}
		}
		some := false
		for _, at := range addrs {
			if slices.ContainsFunc(own, func(m htip.Mapping) bool { return m.Network.Contains(at) }) {
				rule.Host = at
				a.Allow = append(a.Allow, rule)
				some = true
			}
		}
		if !some {
			nowhere = append(nowhere, v)
		}
	}
	return a, nowhere
}

// named are the hosts that the peers' lists name, each once.
func named(peers []config.Peer) (out []string) {
	for _, p := range peers {
		for _, v := range p.Access {
			if x, ok := config.ParseAccess(v); ok && p.Enabled && x.Host != "" && x.Host != config.AccessRouter && !slices.Contains(out, x.Host) {
				out = append(out, x.Host)
			}
		}
	}
	sort.Strings(out)
	return out
}

// lookHosts asks our dnsmasq where these hosts are now. Who can't be asked for
// stays where it was: dnsmasq may be starting again.
func (d *Daemon) lookHosts(ctx context.Context, names []string, before map[string][]netip.Addr) map[string][]netip.Addr {
	now := map[string][]netip.Addr{}
	for _, n := range names {
		limit, cancel := context.WithTimeout(ctx, hostLimit)
		addrs, err := d.names.Own(limit, n)
		cancel()
		if err != nil {
			d.log.Debug("host not found", "host", n, "err", err)
			addrs = before[n]
		}
		// Not slices.SortFunc: this would be its only instance for addresses, 3 kB.
		sort.Slice(addrs, func(i, j int) bool { return addrs[i].Less(addrs[j]) })
		now[n] = addrs
	}
	return now
}

// followHosts keeps the rules of access at the hosts that are meant, while they
// get new addresses.
func (d *Daemon) followHosts(ctx context.Context) error {
	t := time.NewTicker(hostEvery)
	defer t.Stop()
	for {
		var names []string
		var before map[string][]netip.Addr
		if !d.call(ctx, func() { names, before = named(d.cfg.Peers), d.hosts }) {
			return nil
		}
		now := d.lookHosts(ctx, names, before)
		if ctx.Err() != nil {
			return nil
		}
		if fmt.Sprint(now) != fmt.Sprint(before) {
			d.post(func() {
				d.hosts = now
				d.log.Info("hosts that other homes may reach", "addresses", fmt.Sprint(now))
				d.kick()
			})
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		case <-d.moved:
		}
	}
}

// accessChanged lets the hosts be looked for at once, and the rules follow.
func (d *Daemon) accessChanged() {
	select {
	case d.moved <- struct{}{}:
	default:
	}
	d.kick()
}

// accessOf is what a peer may reach through its tunnel now.
func (d *Daemon) accessOf(peer string, own []htip.Mapping) (datapath.Access, []string) {
	p := d.peer(peer)
	if p == nil {
		return datapath.Access{Limited: true}, nil
	}
	return reach(p.Access, d.hosts, own)
}

// accessTable is a peer's access for people.
func (d *Daemon) accessTable(p *config.Peer) ubus.Table {
	list := p.Access
	if len(list) == 0 {
		list = []string{config.AccessAll}
	}
	t := ubus.T("peer", p.Name, "access", list)
	if x := d.tunnels[p.Name]; x != nil && x.agreed() {
		if _, nowhere := d.accessOf(p.Name, x.Entry.Own); len(nowhere) > 0 {
			t = append(t, ubus.F("nowhere", nowhere))
		}
	}
	return t
}

// busAccess tells what a peer may reach, and changes it where a list is given.
func (d *Daemon) busAccess(r *ubus.Request) (ubus.Table, error) {
	name, err := argPeer(r)
	if err != nil {
		return nil, err
	}
	p := d.find(name)
	if p == nil {
		return nil, ubus.ErrNotFound
	}
	if _, ok := r.Args.Get("access"); ok {
		want, err := newPeer(r)
		if err == nil {
			err = d.setAccess(p.Name, want.Access)
		}
		if err != nil {
			return sorry(err), nil
		}
		if p = d.find(name); p == nil {
			return nil, ubus.ErrNotFound
		}
	}
	return d.accessTable(p), nil
}

// setAccess writes a peer's access down and puts it in force. The tunnel stays.
func (d *Daemon) setAccess(peer string, list []string) error {
	cfg, _, err := config.Load(d.opt.Config) // may have changed since it was taken over
	if err != nil {
		return err
	}
	p, ok := cfg.Peer(peer)
	if !ok {
		return fmt.Errorf("peer %s is no longer in the configuration", peer)
	}
	if len(list) == 0 {
		list = []string{config.AccessNone}
	}
	p.Access = list
	if err := config.SetPeer(d.opt.Config, p); err != nil {
		return err
	}
	d.takeOver()
	return nil
}

// refusedTable counts what a peer sent and was dropped; nil without any.
func refusedTable(r datapath.Refused) ubus.Table {
	if r.None() {
		return nil
	}
	return ubus.T("source", int64(r.Source), "destination", int64(r.Destination), "host", int64(r.Host), "router", int64(r.Router))
}

// lookRefused reads the counters, at most once in a while: it costs a program.
func (d *Daemon) lookRefused(ctx context.Context) {
	due := false
	if !d.call(ctx, func() {
		if due = len(d.tunnels) > 0 && time.Since(d.refusedAt) > time.Second; due {
			d.refusedAt = time.Now()
		}
	}) || !due {
		return
	}
	r, err := d.path.Refusals(ctx)
	d.call(ctx, func() {
		if err != nil {
			d.log.Debug("counters not read", "err", err)
			return
		}
		d.refused = r
	})
}
