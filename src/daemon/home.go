package daemon

import (
	"context"
	"errors"
	"fmt"
	"htip/src/slog"
	"net/netip"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"htip/src/config"
	"htip/src/datapath"
	"htip/src/htip"
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
	ls, err := netlink.LinkList()
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("listing devices: %w", err)
	}
	for _, l := range ls {
		devices[l.Attrs().Index] = l.Attrs().Name
	}
	var out []link
	addrs, err := netlink.AddrList(nil, unix.AF_INET)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("listing addresses: %w", err)
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP.To4())
		if !ok {
			continue
		}
		ones, _ := a.Mask.Size()
		out = append(out, link{device: devices[a.LinkIndex], prefix: netip.PrefixFrom(ip, ones).Masked(), address: ip})
	}
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return nil, fmt.Errorf("listing routes: %w", err)
	}
	for _, r := range routes {
		l := link{device: devices[r.LinkIndex], ours: int(r.Protocol) == datapath.RouteProtocol}
		if r.Dst == nil || r.Dst.IP.IsUnspecified() {
			l.def, l.prefix = true, netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		} else if ip, ok := netip.AddrFromSlice(r.Dst.IP.To4()); ok {
			ones, _ := r.Dst.Mask.Size()
			l.prefix = netip.PrefixFrom(ip, ones).Masked()
		} else {
			continue
		}
		out = append(out, l)
	}
	return out, nil
}

// makeHome works out what this gateway's own addresses are. The networks are
// those configured, else those of the LAN device. hosts are single addresses
// that must stay reachable where they are: resolvers, other gateways. An error
// says what is missing on the router.
func makeHome(cfg *config.Main, ls []link, hosts []netip.Addr, seed []byte, log *slog.Logger) (htip.Home, error) {
	h := htip.Home{Networks: slices.Clone(cfg.Networks), Pool: cfg.Pool, Seed: seed}
	if cfg.Candidates == config.Sequential {
		h.Order = htip.Sequential
	}
	if len(h.Networks) == 0 {
		for _, l := range ls {
			if l.device != cfg.LANDevice || !l.address.IsValid() || overlaps(l.prefix, h.Networks) {
				continue
			}
			if b := l.prefix.Bits(); b < htip.MinBits || b > htip.MaxBits || l.address.IsLinkLocalUnicast() || len(h.Networks) == htip.MaxNetworks {
				log.Warn("an address of the LAN is not shared", "address", l.address, "prefix", l.prefix)
				continue
			}
			h.Networks = append(h.Networks, l.prefix)
		}
		if len(h.Networks) == 0 {
			return h, fmt.Errorf("device %s has no IPv4 address: set option lan_device or list network", cfg.LANDevice)
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

// watchHome calls changed after addresses or routes have changed, not more than
// a few times a second.
func watchHome(ctx context.Context, changed func()) error {
	for ctx.Err() == nil {
		if err := watchOnce(ctx, changed); err != nil {
			return err
		}
		select { // the kernel dropped us: what happened meanwhile is looked up
		case <-time.After(time.Second):
			changed()
		case <-ctx.Done():
		}
	}
	return nil
}

// watchOnce watches until the kernel's messages end.
func watchOnce(ctx context.Context, changed func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := ctx.Done()
	addrs, routes := make(chan netlink.AddrUpdate, 4), make(chan netlink.RouteUpdate, 4)
	if err := netlink.AddrSubscribe(addrs, done); err != nil {
		return fmt.Errorf("watching addresses: %w", err)
	}
	if err := netlink.RouteSubscribe(routes, done); err != nil {
		return fmt.Errorf("watching routes: %w", err)
	}
	debounce(done, addrs, routes, changed)
	return nil
}

// FakeLinks is a router whose only device with an address is br-lan, for tests.
func FakeLinks(lan string) func() ([]link, error) {
	p := netip.MustParsePrefix(lan)
	return func() ([]link, error) {
		return []link{{device: "br-lan", prefix: p.Masked(), address: p.Addr()}}, nil
	}
}
