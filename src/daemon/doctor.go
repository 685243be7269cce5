package daemon

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"htip/src/config"
	"htip/src/control"
	"htip/src/htip"
	"htip/src/ubus"
)

const (
	doctorLimit = 5 * time.Second
	knockLimit  = 2 * time.Second
	knockers    = 8 // homes that are looked at at a time
	knockAddrs  = 2 // addresses of a name
)

// busDoctor says what is wrong with this home. It changes nothing.
func (d *Daemon) busDoctor(ctx context.Context, _ *ubus.Request) (ubus.Table, error) {
	d.examining.Lock() // it makes connections
	defer d.examining.Unlock()
	ctx, cancel := context.WithTimeout(ctx, doctorLimit)
	defer cancel()
	defer context.AfterFunc(d.ctx, cancel)()
	f := &facts{}
	if !d.call(ctx, func() { d.inside(f) }) {
		return nil, ubus.ErrTimeout
	}
	d.outside(ctx, f)
	rows := ubus.Array{}
	for _, r := range examine(f) {
		rows = append(rows, ubus.T("id", r.id, "level", r.level, "text", r.text, "advice", r.advice))
	}
	return ubus.T("rows", rows), nil
}

// inside gathers what the loop knows.
func (d *Daemon) inside(f *facts) {
	f.main, f.homeErr, f.networks = d.cfg.Main, d.homeErr, d.home.Networks
	f.shared = notShared(&d.cfg.Main, d.ifaces)
	for _, p := range d.problems {
		f.problems = append(f.problems, p.String())
	}
	f.users = d.usersLack()
	f.lacks, f.protocols, f.weak = d.lacks(), d.protocols(), d.weak()
	for _, w := range d.wans {
		t, _ := w.(ubus.Table)
		name, _ := t.GetString("interface")
		device, _ := t.GetString("device")
		text, _ := t.GetString("address")
		if a, err := netip.ParseAddr(text); err == nil {
			f.lines = append(f.lines, line{name, device, a})
		}
	}
	for _, s := range d.gw.Status() {
		if p := d.peer(s.Peer); p != nil {
			f.peers = append(f.peers, peerFacts{name: p.Name, domain: p.Domain, port: p.Port, up: s.State == htip.Up, reason: s.Reason, text: s.Text})
		}
	}
}

// outside gathers what takes time, until ctx ends at the latest.
func (d *Daemon) outside(ctx context.Context, f *facts) {
	f.now, f.built, f.unset = time.Now(), builtAt(), clockUnset()
	if d.opt.Firewall != "" {
		f.firewall, f.firewallErr = config.LoadFirewall(d.opt.Firewall)
		if f.hasFirewall = f.firewallErr == nil; errors.Is(f.firewallErr, os.ErrNotExist) {
			f.firewallErr = nil
		}
	}
	if f.hasDnsmasq = d.drop != nil; f.hasDnsmasq {
		f.dropIn = d.drop.InPlace()
	}
	var all sync.WaitGroup
	all.Go(func() { _, f.netifd = d.opt.Netifd(ctx) })
	all.Go(func() {
		if f.main.Domain != "" {
			f.own, f.ownErr = d.names.Resolve(ctx, f.main.Domain)
		}
	})
	all.Go(func() {
		if f.hasDnsmasq {
			f.reached = d.names.Reached(ctx)
		}
	})
	todo := make(chan *peerFacts)
	for range min(knockers, len(f.peers)) {
		all.Go(func() {
			for p := range todo {
				d.visit(ctx, p)
			}
		})
	}
	for i := range f.peers {
		if p := &f.peers[i]; !p.up && p.domain != "" {
			todo <- p
		}
	}
	close(todo)
	all.Wait()
}

// visit looks a home's name up and knocks at its port. What the end of the time
// has cut off is not known.
func (d *Daemon) visit(ctx context.Context, p *peerFacts) {
	if ctx.Err() != nil {
		return
	}
	p.addrs, p.lookup = d.names.Resolve(ctx, p.domain)
	if p.lookup == nil {
		one, cancel := context.WithTimeout(ctx, knockLimit)
		defer cancel()
		for i, a := range p.addrs[:min(knockAddrs, len(p.addrs))] {
			err := control.Knock(one, netip.AddrPortFrom(a, p.port))
			if i == 0 || err == nil {
				p.addrs[0], p.knock = a, err
			}
			if err == nil {
				break
			}
		}
	}
	p.asked = ctx.Err() == nil
}

// builtAt is the time of the program's file: packages keep it.
func builtAt() time.Time {
	st, err := os.Stat("/proc/self/exe")
	if err != nil {
		return time.Time{}
	}
	return st.ModTime()
}

// clockUnset tells whether the kernel knows that no program keeps its clock at
// the right time (adjtimex(2), TIME_ERROR): so it is until NTP has answered.
func clockUnset() bool {
	state, err := unix.Adjtimex(&unix.Timex{})
	return err == nil && state == unix.TIME_ERROR
}
