package rtnl

import (
	"encoding/binary"
	"fmt"
	"io/fs"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Link is a network device.
type Link struct {
	Index int
	Name  string
	Kind  string // "ppp", "wireguard", "bridge"; empty for hardware
	MTU   int    // bytes
	Flags uint32 // IFF_…

	PacketsIn, In, Out uint64 // packets, bytes, bytes
	FrameErrors        uint64 // packets; what WireGuard took from inside and threw away
}

// Links are all of this network namespace.
func Links() ([]Link, error) {
	answers, err := dump(unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg))
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	var links []Link
	for _, m := range answers {
		if l, ok := decodeLink(m); ok {
			links = append(links, l)
		}
	}
	return links, nil
}

func decodeLink(m []byte) (l Link, ok bool) {
	if len(m) < unix.SizeofIfInfomsg {
		return l, false
	}
	l.Index, l.Flags = int(binary.NativeEndian.Uint32(m[4:])), binary.NativeEndian.Uint32(m[8:])
	m = m[unix.SizeofIfInfomsg:]
	l.Name, l.MTU = PickText(m, unix.IFLA_IFNAME), int(Pick32(m, unix.IFLA_MTU))
	info, _ := Pick(m, unix.IFLA_LINKINFO)
	l.Kind = PickText(info, unix.IFLA_INFO_KIND)
	if s, _ := Pick(m, unix.IFLA_STATS64); len(s) >= 32 {
		l.PacketsIn = binary.NativeEndian.Uint64(s)
		l.In, l.Out = binary.NativeEndian.Uint64(s[16:]), binary.NativeEndian.Uint64(s[24:])
		if len(s) >= 112 { // struct rtnl_link_stats64, rx_frame_errors
			l.FrameErrors = binary.NativeEndian.Uint64(s[104:])
		}
	}
	return l, l.Name != ""
}

// Index is the number of a device; fs.ErrNotExist if there is none of the name.
func Index(name string) (int, error) {
	links, err := Links()
	for i := range links {
		if links[i].Name == name {
			return links[i].Index, nil
		}
	}
	if err == nil {
		err = fmt.Errorf("device %s: %w", name, fs.ErrNotExist)
	}
	return 0, err
}

// AddLink makes a device that is up.
func AddLink(name, kind string, mtu int) error {
	m := make([]byte, unix.SizeofIfInfomsg)
	binary.NativeEndian.PutUint32(m[8:], unix.IFF_UP)  // flags
	binary.NativeEndian.PutUint32(m[12:], unix.IFF_UP) // those that change
	m = PutText(m, unix.IFLA_IFNAME, name)
	m = Put32(m, unix.IFLA_MTU, uint32(mtu))
	m = Put(m, unix.IFLA_LINKINFO, PutText(nil, unix.IFLA_INFO_KIND, kind)...)
	return Change(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, m)
}

// DeleteLink removes a device.
func DeleteLink(name string) error {
	return Change(unix.RTM_DELLINK, 0, PutText(make([]byte, unix.SizeofIfInfomsg), unix.IFLA_IFNAME, name))
}

// Addr is an IPv4 address of a device.
type Addr struct {
	Link  int          // index
	Local netip.Prefix // the address with the length of its network; 32 if there is a Peer
	Peer  netip.Addr   // the other end; zero where there is none
}

// Addrs are all IPv4 addresses.
func Addrs() ([]Addr, error) {
	answers, err := dump(unix.RTM_GETADDR, []byte{unix.AF_INET, 0, 0, 0, 0, 0, 0, 0})
	if err != nil {
		return nil, fmt.Errorf("list addresses: %w", err)
	}
	var addrs []Addr
	for _, m := range answers {
		if a, ok := decodeAddr(m); ok {
			addrs = append(addrs, a)
		}
	}
	return addrs, nil
}

func decodeAddr(m []byte) (a Addr, ok bool) {
	if len(m) < unix.SizeofIfAddrmsg || m[0] != unix.AF_INET {
		return a, false
	}
	bits := int(m[1])
	a.Link = int(binary.NativeEndian.Uint32(m[4:]))
	m = m[unix.SizeofIfAddrmsg:]
	local, other := pickAddr(m, unix.IFA_LOCAL), pickAddr(m, unix.IFA_ADDRESS)
	if other.IsValid() && other != local {
		a.Peer, bits = other, 32
	}
	a.Local = netip.PrefixFrom(local, bits)
	return a, a.Local.IsValid()
}

