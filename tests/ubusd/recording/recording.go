// Package recording reads the recorded conversations of the real ubusd that are
// kept in src/ubus/testdata/wire.
//
// A file is one scenario, all its connections in the order of time. A line is
//
//	<connection> C>S|S>C <hex>|closed [+fd]
//
// with C>S from a client to ubusd. "closed" is the end of that direction; "+fd"
// says that a descriptor came with the message. The first line is a comment that
// says what was done. Ids are random and differ in every recording.
package recording

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Step is one message, or the end of one direction of a connection.
type Step struct {
	Line   int    // of the file
	Conn   string // name of the connection
	ToUbus bool   // from the client to ubusd
	Bytes  []byte // the whole message; nil when Closed
	Closed bool
	FD     bool // a descriptor came with it
}

// Scenario is one recording.
type Scenario struct {
	Name  string // file name without its ending
	Title string
	Steps []Step
}

// LoadAll reads all scenarios of a directory, in the order of their names.
func LoadAll(dir string) ([]Scenario, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil {
		return nil, err
	}
	out := make([]Scenario, 0, len(names))
	for _, name := range names {
		s, err := Load(name)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no recording in %s", dir)
	}
	return out, nil
}

// Load reads one scenario.
func Load(path string) (Scenario, error) {
	f, err := os.Open(path)
	if err != nil {
		return Scenario{}, err
	}
	defer f.Close()
	s := Scenario{Name: strings.TrimSuffix(filepath.Base(path), ".txt")}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 4<<20)
	for n := 1; lines.Scan(); n++ {
		if title, ok := strings.CutPrefix(lines.Text(), "# "); ok {
			s.Title = title
			continue
		}
		step, err := parse(strings.Fields(lines.Text()))
		if err != nil {
			return s, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		step.Line = n
		s.Steps = append(s.Steps, step)
	}
	return s, lines.Err()
}

func parse(words []string) (Step, error) {
	if len(words) < 3 || len(words) > 4 || words[1] != "C>S" && words[1] != "S>C" {
		return Step{}, fmt.Errorf("want connection, direction, message")
	}
	s := Step{Conn: words[0], ToUbus: words[1] == "C>S", Closed: words[2] == "closed"}
	if len(words) == 4 {
		if s.FD = words[3] == "+fd"; !s.FD {
			return s, fmt.Errorf("%q where +fd may stand", words[3])
		}
	}
	if s.Closed {
		return s, nil
	}
	var err error
	s.Bytes, err = hex.DecodeString(words[2])
	return s, err
}
