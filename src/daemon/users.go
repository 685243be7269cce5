package daemon

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"htip/src/config"
	"htip/src/datapath"
	"htip/src/htip"
	"htip/src/ubus"
)

// Persons away from home (¶57, ¶118) are kept in users.json: there is nothing in
// it to edit by hand, and a private key, which has no place in a configuration
// that people mail to each other.
const (
	usersFile = "users.json"
	maxUsers  = 32
	userBits  = 24 // of their network
	allHomes  = "all"
)

// user is a person away from home, or rather a device of hers.
type user struct {
	Name    string // DNS label
	Key     [32]byte
	Address netip.Addr
	Homes   []opened // homes that she may reach, or allHomes alone
}

// opened is a home that a user may reach. Its key says which it is: another home
// may be called so one day. The name is for who reads the file.
type opened struct {
	Name string
	Key  config.Key // none with allHomes
}

func (x *user) reaches(key []byte) bool {
	for i := range x.Homes {
		if h := &x.Homes[i]; h.Name == allHomes || bytes.Equal(h.Key[:], key) {
			return true
		}
	}
	return false
}

// users are all of them. The zero value has nobody.
type users struct {
	Private [32]byte     // of the device
	Network netip.Prefix // chosen with the first user; the address of this router is its first
	List    []user
	old     bool // read from a file without the homes' keys
}

func (u *users) gateway() netip.Addr { return u.Network.Addr().Next() }

func encodeUsers(u *users) ubus.Table {
	list := ubus.Array{}
	for i := range u.List {
		x := &u.List[i]
		homes := ubus.Array{}
		for _, h := range x.Homes {
			if h.Name != allHomes {
				h.Name += " " + h.Key.String()
			}
			homes = append(homes, h.Name)
		}
		list = append(list, ubus.T("name", x.Name, "key", base64.StdEncoding.EncodeToString(x.Key[:]), "address", x.Address.String(), "homes", homes))
	}
	return ubus.T("private", base64.StdEncoding.EncodeToString(u.Private[:]), "network", u.Network.String(), "users", list)
}

// decodeUsers reads the file. A line that is damaged is left out; without its
// head nobody is let in.
func decodeUsers(t ubus.Table, cfg config.Config) (u users, err error) {
	if len(t) == 0 {
		return u, nil
	}
	r := reader{t: t}
	private := r.bytes("private")
	u.Network, _ = netip.ParsePrefix(r.text("network"))
	if len(private) != len(u.Private) || slices.Max(private) == 0 || u.Network.Bits() != userBits || !u.Network.Addr().IsPrivate() || u.Network != u.Network.Masked() {
		r.fail("network", "none, or no key")
	}
	if r.err != nil {
		return users{}, r.err
	}
	copy(u.Private[:], private)
	list, _ := t.GetArray("users")
	var errs []error
	for _, v := range list {
		row, _ := v.(ubus.Table)
		x := reader{t: row}
		name, ok := config.PeerName(x.text("name"))
		key, at := x.bytes("key"), x.addr("address")
		one := user{Name: name, Address: at}
		homes, _ := row.GetStrings("homes")
		for _, v := range homes {
			var h opened
			var key string
			if h.Name, key, _ = strings.Cut(v, " "); key == "" && h.Name != allHomes { // of a version that kept none
				p, _ := cfg.Peer(h.Name)
				if key, u.old = p.Key.String(), true; p.Name == "" {
					continue // it is none any more
				}
			}
			if h.Key, _ = config.ParseKey(key); (h.Key == config.Key{}) != (h.Name == allHomes) {
				x.fail("homes", "damaged")
			}
			one.Homes = append(one.Homes, h)
		}
		copy(one.Key[:], key)
		if !ok || len(key) != len(one.Key) || !u.Network.Contains(at) || at == u.gateway() || u.find(name) != nil || u.taken(&one) || len(u.List) == maxUsers {
			x.fail("user", "damaged")
		}
		if x.err != nil {
			errs = append(errs, x.err)
			continue
		}
		u.List = append(u.List, one)
	}
	return u, errors.Join(errs...)
}

func (u *users) find(name string) *user {
	for i := range u.List {
		if u.List[i].Name == name {
			return &u.List[i]
		}
	}
	return nil
}

