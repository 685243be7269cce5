package datapath

import (
	"context"
	"time"
)

// driver makes links of one tunnel protocol. NAT, routes and connection
// tracking are the manager's business and the same for all of them.
//
// Links appear under the tunnel's Device with LocalAddr and PeerAddr on them,
// at once (a driver that configures the kernel itself) or later (one that runs
// a negotiation); the manager learns of it from the kernel.
type driver interface {
	// missing says in plain words what this router lacks, nothing if tunnels
	// are possible.
	missing(ctx context.Context) []string
	// held lists the devices of which anything of this driver exists:
	// processes, files, links.
	held() ([]string, error)
	// runs tells whether the tunnel exists and has exactly these settings, or
	// only listens so far and adopt can give it the rest.
	runs(t Tunnel) (bool, error)
	// adopt is called for tunnels that run, after each comparison and once the
	// rules are right; it restores what a former life of the daemon did in
	// memory, and lets a server that only listened take its call.
	adopt(t Tunnel) error
	// start makes the tunnel. For a server it returns when clients can call.
	start(ctx context.Context, t Tunnel) error
	// end removes everything of the device; nothing being there is success.
	end(ctx context.Context, device string) error
	// state looks how the tunnel is.
	state(t Tunnel) (driverState, error)
	// housekeep is called now and then.
	housekeep(device string) error
	// sweep is called when no tunnel is left, and removes what belongs to none.
	sweep() error
}

// driverState is what a driver knows of a tunnel beyond its link.
type driverState struct {
	running bool      // the processes that it needs at this stage are there
	ended   bool      // it will not come up any more by itself
	since   time.Time // since when the link exists; zero if it does not
	kernel  bool      // data packets stay in the kernel
	slow    string    // what makes it faster, if it is not the kernel
	reason  string    // where it is, or why it is not up, in plain words
	line    string    // the log line behind reason
}
