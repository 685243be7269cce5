package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The few messages of linux/wireguard.h that a tunnel needs, over generic
// netlink, and those of rtnetlink that make its link.
const (
	wgKind = "wireguard" // of a link, and name of the netlink family

	wgGetDevice = 0
	wgSetDevice = 1

	wgDeviceName       = 2
	wgDevicePrivateKey = 3
	wgDevicePublicKey  = 4
	wgDevicePort       = 6
	wgDevicePeers      = 8

	wgPeerPublicKey = 1
	wgPeerSharedKey = 2
	wgPeerFlags     = 3
	wgPeerEndpoint  = 4
	wgPeerKeepalive = 5
	wgPeerAllowed   = 9

	wgReplaceAllowed = 2 // flag: these allowed addresses and no others

	wgAllowedFamily = 1
	wgAllowedAddr   = 2
	wgAllowedBits   = 3
)

type wgKey [32]byte

// wgDevice is a device with its one peer, as the kernel is told of it and as it
// tells. The private key stays in the kernel: a device is known by its public
// one.
type wgDevice struct {
	private wgKey // told only
	public  wgKey // asked only
	port    uint16
	peers   int // asked only; what follows is of the last one

	peer, shared wgKey
	endpoint     netip.AddrPort // IPv4; told only, and only if it is valid
	keepalive    uint16         // seconds
	allowed      []netip.Prefix // IPv4
}

// wgKernel is what the driver needs of the kernel beyond [kernel]. fakeWG is
// the other one.
type wgKernel interface {
	// present tells whether the kernel has WireGuard; nil if it has.
	present() error
	// device asks for a device; fs.ErrNotExist if there is none.
	device(name string) (*wgDevice, error)
	// configure tells a device its key, port and peer. A peer that it has
	// already keeps its session.
	configure(name string, d *wgDevice) error
	// create makes a device that is up.
	create(name string, mtu int) error
	// address gives a device its addresses.
	address(name string, local, peer netip.Addr) error
	// remove removes a device. One that is not there is removed already.
	remove(name string) error
}

// wgNetlink is the real kernel.
type wgNetlink struct{}

var _ wgKernel = (*wgNetlink)(nil)

func (*wgNetlink) present() error {
	_, err := wgFamily()
	return err
}

// wgFamily asks for the number of the netlink family. The kernel loads the
// module for that, where its modprobe knows aliases.
func wgFamily() (int, error) {
	msg := []byte{nl.GENL_CTRL_CMD_GETFAMILY, nl.GENL_CTRL_VERSION, 0, 0}
	answers, err := ask(nl.GENL_ID_CTRL, 0, unix.NETLINK_GENERIC, putText(msg, nl.GENL_CTRL_ATTR_FAMILY_NAME, wgKind))
	if err != nil || len(answers) == 0 {
		return 0, errors.Join(err, errNoAnswer)
	}
	return int(number16(answers[0][4:], nl.GENL_CTRL_ATTR_FAMILY_ID)), nil
}

var errNoAnswer = errors.New("the kernel does not know it")

// ask sends a message and gives what the kernel answers.
func ask(kind, flags, family int, msg []byte) ([][]byte, error) {
	req := nl.NewNetlinkRequest(kind, flags)
	req.AddRawData(msg)
	return req.Execute(family, 0)
}

// put appends an attribute to a message whose length is a multiple of four.
func put(msg []byte, kind int, value ...byte) []byte {
	msg = binary.NativeEndian.AppendUint16(msg, uint16(4+len(value)))
	msg = binary.NativeEndian.AppendUint16(msg, uint16(kind))
	msg = append(msg, value...)
	return append(msg, make([]byte, -len(msg)&3)...)
}

func putText(msg []byte, kind int, s string) []byte { return put(msg, kind, append([]byte(s), 0)...) }

func put16(msg []byte, kind int, v uint16) []byte {
	return put(msg, kind, binary.NativeEndian.AppendUint16(nil, v)...)
}

// pick gives the value of the last attribute of a kind, and how many of any
// kind there are. What is cut off is not there.
func pick(msg []byte, kind uint16) (value []byte, n int) {
	_ = attributes(msg, func(k uint16, v []byte) error {
		if n++; k == kind {
			value = v
		}
		return nil
	})
	return value, n
}

func number16(msg []byte, kind uint16) uint16 {
	v, _ := pick(msg, kind)
	if len(v) < 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(v)
}

func (k *wgKey) pick(msg []byte, kind uint16) {
	v, _ := pick(msg, kind)
	copy(k[:], v)
}

func (*wgNetlink) device(name string) (*wgDevice, error) {
	family, err := wgFamily()
	var answers [][]byte
	if err == nil {
		answers, err = ask(family, unix.NLM_F_DUMP, unix.NETLINK_GENERIC, putText([]byte{wgGetDevice, 1, 0, 0}, wgDeviceName, name))
	}
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) { // no device, or one of another kind
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("ask for WireGuard device %s: %w", name, err)
	}
	d := &wgDevice{}
	for _, m := range answers { // a device with very many addresses, not one of ours, takes several
		d.decode(m[4:])
	}
	return d, nil
}

