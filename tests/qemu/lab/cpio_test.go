package lab

import (
	"bytes"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"testing"
)

// readCPIO lists an archive's entries: mode, name, size, content of what is no directory.
func readCPIO(t *testing.T, b []byte) []string {
	t.Helper()
	var out []string
	for at := 0; ; {
		field := func(i int) int {
			n, err := strconv.ParseUint(string(b[at+6+8*i:at+14+8*i]), 16, 32)
			if err != nil {
				t.Fatalf("at %d: %v", at, err)
			}
			return int(n)
		}
		if string(b[at:at+6]) != "070701" {
			t.Fatalf("at %d: no entry", at)
		}
		mode, size, nameSize := field(1), field(6), field(11)
		name := strings.TrimRight(string(b[at+110:at+110+nameSize]), "\x00")
		data := (at + 110 + nameSize + 3) &^ 3
		if name == "TRAILER!!!" {
			return out
		}
		out = append(out, fmt.Sprintf("%o %s %q", mode, name, b[data:data+size]))
		at = (data + size + 3) &^ 3
	}
}

func TestCPIO(t *testing.T) {
	if err := newCPIOWriter(new(bytes.Buffer), 0).add("x", File{Mode: fs.ModeSocket}); err == nil {
		t.Error("a socket is accepted")
	}
	var b bytes.Buffer
	w := newCPIOWriter(&b, 1)
	for _, f := range []struct {
		name string
		File
	}{
		{"/etc/ppp/options", Text("a\n")},
		{"etc/../etc/hosts", Text("12345")},
		{"/bin/sh", File{Mode: fs.ModeSymlink | 0o777, Data: []byte("dash")}},
		{"/dev/console", File{Mode: fs.ModeCharDevice | 0o600, Dev: [2]uint32{5, 1}}},
		{"/etc", File{Mode: fs.ModeDir | 0o700}},
	} {
		if err := w.add(f.name, f.File); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	want := `40755 etc ""
40755 etc/ppp ""
100644 etc/ppp/options "a\n"
100644 etc/hosts "12345"
40755 bin ""
120777 bin/sh "dash"
40755 dev ""
20600 dev/console ""`
	if got := strings.Join(readCPIO(t, b.Bytes()), "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if b.Len()%4 != 0 {
		t.Errorf("length %d: another archive can't follow", b.Len())
	}
}
