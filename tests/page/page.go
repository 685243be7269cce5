// Package page serves the pages of homes to browsers: real daemons with a fake
// kernel, each on a bus of its own behind a bridge. README.md tells how to use it
// by hand.
package page

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"htip/src/config"
	"htip/src/control"
	"htip/src/daemon"
	"htip/src/datapath"
	"htip/src/dns"
	"htip/tests/openwrt/uci"
	"htip/tests/page/bridge"
	"htip/tests/town"
)

// Password is that of root, and of guest, who may only look.
const Password = "test"

// Options are what the homes have in common.
type Options struct {
	App       bridge.App
	LuCI      string // a checkout of openwrt/luci; "" for the stand-in
	Port      int    // of the first home's pages, the next one higher for the next; 0 for any
	Strangers bool   // the homes are not each other's peers
}

// Home is a daemon whose pages can be looked at.
type Home struct {
	*town.Home
	Bridge *bridge.Bridge
	URL    string

	server *http.Server
}

// luciConfig makes LuCI wait less than it does on a router after changes were put
// into force.
const luciConfig = `config core 'main'
	option lang 'auto'

config internal 'apply'
	option holdoff '1'
	option display '1'
`

// Start starts homes in dir.
func Start(dir string, opt Options, names ...string) (homes []*Home, err error) {
	port := 0
	if opt.Strangers {
		port = int(config.Defaults().Main.Port) // where they look for each other
	}
	made, err := town.New(dir, port, names...)
	if err != nil {
		return nil, err
	}
	for _, h := range made {
		homes = append(homes, &Home{Home: h})
	}
	peers := made
	if opt.Strangers {
		peers = nil
	}
	for i, h := range homes {
		if err := h.start(opt, i, peers); err != nil {
			return nil, errors.Join(fmt.Errorf("home %s: %w", h.Name, err), Close(homes))
		}
	}
	return homes, nil
}

func (h *Home) start(opt Options, i int, peers []*town.Home) error {
	h.Path.CapabilitiesValue = []datapath.Capability{{Protocol: datapath.ProtocolWireGuard}}
	h.PathAs, h.NamesAs = &traffic{Fake: h.Path, since: map[string]time.Time{}}, devices{h.Names}
	h.LinkTime = 1500 * time.Millisecond // for the progress to be seen
	if err := h.Configure(peers...); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(h.ConfigDir(), "luci"), []byte(luciConfig), 0o644); err != nil {
		return err
	}
	if err := h.Home.Start(); err != nil {
		return err
	}
	var err error
	h.Bridge, err = bridge.New(bridge.Config{
		Socket: h.Socket(), UCI: h.ConfigDir(), App: opt.App, LuCI: opt.LuCI, Host: h.Name,
		Users: []bridge.User{bridge.Root(Password), bridge.Guest(Password)},
		Changed: func(config string) {
			if config == "htip" {
				h.Tell()
			}
		},
	})
	if err != nil {
		return err
	}
	port := 0
	if opt.Port != 0 {
		port = opt.Port + i
	}
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	h.URL = "http://" + l.Addr().String()
	h.server = &http.Server{Handler: h.Bridge}
	go h.server.Serve(l)
	return nil
}

// Tell has the daemon read its configuration, or starts it, as its init script does
// when the configuration was written.
func (h *Home) Tell() {
	if err := h.Changed(); err != nil {
		fmt.Fprintln(h.Log, err)
	}
}

// Close ends everything.
func Close(homes []*Home) error {
	var made []*town.Home
	for _, h := range homes {
		made = append(made, h.Home)
		if h.server != nil {
			h.server.Close()
		}
	}
	return town.Close(made)
}

// traffic is a fake kernel through whose tunnels something passes: 20 kB/s in, 3
// kB/s out.
type traffic struct {
	*datapath.Fake
	mu    sync.Mutex
	since map[string]time.Time // when a device was first seen up
}

// Status counts.
func (t *traffic) Status(device string) (datapath.Status, error) {
	s, err := t.Fake.Status(device)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil || s.State != datapath.Up {
		delete(t.since, device)
		return s, err
	}
	if t.since[device].IsZero() {
		t.since[device] = time.Now()
	}
	ms := uint64(time.Since(t.since[device]).Milliseconds())
	s.In, s.Out = 20*ms, 3*ms
	return s, nil
}

// devices are names of which each connected home has two.
type devices struct{ *daemon.FakeNames }

// Hosts are a nas and a printer.
func (d devices) Hosts(_ context.Context, peer string) (out []dns.Host, err error) {
	for _, p := range d.Peers() {
		if p.Name != peer || len(p.Substitutes) == 0 {
			continue
		}
		a := p.Substitutes[0].Masked().Addr().As4()
		for i, host := range []string{"nas", "printer"} {
			a[3] = byte(20 + i)
			out = append(out, dns.Host{Host: host, Name: host + "." + peer + ".internal", Addr: netip.AddrFrom4(a)})
		}
	}
	return out, nil
}

// Control does to a home what no page can do: to end the daemon (stop) and start it
// again (start), to make it as after the installation (off), to give it 28 more
// peers (thirty) and to take these away (fewer).
func (h *Home) Control(action string) error {
	switch action {
	case "stop":
		return h.Stop()
	case "start":
		return h.Home.Start()
	case "off":
		if err := h.Stop(); err != nil {
			return err
		}
		return h.edit(func(p *uci.Package) {
			main := p.Find("main")
			main.Options = slices.DeleteFunc(main.Options, func(o *uci.Option) bool { return o.Name == "domain" })
			main.Option("enabled").Values = []string{"0"}
		})
	case "thirty":
		defer h.Tell()
		return h.edit(func(p *uci.Package) {
			for i := range 28 {
				p.Sections = append(p.Sections, anotherHome(i))
			}
		})
	case "fewer":
		defer h.Tell()
		return h.edit(func(p *uci.Package) {
			p.Sections = slices.DeleteFunc(p.Sections, func(s *uci.Section) bool { return strings.HasPrefix(s.Name, "home") })
		})
	}
	return fmt.Errorf("home %s: no such action: %q", h.Name, action)
}

// anotherHome is a peer that never answers; every second one only calls.
func anotherHome(i int) *uci.Section {
	var key [32]byte
	rand.Read(key[:]) // never fails, says its documentation
	s := &uci.Section{Type: "peer", Name: fmt.Sprintf("home%02d", i+3), Options: []*uci.Option{{Name: "key", Values: []string{control.EncodeKey(key[:])}}}}
	if i%2 == 0 {
		s.Options = append(s.Options, &uci.Option{Name: "domain", Values: []string{s.Name + ".example.net"}})
	}
	return s
}

// edit changes the configuration by hand.
func (h *Home) edit(f func(*uci.Package)) error {
	p, err := uci.Read(h.File())
	if err != nil {
		return err
	}
	f(p)
	return p.Write(h.File())
}
