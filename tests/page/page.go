// Package page serves the pages of homes to browsers: real daemons with a fake
// kernel, each on a bus of its own behind a bridge. README.md tells how to use it
// by hand.
package page

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"

	"htip/src/slog"
	"htip/src/ubus"
	"htip/tests/page/bridge"
	"htip/tests/town"
)

// Passwords of the two users that every home has.
const (
	RootPassword  = "root's"
	GuestPassword = "guest's"
)

// Options are what the homes have in common.
type Options struct {
	App  bridge.App
	LuCI string // a checkout of openwrt/luci; "" for the stand-in
	Port int    // of the first home's pages, the next one higher for the next; 0 for any
}

// Home is a daemon whose pages can be looked at.
type Home struct {
	*town.Home
	Bridge *bridge.Bridge
	URL    string

	server *http.Server
	procd  func() // ends what stands for procd
}

// luciConfig makes LuCI wait less than it does on a router after changes were put
// into force.
const luciConfig = `config core 'main'
	option lang 'auto'

config internal 'apply'
	option holdoff '1'
	option display '1'
`

// Start starts homes in dir that are each other's peers.
func Start(dir string, opt Options, names ...string) (homes []*Home, err error) {
	made, err := town.New(dir, names...)
	if err != nil {
		return nil, err
	}
	for _, h := range made {
		homes = append(homes, &Home{Home: h})
	}
	for i, h := range homes {
		if err := h.start(opt, i, made); err != nil {
			return nil, errors.Join(fmt.Errorf("home %s: %w", h.Name, err), Close(homes))
		}
	}
	return homes, nil
}

func (h *Home) start(opt Options, i int, all []*town.Home) error {
	if err := h.Configure(all...); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(h.ConfigDir(), "luci"), []byte(luciConfig), 0o644); err != nil {
		return err
	}
	if err := h.Home.Start(); err != nil {
		return err
	}
	if err := h.startProcd(); err != nil {
		return err
	}
	var err error
	h.Bridge, err = bridge.New(bridge.Config{
		Socket: h.Socket(), UCI: h.ConfigDir(), App: opt.App, LuCI: opt.LuCI, Host: h.Name,
		Users:   []bridge.User{bridge.Root(RootPassword), bridge.Guest(GuestPassword)},
		Changed: h.changed,
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

// changed has the daemon read its configuration, if it was that.
func (h *Home) changed(config string) {
	if config != "htip" {
		return
	}
	if err := h.Changed(); err != nil {
		fmt.Fprintln(h.Log, err)
	}
}

// startProcd is procd's object, as far as a real rpcd calls it: it tells there which
// configuration it has written.
func (h *Home) startProcd() error {
	quiet := slog.New(slog.NewTextHandler(io.Discard, nil))
	args := []ubus.Arg{{Name: "type", Type: ubus.TypeString}, {Name: "data", Type: ubus.TypeTable}}
	server, err := ubus.NewServer(ubus.ServerConfig{Socket: h.Socket(), Options: ubus.Options{Log: quiet}, Objects: []*ubus.Object{{
		Name: "service", Methods: []ubus.Method{{Name: "event", Args: args, Handler: func(_ context.Context, r *ubus.Request) (ubus.Table, error) {
			data, _ := r.Args.GetTable("data")
			if config, ok := data.GetString("package"); ok {
				h.changed(config)
			}
			return nil, nil
		}}},
	}}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx) }()
	h.procd = func() { cancel(); <-ended }
	<-server.Ready()
	return nil
}

// Close ends everything.
func Close(homes []*Home) error {
	var made []*town.Home
	for _, h := range homes {
		made = append(made, h.Home)
		if h.server != nil {
			h.server.Close()
		}
		if h.procd != nil {
			h.procd()
		}
	}
	return town.Close(made)
}
