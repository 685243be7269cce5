package datapath

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// link is a network device of ours.
type link struct {
	Name            string
	Kind            string // "ppp", "wireguard"
	MTU             int
	Running         bool       // administratively up, carrier there
	Local, Peer     netip.Addr // zero without an address
	Received, Sent  uint64     // bytes
	PacketsReceived uint64
}

// kernel is what the package needs of the kernel beyond files and programs.
// fakeKernel is the other one.
type kernel interface {
	links() ([]link, error)
	routes() ([]route, error)
	addRoute(route) error
	deleteRoute(route) error
	// forget deletes the tracked flows that have an address in one of the
	// prefixes and says how many they were.
	forget([]netip.Prefix) (int, error)
	// watch calls changed after every change of links and addresses (and
	// sometimes for nothing) until the context ends.
	watch(ctx context.Context, changed func()) error
}

// rtnetlink is the real kernel.
type rtnetlink struct{}

var _ kernel = rtnetlink{}

// retried repeats a dump that something changed under.
func retried[T any](dump func() (T, error)) (T, error) {
	var v T
	var err error
	for range 5 {
		if v, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	return v, err
}

func (rtnetlink) links() ([]link, error) {
	all, err := retried(netlink.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var ours []link
	for _, l := range all {
		a := l.Attrs()
		if !strings.HasPrefix(a.Name, DevicePrefix) {
			continue
		}
		o := link{
			Name:    a.Name,
			Kind:    l.Type(),
			MTU:     a.MTU,
			Running: a.RawFlags&unix.IFF_UP != 0 && a.RawFlags&unix.IFF_RUNNING != 0,
		}
		if s := a.Statistics; s != nil {
			o.Received, o.Sent, o.PacketsReceived = s.RxBytes, s.TxBytes, s.RxPackets
		}
		addrs, err := retried(func() ([]netlink.Addr, error) { return netlink.AddrList(l, unix.AF_INET) })
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", a.Name, err)
		}
		if len(addrs) > 0 {
			o.Local, _ = netip.AddrFromSlice(addrs[0].IP.To4())
			if p := addrs[0].Peer; p != nil {
				o.Peer, _ = netip.AddrFromSlice(p.IP.To4())
			}
		}
		ours = append(ours, o)
	}
	return ours, nil
}

func (rtnetlink) routes() ([]route, error) {
	filter := &netlink.Route{Protocol: RouteProtocol}
	all, err := retried(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(unix.AF_INET, filter, netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var ours []route
	names := map[int]string{}
	for _, r := range all {
		if r.Dst == nil {
			continue
		}
		addr, _ := netip.AddrFromSlice(r.Dst.IP.To4())
		bits, _ := r.Dst.Mask.Size()
		o := route{Dst: netip.PrefixFrom(addr, bits), Metric: r.Priority}
		if r.Type != unix.RTN_UNREACHABLE {
			if names[r.LinkIndex] == "" {
				l, err := netlink.LinkByIndex(r.LinkIndex)
				if err != nil {
					continue // gone, and its routes with it
				}
				names[r.LinkIndex] = l.Attrs().Name
			}
			o.Device = names[r.LinkIndex]
			o.Src, _ = netip.AddrFromSlice(r.Src.To4())
		}
		ours = append(ours, o)
	}
	return ours, nil
}

// native turns a route of ours into the library's.
func native(r route) (*netlink.Route, error) {
	n := &netlink.Route{
		Protocol: RouteProtocol,
		Table:    unix.RT_TABLE_MAIN,
		Dst:      &net.IPNet{IP: r.Dst.Addr().AsSlice(), Mask: net.CIDRMask(r.Dst.Bits(), 32)},
		Priority: r.Metric,
	}
	if r.Device == "" {
		n.Type = unix.RTN_UNREACHABLE
		return n, nil
	}
	l, err := netlink.LinkByName(r.Device)
	if err != nil {
		return nil, err
	}
	n.LinkIndex = l.Attrs().Index
	n.Scope = netlink.SCOPE_LINK
	if r.Src.IsValid() {
		n.Src = r.Src.AsSlice()
	}
	return n, nil
}

func (rtnetlink) addRoute(r route) error {
	n, err := native(r)
	if err == nil {
		err = netlink.RouteAdd(n)
	}
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("route %s: somebody else has a route to there", r)
	}
	if err != nil {
		return fmt.Errorf("add route %s: %w", r, err)
	}
	return nil
}

func (rtnetlink) deleteRoute(r route) error {
	n, err := native(r)
	if err == nil {
		err = netlink.RouteDel(n)
	}
	var gone netlink.LinkNotFoundError
	if err == nil || errors.Is(err, unix.ESRCH) || errors.As(err, &gone) {
		return nil
	}
	return fmt.Errorf("delete route %s: %w", r, err)
}

func (rtnetlink) forget(prefixes []netip.Prefix) (int, error) {
	if len(prefixes) == 0 {
		return 0, nil
	}
	const subsystem = netlink.ConntrackTable << 8
	var found []flow
	dump := nl.NewNetlinkRequest(subsystem|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
	dump.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
	var decodeErr error
	// Message by message: a table of many thousand flows is never in memory as
	// a whole.
	err := dump.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(msg []byte) bool {
		f, err := decodeFlow(msg)
		if err != nil {
			decodeErr = err
			return false
		}
		if f.touches(prefixes) {
			found = append(found, f.detached())
		}
		return true
	})
	// An interrupted dump is no harm: what is missing in it is gone or new.
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return 0, fmt.Errorf("list tracked flows: %w", err)
	}
	if decodeErr != nil {
		return 0, decodeErr
	}
	n := 0
	for _, f := range found {
		req := nl.NewNetlinkRequest(subsystem|nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
		req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
		req.AddData(nl.NewRtAttr(nlaNested|ctaTupleOrig, f.orig))
		if f.id != nil {
			req.AddData(nl.NewRtAttr(ctaID, f.id))
		}
		if f.zone != nil {
			req.AddData(nl.NewRtAttr(ctaZone, f.zone))
		}
		_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
		switch {
		case err == nil:
			n++
		case !errors.Is(err, unix.ENOENT): // ENOENT: ended by itself
			return n, fmt.Errorf("delete tracked flow: %w", err)
		}
	}
	return n, nil
}

// watch needs only the nudge, not the messages: what they say is looked up
// afresh. So one that is cut off by the small buffer, or lost (ENOBUFS), does
// no harm.
func (rtnetlink) watch(ctx context.Context, changed func()) error {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	s := os.NewFile(uintptr(fd), "rtnetlink")
	defer s.Close()
	groups := uint32(1<<(unix.RTNLGRP_LINK-1) | 1<<(unix.RTNLGRP_IPV4_IFADDR-1))
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		return fmt.Errorf("watch links: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { s.Close() })
	defer stop()
	changed()
	buf := make([]byte, 512)
	for {
		_, err := s.Read(buf)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil && !errors.Is(err, unix.ENOBUFS) {
			return fmt.Errorf("watch links: %w", err)
		}
		changed()
	}
}