func (*wgNetlink) configure(name string, d *wgDevice) error {
	family, err := wgFamily()
	if err == nil {
		_, err = ask(family, unix.NLM_F_ACK, unix.NETLINK_GENERIC, d.encode(name))
	}
	if err != nil {
		return fmt.Errorf("configure WireGuard device %s: %w", name, err)
	}
	return nil
}

// encode gives the message that configures a device.
func (d *wgDevice) encode(name string) []byte {
	var allowed []byte
	for _, p := range d.allowed {
		x := put16(nil, wgAllowedFamily, unix.AF_INET)
		x = put(x, wgAllowedAddr, p.Addr().AsSlice()...)
		x = put(x, wgAllowedBits, byte(p.Bits()))
		allowed = put(allowed, nlaNested, x...)
	}
	peer := put(nil, wgPeerPublicKey, d.peer[:]...)
	peer = put(peer, wgPeerSharedKey, d.shared[:]...)
	if d.endpoint.IsValid() { // struct sockaddr_in
		var at [16]byte
		binary.NativeEndian.PutUint16(at[:], unix.AF_INET)
		binary.BigEndian.PutUint16(at[2:], d.endpoint.Port())
		copy(at[4:], d.endpoint.Addr().AsSlice())
		peer = put(peer, wgPeerEndpoint, at[:]...)
	}
	peer = put16(peer, wgPeerKeepalive, d.keepalive)
	peer = put(peer, wgPeerFlags, binary.NativeEndian.AppendUint32(nil, wgReplaceAllowed)...)
	peer = put(peer, nlaNested|wgPeerAllowed, allowed...)

	msg := putText([]byte{wgSetDevice, 1, 0, 0}, wgDeviceName, name)
	msg = put(msg, wgDevicePrivateKey, d.private[:]...)
	msg = put16(msg, wgDevicePort, d.port)
	return put(msg, nlaNested|wgDevicePeers, put(nil, nlaNested, peer...)...)
}

// decode adds what a message of the kernel says of a device.
func (d *wgDevice) decode(msg []byte) {
	d.public.pick(msg, wgDevicePublicKey)
	d.port = number16(msg, wgDevicePort)
	peers, _ := pick(msg, wgDevicePeers)
	peer, n := pick(peers, 0)
	d.peers += n
	d.peer.pick(peer, wgPeerPublicKey)
	d.shared.pick(peer, wgPeerSharedKey)
	d.keepalive = number16(peer, wgPeerKeepalive)
	allowed, _ := pick(peer, wgPeerAllowed)
	_ = attributes(allowed, func(_ uint16, x []byte) error {
		addr, _ := pick(x, wgAllowedAddr)
		bits, _ := pick(x, wgAllowedBits)
		if a, ok := netip.AddrFromSlice(addr); ok && len(bits) == 1 {
			d.allowed = append(d.allowed, netip.PrefixFrom(a, int(bits[0])))
		}
		return nil
	})
}

// The messages of rtnetlink begin with struct ifinfomsg or ifaddrmsg.

func (*wgNetlink) create(name string, mtu int) error {
	m := nl.NewIfInfomsg(unix.AF_UNSPEC)
	m.Flags, m.Change = unix.IFF_UP, unix.IFF_UP
	msg := putText(m.Serialize(), unix.IFLA_IFNAME, name)
	msg = put(msg, unix.IFLA_MTU, binary.NativeEndian.AppendUint32(nil, uint32(mtu))...)
	msg = put(msg, unix.IFLA_LINKINFO, putText(nil, nl.IFLA_INFO_KIND, wgKind)...)
	return change(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL, "make WireGuard device "+name, msg)
}

func (*wgNetlink) address(name string, local, peer netip.Addr) error {
	l, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	m := nl.NewIfAddrmsg(unix.AF_INET)
	m.Index, m.Prefixlen = uint32(l.Attrs().Index), 32
	msg := put(m.Serialize(), unix.IFA_LOCAL, local.AsSlice()...)
	return change(unix.RTM_NEWADDR, 0, "give addresses to "+name, put(msg, unix.IFA_ADDRESS, peer.AsSlice()...))
}

func (*wgNetlink) remove(name string) error {
	msg := putText(nl.NewIfInfomsg(unix.AF_UNSPEC).Serialize(), unix.IFLA_IFNAME, name)
	if err := change(unix.RTM_DELLINK, 0, "remove "+name, msg); !errors.Is(err, unix.ENODEV) {
		return err
	}
	return nil
}

func change(kind, flags int, what string, msg []byte) error {
	if _, err := ask(kind, flags|unix.NLM_F_ACK, unix.NETLINK_ROUTE, msg); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}
