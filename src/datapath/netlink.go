package datapath

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"htip/src/rtnl"
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
	FrameErrors     uint64 // packets that WireGuard dropped because of their source
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

func (rtnetlink) links() ([]link, error) {
	all, err := rtnl.Links()
	if err != nil {
		return nil, err
	}
	addrs, err := rtnl.Addrs()
	if err != nil {
		return nil, err
	}
	var ours []link
	for i := range all {
		l := &all[i]
		if !strings.HasPrefix(l.Name, DevicePrefix) {
			continue
		}
		o := link{
			Name:            l.Name,
			Kind:            l.Kind,
			MTU:             l.MTU,
			Running:         l.Flags&unix.IFF_UP != 0 && l.Flags&unix.IFF_RUNNING != 0,
			Received:        l.In,
			Sent:            l.Out,
			PacketsReceived: l.PacketsIn,
			FrameErrors:     l.FrameErrors,
		}
		for _, a := range addrs {
			if a.Link == l.Index { // the first one counts
				o.Local, o.Peer = a.Local.Addr(), a.Peer
				break
			}
		}
		ours = append(ours, o)
	}
	return ours, nil
}

func (rtnetlink) routes() ([]route, error) {
	all, err := rtnl.Routes()
	if err != nil {
		return nil, err
	}
	links, err := rtnl.Links()
	if err != nil {
		return nil, err
	}
	var ours []route
	for _, r := range all {
		if r.Protocol != RouteProtocol || r.Dst.Bits() == 0 {
			continue
		}
		o := route{Dst: r.Dst, Metric: int(r.Metric)}
		if r.Type != unix.RTN_UNREACHABLE {
			i := slices.IndexFunc(links, func(l rtnl.Link) bool { return l.Index == r.Link })
			if i < 0 {
				continue // gone, and its routes with it
			}
			o.Device, o.Src = links[i].Name, r.Src
		}
		ours = append(ours, o)
	}
	return ours, nil
}

// native turns a route of ours into the kernel's.
func native(r route) (n rtnl.Route, err error) {
	n = rtnl.Route{Dst: r.Dst, Src: r.Src, Metric: uint32(r.Metric), Protocol: RouteProtocol, Type: unix.RTN_UNREACHABLE}
	if r.Device != "" {
		n.Type, n.Scope = unix.RTN_UNICAST, unix.RT_SCOPE_LINK
		n.Link, err = rtnl.Index(r.Device)
	}
	return n, err
}

func (rtnetlink) addRoute(r route) error {
	n, err := native(r)
	if err == nil {
		err = n.Add()
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
		err = n.Delete()
	}
	if err == nil || errors.Is(err, unix.ESRCH) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("delete route %s: %w", r, err)
}

func (rtnetlink) forget(prefixes []netip.Prefix) (int, error) {
	if len(prefixes) == 0 {
		return 0, nil
	}
	const subsystem = unix.NFNL_SUBSYS_CTNETLINK << 8
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
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return 0, fmt.Errorf("list tracked flows: %w", err)
	}
	if decodeErr != nil {
		return 0, decodeErr
	}
	n := 0
	for _, f := range found {
		req := nl.NewNetlinkRequest(subsystem|nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
		req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET, Version: nl.NFNETLINK_V0})
		req.AddData(nl.NewRtAttr(rtnl.Nested|ctaTupleOrig, f.orig))
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

func (rtnetlink) watch(ctx context.Context, changed func()) error {
	return rtnl.Watch(ctx, rtnl.GroupLinks|rtnl.GroupAddrs, func(uint8) { changed() })
}
