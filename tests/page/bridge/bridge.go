// Package bridge stands in for what an OpenWrt router has between a browser and
// its bus: uhttpd with its ubus module, rpcd's objects session and uci, and the
// part of LuCI that runs on the router. It serves one app.
//
// What it answers was read off the sources of the real ones, down to the codes of
// errors. What a router has beyond that, and an app of ours does not touch, is not
// here: files, other apps, HTTPS.
package bridge

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"htip/src/ubus"
)

// Config is what a [Bridge] needs. Socket, UCI, App and Users must be set.
type Config struct {
	Socket string // ubusd's
	UCI    string // stands for /etc/config
	App    App
	Users  []User

	// LuCI is a checkout of openwrt/luci, whose JavaScript and theme are served in
	// the place of the stand-in's.
	LuCI string
	// Changed is told of each configuration that was written, and by that stands
	// for reload_config. May be nil.
	Changed func(config string)

	Host           string        // the router's name, in titles; OpenWrt when empty
	SessionTimeout time.Duration // five minutes when 0, as rpcd's
	CallTimeout    time.Duration // how long a call may take; a minute when 0, as uhttpd's
}

// App is where the files of an app lie.
type App struct {
	Htdocs string // what goes to /www
	Root   string // what goes to /
	Po     string // translations: <language>/<name>.po
}

// AppIn is an app as it lies in a repository.
func AppIn(dir string) App {
	return App{Htdocs: filepath.Join(dir, "htdocs"), Root: filepath.Join(dir, "root"), Po: filepath.Join(dir, "po")}
}

// User may log in. Read and Write are the access groups whose rights of that kind
// the user has, with wildcards; who may write may read as well.
type User struct {
	Name, Password string
	Read, Write    []string
}

// Root may do everything that the groups list.
func Root(password string) User {
	return User{Name: "root", Password: password, Read: []string{"*"}, Write: []string{"*"}}
}

// Guest may see what the groups list under read.
func Guest(password string) User {
	return User{Name: "guest", Password: password, Read: []string{"*"}}
}

// Bridge is an [http.Handler] that serves one router.
type Bridge struct {
	cfg    Config
	groups []accessGroup
	mux    *http.ServeMux

	mu       sync.Mutex // guards what follows, and files of UCI
	sessions map[string]*session
	applying *applying
	confirm  confirmation
}

// New reads the app's access groups.
func New(cfg Config) (*Bridge, error) {
	if cfg.Host == "" {
		cfg.Host = "OpenWrt"
	}
	if cfg.SessionTimeout == 0 {
		cfg.SessionTimeout = 5 * time.Minute
	}
	if cfg.CallTimeout == 0 {
		cfg.CallTimeout = time.Minute
	}
	b := &Bridge{cfg: cfg, mux: http.NewServeMux(), sessions: map[string]*session{}}
	var err error
	if b.groups, err = readGroups(filepath.Join(cfg.App.Root, "usr/share/rpcd/acl.d/*.json")); err != nil {
		return nil, err
	}
	if _, err := b.menu(); err != nil { // read anew for each page, but a bad one is told at once
		return nil, err
	}
	b.sessions[nobody] = b.newSession(nobody, nil, 0)
	b.mux.HandleFunc("POST /ubus/", b.serveUbus)
	b.mux.HandleFunc("GET "+resources+"/", b.serveResource)
	b.mux.HandleFunc("GET "+media+"/", b.serveMedia)
	b.mux.HandleFunc(script, b.dispatch)
	b.mux.HandleFunc(script+"/", b.dispatch)
	b.mux.HandleFunc("POST /cgi-bin/cgi-exec", b.servePeerAddress)
	b.mux.Handle("GET /{$}", http.RedirectHandler(script+"/", http.StatusFound))
	return b, nil
}

// ServeHTTP answers a browser.
func (b *Bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) { b.mux.ServeHTTP(w, r) }

const (
	script    = "/cgi-bin/luci"
	resources = "/luci-static/resources"
	media     = "/luci-static/bootstrap"
)

// serveResource serves a file of the app, or else of the loader.
func (b *Bridge) serveResource(w http.ResponseWriter, r *http.Request) {
	name := path.Clean(r.URL.Path)
	own := filepath.Join(b.cfg.App.Htdocs, filepath.FromSlash(name))
	if st, err := os.Stat(own); err == nil && st.Mode().IsRegular() {
		http.ServeFile(w, r, own)
		return
	}
	b.serveLoader(w, r, name[len(resources):])
}

// servePeerAddress answers the one program that LuCI's core runs: it tells over
// which interfaces the browser came, to warn of a change to one of them.
func (b *Bridge) servePeerAddress(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Write([]byte(`{"inbound_interfaces":[]}`))
}

// local are the objects that rpcd has; everything else is asked on the bus.
func (b *Bridge) local() map[string]object {
	return map[string]object{"session": b.sessionObject(), "uci": b.uciObject(), "luci": luciObject()}
}

// object is the methods of an object, by name.
type object map[string]method

// method is one of an object's: its arguments, and what it does in the name of a
// session.
type method struct {
	args []ubus.Arg
	call func(sid string, args ubus.Table) (ubus.Table, error)
}

// luciObject is what LuCI has beside its pages: what this router can do. Its core
// asks for it at every login.
func luciObject() object {
	return object{"getFeatures": {call: func(string, ubus.Table) (ubus.Table, error) {
		return ubus.T("firewall4", true, "opkg", true, "ipv6", true, "sysntpd", true), nil
	}}}
}

// dial connects to the bus.
func (b *Bridge) dial(ctx context.Context) (*ubus.Conn, error) { return ubus.Dial(ctx, b.cfg.Socket) }

func randomID() string {
	var id [16]byte
	rand.Read(id[:]) // never fails, says its documentation
	return hex.EncodeToString(id[:])
}
