package daemon

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"time"

	"htip/src/config"
	"htip/src/ubus"
)

// iface is what netifd says of an interface of the router. It may have several
// on one device (aliases), and the addresses of each are its own.
type iface struct {
	name, device string // no device: the interface is down, or has none
	up           bool
	addresses    []netip.Prefix // IPv4, with their host bits
	def          bool           // has a default route of IPv4
}

const (
	netifdLimit = 2 * time.Second // for an answer; it comes within milliseconds
	maxIfaces   = 256             // a router with a hundred VLANs has fewer
	maxRoutes   = 4096            // of one interface; lists of a country's networks have thousands
)

// askNetifd asks for all interfaces. Where there is no netifd that is
// ubus.ErrNotFound; where there is no ubusd, ubus.ErrConnectionFailed. It uses a
// connection of its own: the daemon asks before it has another, and hardly ever
// later.
func askNetifd(ctx context.Context, opt ubus.Options, socket string) ([]iface, error) {
	ctx, cancel := context.WithTimeout(ctx, netifdLimit)
	defer cancel()
	return dumpOf(ctx, opt, socket)
}

// dumpOf is askNetifd for as long as ctx lasts.
func dumpOf(ctx context.Context, opt ubus.Options, socket string) ([]iface, error) {
	c, err := opt.Dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	t, err := c.Call(ctx, "network.interface", "dump", nil)
	if err != nil {
		return nil, err
	}
	return parseDump(t)
}

// netifdSaid takes an answer over. Without one, or with one that makes no sense,
// what was said before holds: a netifd that restarts has no objects for a while.
// It tells whether netifd must be asked again: where there is none it need not,
// unless what is shared has a name that only netifd knows.
func (d *Daemon) netifdSaid(ifs []iface, err error) (again bool) {
	text := ""
	switch {
	case err == nil:
		keepDown(ifs, d.ifaces)
		d.ifaces = ifs
	case d.ifaces != nil || !errors.Is(err, ubus.ErrNotFound) && !errors.Is(err, ubus.ErrConnectionFailed):
		text = err.Error()
	}
	if text != "" && text != d.noIfaces {
		d.log.Warn("nothing sensible from netifd; what it said of interfaces before holds", "err", text)
	}
	d.noIfaces = text
	return text != "" || err != nil && len(notShared(&d.cfg.Main, nil)) > 0
}

// parseDump reads netifd's answer, see netifd_dump_status in its ubus.c. What an
// interface that is down lacks may be missing. What has another type than netifd
// gives it is an error of the whole: half of an answer would share half of the
// home.
func parseDump(t ubus.Table) ([]iface, error) {
	r := reader{t: t}
	if _, ok := t.Get("interface"); !ok {
		r.fail("interface", "missing")
	}
	ifs := []iface{}
	for _, row := range r.tables("interface", maxIfaces) {
		r.t = row
		i := iface{name: r.text("interface")}
		if _, ok := row.Get("l3_device"); ok {
			i.device = r.text("l3_device")
		}
		up, ok := row.GetBool("up")
		if i.up = up; !ok {
			r.fail("up", "missing")
		}
		for _, r.t = range r.tables("ipv4-address", maxIfaces) {
			i.addresses = append(i.addresses, netip.PrefixFrom(r.addr("address"), int(r.number("mask", 32))))
		}
		r.t = row
		i.def = r.defaultRoute()
		if config.InterfaceName(i.name) { // others can be neither shared nor shown
			ifs = append(ifs, i)
		}
	}
	return ifs, r.err
}

// defaultRoute looks for IPv4's among an interface's routes, which are of IPv6,
// too. What follows it is not looked at.
func (r *reader) defaultRoute() bool {
	for n, row := range r.tables("route", math.MaxInt) {
		if n == maxRoutes {
			r.fail("route", "too long a list")
			return false
		}
		if r.t = row; r.text("target") == "0.0.0.0" && r.number("mask", 128) == 0 {
			return true
		}
	}
	return false
}

// tables are the rows of an array, of so many at most; one that is missing is empty.
func (r *reader) tables(name string, most int) (out []ubus.Table) {
	v, ok := r.t.Get(name)
	list, good := v.(ubus.Array)
	if ok && !good || len(list) > most {
		r.fail(name, "no list, or too long a one")
		return nil
	}
	for _, x := range list {
		row, ok := x.(ubus.Table)
		if !ok {
			r.fail(name, "an entry is no table")
		}
		out = append(out, row)
	}
	return out
}

