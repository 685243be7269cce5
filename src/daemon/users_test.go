package daemon

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"htip/src/config"
	"htip/src/control"
	"htip/src/datapath"
	"htip/src/htip"
	"htip/src/slog"
	"htip/src/ubus"
)

var bobs = opened{"bob", config.Key{1}}

func pools() []netip.Prefix { return config.Defaults().Main.Pool }

// TestUsersNetwork: whatever is taken, the users' network overlaps none of it;
// when there is room, it is found.
func TestUsersNetwork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var avoid []netip.Prefix
		for range rapid.IntRange(0, 8).Draw(t, "taken") {
			a := netip.AddrFrom4([4]byte{10, rapid.Byte().Draw(t, "b"), rapid.Byte().Draw(t, "c"), 0})
			avoid = append(avoid, netip.PrefixFrom(a, rapid.IntRange(9, 28).Draw(t, "bits")).Masked())
		}
		n, ok := usersNetwork(pools(), avoid, rapid.Uint64().Draw(t, "seed"))
		if !ok || overlaps(n, avoid) || n.Bits() != userBits || n != n.Masked() || !n.Addr().IsPrivate() {
			t.Fatalf("%v among %v", n, avoid)
		}
	})
	full := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12")}
	if n, ok := usersNetwork(pools(), full, 5); !ok || !netip.MustParsePrefix("192.168.0.0/16").Overlaps(n) {
		t.Error(n, ok)
	}
	for _, p := range []string{"192.168.3.0/24", "203.0.113.0/24", "10.1.2.0/25"} { // taken, public, too small
		pool := []netip.Prefix{netip.MustParsePrefix(p)}
		if n, ok := usersNetwork(pool, []netip.Prefix{netip.MustParsePrefix("192.168.0.0/16")}, 7); ok {
			t.Errorf("%v in %s", n, p)
		}
	}
}

