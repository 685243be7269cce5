package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// settle makes routes and per-link settings fit the links that are up now, and
// forgets the flows that the change concerns: one that began while there was no
// route may have been masqueraded towards the Internet, and would be for ever.
// Callers hold m.mu.
func (m *Manager) settle(r *Report) error {
	links, err := m.o.kernel.links()
	if err != nil {
		return err
	}
	up := map[string]bool{}
	for _, t := range m.wanted.Tunnels {
		if l, ok := findLink(links, t.Device); ok && ready(l, t) {
			up[t.Device] = true
			m.settings(t.Device, r)
		}
	}
	have, err := m.o.kernel.routes()
	if err != nil {
		return err
	}
	add, del := diffRoutes(have, routesFor(m.wanted, up))
	var touched []netip.Prefix
	for _, o := range del {
		if err := m.o.kernel.deleteRoute(o); err != nil {
			return err
		}
		r.changed("route %s removed", o)
		touched = append(touched, o.Dst)
	}
	for _, n := range add {
		if err := m.o.kernel.addRoute(n); err != nil {
			// The link may have gone since we looked; its next coming repairs it.
			if n.Device == "" {
				r.fail(n.Dst.String(), &Error{Err: err})
			} else {
				r.fail(n.Device, &Error{Device: n.Device, Err: err})
			}
			continue
		}
		r.changed("route %s", n)
		touched = append(touched, n.Dst)
	}
	return m.forget(touched, r)
}

// guard makes the unreachable routes that are missing, before the rules let the first
// packet of a tunnel in: what this router answers to it, such as that a port is
// closed, would leave through the WAN while the tunnel's own route is not there
// yet. Callers hold m.mu.
func (m *Manager) guard(r *Report) error {
	have, err := m.o.kernel.routes()
	if err != nil {
		return err
	}
	add, _ := diffRoutes(have, routesFor(m.wanted, nil))
	var touched []netip.Prefix
	for _, n := range add {
		if err := m.o.kernel.addRoute(n); err != nil {
			continue // settle tries again, and tells
		}
		r.changed("route %s", n)
		touched = append(touched, n.Dst)
	}
	return m.forget(touched, r)
}

// ready tells whether a link carries the tunnel's packets: it runs and has the
// addresses that were agreed on.
func ready(l link, t Tunnel) bool {
	return l.Running && !t.listening() && l.Local == t.LocalAddr && l.Peer == t.PeerAddr
}

func findLink(links []link, name string) (link, bool) {
	for _, l := range links {
		if l.Name == name {
			return l, true
		}
	}
	return link{}, false
}

// settings of a link that is up; they go with it.
//
// rp_filter: the kernel takes the larger of the link's value and that of "all".
// Loose (2) on the link therefore holds whatever "all" says, while 0 would not.
// Sources are checked by the guard chain, which knows more.
//
// disable_ipv6: a tunnel carries IPv4. Otherwise the peer could reach this
// router's services by link-local addresses, past all rules of ours.
func (m *Manager) settings(device string, r *Report) {
	for _, s := range []struct{ file, value string }{
		{"ipv4/conf/" + device + "/rp_filter", "2"},
		{"ipv6/conf/" + device + "/disable_ipv6", "1"},
	} {
		path := filepath.Join(m.o.Proc, "sys/net", s.file)
		have, err := os.ReadFile(path)
		if err == nil && strings.TrimSpace(string(have)) != s.value {
			if err = os.WriteFile(path, []byte(s.value), 0o644); err == nil {
				r.changed("%s = %s", s.file, s.value)
			}
		}
		// Absent: a kernel without IPv6, or the link has just gone.
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			r.Warnings = append(r.Warnings, fmt.Sprintf("set %s: %v", s.file, err))
		}
	}
}

// State of a tunnel.
type State string

const (
	Starting State = "starting" // waiting for the peer, or negotiating with it
	Up       State = "up"       // carries packets
	Ended    State = "ended"    // will not come back by itself: end it and start afresh
)

// Status is how a tunnel is.
type Status struct {
	Device, Protocol string
	State            State
	Since            time.Time // since when it is up, to about a second
	LocalAddr        netip.Addr
	PeerAddr         netip.Addr
	MTU              int    // bytes
	In, Out          uint64 // bytes out of and into the tunnel since it is up
	Kernel           bool   // data packets stay in the kernel
	// Reason says in plain words where a starting tunnel is, or why it ended.
	Reason string
	Log    string // the log line behind Reason
	// Warnings in plain words.
	Warnings []string
}

// Status looks at one tunnel that the last Apply wanted and could have;
// os.ErrNotExist for any other.
func (m *Manager) Status(device string) (Status, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	links, err := m.o.kernel.links()
	if err != nil {
		return Status{}, err
	}
	return m.status(device, links)
}

func (m *Manager) status(device string, links []link) (Status, error) {
	t, ok := m.wanted.find(device)
	if !ok {
		return Status{}, fmt.Errorf("tunnel %q: %w", device, os.ErrNotExist)
	}
	d, err := m.drivers[t.Protocol].state(t)
	if err != nil {
		return Status{}, err
	}
	s := Status{
		Device:    t.Device,
		Protocol:  t.Protocol,
		State:     Starting,
		LocalAddr: t.LocalAddr,
		PeerAddr:  t.PeerAddr,
		MTU:       t.mtu(),
		Reason:    d.reason,
		Log:       d.line,
	}
	l, exists := findLink(links, device)
	switch {
	case d.ended:
		s.State = Ended
	case exists && ready(l, t):
		s.State, s.Since, s.Kernel = Up, d.since, d.kernel
		s.In, s.Out, s.MTU = l.Received, l.Sent, l.MTU
		s.Reason, s.Log = "", ""
		if !d.kernel {
			s.Warnings = append(s.Warnings, "packets go through user space, at a fraction of the speed"+d.slow)
		}
	}
	return s, nil
}
