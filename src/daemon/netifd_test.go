package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"htip/src/config"
	"htip/src/slog"
	"htip/src/ubus"
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
		"a table that is a text": {`{"interface":[{"interface":"wan","up":true,"route":[{"target":"0.0.0.0","mask":0,"table":"main"}]}]}`, "table: no number"},
		"interfaces without end": {`{"interface":[` + strings.Repeat(`{"interface":"x","up":true},`, maxIfaces) + `{"interface":"lan","up":true}]}`, "too long"},
		"bad behind the good":    {`{"interface":[{"interface":"lan","up":true},{"interface":"wan"}]}`, "up: missing"},
		"routes without end":     {`{"interface":[{"interface":"wan","up":true,"route":[` + strings.Repeat(`{"target":"10.0.0.0","mask":8},`, maxIfaces) + `{"target":"0.0.0.0","mask":0}]}]}`, "too long"},
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

// TestNetifdHome: netifd's answer and the kernel's addresses make the home.
func TestNetifdHome(t *testing.T) {
	factory := []link{at("lo", "127.0.0.1/8"), at("br-lan", "192.168.1.1/24"), at("wan", "203.0.113.7/24"), def("wan")}
	two := []link{
		at("lo", "127.0.0.1/8"), at("eth1.7", "192.168.100.2/24"), at("br-lan", "192.168.9.1/24"), at("br-lan", "192.168.1.1/24"), at("br-guest", "192.168.3.1/24"),
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
		{name: "no netifd, no br-lan", links: two[:2], home: "br-lan has no IPv4 address"},

		{name: "no netifd, but an interface of it", options: "list interface guest", links: two, home: "guest has no IPv4 address", wans: " pppoe-wan 198.51.100.20;  wwan0 10.170.3.9", problem: "interface guest is not there"},

		{name: "from the factory", dump: "factory", links: factory, home: "[192.168.1.0/24] 192.168.1.1", wans: "wan wan 203.0.113.7"},
		{name: "no netifd", links: two, home: "[192.168.9.0/24 192.168.1.0/24] 192.168.9.1", wans: " pppoe-wan 198.51.100.20;  wwan0 10.170.3.9"},
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
