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
)

var errNoDnsmasq = errors.New("no dnsmasq was found at port 53 of the LAN")

// busDoctor says what is wrong with this home, and with its tunnels to others unless
// the caller does not want to know. It changes nothing.
func (d *Daemon) busDoctor(ctx context.Context, r *ubus.Request) (ubus.Table, error) {
	homes, given := r.Args.GetBool("homes")
	answer := &d.examined
	if given && !homes {
		answer = &d.alone
	}
	return answer.get(ctx, func() (ubus.Table, error) {
		ctx, cancel := context.WithTimeout(d.ctx, doctorLimit)
		defer cancel()
		f := &facts{}
		if !d.call(ctx, func() { d.inside(f) }) {
			return nil, ubus.ErrTimeout
		}
		if given && !homes {
			f.peers = nil
		}
		d.outside(ctx, f)
		return ubus.T("rows", examine(f)), nil
	})
}

// inside gathers what the loop knows.
func (d *Daemon) inside(f *facts) {
	f.main, f.networks, f.troubles, f.homeless, f.protocols = d.cfg.Main, d.home.Networks, d.troubles(), d.homeErr != nil, d.protocols()
	for _, w := range d.wans {
		t := w.(ubus.Table)
		name, _ := t.GetString("interface")
		device, _ := t.GetString("device")
		text, _ := t.GetString("address")
		if a, err := netip.ParseAddr(text); err == nil {
			f.lines = append(f.lines, line{name, device, a})
		}
	}
	last := d.gw.Status()
	for i := range last {
		if p := d.peer(last[i].Peer); p != nil {
			f.peers = append(f.peers, &peerFacts{home: p, last: &last[i]})
		}
	}
}

// outside gathers what takes time, until ctx ends at the latest.
func (d *Daemon) outside(ctx context.Context, f *facts) {
	f.now, f.unset = time.Now().Unix(), clockUnset()
	if st, err := os.Stat("/proc/self/exe"); err == nil {
		f.built = st.ModTime().Unix() // packages keep it
	}
	if d.opt.Firewall != "" {
		f.firewall, f.firewallErr = config.LoadSections(d.opt.Firewall)
		if errors.Is(f.firewallErr, os.ErrNotExist) {
			f.firewallErr = nil
		}
	}
	if f.dropIn = errNoDnsmasq; d.drop != nil {
		f.dropIn = d.drop.InPlace()
	}
	var all sync.WaitGroup
	all.Go(func() {
		if f.main.Domain != "" {
			f.own, f.ownErr = d.names.Resolve(ctx, f.main.Domain)
		}
	})
	all.Go(func() {
		_, f.netifd = d.opt.Netifd(ctx)
		if f.dropIn == nil {
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
	for _, p := range f.peers {
		if p.last.State != htip.Up && p.home.Domain != "" {
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
	addrs, err := d.names.Resolve(ctx, p.home.Domain)
	p.lookup = err
	one, cancel := context.WithTimeout(ctx, knockLimit)
	defer cancel()
	for _, p.addr = range addrs {
		if p.knock = control.Knock(one, netip.AddrPortFrom(p.addr, p.home.Port)); p.knock == nil {
			break
		}
	}
	p.asked = ctx.Err() == nil
}

// clockUnset tells whether the kernel knows that no program keeps its clock at
// the right time (adjtimex(2), TIME_ERROR): so it is until NTP has answered.
func clockUnset() bool {
	state, err := unix.Adjtimex(&unix.Timex{})
	return err == nil && state == unix.TIME_ERROR
}
