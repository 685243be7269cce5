package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"htip/src/config"
	"htip/src/control"
	"htip/src/slog"
	"htip/src/ubus"
	"htip/tests/ubusd"
)

// recorded is an answer of netifd as testdata holds it.
func recorded(t testing.TB, name string) ubus.Table {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata/netifd", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	tab, err := ubus.ParseJSON(b)
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func def(device string) link { return link{device: device, prefix: px("0.0.0.0/0"), def: true} }

// TestDumpRefused: what netifd would never say is refused as a whole, and in one
// sentence.
func TestDumpRefused(t *testing.T) {
	for name, c := range map[string]struct{ json, err string }{
		"nothing":                {`{}`, "interface: missing"},
		"something else":         {`{"interface":{"lan":{}}}`, "interface: no list"},
		"a list of texts":        {`{"interface":["lan"]}`, "interface: an entry is no table"},
		"one that has no name":   {`{"interface":[{"up":true}]}`, "interface: missing"},
		"a number for a name":    {`{"interface":[{"interface":5,"up":true}]}`, "interface: missing"},
		"up is missing":          {`{"interface":[{"interface":"lan"}]}`, "up: missing"},
		"up is a text":           {`{"interface":[{"interface":"lan","up":"true"}]}`, "up: missing"},
		"a number for a device":  {`{"interface":[{"interface":"lan","up":true,"l3_device":3}]}`, "l3_device: missing"},
		"addresses are a text":   {`{"interface":[{"interface":"lan","up":true,"ipv4-address":"192.168.1.1"}]}`, "ipv4-address: no list"},
		"an address is a text":   {`{"interface":[{"interface":"lan","up":true,"ipv4-address":["192.168.1.1"]}]}`, "ipv4-address: an entry"},
		"an address of IPv6":     {`{"interface":[{"interface":"lan","up":true,"ipv4-address":[{"address":"fe80::1","mask":64}]}]}`, "address: no IPv4 address"},
		"a mask of IPv6":         {`{"interface":[{"interface":"lan","up":true,"ipv4-address":[{"address":"192.168.1.1","mask":64}]}]}`, "mask: no number"},
		"a mask below nothing":   {`{"interface":[{"interface":"lan","up":true,"ipv4-address":[{"address":"192.168.1.1","mask":-1}]}]}`, "mask: no number"},
		"routes are a table":     {`{"interface":[{"interface":"wan","up":true,"route":{}}]}`, "route: no list"},
		"a route to nowhere":     {`{"interface":[{"interface":"wan","up":true,"route":[{"mask":0}]}]}`, "target: missing"},
		"a route without a mask": {`{"interface":[{"interface":"wan","up":true,"route":[{"target":"0.0.0.0"}]}]}`, "mask: no number"},
		"interfaces without end": {`{"interface":[` + strings.Repeat(`{"interface":"x","up":true},`, maxIfaces) + `{"interface":"lan","up":true}]}`, "too long"},
		"bad behind the good":    {`{"interface":[{"interface":"lan","up":true},{"interface":"wan"}]}`, "up: missing"},
		"routes without end":     {`{"interface":[{"interface":"wan","up":true,"route":[` + strings.Repeat(`{"target":"10.0.0.0","mask":8},`, maxRoutes) + `{"target":"0.0.0.0","mask":0}]}]}`, "route: too long"},
		"addresses without end":  {`{"interface":[{"interface":"lan","up":true,"ipv4-address":[` + strings.Repeat(`{"address":"10.0.0.1","mask":8},`, maxIfaces) + `{"address":"10.0.0.1","mask":8}]}]}`, "ipv4-address: no list, or too long"},
	} {
		tab, err := ubus.ParseJSON([]byte(c.json))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if _, err := parseDump(tab); err == nil || !strings.Contains(err.Error(), c.err) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, want %q", name, err, c.err)
		}
	}
	if _, err := parseDump(nil); err == nil {
		t.Error("no answer at all")
	}
	// What has no name that can be written in the configuration is nobody's.
	odd, _ := ubus.ParseJSON([]byte(`{"interface":[{"interface":"a\nb","up":true},{"interface":"","up":true},{"interface":"lan","up":true}]}`))
	if ifs, err := parseDump(odd); err != nil || len(ifs) != 1 || ifs[0].name != "lan" {
		t.Errorf("%v %+v", err, ifs)
	}
}

