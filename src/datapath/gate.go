package datapath

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// A server's pppd reads two files of options: a named pipe, the gate, where it
// waits until we open it, and then those that are meant. The gate itself
// carries nothing but time: of several readers of a pipe only one gets what is
// written, and a pppd without options would be a link that nobody guards, with
// addresses of the caller's choice.
//
// Why: both ends start their pppd in the same instant, and the first LCP
// packet of the one that is ready earlier reaches nobody. It is sent again only
// after the restart timer, whose unit is the second. The LAC's pppd begins
// earlier (it is started before ICCN is on its way, RFC 2661 §7.2.1) and is
// told to be silent; the server's, held back for gateDelay at its own side of
// the line, then finds it listening, however long the line is. (Measured on two
// equal routers: 60 ms were enough in 14 of 14 calls. The rest is for a slow
// initiator; if even that is not enough, a second is lost and nothing else.)
const (
	gateDelay = 100 * time.Millisecond
	// After a reader, until it has surely seen the end and closed the pipe.
	gateRest = 250 * time.Millisecond
	// How often the gate looks for a reader: while a caller is expected, and
	// later. Looking costs a MIPS router about 4 ms.
	gateSoon    = 50 * time.Millisecond
	gateLater   = 5 * time.Second
	gatePatient = 30 * time.Second
)

// serveGate opens the pipe for all who wait at it, a moment after the first one
// came, until the context ends or the pipe is gone. A call may fail and be tried
// again by the peer, so it goes on after the first.
func serveGate(ctx context.Context, pipe string) {
	began := time.Now()
	for {
		wait := gateSoon
		if time.Since(began) > gatePatient {
			wait = gateLater
		}
		// Without a reader the open fails instead of waiting for one, so that
		// no thread hangs in it for the tunnel's lifetime.
		f, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return
		case err == nil:
			pause(ctx, gateDelay)
			_ = f.Close() // all readers see the end
			wait = gateRest
		}
		if !pause(ctx, wait) {
			return
		}
	}
}

// pause sleeps and says whether there is reason to go on.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
