package datapath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"sort"
	"time"

	"golang.org/x/sys/unix"

	"htip/src/rtnl"
)

// UsersDevice is the WireGuard device of persons away from home. No peer's
// device can have this name: a DNS label has no underscore.
const UsersDevice = DevicePrefix + "_users"

// Users are the persons away from home who may come in (¶118): hosts on the
// Internet with a WireGuard key each. The zero value is that there are none.
//
// Of this router they reach its resolver and an echo; of the home the networks,
// as a host in them would; of other homes those that their entry names, behind
// this gateway's own substitute address; never the Internet and never each
// other.
type Users struct {
	Private  [32]byte     // the device's key
	Port     uint16       // UDP
	Address  netip.Prefix // this router's address in their network, with the network's length
	Networks []netip.Prefix
	List     []User

	shut bool // the device is there and should not be: nothing passes it
}

// User is one of them.
type User struct {
	Key     [32]byte   // public
	Address netip.Addr // in the users' network
	Homes   []string   // devices of the tunnels that are open to him
}

// UserStatus is how a user is. Times are those of this router's clock.
type UserStatus struct {
	Key      [32]byte
	Seen     time.Time      // last handshake; zero: never since the device exists
	Endpoint netip.AddrPort // where it came from last
	In, Out  uint64         // bytes from and to the user
}

// check says what the kernel would not take.
func (u *Users) check() error {
	if len(u.List) == 0 {
		return nil
	}
	network := u.Address.Masked()
	bad := !u.Address.IsValid() || u.Port == 0
	for i, x := range u.List {
		bad = bad || !network.Contains(x.Address) || x.Address == u.Address.Addr()
		for _, y := range u.List[:i] {
			bad = bad || x.Address == y.Address || x.Key == y.Key
		}
	}
	if bad {
		return fmt.Errorf("users of %s: addresses, keys or port can't be right", u.Address)
	}
	return nil
}

// The part of linux/wireguard.h that a device with many peers needs.
const (
	wgPeerSeen   = 6
	wgPeerIn     = 7
	wgPeerOut    = 8
	wgRemovePeer = 1 // flag
	usersMTU     = wgDefaultMTU
)

// usersKernel is what the kernel can do with the users' device. fakeUsers is
// the other one.
type usersKernel interface {
	wgKernel
	// users asks for the device; fs.ErrNotExist if there is none.
	users(name string) (*wgUsers, error)
	// setUsers changes it: users with no address go, the others are added.
	setUsers(name string, u *wgUsers) error
	network(name string, a netip.Prefix) error
}

// wgUsers is the users' device, as the kernel is told of it and as it tells.
type wgUsers struct {
	private, public wgKey
	port            uint16
	list            []wgUser
}

type wgUser struct {
	UserStatus
	address netip.Addr
}

func (u *wgUsers) encode(name string) []byte {
	var list []byte
	for _, x := range u.list {
		peer := rtnl.Put(nil, wgPeerPublicKey, x.Key[:]...)
		if x.address.IsValid() {
			a := rtnl.Put16(nil, wgAllowedFamily, unix.AF_INET)
			a = rtnl.Put(a, wgAllowedAddr, x.address.AsSlice()...)
			a = rtnl.Put(a, wgAllowedBits, 32)
			peer = rtnl.Put32(peer, wgPeerFlags, wgReplaceAllowed)
			peer = rtnl.Put(peer, rtnl.Nested|wgPeerAllowed, rtnl.Put(nil, rtnl.Nested, a...)...)
		} else {
			peer = rtnl.Put32(peer, wgPeerFlags, wgRemovePeer)
		}
		list = rtnl.Put(list, rtnl.Nested, peer...)
	}
	msg := rtnl.PutText([]byte{wgSetDevice, 1, 0, 0}, wgDeviceName, name)
	msg = rtnl.Put(msg, wgDevicePrivateKey, u.private[:]...)
	msg = rtnl.Put16(msg, wgDevicePort, u.port)
	return rtnl.Put(msg, rtnl.Nested|wgDevicePeers, list...)
}