func pickAddr(m []byte, kind uint16) netip.Addr {
	v, _ := Pick(m, kind)
	if len(v) != 4 {
		return netip.Addr{}
	}
	return netip.AddrFrom4([4]byte(v))
}

// AddAddr gives a device an address whose other end is peer.
func AddAddr(link int, local netip.Prefix, peer netip.Addr) error {
	m := []byte{unix.AF_INET, byte(local.Bits()), 0, 0}
	m = binary.NativeEndian.AppendUint32(m, uint32(link))
	m = Put(m, unix.IFA_LOCAL, local.Addr().AsSlice()...)
	return Change(unix.RTM_NEWADDR, 0, Put(m, unix.IFA_ADDRESS, peer.AsSlice()...))
}

// Route is an IPv4 route of the main table.
type Route struct {
	Dst      netip.Prefix
	Link     int // index; 0 where there is none, or several
	Src      netip.Addr
	Metric   uint32
	Protocol uint8
	Scope    uint8
	Type     uint8 // RTN_…
}

// Routes are all IPv4 routes of the main table.
func Routes() ([]Route, error) {
	answers, err := dump(unix.RTM_GETROUTE, append([]byte{unix.AF_INET}, make([]byte, unix.SizeofRtMsg-1)...))
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	var routes []Route
	for _, m := range answers {
		if r, ok := decodeRoute(m); ok {
			routes = append(routes, r)
		}
	}
	return routes, nil
}

func decodeRoute(m []byte) (r Route, ok bool) {
	if len(m) < unix.SizeofRtMsg || m[0] != unix.AF_INET || binary.NativeEndian.Uint32(m[8:])&unix.RTM_F_CLONED != 0 {
		return r, false
	}
	bits, table := int(m[1]), uint32(m[4])
	r.Protocol, r.Scope, r.Type = m[5], m[6], m[7]
	m = m[unix.SizeofRtMsg:]
	if t := Pick32(m, unix.RTA_TABLE); t != 0 {
		table = t
	}
	dst := pickAddr(m, unix.RTA_DST)
	if !dst.IsValid() {
		dst = netip.IPv4Unspecified()
	}
	r.Dst, r.Src = netip.PrefixFrom(dst, bits), pickAddr(m, unix.RTA_PREFSRC)
	r.Link, r.Metric = int(Pick32(m, unix.RTA_OIF)), Pick32(m, unix.RTA_PRIORITY)
	return r, table == unix.RT_TABLE_MAIN && r.Dst.IsValid()
}

// Add adds the route. It is an error if there is one to the same place with the
// same metric.
func (r *Route) Add() error {
	return Change(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL, r.encode())
}

// Delete deletes the route.
func (r *Route) Delete() error { return Change(unix.RTM_DELROUTE, 0, r.encode()) }

func (r *Route) encode() []byte {
	m := []byte{unix.AF_INET, byte(r.Dst.Bits()), 0, 0, unix.RT_TABLE_MAIN, r.Protocol, r.Scope, r.Type, 0, 0, 0, 0}
	m = Put(m, unix.RTA_DST, r.Dst.Addr().AsSlice()...)
	m = Put32(m, unix.RTA_PRIORITY, r.Metric)
	if r.Link != 0 {
		m = Put32(m, unix.RTA_OIF, uint32(r.Link))
	}
	if r.Src.IsValid() {
		m = Put(m, unix.RTA_PREFSRC, r.Src.AsSlice()...)
	}
	return m
}

// Way is the device (its index) by which the kernel sends from one address to
// another now, by all its rules and tables. from may be zero. It is 0 if the
// kernel does not send at all: no route, or from is no address of this router.
func Way(from, to netip.Addr) int {
	if !to.Is4() {
		return 0
	}
	m := append([]byte{unix.AF_INET, 32}, make([]byte, unix.SizeofRtMsg-2)...)
	m = Put(m, unix.RTA_DST, to.AsSlice()...)
	if from.Is4() {
		m[2] = 32
		m = Put(m, unix.RTA_SRC, from.AsSlice()...)
	}
	answers, _ := Ask(unix.NETLINK_ROUTE, unix.RTM_GETROUTE, 0, m)
	if len(answers) == 0 || len(answers[0]) < unix.SizeofRtMsg {
		return 0
	}
	return int(Pick32(answers[0][unix.SizeofRtMsg:], unix.RTA_OIF))
}
