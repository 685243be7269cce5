//go:build qemu

package qemu_test

import (
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"

	"htip/tests/page"
	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

// TestPage: two homes that are strangers are connected by their pages alone, with a
// browser in each LAN, and each opens the web server of a device of the other.
func TestPage(t *testing.T) {
	s := pages(t)
	s.FirstView, s.Noisy = 5000, true // other routers run beside these
	page.Run(t, "../page", s)
}

// TestFirstView is only about time.
func TestFirstView(t *testing.T) {
	s := pages(t)
	s.Only, s.FirstView = "first view", 1500 // 1 s is the aim: not by chance over it
	page.Run(t, "../page", s)
}

// pages are those of two routers, alice's and bob's.
func pages(t *testing.T) page.Script {
	ctx, l := newLabMIPS(t)
	hs, err := homes.Start(ctx, l,
		homes.Spec{Name: "alice", LAN: lan("192.168.1.1/24", "192.168.1.4", "pc"), Strangers: true},
		homes.Spec{Name: "bob", LAN: lan("192.168.1.1/24", "192.168.1.5", "nas"), Strangers: true})
	if err != nil {
		t.Fatal(err)
	}
	showLogs(t, hs...)
	program, err := lab.GoBuild(ctx, "htip/tests/page/bridge/cmd/bridge", l.Arch())
	if err != nil {
		t.Fatal(err)
	}
	binary, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	artifacts, err := filepath.Abs("../../build/page/routers")
	if err != nil {
		t.Fatal(err)
	}
	script := page.Script{Flows: "flows/routers.mjs", App: "admin/services/htip", Artifacts: artifacts, Homes: map[string]page.Place{}, Users: map[string]string{"root": "secret", "guest": "guests"}, Timeout: 60_000}
	for _, h := range hs {
		if err := h.Router.Put(ctx, "/tmp/bridge", binary, 0o755); err != nil {
			t.Fatal(err)
		}
		app := os.DirFS("../../luci-app-htip")
		for _, dir := range []string{"htdocs", "root"} {
			err := fs.WalkDir(app, dir, func(name string, d fs.DirEntry, err error) error {
				if err != nil || d.IsDir() {
					return err
				}
				data, err := fs.ReadFile(app, name)
				if err != nil {
					return err
				}
				h.Router.MustRun(ctx, "mkdir -p /tmp/app/"+filepath.Dir(name))
				return h.Router.Put(ctx, "/tmp/app/"+name, data, 0o644)
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		// Files of a package are older than today, and browsers keep old ones longer.
		h.Router.MustRun(ctx, "find /tmp/bridge /tmp/app -type f -exec touch -d '2026-01-01 00:00:00' {} +")
		h.Router.MustRun(ctx, "/tmp/bridge -listen :8080 -name "+h.Name+" -root-password secret -guest-password guests -htdocs /tmp/app/htdocs -root /tmp/app/root -changed '' >/tmp/bridge.log 2>&1 </dev/null &")
		resolv := filepath.Join(t.TempDir(), "resolv.conf")
		if err := os.WriteFile(resolv, fmt.Appendf(nil, "nameserver %s\n", h.Router.LAN(0).Router.Addr()), 0o644); err != nil {
			t.Fatal(err)
		}
		script.Homes[h.Name] = page.Place{URL: fmt.Sprintf("http://%s:8080", h.Router.LAN(0).Router.Addr()), Namespace: h.Host.Namespace(), Resolv: resolv}
	}
	for i, title := range []string{"pc of alice", "nas of bob"} {
		stop, err := hs[i].Host.Serve(hs[i].Host.Addr().String()+":80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "<title>%s</title>asked as %s from %s", title, r.Host, r.RemoteAddr)
		}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
	return script
}
