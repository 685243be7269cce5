package daemon

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sort"
	"strings"
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
	def          bool           // has a default route of IPv4, in the main table
}

const (
	netifdLimit = 2 * time.Second // for an answer; it comes within milliseconds
	maxIfaces   = 256             // a router with a hundred VLANs has fewer
	mainTable   = 254             // RT_TABLE_MAIN
)

// askNetifd asks for all interfaces. Where there is no netifd that is
// ubus.ErrNotFound; where there is no ubusd, ubus.ErrConnectionFailed. It uses a
// connection of its own: the daemon asks before it has another, and hardly ever
// later.
func askNetifd(ctx context.Context, opt ubus.Options, socket string) ([]iface, error) {
	ctx, cancel := context.WithTimeout(ctx, netifdLimit)
	defer cancel()
	c, err := opt.Dial(ctx, socket)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	t, err := c.Call(ctx, "network.interface", "dump", nil)
	if err != nil {
		return nil, err
	}
	ifs, err := parseDump(t)
	if err != nil {
		return nil, fmt.Errorf("netifd's answer makes no sense: %w", err)
	}
	return ifs, nil
}

// parseDump reads netifd's answer, see netifd_dump_status in its ubus.c. What an
// interface that is down lacks may be missing. What has another type than netifd
// gives it is an error of the whole: half of an answer would share half of the
// home.
func parseDump(t ubus.Table) ([]iface, error) {
	r := reader{t: t}
	if _, ok := t.Get("interface"); !ok {
		return nil, errors.New("no list of interfaces")
	}
	ifs := []iface{}
	for _, row := range r.tables("interface") {
		x := reader{t: row}
		i := iface{name: x.text("interface"), device: x.optional("l3_device")}
		var ok bool
		if i.up, ok = row.GetBool("up"); !ok {
			x.fail("up", "missing")
		}
		for _, a := range x.tables("ipv4-address") {
			y := reader{t: a}
			i.addresses = append(i.addresses, netip.PrefixFrom(y.addr("address"), int(y.number("mask", 32))))
			x.inner(&y)
		}
		for _, a := range x.tables("route") { // of IPv6, too
			y := reader{t: a}
			target, bits, table := y.text("target"), y.number("mask", 128), int64(mainTable)
			if _, ok := a.Get("table"); ok {
				table = y.number("table", math.MaxUint32)
			}
			i.def = i.def || target == "0.0.0.0" && bits == 0 && table == mainTable
			x.inner(&y)
		}
		if r.inner(&x); config.InterfaceName(i.name) { // others can be neither shared nor shown
			ifs = append(ifs, i)
		}
	}
	return ifs, r.err
}

// tables are the rows of an array; one that is missing is empty.
func (r *reader) tables(name string) (out []ubus.Table) {
	v, ok := r.t.Get(name)
	list, good := v.(ubus.Array)
	if ok && !good || len(list) > maxIfaces {
		r.fail(name, "no list, or too long a one")
		return nil
	}
	for _, x := range list {
		row, ok := x.(ubus.Table)
		if !ok {
			r.fail(name, "an entry is no table")
			return nil
		}
		out = append(out, row)
	}
	return out
}

func (r *reader) optional(name string) string {
	if _, ok := r.t.Get(name); !ok {
		return ""
	}
	return r.text(name)
}

// inner takes over what was wrong with a part.
func (r *reader) inner(x *reader) {
	if r.err == nil {
		r.err = x.err
	}
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

const usualLAN = "br-lan" // OpenWrt's

// lans are this router's addresses on what is shared: the devices that are
// configured, else the interfaces as netifd knows them, else, without a netifd,
// the usual device. what names it in a sentence.
//
// An address of an interface that is up counts when both netifd and the kernel
// know it: the kernel alone does not know what an alias is, and what netifd alone
// knows can't be reached yet, or any more.
func lans(cfg *config.Main, ls []link, ifs []iface) (out []link, what string) {
	devices := cfg.LANDevices
	if len(devices) == 0 && ifs == nil {
		devices = []string{usualLAN}
	}
	if len(devices) > 0 {
		for _, l := range ls {
			if slices.Contains(devices, l.device) && l.address.IsValid() {
				out = append(out, l)
			}
		}
		return out, "device " + strings.Join(devices, ", ")
	}
	for _, name := range cfg.Interfaces {
		x := findIface(ifs, name)
		if x == nil {
			continue
		}
		for _, a := range x.addresses {
			if !x.up {
				out = append(out, link{device: x.device, prefix: a.Masked(), address: a.Addr()})
			} else if i := slices.IndexFunc(ls, func(l link) bool { return l.device == x.device && l.address == a.Addr() }); i >= 0 {
				out = append(out, ls[i])
			}
		}
	}
	return out, "interface " + strings.Join(cfg.Interfaces, ", ")
}

// notShared says in words what is wrong with the interfaces that are shared.
func notShared(cfg *config.Main, ifs []iface) (out []string) {
	if len(cfg.Networks) > 0 || len(cfg.LANDevices) > 0 || ifs == nil {
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

// wan is a way to the Internet.
type wan struct {
	iface, device string // iface: "" where netifd does not know it
	address       netip.Addr
}

// wans are the ways to the Internet, the one in use first: the device that is
// configured, else the interfaces that are up and have a default route, else,
// without a netifd, the devices of the kernel's default routes.
func wans(cfg *config.Main, ls []link, ifs []iface) (out []wan) {
	add := func(x wan) {
		if cfg.WANDevice != "" && x.device != cfg.WANDevice ||
			slices.ContainsFunc(out, func(o wan) bool { return o.device == x.device }) {
			return
		}
		there := false // the kernel has it, and it is no odd name
		for _, l := range ls {
			if l.device == x.device {
				if there = true; !x.address.IsValid() {
					x.address = l.address
				}
			}
		}
		if there {
			out = append(out, x)
		}
	}
	for i := range ifs {
		if x := &ifs[i]; x.up && x.def {
			w := wan{iface: x.name, device: x.device}
			if len(x.addresses) > 0 {
				w.address = x.addresses[0].Addr()
			}
			add(w)
		}
	}
	metric := map[string]uint32{}
	for _, l := range ls {
		if m, ok := metric[l.device]; l.def && !ours(l) && (!ok || l.metric < m) {
			metric[l.device] = l.metric
		}
		if ifs == nil && l.def && !ours(l) {
			add(wan{device: l.device})
		}
	}
	add(wan{device: cfg.WANDevice})
	sort.SliceStable(out, func(i, j int) bool {
		a, okA := metric[out[i].device]
		b, okB := metric[out[j].device]
		return okA && (!okB || a < b)
	})
	return out
}
