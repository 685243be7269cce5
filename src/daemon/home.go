package daemon

import (
	"context"
	"fmt"
	"htip/src/slog"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"htip/src/config"
	"htip/src/datapath"
	"htip/src/htip"
	"htip/src/rtnl"
)

// link is what the kernel says of an address or a route: a prefix on a device.
type link struct {
	device  string
	prefix  netip.Prefix // masked
	address netip.Addr   // our own one in it; zero for a route
	ours    bool         // set by this daemon
	def     bool         // default route
}

// kernelLinks lists addresses and routes of the main table.
func kernelLinks() ([]link, error) {
	devices := map[int]string{}
	ls, err := rtnl.Links()
	if err != nil {
		return nil, err
	}
	for i := range ls {
		devices[ls[i].Index] = ls[i].Name
	}
	addrs, err := rtnl.Addrs()
	if err != nil {
		return nil, err
	}
	var out []link
	for _, a := range addrs {
		out = append(out, link{device: devices[a.Link], prefix: a.Local.Masked(), address: a.Local.Addr()})
	}
	routes, err := rtnl.Routes()
	if err != nil {
		return nil, err
	}
	for _, r := range routes {
		out = append(out, link{
			device: devices[r.Link], prefix: r.Dst, ours: r.Protocol == datapath.RouteProtocol, def: r.Dst.Bits() == 0,
		})
	}
	return out, nil
}

// makeHome works out what this gateway's own addresses are. The networks are
// those configured, else those of what is shared, see lans. hosts are single
// addresses that must stay reachable where they are: resolvers, other gateways.
// An error says what is missing on the router.
func makeHome(cfg *config.Main, ls []link, ifs []iface, hosts []netip.Addr, seed []byte, log *slog.Logger) (htip.Home, error) {
	h := htip.Home{Networks: slices.Clone(cfg.Networks), Pool: cfg.Pool, Seed: seed}
	if cfg.Candidates == config.Sequential {
		h.Order = htip.Sequential
	}
	if len(h.Networks) == 0 {
		lans, names := lans(cfg, ls, ifs)
		for _, a := range lans {
			p := a.Masked()
			if overlaps(p, h.Networks) {
				continue
			}
			if b := p.Bits(); b < htip.MinBits || b > htip.MaxBits || a.Addr().IsLinkLocalUnicast() || len(h.Networks) == htip.MaxNetworks {
				log.Warn("an address of the LAN is not shared", "address", a)
				continue
			}
			h.Networks = append(h.Networks, p)
		}
		if len(h.Networks) == 0 {
			return h, fmt.Errorf("%s has no IPv4 address: set list interface, list lan_device or list network", strings.Join(names, ", "))
		}
	}
	for _, l := range ls {
		if l.address.IsValid() && !ours(l) && slices.ContainsFunc(h.Networks, func(n netip.Prefix) bool { return n.Contains(l.address) }) {
			h.Gateway = l.address
			break
		}
	}
	if !h.Gateway.IsValid() {
		return h, fmt.Errorf("this router has no address in %v: one of its own networks must be among them", h.Networks)
	}
	for _, a := range hosts {
		if a.Is4() {
			ls = append(slices.Clip(ls), link{prefix: netip.PrefixFrom(a, 32)})
		}
	}
	for _, l := range ls {
		if ours(l) || l.def || !l.prefix.IsValid() || l.prefix.Addr().IsLoopback() {
			continue
		}
		// What lies within a network of the home is the home.
		if slices.ContainsFunc(h.Networks, func(n netip.Prefix) bool { return n.Bits() <= l.prefix.Bits() && n.Contains(l.prefix.Addr()) }) {
			continue
		}
		if !slices.Contains(h.Occupied, l.prefix) {
			h.Occupied = append(h.Occupied, l.prefix)
		}
	}
	sort.Slice(h.Occupied, func(i, j int) bool {
		a, b := h.Occupied[i], h.Occupied[j]
		return a.Addr().Less(b.Addr()) || a.Addr() == b.Addr() && a.Bits() < b.Bits()
	})
	return h, nil
}

func ours(l link) bool { return l.ours || strings.HasPrefix(l.device, datapath.DevicePrefix) }

func overlaps(p netip.Prefix, others []netip.Prefix) bool {
	return slices.ContainsFunc(others, p.Overlaps)
}

const (
	homeSettles = 500 * time.Millisecond // a change seldom comes alone
	// netifdLag is when netifd is asked again after a change: the kernel tells of
	// what netifd does before netifd has finished it.
	netifdLag = 2 * time.Second
	// netifdPause is the longest pause until netifd is asked again when it has not
	// answered; the first is netifdLag, each next one twice as long.
	netifdPause = time.Minute
)

// watchHome is the task that looks at our own addresses, and asks netifd, when
// addresses or routes, other than ours, have changed. Netifd's own events (ubus
// event network.interface) are not listened to: an interface that comes or goes
// is of interest for its addresses and routes, and these go through the kernel.
// For names alone the init script has us reload.
func (d *Daemon) watchHome(ctx context.Context) error {
	failed := make(chan error, 1)
	go func() {
		failed <- rtnl.Watch(ctx, rtnl.GroupAddrs|rtnl.GroupRoutes, func(protocol uint8) {
			if protocol != datapath.RouteProtocol {
				d.lookAtHome()
			}
		})
	}()
	return d.followHome(ctx, failed)
}

// lookAtHome has followHome look soon, and never waits.
func (d *Daemon) lookAtHome() {
	select {
	case d.changed <- struct{}{}:
	default: // it is known already
	}
}

// followHome looks once at the start, then after each change, and asks netifd
// until it has answered.
func (d *Daemon) followHome(ctx context.Context, failed <-chan error) error {
	wait := time.NewTimer(homeSettles)
	defer wait.Stop()
	again, pause := make(chan struct{}, 1), netifdLag
	for due := true; ; {
		select {
		case err := <-failed:
			return err
		case <-d.changed:
			if !due {
				due, pause = true, netifdLag
				wait.Reset(homeSettles)
			}
		case <-again:
			if !due {
				wait.Reset(pause)
				pause = min(2*pause, netifdPause)
			}
		case <-wait.C:
			ifs, err := d.opt.Netifd(ctx)
			look := due || err == nil
			d.post(func() {
				if d.netifdSaid(ifs, err) {
					select {
					case again <- struct{}{}:
					default: // it waits to be told already
					}
				}
				if look {
					d.homeChanged()
				}
			})
			if due && err == nil {
				wait.Reset(netifdLag)
			}
			due = false
		}
	}
}

// FakeLinks is a router whose only device with an address is br-lan, for tests.
func FakeLinks(lan string) func() ([]link, error) {
	p := netip.MustParsePrefix(lan)
	return func() ([]link, error) {
		return []link{{device: "br-lan", prefix: p.Masked(), address: p.Addr()}}, nil
	}
}