// decode adds what a message of the kernel says of the device. A peer that does
// not fit goes on in the next message.
func (u *wgUsers) decode(msg []byte) {
	u.public.pick(msg, wgDevicePublicKey)
	u.port = rtnl.Pick16(msg, wgDevicePort)
	peers, _ := rtnl.Pick(msg, wgDevicePeers)
	_ = rtnl.Attributes(peers, func(_ uint16, p []byte) error {
		var key wgKey
		key.pick(p, wgPeerPublicKey)
		n := len(u.list)
		if n == 0 || u.list[n-1].Key != key {
			u.list = append(u.list, wgUser{UserStatus: UserStatus{Key: key}})
			n++
		}
		x := &u.list[n-1]
		if s := pick64(p, wgPeerSeen); s != 0 && s < 1<<40 {
			x.Seen = time.Unix(int64(s), 0)
		}
		x.In, x.Out = x.In+pick64(p, wgPeerIn), x.Out+pick64(p, wgPeerOut)
		if v, _ := rtnl.Pick(p, wgPeerEndpoint); len(v) >= 8 && binary.NativeEndian.Uint16(v) == unix.AF_INET {
			x.Endpoint = netip.AddrPortFrom(netip.AddrFrom4([4]byte(v[4:8])), binary.BigEndian.Uint16(v[2:]))
		}
		allowed, _ := rtnl.Pick(p, wgPeerAllowed)
		first, _ := rtnl.Pick(allowed, 0)
		addr, _ := rtnl.Pick(first, wgAllowedAddr)
		if a, ok := netip.AddrFromSlice(addr); ok && a.Is4() {
			x.address = a
		}
		return nil
	})
}

// pick64 is the first number in an attribute; 0 if there is none.
func pick64(msg []byte, kind uint16) uint64 {
	if v, _ := rtnl.Pick(msg, kind); len(v) >= 8 {
		return binary.NativeEndian.Uint64(v)
	}
	return 0
}

func (*wgNetlink) users(name string) (*wgUsers, error) {
	answers, err := wgAsk(name)
	if err != nil {
		return nil, err
	}
	u := &wgUsers{}
	for _, m := range answers {
		u.decode(m[4:])
	}
	return u, nil
}

func (*wgNetlink) setUsers(name string, u *wgUsers) error { return wgSet(name, u.encode(name)) }

func (*wgNetlink) network(name string, a netip.Prefix) error {
	link, err := rtnl.Index(name)
	if err == nil {
		err = rtnl.AddAddr(link, a, a.Addr())
	}
	if err != nil {
		return fmt.Errorf("give an address to %s: %w", name, err)
	}
	return nil
}

// fewerUsers takes away who is not wanted any more, before the rules that held
// him go. A device with another key, port or address is made anew.
func (m *Manager) fewerUsers(w *Users, r *Report) error {
	links, err := m.o.kernel.links()
	if err != nil {
		return err
	}
	l, there := findLink(links, UsersDevice)
	if !there {
		return nil
	}
	have, err := m.o.users.users(UsersDevice)
	if err == nil && len(w.List) > 0 && have.public == wgKey(w.Private).public() && have.port == w.Port && l.Local == w.Address.Addr() {
		gone := wgUsers{private: w.Private, port: w.Port}
		for _, x := range have.list {
			if !slices.ContainsFunc(w.List, func(u User) bool { return u.Key == x.Key && u.Address == x.address }) {
				gone.list = append(gone.list, wgUser{UserStatus: UserStatus{Key: x.Key}})
			}
		}
		if len(gone.list) > 0 {
			r.changed("%d users out", len(gone.list))
			return m.o.users.setUsers(UsersDevice, &gone)
		}
		return nil
	}
	if err = m.o.users.remove(UsersDevice); err == nil {
		r.changed("device of the users ended")
	}
	return err
}

