package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"htip/src/rtnl"
)

// The few messages of linux/wireguard.h that a tunnel needs, over generic
// netlink.
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
	answers, err := rtnl.Ask(unix.NETLINK_GENERIC, nl.GENL_ID_CTRL, 0, rtnl.PutText(msg, nl.GENL_CTRL_ATTR_FAMILY_NAME, wgKind))
	if err != nil || len(answers) == 0 {
		return 0, errors.Join(err, errNoAnswer)
	}
	return int(rtnl.Pick16(answers[0][4:], nl.GENL_CTRL_ATTR_FAMILY_ID)), nil
}

var errNoAnswer = errors.New("the kernel does not know it")

func (k *wgKey) pick(msg []byte, kind uint16) {
	v, _ := rtnl.Pick(msg, kind)
	copy(k[:], v)
}

// wgAsk asks for a device; fs.ErrNotExist if there is none.
func wgAsk(name string) ([][]byte, error) {
	family, err := wgFamily()
	var answers [][]byte
	if err == nil {
		answers, err = rtnl.Ask(unix.NETLINK_GENERIC, family, unix.NLM_F_DUMP, rtnl.PutText([]byte{wgGetDevice, 1, 0, 0}, wgDeviceName, name))
	}
	if errors.Is(err, unix.ENODEV) || errors.Is(err, unix.EOPNOTSUPP) { // no device, or one of another kind
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, fmt.Errorf("ask for WireGuard device %s: %w", name, err)
	}
	return answers, nil
}

func (*wgNetlink) device(name string) (*wgDevice, error) {
	answers, err := wgAsk(name)
	if err != nil {
		return nil, err
	}
	d := &wgDevice{}
	for _, m := range answers { // a device with very many addresses, not one of ours, takes several
		d.decode(m[4:])
	}
	return d, nil
}

func (*wgNetlink) configure(name string, d *wgDevice) error { return wgSet(name, d.encode(name)) }

func wgSet(name string, msg []byte) error {
	family, err := wgFamily()
	if err == nil {
		_, err = rtnl.Ask(unix.NETLINK_GENERIC, family, unix.NLM_F_ACK, msg)
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
		x := rtnl.Put16(nil, wgAllowedFamily, unix.AF_INET)
		x = rtnl.Put(x, wgAllowedAddr, p.Addr().AsSlice()...)
		x = rtnl.Put(x, wgAllowedBits, byte(p.Bits()))
		allowed = rtnl.Put(allowed, rtnl.Nested, x...)
	}
	peer := rtnl.Put(nil, wgPeerPublicKey, d.peer[:]...)
	peer = rtnl.Put(peer, wgPeerSharedKey, d.shared[:]...)
	if d.endpoint.IsValid() { // struct sockaddr_in
		var at [16]byte
		binary.NativeEndian.PutUint16(at[:], unix.AF_INET)
		binary.BigEndian.PutUint16(at[2:], d.endpoint.Port())
		copy(at[4:], d.endpoint.Addr().AsSlice())
		peer = rtnl.Put(peer, wgPeerEndpoint, at[:]...)
	}
	peer = rtnl.Put16(peer, wgPeerKeepalive, d.keepalive)
	peer = rtnl.Put32(peer, wgPeerFlags, wgReplaceAllowed)
	peer = rtnl.Put(peer, rtnl.Nested|wgPeerAllowed, allowed...)

	msg := rtnl.PutText([]byte{wgSetDevice, 1, 0, 0}, wgDeviceName, name)
	msg = rtnl.Put(msg, wgDevicePrivateKey, d.private[:]...)
	msg = rtnl.Put16(msg, wgDevicePort, d.port)
	return rtnl.Put(msg, rtnl.Nested|wgDevicePeers, rtnl.Put(nil, rtnl.Nested, peer...)...)
}

// decode adds what a message of the kernel says of a device.
func (d *wgDevice) decode(msg []byte) {
	d.public.pick(msg, wgDevicePublicKey)
	d.port = rtnl.Pick16(msg, wgDevicePort)
	peers, _ := rtnl.Pick(msg, wgDevicePeers)
	peer, n := rtnl.Pick(peers, 0)
	d.peers += n
	d.peer.pick(peer, wgPeerPublicKey)
	d.shared.pick(peer, wgPeerSharedKey)
	d.keepalive = rtnl.Pick16(peer, wgPeerKeepalive)
	allowed, _ := rtnl.Pick(peer, wgPeerAllowed)
	_ = rtnl.Attributes(allowed, func(_ uint16, x []byte) error {
		addr, _ := rtnl.Pick(x, wgAllowedAddr)
		bits, _ := rtnl.Pick(x, wgAllowedBits)
		if a, ok := netip.AddrFromSlice(addr); ok && len(bits) == 1 {
			d.allowed = append(d.allowed, netip.PrefixFrom(a, int(bits[0])))
		}
		return nil
	})
}

func (*wgNetlink) create(name string, mtu int) error {
	if err := rtnl.AddLink(name, wgKind, mtu); err != nil {
		return fmt.Errorf("make WireGuard device %s: %w", name, err)
	}
	return nil
}

func (*wgNetlink) address(name string, local, peer netip.Addr) error {
	link, err := rtnl.Index(name)
	if err == nil {
		err = rtnl.AddAddr(link, netip.PrefixFrom(local, 32), peer)
	}
	if err != nil {
		return fmt.Errorf("give addresses to %s: %w", name, err)
	}
	return nil
}

func (*wgNetlink) remove(name string) error {
	if err := rtnl.DeleteLink(name); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove %s: %w", name, err)
	}
	return nil
}
