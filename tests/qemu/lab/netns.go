package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// prefix begins the names of the namespaces and directories of the lab in a slot.
func prefix(slot int) string { return fmt.Sprintf("htip-lab%d-", slot) }

// namespace is a network namespace of the lab.
type namespace struct {
	name string
	fd   netns.NsHandle
	nl   *netlink.Handle // configures the namespace from anywhere
}

// newNamespace makes a named network namespace with its loopback device up and IPv6 off.
func newNamespace(ctx context.Context, slot int, name string) (*namespace, error) {
	name = prefix(slot) + name
	if out, err := exec.CommandContext(ctx, "ip", "netns", "add", name).CombinedOutput(); err != nil {
		return nil, fmt.Errorf("add namespace %s: %w: %s", name, err, out)
	}
	ns := &namespace{name: name}
	var err error
	if ns.fd, err = netns.GetFromName(name); err != nil {
		return nil, errors.Join(fmt.Errorf("open namespace %s: %w", name, err), deleteNamespace(name))
	}
	if ns.nl, err = netlink.NewHandleAt(ns.fd); err != nil {
		return nil, errors.Join(fmt.Errorf("netlink in %s: %w", name, err), ns.close())
	}
	err = ns.up("lo")
	if err == nil {
		err = ns.do(func() error {
			return os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0o644)
		})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("set up %s: %w", name, err), ns.close())
	}
	return ns, nil
}

func (ns *namespace) close() error {
	if ns.nl != nil {
		ns.nl.Close()
	}
	return errors.Join(ns.fd.Close(), deleteNamespace(ns.name))
}

// deleteNamespace ends what runs in a namespace of the lab and removes it.
func deleteNamespace(name string) error {
	// An error means that the name has lost its namespace, and so its processes.
	out, _ := exec.Command("ip", "netns", "pids", name).Output()
	for _, f := range strings.Fields(string(out)) {
		if pid, err := strconv.Atoi(f); err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended by now
		}
	}
	if out, err := exec.Command("ip", "netns", "del", name).CombinedOutput(); err != nil {
		return fmt.Errorf("delete namespace %s: %w: %s", name, err, out)
	}
	return nil
}

// removeLeftovers removes the namespaces and directories of a lab in this slot that did not end well.
func removeLeftovers(slot int) error {
	names, err := filepath.Glob("/run/netns/" + prefix(slot) + "*")
	if err != nil {
		return err
	}
	var errs []error
	for _, n := range names {
		errs = append(errs, deleteNamespace(filepath.Base(n)))
	}
	dirs, err := filepath.Glob(filepath.Join(os.TempDir(), prefix(slot)+"*"))
	if err != nil {
		return err
	}
	for _, d := range dirs {
		errs = append(errs, os.RemoveAll(d))
	}
	return errors.Join(errs...)
}

// do calls f on a thread that is inside the namespace. Sockets opened and processes started
// by f itself, not by goroutines of its own, belong to the namespace for good.
func (ns *namespace) do(f func() error) error {
	runtime.LockOSThread()
	home, err := netns.Get()
	if err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("own namespace: %w", err)
	}
	defer home.Close()
	if err := netns.Set(ns.fd); err != nil {
		runtime.UnlockOSThread()
		return fmt.Errorf("enter %s: %w", ns.name, err)
	}
	ferr := f()
	if err := netns.Set(home); err != nil {
		// The thread stays locked and is thrown away when this goroutine ends.
		return errors.Join(ferr, fmt.Errorf("leave %s: %w", ns.name, err))
	}
	runtime.UnlockOSThread()
	return ferr
}

// tap makes a tap device in the namespace and returns the descriptor of its other end.
func (ns *namespace) tap(device string) (*os.File, error) {
	var f *os.File
	err := ns.do(func() error {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
		if err != nil {
			return fmt.Errorf("open /dev/net/tun: %w", err)
		}
		req, err := unix.NewIfreq(device)
		if err == nil {
			req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, req)
		}
		if err != nil {
			unix.Close(fd)
			return fmt.Errorf("make tap %s: %w", device, err)
		}
		f = os.NewFile(uintptr(fd), device)
		return nil
	})
	return f, err
}

// up sets a device up.
func (ns *namespace) up(device string) error {
	l, err := ns.nl.LinkByName(device)
	if err == nil {
		err = ns.nl.LinkSetUp(l)
	}
	if err != nil {
		return fmt.Errorf("set %s up in %s: %w", device, ns.name, err)
	}
	return nil
}

// addAddr gives a device an address, such as 10.0.0.4/24.
func (ns *namespace) addAddr(device, addr string) error {
	l, err := ns.nl.LinkByName(device)
	var a *netlink.Addr
	if err == nil {
		a, err = netlink.ParseAddr(addr)
	}
	if err == nil {
		err = ns.nl.AddrAdd(l, a)
	}
	if err != nil {
		return fmt.Errorf("add %s to %s in %s: %w", addr, device, ns.name, err)
	}
	return nil
}

// defaultRoute sends everything through a gateway.
func (ns *namespace) defaultRoute(gateway netip.Addr) error {
	if err := ns.nl.RouteAdd(&netlink.Route{Gw: gateway.AsSlice()}); err != nil {
		return fmt.Errorf("default route by %s in %s: %w", gateway, ns.name, err)
	}
	return nil
}
