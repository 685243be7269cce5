package config

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestSections(t *testing.T) {
	path := filepath.Join(t.TempDir(), "firewall")
	if _, err := LoadSections(path); !errors.Is(err, os.ErrNotExist) {
		t.Error("no file, no error")
	}
	if _, err := LoadSections(filepath.Dir(path)); err == nil {
		t.Error("a folder was read")
	}
	os.WriteFile(path, []byte("config 'zone\n"), 0o600)
	if _, err := LoadSections(path); err == nil {
		t.Error("half a file was read")
	}
	os.WriteFile(path, []byte("config zone\noption name LAN\nlist device 'a  b'\nlist device c\nlist empty ''\noption enabled Off\noption masq 'on true'\n"), 0o600)
	list, err := LoadSections(path)
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	s := list[0]
	if s.Label != "@zone[0]" || !s.Kind("zone") || s.Is("zone") || s.Truth("masq", false) || !s.Truth("masq", true) || s.Text("name") != "LAN" || s.Word("name") != "lan" ||
		!slices.Equal(s.Words("device"), []string{"a", "b", "c"}) || s.Words("empty") != nil || s.Text("none") != "" || s.Only("name device") || !s.Only("name device empty enabled masq") {
		t.Errorf("%+v", s.s)
	}
}

func TestParsePorts(t *testing.T) {
	for _, bad := range []string{"", "0", "-", "1-", "2-1", "65536", "!80", "80 ", "+1", "1-2-3", "x"} {
		if p, ok := ParsePorts(bad); ok {
			t.Errorf("%q: %v", bad, p)
		}
	}
	for in, want := range map[string]string{"1": "1", "80-90": "80-90", "65535-65535": "65535"} {
		if p, ok := ParsePorts(in); !ok || p.String() != want {
			t.Errorf("%q: %v", in, p)
		}
	}
}
