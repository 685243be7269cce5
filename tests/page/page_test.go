//go:build browser

package page

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"htip/tests/page/bridge"
)

// The flows run on the stand-in. With LUCI_DIR, a checkout of openwrt/luci, they
// run on LuCI's own JavaScript and theme as well. With LUCI_SERVE, a command that
// serves a real LuCI (see served), they run on that instead.

// TestHarness holds the stand-in, the bridge and the helpers for flows against what
// LuCI does, on an app that was made for that.
func TestHarness(t *testing.T) {
	everywhere(t, suite{app: "testdata/app", flows: "flows/dummy.mjs", homes: []string{"alice", "bob"}})
}

// TestApp is what people do on our own pages. The homes are strangers at first.
func TestApp(t *testing.T) {
	everywhere(t, suite{app: "../../luci-app-htip", flows: "flows/htip.mjs", homes: []string{"alice", "bob", "carol"}, strangers: true})
}

// suite is flows, and the app and the homes that they are for.
type suite struct {
	app, flows string
	homes      []string
	strangers  bool
}

func everywhere(t *testing.T, s suite) {
	if command := os.Getenv("LUCI_SERVE"); command != "" {
		served(t, s, command)
		return
	}
	t.Run("stand-in", func(t *testing.T) { onBridge(t, s, "") })
	if dir := os.Getenv("LUCI_DIR"); dir != "" {
		t.Run("LuCI", func(t *testing.T) { onBridge(t, s, dir) })
	}
}

// begin starts the homes, and what lets flows control them.
func begin(t *testing.T, s suite, luci string) ([]*Home, Script) {
	t.Helper()
	homes, err := Start(t.TempDir(), Options{App: bridge.AppIn(s.app), LuCI: luci, Strangers: s.strangers}, s.homes...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Close(homes); err != nil {
			t.Error(err)
		}
		for _, h := range homes {
			if t.Failed() {
				t.Logf("--- %s\n%s", h.Name, h.Log)
			}
		}
	})
	controls := http.NewServeMux()
	remote := httptest.NewServer(controls)
	t.Cleanup(remote.Close)
	artifacts, err := filepath.Abs(filepath.Join("../../build/page", t.Name()))
	if err == nil {
		err = os.RemoveAll(artifacts)
	}
	if err != nil {
		t.Fatal(err)
	}
	sc := Script{
		Flows: s.flows, App: "admin/services/htip", Only: os.Getenv("FLOWS"), Homes: map[string]Place{}, Artifacts: artifacts,
		Users: map[string]string{"root": Password, "guest": Password},
	}
	for _, h := range homes {
		controls.HandleFunc("POST /"+h.Name+"/{action}", func(w http.ResponseWriter, r *http.Request) {
			if err := h.Control(r.PathValue("action")); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
		sc.Homes[h.Name] = Place{URL: h.URL, Config: h.File(), Control: remote.URL + "/" + h.Name}
	}
	return homes, sc
}

func onBridge(t *testing.T, s suite, luci string) {
	_, sc := begin(t, s, luci)
	sc.LuCI, sc.Languages = luci != "", true
	Run(t, ".", sc)
}

// served runs the flows on pages that a command serves: those of a real uhttpd with
// rpcd and LuCI. It gets a line of JSON on standard input,
//
//	{"app": DIR, "users": {"root": PASSWORD, "guest": PASSWORD},
//	 "homes": [{"name": "alice", "socket": UBUSD'S SOCKET, "uci": DIR}, …]}
//
// and answers with a line that has the address of each home's pages,
//
//	{"alice": "http://…", "bob": "http://…"}
//
// Each line after that is the name of a home whose configuration htip was written.
// It ends when its standard input does. Root may do everything that access groups
// list, guest has their read rights.
func served(t *testing.T, s suite, command string) {
	app, err := filepath.Abs(s.app)
	if err != nil {
		t.Fatal(err)
	}
	homes, sc := begin(t, s, "")
	sc.LuCI = true
	type home struct {
		Name   string `json:"name"`
		Socket string `json:"socket"`
		UCI    string `json:"uci"`
	}
	ask := struct {
		App   string            `json:"app"`
		Users map[string]string `json:"users"`
		Homes []home            `json:"homes"`
	}{App: app, Users: sc.Users}
	for _, h := range homes {
		ask.Homes = append(ask.Homes, home{h.Name, h.Socket(), h.ConfigDir()})
	}
	cmd := exec.Command("sh", "-c", command)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	done := make(chan struct{})
	t.Cleanup(func() { in.Close(); <-done; cmd.Wait() })
	if err := json.NewEncoder(in).Encode(ask); err != nil {
		t.Fatal(err)
	}
	var urls map[string]string
	if !lines.Scan() || json.Unmarshal(lines.Bytes(), &urls) != nil {
		close(done)
		t.Fatalf("%s answers %q", command, lines.Text())
	}
	go func() {
		defer close(done)
		for lines.Scan() {
			for _, h := range homes {
				if h.Name == lines.Text() {
					h.Tell()
				}
			}
		}
	}()
	for name, url := range urls {
		p := sc.Homes[name]
		p.URL = strings.TrimSuffix(url, "/")
		sc.Homes[name] = p
	}
	Run(t, ".", sc)
}