// TestManyRoutes: some routers have a route for each network of a country. The
// interface is read as any other, and so are those beside it.
func TestManyRoutes(t *testing.T) {
	row, def := `{"target":"10.0.0.0","mask":8},`, `{"target":"0.0.0.0","mask":0}`
	for name, c := range map[string]struct {
		routes string
		def    bool
	}{
		"as many as are read":            {strings.Repeat(row, maxRoutes-1) + def, true},
		"no default route":               {strings.TrimSuffix(strings.Repeat(row, maxRoutes), ","), false},
		"more, behind the default route": {strings.Repeat(row, 300) + def + "," + strings.TrimSuffix(strings.Repeat(row, 2*maxRoutes), ","), true},
	} {
		tab, err := ubus.ParseJSON([]byte(`{"interface":[{"interface":"wan","up":true,"l3_device":"wan","route":[` + c.routes + `]},{"interface":"lan","up":true}]}`))
		if err != nil {
			t.Fatal(err)
		}
		ifs, err := parseDump(tab)
		if err != nil || len(ifs) != 2 || ifs[0].def != c.def || ifs[1].def {
			t.Errorf("%s: %v %+v", name, err, ifs)
		}
	}
}

// TestNetifdHome: netifd's answer and the kernel's addresses make the home.
func TestNetifdHome(t *testing.T) {
	factory := []link{at("lo", "127.0.0.1/8"), at("br-lan", "192.168.1.1/24"), at("wan", "203.0.113.7/24"), def("wan")}
	two := []link{
		at("lo", "127.0.0.1/8"), at("pppoe-wan", "192.0.2.9/32"), at("eth1.7", "192.168.100.2/24"), at("br-lan", "192.168.9.1/24"), at("br-lan", "192.168.1.1/24"), at("br-guest", "192.168.3.1/24"),
		at("wwan0", "10.170.3.9/29"), at("pppoe-wan", "198.51.100.20/32"), def("pppoe-wan"), def("wwan0"), at("wg-office", "10.200.0.9/32"),
		at("htip-bob", "192.168.1.1/32"), {device: "htip-bob", prefix: px("0.0.0.0/0"), def: true, ours: true},
	}
	clat := []link{at("br-lan", "192.168.1.1/24"), at("464-wwan_6", "192.0.0.1/32"), def("464-wwan_6")}
	behind := []link{at("br-lan", "192.168.178.20/24"), def("br-lan")}
	const twoWANs = "wan pppoe-wan 198.51.100.20; wwan_4 wwan0 10.170.3.9"
	for _, c := range []struct {
		name, dump, options string
		links               []link
		home                string // networks, gateway; or what the error says
		wans                string
		problem             string
	}{
		{name: "a shared interface that is not there", dump: "factory", options: "list interface 'guest'", links: factory, home: "guest has no IPv4 address", wans: "wan wan 203.0.113.7", problem: "interface guest is not there"},
		{name: "one that is down", dump: "two-lines", options: "list interface iot\nlist interface lan", links: two, home: "[192.168.1.0/24] 192.168.1.1", wans: twoWANs, problem: "interface iot is down"},
		{name: "one without a device", dump: "behind", options: "list interface odd", links: behind, home: "odd has no IPv4 address", wans: "lan br-lan 192.168.178.20"},
		{name: "what the kernel does not have (yet)", dump: "factory", links: factory[:1], home: "lan has no IPv4 address"},
		{name: "what netifd does not have (yet)", dump: "factory", links: append(slices.Clip(factory), at("br-lan", "192.168.77.1/24")), home: "[192.168.1.0/24] 192.168.1.1", wans: "wan wan 203.0.113.7"},
		{name: "by the kernel on another device", dump: "factory", links: []link{at("br-wan", "192.168.1.1/24")}, home: "lan has no IPv4 address"},
		{name: "a WAN that is not there", dump: "factory", options: "option wan_device 'eth9'", links: factory, home: "[192.168.1.0/24] 192.168.1.1"},
		{name: "no netifd, no br-lan", links: two[:3], home: "br-lan has no IPv4 address"},

		{name: "no netifd, but an interface of it", options: "list interface guest", links: two, home: "guest has no IPv4 address", wans: " pppoe-wan 192.0.2.9;  wwan0 10.170.3.9", problem: "interface guest is not there"},

		{name: "from the factory", dump: "factory", links: factory, home: "[192.168.1.0/24] 192.168.1.1", wans: "wan wan 203.0.113.7"},
		{name: "no netifd", links: two, home: "[192.168.9.0/24 192.168.1.0/24] 192.168.9.1", wans: " pppoe-wan 192.0.2.9;  wwan0 10.170.3.9"},
		{name: "an alias is its own interface", dump: "two-lines", links: two, home: "[192.168.1.0/24] 192.168.1.1", wans: twoWANs},
		{name: "the alias, too", dump: "two-lines", options: "list interface cameras\nlist interface lan", links: two, home: "[192.168.9.0/24 192.168.1.0/24] 192.168.9.1", wans: twoWANs},
		{name: "two LANs", dump: "two-lines", options: "list interface 'lan'\nlist interface 'guest'", links: two, home: "[192.168.1.0/24 192.168.3.0/24] 192.168.1.1", wans: twoWANs},
		{name: "devices override interfaces", dump: "two-lines", options: "list interface 'lan'\nlist lan_device 'br-guest'\nlist lan_device 'br-lan'", links: two, home: "[192.168.9.0/24 192.168.1.0/24 192.168.3.0/24] 192.168.9.1", wans: twoWANs},
		{name: "networks override both", dump: "two-lines", options: "list interface nobody\nlist lan_device 'br-guest'\nlist network '192.168.9.0/24'", links: two, home: "[192.168.9.0/24] 192.168.9.1", wans: twoWANs},
		{name: "one WAN is chosen", dump: "two-lines", options: "option wan_device 'wwan0'", links: two, home: "[192.168.1.0/24] 192.168.1.1", wans: "wwan_4 wwan0 10.170.3.9"},
		{name: "a WAN without a default route is chosen", dump: "two-lines", options: "option wan_device 'eth1.7'", links: two, home: "[192.168.1.0/24] 192.168.1.1", wans: " eth1.7 192.168.100.2"},
		{name: "464xlat", dump: "464xlat", links: clat, home: "[192.168.1.0/24] 192.168.1.1", wans: "wwan_6_4 464-wwan_6 192.0.0.1"},
		{name: "behind another router", dump: "behind", links: behind, home: "[192.168.178.0/24] 192.168.178.20", wans: "lan br-lan 192.168.178.20"},
	} {
		cfg := configOf(t, c.options)
		var ifs []iface
		if c.dump != "" {
			var err error
			if ifs, err = parseDump(recorded(t, c.dump)); err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
		}
		h, err := makeHome(&cfg, c.links, ifs, nil, nil, slog.New(slog.DiscardHandler))
		got := fmt.Sprint(h.Networks, " ", h.Gateway)
		if err != nil {
			got = err.Error()
		}
		if got != c.home && (err == nil || !strings.HasPrefix(got, c.home)) {
			t.Errorf("%s: %s, want %s", c.name, got, c.home)
		}
		if got := wansText(wans(&cfg, c.links, ifs)); got != c.wans {
			t.Errorf("%s: WANs %q, want %q", c.name, got, c.wans)
		}
		if got := strings.Join(notShared(&cfg, ifs), "; "); got != c.problem && (c.problem == "" || !strings.HasPrefix(got, c.problem)) {
			t.Errorf("%s: problem %q, want %q", c.name, got, c.problem)
		}
	}
}