// taken tells whether another has the address or the key.
func (u *users) taken(x *user) bool {
	for i := range u.List {
		if y := &u.List[i]; y.Address == x.Address || y.Key == x.Key {
			return true
		}
	}
	return false
}

// usersNetwork chooses a network for the users in one of the pools that
// overlaps nothing in avoid; false when there is none. It begins at a random
// place: two homes that a phone is a user of should differ.
func usersNetwork(pools, avoid []netip.Prefix, seed uint64) (netip.Prefix, bool) {
	for _, p := range pools {
		if p.Bits() > userBits {
			continue
		}
		n := uint64(1) << (userBits - p.Bits())
		base := p.Addr().As4()
		for i := range min(n, 1<<16) {
			var b [4]byte
			binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(base[:])+uint32((seed+i)%n)<<(32-userBits))
			x := netip.PrefixFrom(netip.AddrFrom4(b), userBits)
			if x.Addr().IsPrivate() && !overlaps(x, avoid) {
				return x, true
			}
		}
	}
	return netip.Prefix{}, false
}

// add puts a user in, or says why not. That the same one is there already is no
// error, and homes are taken over then.
func (u *users) add(x user, pools, avoid []netip.Prefix, seed uint64) (*user, error) {
	for i := range u.List {
		y := &u.List[i]
		switch same := y.Key == x.Key; {
		case same && y.Name == x.Name:
			y.Homes = x.Homes
			return y, nil
		case same:
			return nil, fmt.Errorf("this key is %s's already", y.Name)
		case y.Name == x.Name:
			return nil, fmt.Errorf("there is a user %s already: htip user remove %s first, or take another name", x.Name, x.Name)
		}
	}
	if len(u.List) == maxUsers {
		return nil, fmt.Errorf("there are %d users already, and that is all there may be: htip users lists them", maxUsers)
	}
	if !u.Network.IsValid() || len(u.List) == 0 && overlaps(u.Network, avoid) {
		var ok bool
		if u.Network, ok = usersNetwork(pools, avoid, seed); !ok {
			return nil, errors.New("there is no free network for users: list pool leaves no room")
		}
	}
	if u.Private == [32]byte{} {
		k, err := ecdh.X25519().GenerateKey(rand.Reader)
		if err != nil {
			return nil, err
		}
		copy(u.Private[:], k.Bytes())
	}
	for x.Address = u.gateway().Next(); u.taken(&x); {
		x.Address = x.Address.Next()
	}
	u.List = append(u.List, x)
	return &u.List[len(u.List)-1], nil
}

func (d *Daemon) loadUsers() {
	t, err := readTable(filepath.Join(d.opt.StateDir, usersFile))
	if err == nil {
		d.users, err = decodeUsers(t, d.cfg)
	}
	if d.users.old && err == nil {
		err = d.saveUsers()
	}
	if err != nil {
		d.usersLost = fmt.Errorf("%s: %w: add who is missing anew, or put a good file there and restart htipd", usersFile, err)
		d.log.Error("users can't come in", "err", d.usersLost)
	}
}

