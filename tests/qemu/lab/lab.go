// Package lab emulates homes on a small Internet: routers are whole machines under QEMU with a
// kernel of their own; their LANs' hosts and the Internet are network namespaces of this
// machine. It needs root and what scripts/setup installs.
//
//	host A ─ lan1 [router A] wan ─┬─ Internet (a bridge for each provider, DNS, web server) ─┬─ wan [router B] lan1 ─ host B
//
// The tap device in a LAN's namespace is the network card of the LAN's hosts: what is captured
// there is what a host sees.
package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Options of a lab.
type Options struct {
	Arch  Arch                             // of the routers; Mipsel unless given
	Alone bool                             // no other lab at the same time: something is measured
	Logf  func(format string, args ...any) // where the lab tells what it does; nowhere unless given
}

// slots is how many labs there may be on a machine at a time: emulated routers wait more than
// they work, and two labs take a third less time than one after the other.
const slots = 2

// Lab is a small Internet with homes.
type Lab struct {
	slot     int
	arch     Arch
	logf     func(string, ...any)
	dir      string
	locks    []*os.File
	image    image
	agent    []byte
	internet *Internet
	routers  []*Router
	closed   sync.Once
}

// New makes the Internet, after it has waited for a slot on this machine, for all of them if it
// is to be alone, and has removed what a crashed lab has left there. Close must be called.
func New(ctx context.Context, o Options) (*Lab, error) {
	l := &Lab{arch: o.Arch, logf: o.Logf}
	if l.arch.QEMU == "" {
		l.arch = Mipsel
	}
	if l.logf == nil {
		l.logf = func(string, ...any) {}
	}
	err := l.init(ctx, o.Alone)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lab: %w", err), l.Close())
	}
	return l, nil
}

func (l *Lab) init(ctx context.Context, alone bool) error {
	if os.Geteuid() != 0 {
		return errors.New("must be run as root")
	}
	var err error
	if l.image, err = buildImage(ctx, l.arch); err != nil {
		return err
	}
	program, err := GoBuild(ctx, "htip/tests/qemu/lab/agent", l.arch)
	if err != nil {
		return err
	}
	if l.agent, err = os.ReadFile(program); err != nil {
		return err
	}
	if err := l.takeSlot(ctx, alone); err != nil {
		return err
	}
	if err := removeLeftovers(l.slot); err != nil {
		return fmt.Errorf("remove what another lab has left: %w", err)
	}
	if l.dir, err = os.MkdirTemp("", prefix(l.slot)); err != nil {
		return err
	}
	l.internet, err = newInternet(ctx, l.slot)
	return err
}

