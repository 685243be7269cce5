package datapath

import (
	"context"
	"encoding/binary"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"htip/src/rtnl"
)

// fakeUsers is the kernel's device of users in memory.
type fakeUsers struct {
	*fakeWG
	dev *wgUsers
	err error // of setUsers
	bad error // of remove
}

var _ usersKernel = (*fakeUsers)(nil)

func (f *fakeUsers) users(string) (*wgUsers, error) {
	if f.dev == nil {
		return nil, fs.ErrNotExist
	}
	return f.dev, nil
}

func (f *fakeUsers) setUsers(name string, u *wgUsers) error {
	f.calls = append(f.calls, "users")
	if f.err != nil {
		return f.err
	}
	if f.dev == nil {
		f.dev = &wgUsers{}
	}
	f.dev.public, f.dev.port = u.private.public(), u.port
	for _, x := range u.list {
		f.dev.list = slices.DeleteFunc(f.dev.list, func(y wgUser) bool { return y.Key == x.Key })
		if x.address.IsValid() {
			f.dev.list = append(f.dev.list, x)
		}
	}
	return nil
}

func (f *fakeUsers) network(name string, a netip.Prefix) error {
	return f.address(name, a.Addr(), a.Addr())
}

func (f *fakeUsers) remove(name string) error {
	if f.bad != nil {
		return f.bad
	}
	f.dev = nil
	return f.fakeWG.remove(name)
}

func newUsersBench(t *testing.T) (*bench, *fakeUsers) {
	b := newBench(t)
	f := &fakeUsers{fakeWG: &fakeWG{fakeKernel: b.kernel, devices: map[string]*wgDevice{}}}
	b.o.users = f
	return b, f
}

func someUsers() Users {
	return Users{
		Private: [32]byte{1}, Port: 17009, Address: netip.MustParsePrefix("10.77.7.1/24"), Networks: []netip.Prefix{pfx("192.168.1.0/24")},
		List: []User{{Key: [32]byte{2}, Address: netip.MustParseAddr("10.77.7.2"), Homes: []string{"htip-bob"}}, {Key: [32]byte{3}, Address: netip.MustParseAddr("10.77.7.3")}},
	}
}

// TestUsersRules: what users reach, which flows reach them, and what other homes
// see.
func TestUsersRules(t *testing.T) {
	var none savedRules
	text, _ := none.plan(chainsFor(Wanted{Users: someUsers()}))
	golden(t, "restore-users.txt", text)
	text, _ = none.plan(chainsFor(Wanted{Users: someUsers(), Tunnels: []Tunnel{homeA(), homeC()}}))
	golden(t, "restore-users-homes.txt", text)
	if again, _ := apply(t, none, text).plan(chainsFor(Wanted{Users: someUsers(), Tunnels: []Tunnel{homeA(), homeC()}})); again != "" {
		t.Errorf("once more:\n%s", again)
	}
}

// TestUsersComeAndGo: each without the others noticing.
func TestUsersComeAndGo(t *testing.T) {
	b, f := newUsersBench(t)
	w := Wanted{Users: someUsers()}
	if r := b.apply(t, w); len(r.Errors) != 0 || len(f.dev.list) != 2 || f.ls[0].Local != w.Users.Address.Addr() {
		t.Fatalf("%+v, %+v", r, f.dev)
	}
	f.calls = nil
	if r := b.apply(t, w); len(r.Changes) != 0 || len(f.calls) != 0 {
		t.Errorf("once more: %q, %q", r.Changes, f.calls)
	}
	first := w.Users.List[0]
	w.Users.List = w.Users.List[1:]
	b.apply(t, w)
	if len(f.dev.list) != 1 || f.dev.list[0].Key != w.Users.List[0].Key || len(f.calls) != 1 {
		t.Errorf("%+v, %q", f.dev, f.calls)
	}
	// Another device under an old address, or an old one under another.
	first.Address = w.Users.List[0].Address
	w.Users.List = []User{first}
	b.apply(t, w)
	if len(f.dev.list) != 1 || f.dev.list[0].Key != first.Key || !strings.Contains(b.fw.text(), UsersDevice) {
		t.Errorf("%+v", f.dev)
	}
	// With another key it is another device.
	f.calls, w.Users.Private = nil, [32]byte{9}
	b.apply(t, w)
	if f.calls[0] != "remove "+UsersDevice || len(f.dev.list) != 1 {
		t.Errorf("%q, %+v", f.calls, f.dev)
	}
	b.apply(t, Wanted{})
	if f.dev != nil || strings.Contains(b.fw.text(), "HTIP-") {
		t.Errorf("left: %+v\n%s", f.dev, b.fw.text())
	}
	// What a crash left half made.
	f.ls = append(f.ls, link{Name: UsersDevice, Kind: wgKind})
	if r := b.apply(t, w); len(r.Errors) != 0 || len(f.dev.list) != 1 {
		t.Errorf("%+v, %+v", r, f.dev)
	}
	if err := b.CleanUp(context.Background()); err != nil || f.dev != nil {
		t.Error(err, f.dev)
	}
}

