package daemon

import (
	"errors"
	"net/netip"
	"slices"

	"htip/src/htip"
	"htip/src/ubus"
)

// A line to the Internet that is lost, or that is not taken any more because a
// better one is back, takes with it what was sent through it. Nobody tells: the
// answers come no more. So after each change of addresses and routes the kernel
// is asked by which device it would send now for each connection and tunnel, by
// all its rules. If that is another one, or the local address is gone:
//
//   - Control connections end, as if the network had said so (Closed). What was
//     being talked about on one begins anew. For a tunnel that stands its
//     initiator dials again, and looks the name up again, in the resolvers of the
//     new line: the file is read at each question. A responder can only wait to
//     be found, by its public name.
//   - WireGuard's tunnels stay. The device is bound to no address: the next packet
//     leaves by the new line, and the other end answers to where it came from. That
//     packet is sent at once, whichever end we are: it is the probe of the names
//     proxy that also proved the tunnel when it was new.
//   - L2TP's and PPTP's programs and sockets are bound to the old address, and the
//     other end takes nothing from another one; the associations of ESP name it.
//     Their link is down (LinkDown), which is said here 8 to 12 s before PPP would
//     notice. What was up is negotiated anew.
//
// As long as there is no other line and the address is still there, nothing is
// done: the line may be back before anybody has noticed.

var errMoved = errors.New("the line to the Internet by which it went is gone, or another one is used now")

// lostWay tells whether packets from one address to another have lost the way
// that they had.
func (d *Daemon) lostWay(from, to netip.Addr, was int, ls []link) bool {
	if was == 0 {
		return false
	}
	now := d.opt.Way(from, to)
	if now == 0 {
		return from.IsValid() && !has(ls, "", from)
	}
	return now != was
}

// linesChanged ends what went by a line that is gone, and has what waits try
// again at once when there is another one.
func (d *Daemon) linesChanged(ls []link) {
	for id, c := range d.conns {
		if d.lostWay(c.Local(), c.Remote().Addr(), c.way, ls) {
			d.lost(c.peer, id, errMoved)
		}
	}
	was := d.wans
	d.wans = wans(&d.cfg.Main, ls, d.ifaces)
	changed := len(d.wans) > 0 && !slices.EqualFunc(d.wans, was, sameLine)
	for name, t := range d.tunnels {
		if t.Entry.Protocol != htip.WireGuard && d.lostWay(t.Local, t.Remote, t.way, ls) {
			d.handle(name, htip.LinkDown{TunnelID: t.Entry.TunnelID, Text: errMoved.Error()})
		} else if changed && t.linked {
			d.prove(t.Entry)
		}
	}
	if !changed {
		return
	}
	d.log.Info("the lines to the Internet have changed", "wan", string(ubus.AppendJSON(nil, d.wans)))
	for _, s := range d.gw.Status() {
		t := d.timers[s.Peer]
		if d.dials[s.Peer] != nil {
			d.dial(s.Peer) // the one under way may wait for an answer at the old line
		} else if t != nil && (s.State == htip.Waiting || s.State == htip.Up && d.gw.Conn(s.Peer) == 0) {
			t.Reset(0) // it has waited long enough
		}
	}
}

// sameLine compares two of wans. What netifd calls it does not matter: a line that
// comes up is there for the kernel first, and has its name seconds later.
func sameLine(a, b any) bool {
	x, y := a.(ubus.Table), b.(ubus.Table)
	for _, key := range []string{"device", "address"} {
		v, _ := x.GetString(key)
		if w, _ := y.GetString(key); v != w {
			return false
		}
	}
	return true
}