// takeSlot waits until a slot is free, or all of them.
func (l *Lab) takeSlot(ctx context.Context, alone bool) error {
	free := map[int]*os.File{}
	defer func() {
		for _, f := range free {
			l.locks = append(l.locks, f)
		}
	}()
	for told := false; ; told = true {
		var holders []string
		for slot := range slots {
			if free[slot] != nil {
				continue
			}
			f, holder, err := tryLock(fmt.Sprintf("/run/htip-lab%d.lock", slot))
			if err != nil {
				return err
			}
			if f == nil {
				holders = append(holders, holder)
				if alone {
					break // in order, or two who want to be alone would wait for each other
				}
				continue
			}
			free[slot] = f
			if l.slot = slot; !alone {
				return nil
			}
		}
		if len(free) == slots {
			return nil
		}
		if !told {
			l.logf("waiting for the labs of processes %s", strings.Join(holders, ", "))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("other labs are running, of processes %s: %w", strings.Join(holders, ", "), context.Cause(ctx))
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// tryLock takes a lock, or tells who has it.
func tryLock(name string) (f *os.File, holder string, err error) {
	f, err = os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, "", err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		text, _ := os.ReadFile(name)
		return nil, string(text), f.Close()
	}
	if err == nil {
		err = f.Truncate(0)
	}
	if err == nil {
		_, err = f.WriteAt(fmt.Append(nil, os.Getpid()), 0)
	}
	if err != nil {
		return nil, "", errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
	}
	return f, "", nil
}

// Close removes everything the lab has made. If the environment has LAB_KEEP=1, it first
// waits for an interrupt, so that somebody can look around.
func (l *Lab) Close() error {
	var errs []error
	l.closed.Do(func() {
		if os.Getenv("LAB_KEEP") == "1" && l.internet != nil {
			l.keep()
		}
		for _, r := range l.routers {
			r.Kill()
			for _, t := range r.taps {
				errs = append(errs, t.Close())
			}
			for _, h := range r.lans {
				errs = append(errs, h.ns.close())
			}
		}
		if l.internet != nil {
			errs = append(errs, l.internet.close())
		}
		if l.dir != "" {
			errs = append(errs, os.RemoveAll(l.dir))
		}
		for _, f := range l.locks {
			errs = append(errs, f.Close())
		}
	})
	return errors.Join(errs...)
}

// keep tells where to look and waits for an interrupt.
func (l *Lab) keep() {
	fmt.Fprintf(os.Stderr, "The lab stays until an interrupt of process %d.\n", os.Getpid())
	for _, r := range l.routers {
		fmt.Fprintf(os.Stderr, "  router %s: go run ./tests/qemu/lab/cmd/lab shell %s\n", r.Name, r.path("serial"))
		for _, h := range r.lans {
			fmt.Fprintf(os.Stderr, "  host %s at %s: ip netns exec %s sh\n", h.addr, r.Name, h.ns.name)
		}
	}
	fmt.Fprintf(os.Stderr, "  Internet: ip netns exec %s sh\n", l.internet.ns.name)
	c := make(chan os.Signal, 1)
	signal.Notify(c, os.Interrupt, syscall.SIGTERM)
	<-c
	signal.Stop(c)
}

var nameRE = regexp.MustCompile(`^[a-z][a-z0-9]{0,7}$`)

// AddRouter makes a home: the namespaces and links of a router that Start will boot.
func (l *Lab) AddRouter(ctx context.Context, c RouterConfig) (*Router, error) {
	if !nameRE.MatchString(c.Name) || slices.ContainsFunc(l.routers, func(r *Router) bool { return r.Name == c.Name }) {
		return nil, fmt.Errorf("router %q: want a new name of 1 to 8 small letters and digits", c.Name)
	}
	if c.MemoryMB == 0 {
		c.MemoryMB = 256
	}
	if !c.WAN.IsValid() {
		c.WAN = wanAddress(len(l.routers) + 1)
	}
	if c.WAN.Masked() != InternetWAN {
		return nil, fmt.Errorf("router %s: WAN %s: want an address in %s", c.Name, c.WAN, InternetWAN)
	}
	r := &Router{Name: c.Name, arch: l.arch, lab: l, config: c, number: len(l.routers) + 1}
	l.routers = append(l.routers, r)
	wan, err := l.internet.port(bridge, "wan-"+c.Name)
	if err != nil {
		return nil, fmt.Errorf("router %s: %w", c.Name, err)
	}
	r.taps = append(r.taps, wan)
	for i, lan := range c.LAN {
		if err := r.addLAN(ctx, i, lan); err != nil {
			return nil, fmt.Errorf("router %s, LAN %d: %w", c.Name, i, err)
		}
	}
	if c.SecondWAN { // last: its place tells its name
		second, err := l.internet.port(bridge2, "wan2-"+c.Name)
		if err != nil {
			return nil, fmt.Errorf("router %s: %w", c.Name, err)
		}
		r.taps = append(r.taps, second)
	}
	return r, nil
}

// addLAN makes the namespace of a LAN; the tap in it is the first host's network card.
func (r *Router) addLAN(ctx context.Context, i int, lan LAN) error {
	if lan.Host == (netip.Addr{}) || !lan.Router.Contains(lan.Host) {
		return fmt.Errorf("host %s is not in %s", lan.Host, lan.Router)
	}
	ns, err := newNamespace(ctx, r.lab.slot, fmt.Sprintf("%s-lan%d", r.Name, i+1))
	if err != nil {
		return err
	}
	h := &Host{ns: ns, device: "eth0", addr: lan.Host, router: r, lan: lan}
	r.lans = append(r.lans, h)
	tap, err := ns.tap(h.device)
	if err != nil {
		return err
	}
	r.taps = append(r.taps, tap)
	if err := ns.addAddr(h.device, netip.PrefixFrom(lan.Host, lan.Router.Bits()).String()); err != nil {
		return err
	}
	if err := ns.up(h.device); err != nil {
		return err
	}
	return ns.defaultRoute(lan.Router.Addr())
}

// Start boots all routers at the same time.
func (l *Lab) Start(ctx context.Context) error {
	errs := make([]error, len(l.routers))
	var wg sync.WaitGroup
	for i, r := range l.routers {
		wg.Go(func() { errs[i] = r.Start(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// Host is the first host of a router's LAN; index 0 is br-lan.
func (l *Lab) Host(r *Router, index int) *Host { return r.lans[index] }

// Internet is what lies between the homes.
func (l *Lab) Internet() *Internet { return l.internet }

// Arch is the architecture of the routers.
func (l *Lab) Arch() Arch { return l.arch }

// Routers are the routers in the order in which they were added.
func (l *Lab) Routers() []*Router { return slices.Clone(l.routers) }

// wanAddress is the public address of the router of this number, counted from 1.
func wanAddress(number int) netip.Prefix {
	b := InternetWAN.Addr().As4()
	b[3] += byte(number)
	return netip.PrefixFrom(netip.AddrFrom4(b), InternetWAN.Bits())
}