// TestUsersFlows: what users may reach is looked at packet by packet, so nobody's
// flows need to be forgotten for it, and a peer's must not be: see ofOurs. Only a
// newcomer inherits nothing from who had his address before.
func TestUsersFlows(t *testing.T) {
	b, _ := newUsersBench(t)
	w := Wanted{Users: someUsers(), Tunnels: []Tunnel{homeA(), homeC()}}
	forgotten := func(want string) {
		t.Helper()
		b.kernel.forgotten = nil
		b.apply(t, w)
		if got := strings.Join(b.kernel.forgotten, " "); got != want {
			t.Errorf("forgotten: %q, want %q", got, want)
		}
	}
	b.apply(t, Wanted{Tunnels: w.Tunnels})
	forgotten("10.77.7.2/32 10.77.7.3/32")
	forgotten("")
	w.Users.List[0].Homes = nil // the last one with bob
	forgotten("")
	w.Users.List[1].Homes = []string{"htip-bob", "htip-carol"}
	forgotten("")
	w.Users.Networks = []netip.Prefix{pfx("192.168.5.0/24")}
	forgotten("")
	w.Users.List[0].Key = [32]byte{7}
	forgotten("10.77.7.2/32")
	w.Users.List = w.Users.List[:1]
	forgotten("")
	w.Users = Users{}
	forgotten("")
}

// TestUsersGoAtOnce: who is removed is out, whatever hinders the tunnels.
func TestUsersGoAtOnce(t *testing.T) {
	b, f := newUsersBench(t)
	w := Wanted{Users: someUsers(), Tunnels: []Tunnel{homeA()}}
	b.apply(t, w)
	b.driver.heldErr = unix.EIO
	w.Users.List = w.Users.List[1:]
	if _, err := b.Apply(context.Background(), w); err == nil || len(f.dev.list) != 1 || f.dev.list[0].Key != w.Users.List[0].Key {
		t.Errorf("%v, %+v", err, f.dev)
	}
}

// TestUsersThatStay: a device that can't be changed holds up no tunnel, and lets
// nobody in.
func TestUsersThatStay(t *testing.T) {
	for name, x := range map[string]struct {
		then     func(*Users)
		err, bad error
	}{
		"another port": {func(u *Users) { u.Port++ }, nil, unix.EBUSY},
		"nobody":       {func(u *Users) { *u = Users{} }, nil, unix.EBUSY},
		"one less":     {func(u *Users) { u.List = u.List[1:] }, unix.EBUSY, nil},
	} {
		b, f := newUsersBench(t)
		w := Wanted{Users: someUsers()}
		b.apply(t, w)
		w.Tunnels = []Tunnel{homeA()}
		x.then(&w.Users)
		f.err, f.bad = x.err, x.bad
		for range 2 {
			r, err := b.Apply(context.Background(), w)
			text := b.fw.text()
			if err != nil || r.Errors[UsersDevice] == nil || len(r.Errors) != 1 || len(b.driver.tunnels) != 1 || f.dev == nil ||
				!strings.Contains(text, "-A HTIP-PREROUTING -i htip-_users -j DROP") || !strings.Contains(text, "-A HTIP-USERS-FORWARD -o htip-_users -j DROP") ||
				strings.Count(text, UsersDevice) != 3 { // with the jump
				t.Errorf("%s: %v, %v, %d tunnels\n%s", name, err, r.Errors, len(b.driver.tunnels), text)
			}
		}
		f.err, f.bad = nil, nil
		if r := b.apply(t, w); len(r.Errors) != 0 || strings.Contains(b.fw.text(), UsersDevice) != (len(w.Users.List) > 0) {
			t.Errorf("%s: %v\n%s", name, r.Errors, b.fw.text())
		}
	}
}