// saveUsers keeps a file that could not be read whole: with the device's key in
// it, nobody needs a new configuration.
func (d *Daemon) saveUsers() error {
	path := filepath.Join(d.opt.StateDir, usersFile)
	if d.usersLost != nil {
		if err := os.Rename(path, path+".bad"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		d.usersLost = nil
	}
	return writeTable(path, encodeUsers(&d.users))
}

// links are our addresses and routes, and the network of the users, which is
// taken whether its device is there or not. It looks whether it is another's, too.
func (d *Daemon) links() ([]link, error) {
	ls, err := d.opt.Links()
	clash, n := "", d.users.Network
	if len(d.users.List) > 0 {
		if overlaps(n, d.cfg.Main.Networks) {
			clash = "list network"
		}
		for i := range ls {
			// A large one that is only routed to, such as half of the world, takes nothing away.
			if l := &ls[i]; n.Overlaps(l.prefix) && !ours(*l) && (l.address.IsValid() || l.prefix.Bits() >= userBits) {
				clash = l.device
			}
		}
		ls = append(slices.Clip(ls), link{prefix: n})
	}
	switch {
	case clash == "" && d.usersClash != nil:
		d.usersClash = nil
		d.kick()
	case clash != "" && d.usersClash == nil:
		d.usersClash = errors.New("their network " + n.String() + " is also that of " + clash + ": change that one, or remove all users and add them again")
		d.log.Error("users can't come in", "err", d.usersClash)
		d.kick()
	}
	return ls, err
}

// usersPort is the UDP port below those of the tunnels.
func (d *Daemon) usersPort() uint16 { return d.cfg.Main.L2TPPort - 1 }

// wantedUsers is what the data path should let in.
func (d *Daemon) wantedUsers(tunnels map[string]*tunnel) (w datapath.Users) {
	if len(d.users.List) == 0 || d.usersClash != nil {
		return w
	}
	w = datapath.Users{Private: d.users.Private, Port: d.usersPort(), Address: netip.PrefixFrom(d.users.gateway(), userBits), Networks: d.home.Networks}
	for i := range d.users.List {
		x := &d.users.List[i]
		one := datapath.User{Key: x.Key, Address: x.Address}
		for _, name := range sorted(tunnels) {
			if x.reaches(tunnels[name].Key) {
				one.Homes = append(one.Homes, device(name))
			}
		}
		w.List = append(w.List, one)
	}
	return w
}

func (d *Daemon) userMethods() []ubus.Method {
	name := ubus.Arg{Name: "name", Type: ubus.TypeString}
	return []ubus.Method{
		{Name: "users", Handler: d.busUsers},
		{Name: "user_add", Args: []ubus.Arg{name, {Name: "key", Type: ubus.TypeString}, {Name: "homes", Type: ubus.TypeArray}, {Name: "qr", Type: ubus.TypeBool}}, Handler: d.inLoop(d.busUserAdd)},
		{Name: "user_remove", Args: []ubus.Arg{name}, Handler: d.inLoop(d.busUserRemove)},
	}
}

// busUserAdd answers with all that the other end's configuration needs. Who gives a
// key has the private one; for who gives none a pair is made, and the answer has the
// whole configuration: the private key is kept nowhere.
func (d *Daemon) busUserAdd(r *ubus.Request) (ubus.Table, error) {
	text, _ := r.Args.GetString("name")
	name, ok := config.PeerName(text)
	if !ok {
		return sorry(errors.New("a user's name is a word of a-z, 0-9 and hyphens, such as phone")), nil
	}
	var own *ecdh.PrivateKey
	encoded, given := r.Args.GetString("key")
	key, err := base64.StdEncoding.DecodeString(encoded)
	switch {
	case !given && d.users.find(name) != nil:
		return sorry(fmt.Errorf("there is a user %s already: remove it first", name)), nil
	case !given:
		if own, err = ecdh.X25519().GenerateKey(rand.Reader); err != nil {
			return sorry(err), nil
		}
		key = own.PublicKey().Bytes()
	case err != nil || len(key) != 32 || slices.Max(key) == 0:
		return sorry(errors.New("a user's key is a WireGuard public key: 44 characters of base64")), nil
	}
	names, _ := r.Args.GetStrings("homes")
	var homes []opened
	for _, h := range names {
		p := d.peer(h)
		if h == allHomes {
			p = &config.Peer{Name: h}
		} else if p == nil {
			return sorry(fmt.Errorf("no peer %q is configured; htip peers lists them", h)), nil
		}
		homes = append(homes, opened{p.Name, p.Key})
	}
	if slices.Contains(names, allHomes) {
		homes, names = []opened{{Name: allHomes}}, []string{allHomes}
	}
	if err := d.canHaveUsers(); err != nil {
		return sorry(err), nil
	}
	x := user{Name: name, Homes: homes}
	copy(x.Key[:], key)
	before := d.users
	before.List = slices.Clone(before.List)
	avoid := slices.Concat(d.home.Networks, d.home.Occupied, d.gw.Known())
	for _, st := range d.state { // by what this home is known elsewhere lies on devices of this router, too
		avoid = append(avoid, htip.Substitutes(st.Record.Own)...)
	}
	added, err := d.users.add(x, d.cfg.Main.Pool, avoid, random())
	if err == nil {
		err = d.saveUsers()
	}
	if err != nil {
		d.users = before
		return sorry(err), nil
	}
	d.log.Info("user added", "name", name, "address", added.Address.String(), "homes", fmt.Sprint(names))
	d.homeChanged() // their network is occupied now
	d.kick()
	private, _ := ecdh.X25519().NewPrivateKey(d.users.Private[:])
	reach := append(prefixes(d.home.Networks), d.users.Network.String())
	if homes != nil {
		reach = append(reach, prefixes(d.cfg.Main.Pool)...) // wherever the homes' substitutes lie, now and later
	}
	answer := ubus.T(
		"name", name, "address", added.Address.String(), "gateway", d.users.gateway().String(), "homes", list1(names),
		"key", base64.StdEncoding.EncodeToString(private.PublicKey().Bytes()), "host", d.cfg.Main.Domain, "port", int64(d.usersPort()), "reach", reach,
	)
	if own == nil {
		return answer, nil
	}
	conf := UserConfig(answer, own)
	return withCode(r, append(answer, ubus.F("config", conf)), conf), nil
}

// UserConfig is a user's configuration as WireGuard's apps and wg-quick read it, made
// of the answer of user_add and the user's own key.
func UserConfig(t ubus.Table, own *ecdh.PrivateKey) string {
	get := func(name string) string { s, _ := t.GetString(name); return s }
	port, _ := t.GetInt("port")
	reach, _ := t.GetStrings("reach")
	return fmt.Sprintf("[Interface]\nPrivateKey = %s\nAddress = %s/32\nDNS = %s\n\n[Peer]\nPublicKey = %s\nEndpoint = %s:%d\nAllowedIPs = %s\n",
		base64.StdEncoding.EncodeToString(own.Bytes()), get("address"), get("gateway"), get("key"), get("host"), port, strings.Join(reach, ", "))
}

// canHaveUsers says in words why nobody could come in.
func (d *Daemon) canHaveUsers() error {
	i := slices.IndexFunc(d.caps, func(c datapath.Capability) bool { return c.Protocol == datapath.ProtocolWireGuard })
	switch {
	case i < 0 || !d.caps[i].Possible():
		return errors.New("users come in by WireGuard, which this router lacks: install kmod-wireguard and restart htip")
	case d.cfg.Main.Domain == "":
		return errors.New("this home has no public name by which a phone could find it: give it one first (option domain)")
	}
	return errors.Join(d.homeErr, d.usersClash)
}

func (d *Daemon) busUserRemove(r *ubus.Request) (ubus.Table, error) {
	name, _ := r.Args.GetString("name")
	x := d.users.find(name)
	if x == nil {
		return sorry(fmt.Errorf("no user %q; htip users lists them", name)), nil
	}
	before := slices.Clone(d.users.List)
	d.users.List = slices.DeleteFunc(d.users.List, func(y user) bool { return y.Name == name })
	if err := d.saveUsers(); err != nil {
		d.users.List = before
		return sorry(err), nil
	}
	d.log.Info("user removed", "name", name)
	d.homeChanged() // the network may be free now
	d.kick()
	return ubus.T("name", name), nil
}

func (d *Daemon) busUsers(ctx context.Context, _ *ubus.Request) (ubus.Table, error) {
	stats, err := d.path.UserStatus()
	if err != nil {
		return sorry(err), nil
	}
	return d.inLoop(func(*ubus.Request) (ubus.Table, error) {
		list := ubus.Array{}
		for i := range d.users.List {
			x := &d.users.List[i]
			homes := ubus.Array{} // by the names that they have now
			for j := range d.cfg.Peers {
				if p := &d.cfg.Peers[j]; x.reaches(p.Key[:]) {
					homes = append(homes, p.Name)
				}
			}
			if x.reaches(nil) {
				homes = ubus.Array{allHomes}
			}
			t := ubus.T("name", x.Name, "address", x.Address.String(), "homes", homes)
			if i := slices.IndexFunc(stats, func(s datapath.UserStatus) bool { return s.Key == x.Key }); i >= 0 && !stats[i].Seen.IsZero() {
				s := &stats[i]
				t = append(t, ubus.T("seen_ago", int64(time.Since(s.Seen)/time.Second), "endpoint", s.Endpoint.String(), "rx_bytes", int64(s.In), "tx_bytes", int64(s.Out))...)
			}
			list = append(list, t)
		}
		return ubus.T("users", list), nil
	})(ctx, nil)
}