// moreUsers lets in who is wanted, once the rules are right.
func (m *Manager) moreUsers(w *Users, r *Report) error {
	if len(w.List) == 0 {
		return nil
	}
	have, err := m.o.users.users(UsersDevice)
	if errors.Is(err, fs.ErrNotExist) {
		have = &wgUsers{}
		if err = m.o.users.create(UsersDevice, usersMTU); err == nil {
			err = m.o.users.setUsers(UsersDevice, &wgUsers{private: w.Private, port: w.Port})
		}
		if err == nil {
			err = m.o.users.network(UsersDevice, w.Address)
		}
		if err == nil {
			r.changed("device of the users started")
		}
	}
	if err != nil {
		if errors.Is(err, unix.EADDRINUSE) {
			err = fmt.Errorf("UDP port %d is already in use on this router", w.Port)
		}
		return errors.Join(err, m.o.users.remove(UsersDevice))
	}
	m.settings(UsersDevice, r)
	more := wgUsers{private: w.Private, port: w.Port}
	var old []netip.Prefix // flows of who had the address before are none of theirs
	for _, u := range w.List {
		if !slices.ContainsFunc(have.list, func(x wgUser) bool { return u.Key == x.Key && u.Address == x.address }) {
			more.list = append(more.list, wgUser{UserStatus: UserStatus{Key: u.Key}, address: u.Address})
			old = append(old, netip.PrefixFrom(u.Address, 32))
		}
	}
	if len(more.list) == 0 {
		return nil
	}
	if err = m.forget(old, r); err != nil {
		return err
	}
	r.changed("%d users let in", len(more.list))
	return m.o.users.setUsers(UsersDevice, &more)
}

// UserStatus looks how the users are; those that never came are in it, too.
func (m *Manager) UserStatus() ([]UserStatus, error) {
	have, err := m.o.users.users(UsersDevice)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []UserStatus
	for i := range have.list {
		out = append(out, have.list[i].UserStatus)
	}
	return out, nil
}

// usersRules are those about the users: of what comes from them, before
// connection tracking, so that it holds for flows that are there; of what goes
// to them; and of the address that other homes see.
//
// A home that is taken away from a user can't be reached at once. The rules of
// what goes to him keep its cameras from sending on.
func usersRules(u *Users, tunnels []Tunnel) (guard, to, nat []string) {
	if len(u.List) == 0 && !u.shut {
		return nil, nil, nil
	}
	from := " -i " + UsersDevice
	out := " -o " + UsersDevice
	list := slices.Clone(u.List)
	sort.Slice(list, func(i, j int) bool { return list[i].Address.Less(list[j].Address) })
	network := u.Address.Masked()
	networks := slices.Clone(u.Networks)
	sortPrefixes(networks)
	if !u.shut {
		guard = append(guard, fmt.Sprintf("-s %s -d %s/32%s -j RETURN", network, u.Address.Addr(), from))
	}
	for _, n := range networks {
		guard = append(guard, fmt.Sprintf("-s %s -d %s%s -j RETURN", network, n, from))
		to = append(to, fmt.Sprintf("-s %s%s -j RETURN", n, out))
	}
	for i := range tunnels {
		t := &tunnels[i]
		peer, any := slices.Clone(t.Peer), false
		sortPrefixes(peer)
		for _, x := range list {
			if !t.LocalAddr.IsValid() || !slices.Contains(x.Homes, t.Device) {
				continue
			}
			any = true
			for _, p := range peer {
				guard = append(guard, fmt.Sprintf("-s %s/32 -d %s%s -j RETURN", x.Address, p, from))
				to = append(to, fmt.Sprintf("-s %s -d %s/32%s -j RETURN", p, x.Address, out))
			}
		}
		if any {
			nat = append(nat, fmt.Sprintf("-s %s -o %s -j SNAT --to-source %s", network, t.Device, t.LocalAddr))
		}
	}
	return append(guard, from[1:]+" -j DROP"), append(to, out[1:]+" -j DROP"), nat
}