// TestUsersThatCantBe: tunnels are not held up by what is wrong with users.
func TestUsersThatCantBe(t *testing.T) {
	for name, x := range map[string]struct {
		spoil func(*Users)
		err   error
		want  string
	}{
		"outside":      {func(u *Users) { u.List[0].Address = netip.MustParseAddr("192.168.1.9") }, nil, "can't be right"},
		"the router's": {func(u *Users) { u.List[0].Address = u.Address.Addr() }, nil, "can't be right"},
		"twice":        {func(u *Users) { u.List[0].Address = u.List[1].Address }, nil, "can't be right"},
		"one key":      {func(u *Users) { u.List[0].Key = u.List[1].Key }, nil, "can't be right"},
		"no network":   {func(u *Users) { u.Address = netip.Prefix{} }, nil, "can't be right"},
		"port taken":   {func(*Users) {}, unix.EADDRINUSE, "UDP port 17009 is already in use"},
	} {
		b, f := newUsersBench(t)
		w := Wanted{Users: someUsers(), Tunnels: []Tunnel{homeA()}}
		x.spoil(&w.Users)
		f.err = x.err
		r := b.apply(t, w)
		if err := r.Errors[UsersDevice]; err == nil || !strings.Contains(err.Error(), x.want) || len(b.driver.tunnels) != 1 || f.dev != nil {
			t.Errorf("%s: %v, %d tunnels, %+v", name, err, len(b.driver.tunnels), f.dev)
		}
		if r := b.apply(t, w); len(r.Changes) != 0 { // each is a line of the log
			t.Errorf("%s, once more: %q", name, r.Changes)
		}
	}
}

// TestUsersMessages: what the kernel is told, and what it says in two messages.
func TestUsersMessages(t *testing.T) {
	u := &wgUsers{private: wgKey{1}, port: 17009, list: []wgUser{{UserStatus: UserStatus{Key: [32]byte{2}}, address: netip.MustParseAddr("10.77.7.2")}, {UserStatus: UserStatus{Key: [32]byte{3}}}}}
	msg := u.encode(UsersDevice)[4:]
	if rtnl.PickText(msg, wgDeviceName) != UsersDevice || rtnl.Pick16(msg, wgDevicePort) != 17009 {
		t.Errorf("% x", msg)
	}
	var got wgUsers
	got.decode(msg) // the attributes are the same in both directions
	if len(got.list) != 2 || got.list[0].address != u.list[0].address || got.list[1].address.IsValid() {
		t.Errorf("%+v", got)
	}
	peers, _ := rtnl.Pick(msg, wgDevicePeers)
	var flags []uint32
	if err := rtnl.Attributes(peers, func(_ uint16, p []byte) error { flags = append(flags, rtnl.Pick32(p, wgPeerFlags)); return nil }); err != nil || !slices.Equal(flags, []uint32{wgReplaceAllowed, wgRemovePeer}) {
		t.Error(flags, err)
	}

	peer := rtnl.Put(nil, wgPeerPublicKey, make([]byte, 32)...)
	seen := binary.NativeEndian.AppendUint64(nil, 1000)
	seen = binary.NativeEndian.AppendUint64(seen, 7)
	peer = rtnl.Put(peer, wgPeerSeen, seen...)
	one := rtnl.Put(nil, rtnl.Nested|wgDevicePeers, rtnl.Put(nil, rtnl.Nested, peer...)...)
	got = wgUsers{}
	got.decode(one)
	got.decode(one)
	if len(got.list) != 1 || !got.list[0].Seen.Equal(time.Unix(1000, 0)) {
		t.Errorf("%+v", got)
	}
	for n := range one { // cut off anywhere: no panic
		var x wgUsers
		x.decode(one[:n])
	}
}