// keepDown gives interfaces that are down the addresses they had: a radio that
// restarts must not have all tunnels negotiated anew, twice.
func keepDown(ifs, before []iface) {
	for i := range ifs {
		if x := &ifs[i]; !x.up {
			if old := findIface(before, x.name); old != nil {
				x.device, x.addresses = old.device, old.addresses
			}
		}
	}
}

func findIface(ifs []iface, name string) *iface {
	for i := range ifs {
		if ifs[i].name == name {
			return &ifs[i]
		}
	}
	return nil
}

// usualLAN is the device that counts where there is no netifd, unless other
// interfaces than the usual one are configured: then nobody knows what is meant.
func usualLAN(cfg *config.Main, ifs []iface) bool {
	return ifs == nil && slices.Equal(cfg.Interfaces, config.Defaults().Main.Interfaces)
}

// lans are this router's addresses on what is shared: the devices that are
// configured, else the interfaces as netifd knows them, else, without a netifd,
// the usual device. names are those of the devices or interfaces.
//
// An address of an interface that is up counts when both netifd and the kernel
// know it: the kernel alone does not know what an alias is, and what netifd alone
// knows can't be reached yet, or any more.
func lans(cfg *config.Main, ls []link, ifs []iface) (out []netip.Prefix, names []string) {
	if names = cfg.LANDevices; len(names) == 0 && usualLAN(cfg, ifs) {
		names = []string{"br-lan"}
	}
	for i := range ls {
		if l := &ls[i]; slices.Contains(names, l.device) && l.address.IsValid() {
			out = append(out, netip.PrefixFrom(l.address, l.prefix.Bits()))
		}
	}
	if len(names) > 0 {
		return out, names
	}
	for _, name := range cfg.Interfaces {
		if x := findIface(ifs, name); x != nil {
			for _, a := range x.addresses {
				if has(ls, x.device, a.Addr()) || !x.up && !has(ls, "", a.Addr()) {
					out = append(out, a)
				}
			}
		}
	}
	return out, cfg.Interfaces
}

// has tells whether the kernel has an address, on a device or ("") on any.
func has(ls []link, device string, a netip.Addr) bool {
	for i := range ls {
		if l := &ls[i]; l.address == a && (device == "" || l.device == device) {
			return true
		}
	}
	return false
}

// notShared says in words what is wrong with the interfaces that are shared.
func notShared(cfg *config.Main, ifs []iface) (out []string) {
	if len(cfg.Networks) > 0 || len(cfg.LANDevices) > 0 || usualLAN(cfg, ifs) {
		return nil
	}
	for _, name := range cfg.Interfaces {
		switch x := findIface(ifs, name); {
		case x == nil:
			out = append(out, "interface "+name+" is not there: list interface wants names of /etc/config/network")
		case !x.up:
			out = append(out, "interface "+name+" is down: its hosts can't be reached from other homes")
		}
	}
	return out
}

// wans are the ways to the Internet, the one in use first, for status: the device
// that is configured, else those of all default routes, which the kernel lists in
// the order of their metrics. They are called as netifd calls the interface that
// has such a route there. The kernel is asked first because it knows of a line
// that is lost before netifd says so, and where there is no netifd.
func wans(cfg *config.Main, ls []link, ifs []iface) (out ubus.Array) {
	var devices []string
	if cfg.WANDevice != "" {
		devices = []string{cfg.WANDevice}
	}
	for i := range ls {
		if l := &ls[i]; cfg.WANDevice == "" && l.def && !ours(*l) && !slices.Contains(devices, l.device) {
			devices = append(devices, l.device)
		}
	}
	for _, device := range devices {
		var name string
		var address netip.Addr
		for i := range ifs {
			if x := &ifs[i]; x.up && x.def && x.device == device {
				if name = x.name; len(x.addresses) > 0 {
					address = x.addresses[0].Addr() // the kernel may list an alias's first
				}
			}
		}
		for i := range ls {
			if l := &ls[i]; l.device == device && !address.IsValid() {
				address = l.address
			}
		}
		if address.IsValid() {
			out = append(out, ubus.T("interface", name, "device", device, "address", address.String()))
		}
	}
	return out
}

// lanTable says of networks that are shared by which interface they are known.
func (d *Daemon) lanTable() ubus.Array {
	out := ubus.Array{}
	for i := range d.ifaces {
		for _, a := range d.ifaces[i].addresses {
			if n := a.Masked(); slices.Contains(d.home.Networks, n) {
				out = append(out, ubus.T("network", n.String(), "interface", d.ifaces[i].name))
			}
		}
	}
	return out
}
