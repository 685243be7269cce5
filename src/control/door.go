package control

import (
	"net/netip"
	"slices"
	"time"
)

// limits of connections whose key has not been proven yet. A handshake costs a
// MIPS router tens of milliseconds (an emulated one 0.15 s) and some 50 kB for
// as long as it lasts: beyond its limits a connection costs an accept and a look at its address.
type limits struct {
	open, perHost    int // handshakes at a time
	burst, hostBurst int
	every, hostEvery time.Duration // between two handshakes once the burst is over
}

var (
	// anybody's: from one address or from thousands of them.
	anybody = limits{open: 8, perHost: 3, burst: 16, every: time.Second, hostBurst: 16, hostEvery: 3 * time.Second}
	// anybody's while they are a crowd: a router has other things to do.
	crowd = limits{open: 6, perHost: 3, burst: 8, every: 3 * time.Second, hostBurst: 8, hostEvery: 10 * time.Second}
	// friends': of addresses where peers are expected. Others who share such an
	// address, behind a carrier's NAT, share its limits. One peer has four of them
	// at most (addrsPerPeer in the daemon), and with those half of the rate and
	// not all of the room.
	friends = limits{open: 20, perHost: 4, burst: 32, every: 125 * time.Millisecond, hostBurst: 16, hostEvery: time.Second}
)

// Strangers are a crowd when more than a burst of them, and then more than one a
// second, is turned away: a person who tries again and again is none.
const (
	crowdBurst = 32
	crowdEvery = time.Second
	crowdFor   = 30 * time.Second // after the last of them
)

// hostsKept is how many addresses a lane remembers. With more of them at a time
// only the limits of all hold.
const hostsKept = 64

// lane is the way in for one kind of addresses.
type lane struct {
	*limits
	all   Rate
	hosts []*host    // that came last at the end
	open  []*pending // oldest first
}

type host struct {
	addr netip.Addr
	rate Rate
}

// enter lets a connection begin its handshake, or not. When too many handshakes
// are open the oldest ends, of its host or of all: a friend's takes well under a
// second, a stranger's may last for ever.
func (l *lane) enter(addr netip.Addr, now time.Duration) (out *pending, ok bool) {
	i := slices.IndexFunc(l.hosts, func(h *host) bool { return h.addr == addr })
	h := &host{addr: addr}
	if i >= 0 {
		h = l.hosts[i]
	}
	rate := h.rate
	if !rate.Take(now, l.hostBurst, l.hostEvery) || !l.all.Take(now, l.burst, l.every) {
		return nil, false
	}
	h.rate = rate
	if i < 0 && len(l.hosts) == hostsKept {
		i = 0
	}
	if i >= 0 {
		l.hosts = slices.Delete(l.hosts, i, i+1)
	}
	l.hosts = append(l.hosts, h)
	same, oldest := 0, -1
	for i, q := range l.open {
		if q.from.Addr() == addr {
			if same++; oldest < 0 {
				oldest = i
			}
		}
	}
	if same < l.perHost {
		oldest = 0
	}
	if same >= l.perHost || len(l.open) >= l.limits.open {
		out = l.open[oldest]
		l.open = slices.Delete(l.open, oldest, oldest+1)
	}
	return out, true
}

func (l *lane) leave(p *pending) {
	if i := slices.Index(l.open, p); i >= 0 {
		l.open = slices.Delete(l.open, i, i+1)
	}
}
