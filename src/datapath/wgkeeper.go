package datapath

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The keeper is for WireGuard what pppd is for L2TP. WireGuard has no link that
// comes up and goes down: a device takes packets whether anybody is at the
// other end or not. So the keeper gives a device its addresses when the first
// packet of the peer has come, and removes it when no more come. Everything
// else follows from these, as it does with PPP.
//
// Keepalives of WireGuard's own don't show that the peer is alive: each packet
// in either direction puts the next one off, so that of two idle ends with the
// same interval one never sends (measured: 180 bytes and no more in minutes).
// The keeper therefore sends an echo when nothing has come for a while. The
// peer's kernel answers, whether its daemon runs or not; where a firewall lets
// no echo pass, WireGuard itself answers within 10 s with an empty packet.
const (
	// Between two looks at a tunnel that is up.
	wgBeat = 4 * time.Second
	// Echoes without an answer after which the peer is given up: 20 to 24 s of
	// silence. They are counted, not timed: on a router that is so busy that the
	// keeper comes late everything is late.
	wgPatience = 4
	// For a client, to the first answer. Calls are 5 s apart.
	wgStartLimit = 20 * time.Second
	// Between two looks at a tunnel that is not up yet: at first, later.
	wgSoon, wgLater = 50 * time.Millisecond, 500 * time.Millisecond
	wgHaste         = 3 * time.Second
)

const wgGone = "the tunnel's device is gone"

// wgTunnel is a tunnel that the keeper looks after.
type wgTunnel struct {
	Tunnel
	begun, due time.Time
	since      time.Time // when it was up; zero: not yet
	received   uint64    // bytes, at the last look
	quiet      int       // looks since anything came
	ended      string    // why; the keeper is done with it
}

// keep has the keeper look after a tunnel, which may be up already. Callers
// hold w.mu.
func (w *wireguard) keep(t Tunnel, up bool) {
	x := &wgTunnel{Tunnel: t, begun: time.Now()}
	x.Secret = nil // not its business
	if up {
		x.since = x.begun
	}
	w.tunnels[t.Device] = x
	if !w.keeping {
		w.keeping = true
		go w.keeper()
		return
	}
	select {
	case w.wake <- struct{}{}:
	default: // it is awake already
	}
}

// keeper runs as long as there is a tunnel to look after.
func (w *wireguard) keeper() {
	for {
		w.mu.Lock()
		wait, any := w.look(time.Now())
		w.keeping = any
		w.mu.Unlock()
		if !any {
			return
		}
		select {
		case <-time.After(wait):
		case <-w.wake:
		}
	}
}

// look looks at the tunnels that are due and says when the next one is, if
// there are any. Callers hold w.mu.
func (w *wireguard) look(now time.Time) (wait time.Duration, any bool) {
	var counters string
	for _, name := range sortedKeys(w.tunnels) {
		x := w.tunnels[name]
		if x.ended != "" {
			continue
		}
		if !now.Before(x.due) {
			if counters == "" {
				b, err := os.ReadFile(filepath.Join(w.proc, "net/dev"))
				if err != nil { // of nothing that concerns the tunnels
					return wgBeat, true
				}
				counters = string(b)
			}
			x.due = now.Add(wgBeat)
			w.lookAt(x, now, counters)
		}
		if d := x.due.Sub(now); x.ended == "" && (!any || d < wait) {
			wait, any = d, true
		}
	}
	return wait, any
}

func (w *wireguard) lookAt(x *wgTunnel, now time.Time, counters string) {
	received, there := receivedBytes(counters, x.Device)
	switch {
	case !there:
		x.ended = wgGone
	case x.since.IsZero() && received == 0:
		age := now.Sub(x.begun)
		if x.due = now.Add(wgLater); age < wgHaste {
			x.due = now.Add(wgSoon)
		}
		if !x.Server && age > wgStartLimit {
			x.ended = "the other gateway does not answer on its WireGuard port (is a firewall in the way?)"
		}
	case x.since.IsZero():
		if err := w.wg.address(x.Device, x.LocalAddr, x.PeerAddr); err != nil {
			x.ended = err.Error()
			return
		}
		x.since, x.received = now, received
	case received != x.received:
		x.received, x.quiet = received, 0
	case x.quiet < wgPatience:
		x.quiet++
		w.echo(x)
	default:
		x.ended = "the other gateway fell silent"
		// This is the sign for whoever watches. What can't be removed now is
		// when the tunnel is no longer wanted.
		_ = w.wg.remove(x.Device)
	}
}

// receivedBytes finds a device in /proc/net/dev. WireGuard counts handshakes
// and keepalives, too.
func receivedBytes(table, device string) (uint64, bool) {
	for line := range strings.Lines(table) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		if f := strings.Fields(rest); name == device && len(f) > 0 {
			n, err := strconv.ParseUint(f[0], 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// sendEcho sends an echo request to the other end of the tunnel, whatever the
// routing rules of the router say. The answer counts by its bytes; nobody reads
// it. What can't be sent is not answered either, and that counts.
func sendEcho(x *wgTunnel) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_ICMP)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	if unix.BindToDevice(fd, x.Device) == nil {
		// Type 8, and the checksum of a message that is zero otherwise (RFC 792).
		_ = unix.Sendto(fd, []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}, 0, &unix.SockaddrInet4{Addr: x.PeerAddr.As4()})
	}
}