// configOf is a main section with options.
func configOf(t *testing.T, options string) config.Main {
	t.Helper()
	path := filepath.Join(t.TempDir(), "htip")
	if err := os.WriteFile(path, []byte("config htip main\noption enabled 1\n"+options+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, ps, err := config.Load(path)
	if err != nil || len(ps) > 0 {
		t.Fatal(ps, err)
	}
	return cfg.Main
}

func wansText(ws ubus.Array) string {
	var out []string
	for _, w := range ws {
		name, _ := w.(ubus.Table).GetString("interface")
		device, _ := w.(ubus.Table).GetString("device")
		address, _ := w.(ubus.Table).GetString("address")
		out = append(out, name+" "+device+" "+address)
	}
	return strings.Join(out, "; ")
}

// TestDownKeepsItsNetworks: an interface that goes down and comes back makes no
// other home; one that is removed does.
func TestDownKeepsItsNetworks(t *testing.T) {
	cfg := configOf(t, "list interface lan\nlist interface guest")
	before, err := parseDump(recorded(t, "two-lines"))
	if err != nil {
		t.Fatal(err)
	}
	ls := []link{at("br-lan", "192.168.1.1/24"), at("br-guest", "192.168.3.1/24")}
	was, err := makeHome(&cfg, ls, before, nil, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	down := []iface{{name: "guest"}, *findIface(before, "lan")}
	keepDown(down, before)
	now, err := makeHome(&cfg, ls[:1], down, nil, nil, slog.New(slog.DiscardHandler))
	if err != nil || !sameHome(now, was) {
		t.Errorf("down: %v %+v", err, now)
	}
	still := []iface{{name: "guest"}, *findIface(before, "lan")}
	keepDown(still, down)
	if now, err := makeHome(&cfg, ls[:1], still, nil, nil, slog.New(slog.DiscardHandler)); err != nil || !sameHome(now, was) {
		t.Errorf("still down: %v %+v", err, now)
	}
	if now, err := makeHome(&cfg, ls[:1], still[1:], nil, nil, slog.New(slog.DiscardHandler)); err != nil || sameHome(now, was) {
		t.Errorf("removed: %v %+v", err, now)
	}
	moved := []link{ls[0], at("br-other", "192.168.3.1/24")} // to what is not shared
	if now, err := makeHome(&cfg, moved, still, nil, nil, slog.New(slog.DiscardHandler)); err != nil || sameHome(now, was) {
		t.Errorf("moved: %v %+v", err, now)
	}
	// Without any address of its own the router has no gateway to name.
	if now, err := makeHome(&cfg, nil, still[:1], nil, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Errorf("nothing is up: %+v", now)
	}
}

// FuzzDump: whatever netifd says, there are only good names and addresses.
func FuzzDump(f *testing.F) {
	for _, name := range []string{"factory", "two-lines", "464xlat", "behind"} {
		f.Add(ubus.AppendJSON(nil, recorded(f, name)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		tab, err := ubus.ParseJSON(b)
		if err != nil {
			return
		}
		ifs, err := parseDump(tab)
		if err == nil && ifs == nil {
			t.Fatal("netifd is there, but counts as absent")
		}
		for _, i := range ifs {
			if !config.InterfaceName(i.name) {
				t.Fatalf("%q", i.name)
			}
			for _, a := range i.addresses {
				if err == nil && (!a.IsValid() || !a.Addr().Is4()) {
					t.Fatal(a)
				}
			}
		}
	})
}

// netifd is a stand-in on a bus of its own.
func netifd(t *testing.T, answer func(ctx context.Context) (ubus.Table, error)) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "ubus.sock")
	b, err := ubusd.Listen(ubusd.Config{Socket: socket, Policy: ubusd.Everyone{}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	if answer == nil {
		return socket
	}
	c, err := ubus.Dial(context.Background(), socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	dump := func(ctx context.Context, _ *ubus.Request) (ubus.Table, error) { return answer(ctx) }
	if err := c.Publish(context.Background(), &ubus.Object{Name: "network.interface", Methods: []ubus.Method{{Name: "dump", Handler: dump}}}); err != nil {
		t.Fatal(err)
	}
	return socket
}

// TestAskNetifd: over a real bus, with all that can go wrong there.
func TestAskNetifd(t *testing.T) {
	good := recorded(t, "two-lines")
	many := func(n int) ubus.Table {
		list := ubus.Array{}
		for range n {
			list = append(list, ubus.T("interface", "x", "up", true, "data", ubus.T("junk", strings.Repeat("j", 4000))))
		}
		return ubus.T("interface", list)
	}
	for _, c := range []struct {
		name   string
		socket string
		want   error
		text   string
		n      int
	}{
		{name: "no ubusd", socket: filepath.Join(t.TempDir(), "none"), want: ubus.ErrConnectionFailed},
		{name: "no netifd", socket: netifd(t, nil), want: ubus.ErrNotFound},
		{name: "nothing", socket: netifd(t, func(context.Context) (ubus.Table, error) { return nil, nil }), text: "interface: missing"},
		{name: "refused", socket: netifd(t, func(context.Context) (ubus.Table, error) { return nil, ubus.ErrPermissionDenied }), want: ubus.ErrPermissionDenied},
		{name: "odd", socket: netifd(t, func(context.Context) (ubus.Table, error) { return ubus.T("interface", "lan"), nil }), text: "no list"},
		{name: "more than there can be", socket: netifd(t, func(context.Context) (ubus.Table, error) {
			return ubus.T("interface", make(ubus.Array, maxIfaces+1)), nil
		}), text: "no list"},
		{name: "silence", socket: netifd(t, func(ctx context.Context) (ubus.Table, error) { <-ctx.Done(); return nil, ctx.Err() }), want: ubus.ErrTimeout},
		{name: "half a megabyte", socket: netifd(t, func(context.Context) (ubus.Table, error) { return many(128), nil }), n: 128},
		{name: "many routes", socket: netifd(t, func(context.Context) (ubus.Table, error) {
			routes := ubus.Array{}
			for range maxRoutes {
				routes = append(routes, ubus.T("target", "10.100.100.0", "mask", 24, "nexthop", "10.100.100.1", "source", "0.0.0.0/0"))
			}
			return ubus.T("interface", ubus.Array{ubus.T("interface", "wan", "up", true, "route", routes)}), nil
		}), n: 1},
		{name: "good", socket: netifd(t, func(context.Context) (ubus.Table, error) { return good, nil }), n: 10},
	} {
		ask, began := dumpOf, time.Now() // a machine in use may take longer than a router
		if c.name == "silence" || c.name == "good" {
			ask = askNetifd // which has a limit
		}
		ifs, err := ask(context.Background(), ubus.Options{Log: slog.New(slog.DiscardHandler)}, c.socket)
		for try := 1; c.name == "good" && errors.Is(err, ubus.ErrTimeout) && try < 5; try++ {
			ifs, err = ask(context.Background(), ubus.Options{Log: slog.New(slog.DiscardHandler)}, c.socket)
		}
		if took := time.Since(began); c.name == "silence" && took > 10*netifdLimit {
			t.Errorf("%s: took %v", c.name, took)
		}
		switch {
		case c.want == nil && c.text == "":
			if err != nil || len(ifs) != c.n {
				t.Errorf("%s: %d interfaces, %v", c.name, len(ifs), err)
			}
		case err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text):
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

// TestNetifdSaid: what was good holds until something better comes, and the same
// trouble is one line.
func TestNetifdSaid(t *testing.T) {
	d := lonely(t, t.TempDir(), config.Key{1})
	var log strings.Builder
	d.log = slog.New(slog.NewTextHandler(&log, nil))
	good, err := parseDump(recorded(t, "factory"))
	if err != nil {
		t.Fatal(err)
	}
	odd := errors.New("up: missing")
	unplugged := func() []iface { // lan alone, and down
		return []iface{{name: "lan"}}
	}
	for i, c := range []struct {
		ifs   []iface
		err   error
		known bool
		lines int
	}{
		{nil, fmt.Errorf("dump: %w", ubus.ErrNotFound), false, 0}, // Debian: not a word
		{nil, ubus.ErrConnectionFailed, false, 0},
		{nil, odd, false, 1},
		{good[:1], odd, false, 1},
		{good, nil, true, 1},
		{nil, ubus.ErrNotFound, true, 2}, // it restarts
		{nil, ubus.ErrNotFound, true, 2},
		{nil, odd, true, 3},
		{good, nil, true, 3},
		{nil, odd, true, 4},
		{unplugged(), nil, true, 4},
		{unplugged(), nil, true, 4},
		{[]iface{}, nil, false, 4},
	} {
		d.netifdSaid(c.ifs, c.err)
		if got := strings.Count(log.String(), "\n"); len(d.ifaces) > 0 != c.known || got != c.lines {
			t.Errorf("%d: %d interfaces, %d lines:\n%s", i, len(d.ifaces), got, &log)
		}
		if lan := findIface(d.ifaces, "lan"); lan != nil && lan.device != "br-lan" {
			t.Errorf("%d: %+v", i, lan)
		}
	}
}

// following starts followHome where time is synctest's; run is the loop, which must
// never wait.
func following(t *testing.T, d *Daemon, options string, netifd func(context.Context) ([]iface, error)) (changed chan<- struct{}, run func(time.Duration)) {
	t.Helper()
	d.cfg.Main = configOf(t, options)
	d.opt.Netifd = netifd
	d.opt.Links = func() ([]link, error) {
		return []link{at("br-lan", "192.168.1.1/24"), at("br-guest", "192.168.3.1/24"), at("wan", "203.0.113.7/24"), def("wan")}, nil
	}
	var err error
	if d.id, _, err = control.LoadIdentity(filepath.Join(t.TempDir(), "key")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.ctx = ctx
	d.changed = make(chan struct{}, 1)
	failed, ended := make(chan error, 1), make(chan error, 1)
	go func() { ended <- d.followHome(ctx, failed) }()
	t.Cleanup(func() {
		failed <- context.Canceled
		cancel()
		if err := <-ended; err != context.Canceled {
			t.Error(err)
		}
	})
	return d.changed, func(limit time.Duration) {
		for over := time.After(limit); ; {
			select {
			case f := <-d.events:
				began := time.Now()
				if f(); time.Since(began) > 0 {
					t.Errorf("the loop had to wait for %v", time.Since(began))
				}
			case <-over:
				synctest.Wait()
				return
			}
		}
	}
}

// TestHomeFollowsNetifd: netifd is asked at the start and after a change, not for
// each of many, and once more when it has had time to finish. The loop is free
// meanwhile.
func TestHomeFollowsNetifd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		factory, two := interfaces(t, "factory"), interfaces(t, "two-lines")
		var asked atomic.Int32
		var guest atomic.Bool
		d := lonely(t, t.TempDir(), config.Key{1})
		changed, run := following(t, d, "list interface lan\nlist interface guest", func(context.Context) ([]iface, error) {
			asked.Add(1)
			time.Sleep(400 * time.Millisecond)
			if guest.Load() {
				return slices.Clone(two), nil
			}
			return slices.Clone(factory), nil
		})
		run(homeSettles + 500*time.Millisecond)
		if got := fmt.Sprint(d.home.Networks, len(notShared(&d.cfg.Main, d.ifaces)), asked.Load(), " ", wansText(d.wans)); got != "[192.168.1.0/24] 1 1 wan wan 203.0.113.7" {
			t.Errorf("at the start: %s", got)
		}
		guest.Store(true) // netifd publishes late: no change is told
		run(netifdLag + time.Second)
		if got := fmt.Sprint(d.home.Networks, len(notShared(&d.cfg.Main, d.ifaces)), asked.Load()); got != "[192.168.1.0/24 192.168.3.0/24] 0 2" {
			t.Errorf("a little later: %s", got)
		}
		guest.Store(false)
		for range 20 {
			select {
			case changed <- struct{}{}:
			default:
			}
			run(time.Millisecond)
		}
		run(homeSettles + 500*time.Millisecond)
		if n := asked.Load(); n != 3 {
			t.Errorf("asked %d times after one storm", n-2)
		}
		run(netifdLag + time.Second)
		if n := asked.Load(); n != 4 || len(d.home.Networks) != 1 {
			t.Errorf("asked %d times after one storm, networks %v", n-2, d.home.Networks)
		}
		run(time.Hour)
		if n := asked.Load(); n != 4 {
			t.Error("asked for nothing")
		}
		// Changes without end don't keep us from looking.
		for range 15 {
			changed <- struct{}{}
			run(50 * time.Millisecond)
		}
		if n := asked.Load(); n < 5 {
			t.Error("not asked as long as things change")
		}
	})
}

// TestNetifdAskedAgain: an answer that did not come is asked for again, at first
// soon, where there may be one: not on a router without ubus or netifd, unless
// names are configured that only netifd knows.
func TestNetifdAskedAgain(t *testing.T) {
	const named = "list interface lan\nlist interface guest"
	absent := fmt.Errorf("dump: %w", ubus.ErrNotFound)
	for _, c := range []struct {
		name, options string
		before        bool // it has answered
		err           error
		after         [3]int // so often it is asked within 10 s, 2 min, 1 h
	}{
		{name: "too slow", err: ubus.ErrTimeout, after: [3]int{3, 6, 64}},
		{name: "makes no sense", options: named, err: errors.New("up: missing"), after: [3]int{3, 6, 64}},
		{name: "Debian without ubus", err: ubus.ErrConnectionFailed, after: [3]int{1, 1, 1}},
		{name: "without netifd", err: absent, after: [3]int{1, 1, 1}},
		{name: "not there yet, but names are", options: named, err: absent, after: [3]int{3, 6, 64}},
		{name: "ubus is not there yet, but names are", options: named, err: ubus.ErrConnectionFailed, after: [3]int{3, 6, 64}},
		{name: "names that don't count", options: named + "\nlist lan_device br-lan", err: absent, after: [3]int{1, 1, 1}},
		{name: "networks", options: named + "\nlist network 192.168.1.0/24", err: absent, after: [3]int{1, 1, 1}},
		{name: "restarts", before: true, err: absent, after: [3]int{3, 6, 64}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var asked atomic.Int32
				var good atomic.Bool
				two := interfaces(t, "two-lines")
				d := lonely(t, t.TempDir(), config.Key{1})
				var log strings.Builder
				d.log = slog.New(slog.NewTextHandler(&log, nil))
				if c.before {
					d.ifaces = slices.Clone(two)
				}
				changed, run := following(t, d, c.options, func(context.Context) ([]iface, error) {
					asked.Add(1)
					if good.Load() {
						return slices.Clone(two), nil
					}
					return nil, c.err
				})
				var got [3]int
				for i, d := range []time.Duration{10 * time.Second, 110 * time.Second, 58 * time.Minute} {
					run(d)
					got[i] = int(asked.Load())
				}
				if got != c.after {
					t.Errorf("asked %v times, want %v", got, c.after)
				}
				if n := strings.Count(log.String(), "\n"); n > 4 {
					t.Errorf("%d lines about it:\n%s", n, &log)
				}
				// A change asks at once, and begins with short pauses again.
				changed <- struct{}{}
				run(homeSettles + netifdLag + time.Second)
				if n := int(asked.Load()) - got[2]; n != min(2, c.after[1]) {
					t.Errorf("asked %d times after a change", n)
				}
				good.Store(true)
				before := asked.Load()
				if run(netifdPause); c.after[1] == 1 {
					return
				}
				if len(d.ifaces) != len(two) {
					t.Error("not asked until it answered")
				}
				if want := configOf(t, c.options); len(want.Interfaces) != len(d.home.Networks) {
					t.Errorf("the answer was not taken over: %v", d.home.Networks)
				}
				if run(time.Hour); asked.Load() != before+1 {
					t.Errorf("asked %d times for an answer", asked.Load()-before)
				}
			})
		})
	}
}

// interfaces are those of a recorded answer.
func interfaces(t *testing.T, name string) []iface {
	t.Helper()
	ifs, err := parseDump(recorded(t, name))
	if err != nil {
		t.Fatal(err)
	}
	return ifs
}
