package page

import (
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Script is the configuration of run.mjs, which says what its fields mean.
type Script struct {
	Flows     string            `json:"flows"`
	App       string            `json:"app"`
	Only      string            `json:"only,omitempty"`
	Homes     map[string]Place  `json:"homes"`
	Users     map[string]string `json:"users"`
	Artifacts string            `json:"artifacts"`
	LuCI      bool              `json:"luci"`
	Languages bool              `json:"languages"`
	Timeout   int               `json:"timeout,omitempty"`
	FirstView int               `json:"firstView,omitempty"`
	Noisy     bool              `json:"noisy,omitempty"`
}

// Place is where a home's pages and configuration are, and what controls it.
type Place struct {
	URL     string `json:"url"`
	Config  string `json:"config"`
	Control string `json:"control"`
	// Namespace is the network in which the browser is, Resolv its resolv.conf.
	Namespace string `json:"netns,omitempty"`
	Resolv    string `json:"resolv,omitempty"`
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

// Run runs flows, each as a test of its own. Dir is where this package lies.
func Run(t *testing.T, dir string, s Script) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(dir, "node_modules/playwright-core")); err != nil {
		t.Fatalf("%v: run scripts/setup", err)
	}
	config, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	var errs bytes.Buffer
	cmd := exec.Command("node", "run.mjs")
	cmd.Dir = dir
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
	if flows == 0 && s.Only == "" {
		t.Error("no flow ran")
	}
}