func TestUsersAdd(t *testing.T) {
	var u users
	add := func(name string, key byte, homes ...opened) (*user, error) {
		return u.add(user{Name: name, Key: [32]byte{key}, Homes: homes}, pools(), nil, 99)
	}
	a, err := add("phone", 1)
	if err != nil || a.Address != u.gateway().Next() || u.Private == [32]byte{} {
		t.Fatal(a, err)
	}
	if b, err := add("phone", 1, bobs); err != nil || b.Address != a.Address || len(u.List) != 1 || b.Homes[0] != bobs {
		t.Error("the same once more", b, err)
	}
	if _, err := add("phone", 2); err == nil || !strings.Contains(err.Error(), "already") {
		t.Error(err)
	}
	if _, err := add("tablet", 1); err == nil || !strings.Contains(err.Error(), "phone's") {
		t.Error(err)
	}
	private, network := u.Private, u.Network
	for i := range maxUsers - 1 {
		if _, err := add(fmt.Sprint("u", i), byte(10+i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := add("more", 200); err == nil || !strings.Contains(err.Error(), "32 users") {
		t.Error(err)
	}
	seen := map[netip.Addr]bool{}
	for _, x := range u.List {
		if seen[x.Address] || !u.Network.Contains(x.Address) || x.Address == u.gateway() {
			t.Errorf("%+v", x)
		}
		seen[x.Address] = true
	}
	// After the last has gone, the next finds things as they were, unless their
	// network is somebody else's by then.
	u.List = nil
	if _, err := add("phone", 3); err != nil || u.Network != network || u.Private != private {
		t.Error(err, u.Network)
	}
	u.List = nil
	if _, err := u.add(user{Name: "phone", Key: [32]byte{3}}, pools(), []netip.Prefix{network}, 99); err != nil || u.Network == network || u.Private != private {
		t.Error(err, u.Network)
	}
	if _, err := (&users{}).add(user{Name: "x"}, nil, nil, 0); err == nil || !strings.Contains(err.Error(), "pool") {
		t.Error(err)
	}
}

// TestUsersFile: what is written is read; what is damaged lets nobody in.
func TestUsersFile(t *testing.T) {
	u := users{}
	u.add(user{Name: "phone", Key: [32]byte{1}, Homes: []opened{bobs}}, pools(), nil, 1)
	u.add(user{Name: "tablet", Key: [32]byte{2}}, pools(), nil, 1)
	good := string(ubus.AppendJSON(nil, encodeUsers(&u)))
	read := func(s string) (users, error) {
		table, err := ubus.ParseJSON([]byte(s))
		if err != nil {
			return users{}, err
		}
		return decodeUsers(table, config.Config{Peers: []config.Peer{{Name: "bob", Key: bobs.Key}}})
	}
	got, err := read(good)
	if err != nil || got.Network != u.Network || got.Private != u.Private || len(got.List) != 2 || got.List[0].Homes[0] != bobs || got.List[1].Address != u.List[1].Address {
		t.Errorf("%v, %+v", err, got)
	}
	w := (&Daemon{users: got}).wantedUsers(map[string]*tunnel{"bob": {Key: bobs.Key[:]}, "carol": {}})
	if len(w.List) != 2 || !slices.Equal(w.List[0].Homes, []string{"htip-bob"}) || len(w.List[1].Homes) != 0 {
		t.Errorf("%+v", w)
	}
	if got, err := decodeUsers(nil, config.Config{}); err != nil || len(got.List) != 0 {
		t.Error(got, err)
	}
	network, first, second := u.Network.String(), u.List[0].Address.String(), u.List[1].Address.String()
	// An older version kept no keys.
	old := strings.ReplaceAll(good, "bob "+bobs.Key.String(), "bob")
	if got, err := read(old); err != nil || len(got.List) != 2 || got.List[0].Homes[0] != bobs || !got.old {
		t.Errorf("%s: %v, %+v", old, err, got)
	}
	for what, x := range map[string]struct {
		old, new string
		left     int
	}{
		"a public network":   {network, "8.8.8.0/24", 0},
		"a large network":    {network, "10.0.0.0/8", 0},
		"no network":         {network, "x", 0},
		"one address twice":  {second, first, 1},
		"the router's":       {second, u.gateway().String(), 1},
		"outside":            {second, "192.168.1.7", 1},
		"a name of commands": {"tablet", "a; reboot", 1},
		"the same name":      {"tablet", "phone", 1},
		"no key":             {base64.StdEncoding.EncodeToString(u.List[1].Key[:]), "AAAA", 1},
		"no key of a home":   {config.Key{1}.String(), "AAAA", 1},
		"another's key":      {base64.StdEncoding.EncodeToString(u.List[1].Key[:]), base64.StdEncoding.EncodeToString(u.List[0].Key[:]), 1},
		"a key of zeros":     {base64.StdEncoding.EncodeToString(u.Private[:]), config.Key{}.String(), 0},
		"no private key":     {base64.StdEncoding.EncodeToString(u.Private[:]), "AAAA", 0},
	} {
		if got, err := read(strings.ReplaceAll(good, x.old, x.new)); err == nil || len(got.List) != x.left {
			t.Errorf("%s: %v, %+v", what, err, got)
		}
	}
}

func FuzzUsersFile(f *testing.F) {
	u := users{}
	u.add(user{Name: "phone", Key: [32]byte{1}, Homes: []opened{bobs}}, pools(), nil, 1)
	u.add(user{Name: "tablet", Key: [32]byte{2}}, pools(), nil, 1)
	f.Add(ubus.AppendJSON(nil, encodeUsers(&u)))
	f.Add([]byte(`{"private":7,"users":[{}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := ubus.ParseJSON(b)
		if err != nil {
			return
		}
		u, _ := decodeUsers(table, config.Config{})
		d := &Daemon{users: u}
		w := datapath.Wanted{Users: d.wantedUsers(map[string]*tunnel{"bob": {Key: bobs.Key[:]}})}
		if len(u.List) > maxUsers || len(w.Users.List) > 0 && (!u.Network.Addr().IsPrivate() || u.Network.Bits() != userBits) {
			t.Errorf("%+v", u)
		}
	})
}

// readyForUsers is a daemon that lets users in once it has WireGuard.
func readyForUsers(t *testing.T) *Daemon {
	d := lonely(t, t.TempDir(), config.Key{1})
	d.cfg.Main = config.Defaults().Main
	d.cfg.Main.Domain = "alice.example.org"
	d.opt.Links = FakeLinks("192.168.1.1/24")
	d.home.Networks = []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")}
	d.path = &datapath.Fake{}
	var err error
	if d.id, _, err = control.LoadIdentity(filepath.Join(d.opt.StateDir, "key")); err != nil {
		t.Fatal(err)
	}
	return d
}

// TestUsersNetworkTaken: when a network of this router is theirs, too, it is, and
// status says so.
func TestUsersNetworkTaken(t *testing.T) {
	d := readyForUsers(t)
	d.caps = []datapath.Capability{{Protocol: datapath.ProtocolWireGuard}}
	add := func(name string) string {
		key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat(name, 32)))
		out, err := d.busUserAdd(&ubus.Request{Args: ubus.T("name", name, "key", key)})
		if err != nil {
			t.Fatal(err)
		}
		text, _ := out.GetString("error")
		return text
	}
	if text := add("p"); text != "" {
		t.Fatal(text)
	}
	lan, network := FakeLinks("192.168.1.1/24"), d.users.Network
	wide := netip.PrefixFrom(network.Addr(), 16).Masked()
	for what, x := range map[string]struct {
		more  link
		taken bool
	}{
		"our own":              {link{device: datapath.UsersDevice, prefix: network, address: d.users.gateway()}, false},
		"another one":          {link{device: "br-guest", prefix: px("172.31.255.0/24"), address: netip.MustParseAddr("172.31.255.1")}, false},
		"half of the world":    {link{device: "tun0", prefix: px("0.0.0.0/1")}, false},
		"a guest network":      {link{device: "br-guest", prefix: network, address: d.users.gateway()}, true},
		"within a large LAN":   {link{device: "br-lan", prefix: wide, address: wide.Addr().Next()}, true},
		"a route to a host":    {link{device: "br-lan", prefix: netip.PrefixFrom(d.users.List[0].Address, 32)}, true},
		"a provider's, by NAT": {link{device: "wan", prefix: network, address: d.users.gateway()}, true},
	} {
		d.opt.Links = func() ([]link, error) {
			ls, err := lan()
			return append(ls, x.more), err
		}
		d.dirty = make(chan struct{}, 1)
		d.homeChanged()
		problems := fmt.Sprint(d.statusTable())
		if got := len(d.wantedUsers(nil).List) == 0; got != x.taken || strings.Contains(problems, "users can't come in: ") != x.taken || strings.Contains(problems, x.more.device) != x.taken {
			t.Errorf("%s: %v, %s", what, got, problems)
		}
		if text := add("q"); x.taken != strings.Contains(text, network.String()) {
			t.Errorf("%s: %q", what, text)
		}
		d.busUserRemove(&ubus.Request{Args: ubus.T("name", "q")})
		d.opt.Links, d.dirty = lan, make(chan struct{}, 1)
		if d.homeChanged(); len(d.wantedUsers(nil).List) != 1 || x.taken && len(d.dirty) == 0 {
			t.Errorf("%s: they don't come back", what)
		}
	}
	d.cfg.Main.Networks = []netip.Prefix{px("192.168.1.0/24"), wide}
	if d.homeChanged(); d.usersClash == nil || len(d.wantedUsers(nil).List) != 0 {
		t.Error("list network holds it")
	}
	d.cfg.Main.Networks = nil
	d.homeChanged()
	// The last one goes and comes again: things are as they were.
	for range 5 {
		d.busUserRemove(&ubus.Request{Args: ubus.T("name", "p")})
		if text := add("p"); text != "" || d.users.Network != network {
			t.Fatalf("%s, %v instead of %v", text, d.users.Network, network)
		}
	}
	// In what is taken there is no staying.
	d.opt.Links = func() ([]link, error) {
		ls, err := lan()
		return append(ls, link{device: "br-guest", prefix: network, address: d.users.gateway()}), err
	}
	d.homeChanged()
	d.busUserRemove(&ubus.Request{Args: ubus.T("name", "p")})
	if text := add("p"); text != "" || d.users.Network == network || len(d.wantedUsers(nil).List) != 1 {
		t.Errorf("%q, %v", text, d.users.Network)
	}
}

// TestUsersFileIsKept: what can't be read is not lost with the next change, and
// the owner is told.
func TestUsersFileIsKept(t *testing.T) {
	d := readyForUsers(t)
	d.caps = []datapath.Capability{{Protocol: datapath.ProtocolWireGuard}}
	path := filepath.Join(d.opt.StateDir, usersFile)
	for _, text := range []string{"not JSON", `{"private":"AAAA","network":"10.1.1.0/24"}`} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		d.users = users{}
		d.loadUsers()
		if got := fmt.Sprint(d.statusTable()); !strings.Contains(got, "users can't come in: ") || !strings.Contains(got, usersFile) {
			t.Error(got)
		}
		key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
		if out, err := d.busUserAdd(&ubus.Request{Args: ubus.T("name", "phone", "key", key)}); err != nil || out[0].Name == "error" {
			t.Fatal(out, err)
		}
		if b, err := os.ReadFile(path + ".bad"); err != nil || string(b) != text {
			t.Errorf("%q, %v", b, err)
		}
		d.busUserRemove(&ubus.Request{Args: ubus.T("name", "phone")})
		if b, err := os.ReadFile(path + ".bad"); err != nil || string(b) != text || strings.Contains(fmt.Sprint(d.statusTable()), usersFile) {
			t.Errorf("the change after that: %q, %v", b, err)
		}
	}
}

// TestUsersOnTheBus: what can't be is said in a sentence, and changes nothing.
func TestUsersOnTheBus(t *testing.T) {
	d := readyForUsers(t)
	key := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("k", 32)))
	call := func(args ubus.Table) ubus.Table {
		t.Helper()
		out, err := d.busUserAdd(&ubus.Request{Args: args})
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	says := func(args ubus.Table, want string) {
		t.Helper()
		if e, _ := call(args).GetString("error"); !strings.Contains(e, want) || len(d.users.List) != 0 {
			t.Errorf("%v: %q, %d users", args, e, len(d.users.List))
		}
	}
	says(ubus.T("name", "phone", "key", key), "kmod-wireguard")
	d.caps = []datapath.Capability{{Protocol: datapath.ProtocolWireGuard}}
	says(nil, "a user's name")
	says(ubus.T("name", "my phone", "key", key), "a user's name")
	says(ubus.T("name", "phone", "key", "hello"), "WireGuard public key")
	says(ubus.T("name", "phone", "key", base64.StdEncoding.EncodeToString(make([]byte, 32))), "WireGuard public key")
	says(ubus.T("name", "phone", "key", key, "homes", ubus.Array{"dave"}), `no peer "dave"`)
	d.cfg.Main.Domain = ""
	says(ubus.T("name", "phone", "key", key), "option domain")
	d.cfg.Main.Domain = "alice.example.org"

	whole := func(s string) htip.Mapping { return htip.Mapping{Substitute: netip.MustParsePrefix(s)} }
	d.state["bob"] = homeState{Record: htip.Record{Own: []htip.Mapping{whole("10.0.0.0/8")}, Theirs: []htip.Mapping{whole("172.16.0.0/12")}}}
	d.gw.SetPeers([]htip.Peer{{Name: "bob", Key: []byte{1}}}, map[string]htip.Record{"bob": d.state["bob"].Record})

	out := call(ubus.T("name", "Phone", "key", key, "homes", ubus.Array{"bob", "all"}))
	v, _ := out.Get("reach")
	reach, _ := v.([]string)
	if host, _ := out.GetString("host"); host != "alice.example.org" || len(reach) != 2+len(pools()) || reach[0] != "192.168.1.0/24" {
		t.Errorf("%v", out)
	}
	if !netip.MustParsePrefix("192.168.0.0/16").Overlaps(d.users.Network) {
		t.Errorf("%v is a substitute, at this home or another", d.users.Network)
	}
	if text := string(ubus.AppendJSON(nil, out)); strings.Contains(text, base64.StdEncoding.EncodeToString(d.users.Private[:])) {
		t.Error("the device's private key is on the bus")
	}
	if !slices.Contains(d.home.Occupied, d.users.Network) { // no peer may claim it, and no substitute comes from it
		t.Errorf("%v is not taken", d.users.Network)
	}
	w := d.wantedUsers(map[string]*tunnel{"bob": {Key: bobs.Key[:]}})
	if w.Port != 17009 || len(w.List) != 1 || len(w.List[0].Homes) != 1 || w.List[0].Homes[0] != "htip-bob" {
		t.Errorf("%+v", w)
	}
	if out, err := d.busUserRemove(&ubus.Request{Args: ubus.T("name", "nobody")}); err != nil || len(out) != 1 || out[0].Name != "error" {
		t.Error(out, err)
	}
	again := &Daemon{opt: d.opt, log: d.log}
	again.loadUsers()
	if len(again.users.List) != 1 || again.users.Network != d.users.Network {
		t.Errorf("after a restart: %+v", again.users)
	}
	call(ubus.T("name", "tablet", "key", base64.StdEncoding.EncodeToString([]byte(strings.Repeat("t", 32))))) // the home only
	again.loadUsers()
	if w := again.wantedUsers(map[string]*tunnel{"bob": {Key: bobs.Key[:]}}); len(w.List) != 2 || len(w.List[0].Homes) != 1 || len(w.List[1].Homes) != 0 {
		t.Errorf("after a restart: %+v", w)
	}
	d.busUserRemove(&ubus.Request{Args: ubus.T("name", "tablet")})
	if _, err := d.busUserRemove(&ubus.Request{Args: ubus.T("name", "phone")}); err != nil || len(d.users.List) != 0 {
		t.Error(err, d.users.List)
	}
}

// TestUsersHomeIsItsKey: who may reach bob does not reach another home that is
// called so later, and reaches this one by whatever name.
func TestUsersHomeIsItsKey(t *testing.T) {
	dir := t.TempDir()
	d := lonely(t, dir, config.Key{1})
	d.path = &datapath.Fake{}
	d.users.add(user{Name: "phone", Key: [32]byte{1}, Homes: []opened{{Name: "bob"}, {Name: "dave"}}}, pools(), nil, 1) // as an older version wrote it
	d.users.add(user{Name: "tablet", Key: [32]byte{2}, Homes: []opened{{Name: allHomes}}}, pools(), nil, 1)
	text := string(ubus.AppendJSON(nil, encodeUsers(&d.users)))
	text = strings.ReplaceAll(text, " "+config.Key{}.String(), "")
	if err := os.WriteFile(filepath.Join(dir, usersFile), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	d.loadUsers()
	d = lonely(t, dir, config.Key{9}) // another router of that name
	d.path = &datapath.Fake{}
	d.loadUsers()
	reach := func(name string, key byte) (out []int) {
		k := config.Key{key}
		for _, u := range d.wantedUsers(map[string]*tunnel{name: {Key: k[:]}}).List {
			out = append(out, len(u.Homes))
		}
		return out
	}
	if !slices.Equal(reach("bob", 1), []int{1, 1}) || !slices.Equal(reach("bob", 9), []int{0, 1}) || !slices.Equal(reach("robert", 1), []int{1, 1}) || !slices.Equal(reach("dave", 9), []int{0, 1}) {
		t.Error(reach("bob", 1), reach("bob", 9), reach("robert", 1), reach("dave", 9))
	}
	shown := func() string {
		out, err := d.busUsers(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		list, _ := out.GetArray("users")
		row, _ := list[0].(ubus.Table)
		v, _ := row.Get("homes")
		return fmt.Sprint(v)
	}
	go func() {
		for f := range d.events {
			f()
		}
	}()
	if got := shown(); got != "[]" {
		t.Errorf("phone reaches %s", got)
	}
	d.cfg.Peers = append(d.cfg.Peers, config.Peer{Name: "robert", Key: config.Key{1}, Enabled: true})
	if got := shown(); got != "[robert]" {
		t.Errorf("phone reaches %s", got)
	}
	close(d.events)
}

// TestUsersErrorIsSaidOnce: what is wrong with the users for months is one line
// of the log, and is tried again with the next look at the kernel.
func TestUsersErrorIsSaidOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := lonely(t, t.TempDir(), config.Key{1})
		var log strings.Builder
		d.log = slog.New(slog.NewTextHandler(&log, nil))
		for _, err := range []error{io.EOF, io.EOF, io.ErrNoProgress, nil, io.EOF} {
			r := datapath.Report{Errors: map[string]error{}}
			if err != nil {
				r.Errors[datapath.UsersDevice] = &datapath.Error{Device: datapath.UsersDevice, Err: err}
			}
			d.applied(wish{}, r, nil)
			if (d.usersErr == nil) != (err == nil) {
				t.Error(d.usersErr)
			}
		}
		if n := strings.Count(log.String(), "users can't come in"); n != 3 {
			t.Errorf("said %d times:\n%s", n, &log)
		}
		if time.Sleep(10 * time.Second); len(d.dirty) != 0 {
			t.Error("tried again at once")
		}
	})
}
