//go:build browser

package page

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"htip/tests/page/bridge"
)

// The flows run on the stand-in. With LUCI_DIR, a checkout of openwrt/luci, they
// run on LuCI's own JavaScript and theme as well. With LUCI_SERVE, a command that
// serves real ones (see served), they run on these instead.

// TestHarness holds the stand-in, the bridge and the helpers for flows against what
// LuCI does, on an app that was made for that.
func TestHarness(t *testing.T) { everywhere(t, "testdata/app", "flows/dummy.mjs") }

// TestApp is what people do on our own pages.
func TestApp(t *testing.T) { everywhere(t, "../../luci-app-htip", "flows/htip.mjs") }

func everywhere(t *testing.T, app, flows string) {
	if command := os.Getenv("LUCI_SERVE"); command != "" {
		served(t, command, app, flows)
		return
	}
	t.Run("stand-in", func(t *testing.T) { onBridge(t, app, flows, "") })
	if dir := os.Getenv("LUCI_DIR"); dir != "" {
		t.Run("LuCI", func(t *testing.T) { onBridge(t, app, flows, dir) })
	}
}

// script is the configuration of run.mjs.
type script struct {
	Flows     string            `json:"flows"`
	Only      string            `json:"only,omitempty"`
	Homes     map[string]place  `json:"homes"`
	Users     map[string]string `json:"users"`
	Artifacts string            `json:"artifacts"`
	LuCI      bool              `json:"luci"`
	Languages bool              `json:"languages"`
}

// place is where a home's pages and configuration are.
type place struct {
	URL    string `json:"url"`
	Config string `json:"config"`
}

func newScript(t *testing.T, flows string, homes []*Home) script {
	t.Helper()
	artifacts, err := filepath.Abs(filepath.Join("../../build/page", t.Name()))
	if err == nil {
		err = os.RemoveAll(artifacts)
	}
	if err != nil {
		t.Fatal(err)
	}
	s := script{
		Flows: flows, Only: os.Getenv("FLOWS"), Homes: map[string]place{}, Artifacts: artifacts,
		Users: map[string]string{"root": RootPassword, "guest": GuestPassword},
	}
	for _, h := range homes {
		s.Homes[h.Name] = place{h.URL, h.File()}
	}
	return s
}

func start(t *testing.T, opt Options) []*Home {
	t.Helper()
	homes, err := Start(t.TempDir(), opt, "alice", "bob")
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
	return homes
}

func onBridge(t *testing.T, app, flows, luci string) {
	homes := start(t, Options{App: bridge.AppIn(app), LuCI: luci})
	s := newScript(t, flows, homes)
	s.LuCI, s.Languages = luci != "", true
	run(t, s)
}

// served runs the flows on pages that a command serves, for example a real uhttpd
// with rpcd and LuCI. It gets a line of JSON on standard input,
//
//	{"app": DIR, "users": {"root": PASSWORD, "guest": PASSWORD},
//	 "homes": [{"name": "alice", "socket": UBUSD'S SOCKET, "uci": DIR}, …]}
//
// answers with a line that has the address of each home's pages,
//
//	{"alice": "http://…", "bob": "http://…"}
//
// and ends when its standard input does. Root may do everything that access groups
// list, guest has their read rights. The object "service", to which rpcd tells what
// it has written, is on the bus.
func served(t *testing.T, command, app, flows string) {
	dir, err := filepath.Abs(app)
	if err != nil {
		t.Fatal(err)
	}
	homes := start(t, Options{App: bridge.AppIn(app)})
	s := newScript(t, flows, homes)
	s.LuCI = true
	type home struct {
		Name   string `json:"name"`
		Socket string `json:"socket"`
		UCI    string `json:"uci"`
	}
	ask := struct {
		App   string            `json:"app"`
		Users map[string]string `json:"users"`
		Homes []home            `json:"homes"`
	}{App: dir, Users: s.Users}
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
	t.Cleanup(func() { in.Close(); cmd.Wait() })
	if err := json.NewEncoder(in).Encode(ask); err != nil {
		t.Fatal(err)
	}
	answers := bufio.NewReader(out)
	line, err := answers.ReadBytes('\n')
	var urls map[string]string
	if err != nil || json.Unmarshal(line, &urls) != nil {
		t.Fatalf("%s answers %q, %v", command, line, err)
	}
	go io.Copy(io.Discard, answers)
	for name, url := range urls {
		p := s.Homes[name]
		p.URL = strings.TrimSuffix(url, "/")
		s.Homes[name] = p
	}
	run(t, s)
}

// result is a line of run.mjs.
type result struct {
	Flow  string
	OK    bool
	MS    int64
	Notes []any
	Error *struct {
		Message        string
		Seen, Pictures []string
	}
}

// run runs the flows, each as a test of its own.
func run(t *testing.T, s script) {
	t.Helper()
	if _, err := os.Stat("node_modules/playwright-core"); err != nil {
		t.Fatalf("%v: run scripts/setup", err)
	}
	config, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd := exec.Command("node", "run.mjs")
	cmd.Stdin, cmd.Stderr = bytes.NewReader(config), &errs
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	flows := 0
	lines := json.NewDecoder(out)
	for {
		var r result
		if err := lines.Decode(&r); err == io.EOF {
			break
		} else if err != nil {
			t.Errorf("run.mjs: %v", err)
			break
		}
		flows++
		t.Run(r.Flow, func(t *testing.T) {
			t.Logf("%v %v", time.Duration(r.MS)*time.Millisecond, r.Notes)
			if r.Error != nil {
				t.Errorf("%s\nseen: %s\npictures: %s", r.Error.Message, strings.Join(r.Error.Seen, "\n"), strings.Join(r.Error.Pictures, " "))
			}
		})
	}
	if err := cmd.Wait(); err != nil {
		t.Errorf("run.mjs: %v\n%s", err, errs.String())
	}
	if flows == 0 {
		t.Error("no flow ran")
	}
}
