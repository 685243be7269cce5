package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"htip/src/control"
	"htip/src/datapath"
	"htip/src/htip"
)

// What a gateway keeps lies in two files. state.json, on flash, changes only
// when a home is met for the first time or has been renumbered: flash wears
// out. tunnels.json, in RAM, is what a new process needs to take tunnels over.
const (
	stateFile   = "state.json"
	tunnelsFile = "tunnels.json"
	maxState    = 1 << 20 // octets; 1,000 peers need a third of it
)

// home is what is remembered of another home.
type homeState struct {
	Key    []byte      // whose substitutes these are: a new key under an old name is another home
	Record htip.Record // substitutes of the last tunnel
	Wanted bool        `json:",omitempty"` // somebody here asked for the tunnel: it comes back after a reboot
}

type state struct {
	Peers map[string]homeState
}

// tunnel is a line of the connection table with what its VPN programs need.
type tunnel struct {
	Entry  htip.Entry
	Tunnel datapath.Tunnel
	Since  int64 // when it was up, seconds since 1970

	started bool // its programs run
	link    bool // its device is up
	linked  bool // and the state machine knows
}

// readJSON reads a file of ours; one that is not there leaves v as it is.
func readJSON(path string, v any) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%s is damaged: %w", path, err)
	}
	return nil
}

func writeJSON(path string, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return control.WriteFile(path, append(b, '\n'))
}
