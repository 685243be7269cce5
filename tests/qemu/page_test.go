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
// browser in each LAN, and a device of the one opens the other's web server.
func TestPage(t *testing.T) {
	ctx, l := newLab(t)
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
	script := page.Script{Flows: "flows/routers.mjs", App: "admin/services/htip", Artifacts: artifacts, Homes: map[string]page.Place{}, Users: map[string]string{"root": "secret", "guest": "guests"}}
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
	stop, err := hs[1].Host.Serve("192.168.1.5:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "<title>the disk of bob</title>asked as %s from %s", r.Host, r.RemoteAddr)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	page.Run(t, "../page", script)
}
