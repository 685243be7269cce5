package daemon

import (
	"context"
	"net/netip"
	"slices"
	"sort"
	"sync"
	"time"

	"htip/src/config"
	"htip/src/control"
	"htip/src/datapath"
)

const (
	addrsPerPeer = 4 // expected addresses of one peer; the oldest goes
	// Public names of peers are looked up only while strangers crowd the port.
	lookEvery  = 30 * time.Second // from one round to the next
	lookAllIn  = 25 * time.Second // a round
	lookEachIn = 5 * time.Second
	// calmAfter is how long nobody must have been turned away until the firewall
	// lets all connections in again.
	calmAfter = 2 * lookEvery
)

// friends are the addresses on the Internet from which peers are expected: those
// from which they came or where they were found, and those of their public
// names. An address proves nothing. It decides who waits in which line when
// there is a crowd. The zero value knows none.
type friends struct {
	mu     sync.Mutex
	list   []*friend // oldest first
	rounds control.Rate
}

type friend struct {
	addr netip.Addr
	peer string
}

func (f *friends) add(a netip.Addr, peer string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = slices.DeleteFunc(f.list, func(x *friend) bool { return x.addr == a && x.peer == peer })
	f.list = append(f.list, &friend{a, peer})
	n, oldest := 0, 0
	for i := len(f.list) - 1; i >= 0; i-- {
		if f.list[i].peer == peer {
			n, oldest = n+1, i
		}
	}
	if n > addrsPerPeer {
		f.list = slices.Delete(f.list, oldest, oldest+1)
	}
}

// keep forgets the addresses of homes that are no peers any more.
func (f *friends) keep(peer func(string) *config.Peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.list = slices.DeleteFunc(f.list, func(x *friend) bool { return peer(x.peer) == nil })
}

// addrs are all addresses, ascending.
func (f *friends) addrs() (addrs []netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.list {
		addrs = append(addrs, x.addr)
	}
	sort.Slice(addrs, func(i, j int) bool { return addrs[i].Less(addrs[j]) })
	return slices.Compact(addrs)
}

// expected is called for every connection of a flood.
func (f *friends) expected(a netip.Addr) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.list, func(x *friend) bool { return x.addr == a })
}

// crowded: connections are being turned away. A peer whose address has changed
// must not be among them for long.
func (d *Daemon) crowded() {
	if d.friends.rounds.Take(control.Now(), 1, lookEvery) { // by the listener only
		d.tasks.Go(d.lookUpFriends)
	}
}

func (d *Daemon) lookUpFriends() {
	ctx, cancel := context.WithTimeout(d.ctx, lookAllIn)
	defer cancel()
	var peers []config.Peer
	if !d.call(ctx, func() {
		d.closeDoor()
		for _, p := range d.cfg.Peers {
			if p.Enabled && p.Domain != "" && d.gw.Conn(p.Name) == 0 {
				peers = append(peers, p)
			}
		}
	}) {
		return
	}
	begin := random() // not always the same ones when there are more than a round has time for
	for i := range peers {
		p := &peers[turn(begin, i, len(peers))]
		limit, stop := context.WithTimeout(ctx, lookEachIn)
		addrs, _ := d.names.Resolve(limit, p.Domain)
		stop()
		for _, a := range addrs[:min(len(addrs), addrsPerPeer-1)] { // one is for where it came from
			d.friends.add(a, p.Name)
			d.kick() // their connections don't count at the door
		}
	}
}

// turn is the place among n of whose turn it is after i others, from somewhere on.
func turn(begin uint64, i, n int) int {
	return int((begin%uint64(n) + uint64(i)) % uint64(n)) // an int has 32 bits on a router
}

// closeDoor lets the firewall turn most strangers away until they are gone.
func (d *Daemon) closeDoor() {
	if d.crowd != nil {
		d.crowd.Stop()
	} else {
		d.log.Info("strangers crowd the port of the control channel: the firewall lets few of them through")
		d.kick()
	}
	var mine *time.Timer
	mine = time.AfterFunc(calmAfter, func() {
		d.post(func() {
			if d.crowd == mine { // else they came again when it had gone off already
				d.crowd = nil
				d.kick()
			}
		})
	})
	d.crowd = mine
}

// door is what the firewall should do about strangers.
func (d *Daemon) door() datapath.Door {
	if d.crowd == nil {
		return datapath.Door{}
	}
	return datapath.Door{Port: d.cfg.Main.Port, Friends: d.friends.addrs()}
}
