package sim

import (
	"fmt"
	"io"
	"slices"
	"time"

	"htip/src/htip"
)

// Scale shows what many gateways and many tunnels cost: a world of n homes, all
// with the same network and each with some friends, all of whom get tunnels at
// about the same time; then one gateway with ever more tunnels.
func Scale(out io.Writer, homes, friends, tunnels int) error {
	start := time.Now()
	w := quietWorld(homes, friends)
	for _, n := range w.nodes {
		n.boots(w.life.Between(0, time.Second))
	}
	w.until(2 * time.Second)
	pairs := 0
	w.pairs(func(a, b *slot) {
		pairs++
		if w.users.Chance(0.5) {
			a, b = b, a
		}
		a.at.connect(a)
		w.until(w.now + w.users.Between(0, 10*time.Millisecond))
	})
	w.until(w.now + 5*time.Minute)
	up := 0
	w.pairs(func(a, b *slot) {
		if a.seen.state == htip.Up && b.seen.state == htip.Up && a.seen.entry.TunnelID == b.seen.entry.TunnelID {
			up++
		}
	})
	if w.wrong != nil {
		return w.wrong
	}
	if up != pairs {
		return fmt.Errorf("%d of %d tunnels are up", up, pairs)
	}
	one := 0
	for _, n := range w.nodes {
		same := true
		for _, s := range n.order {
			same = same && s.seen.entry.Own[0] == n.order[0].seen.entry.Own[0]
		}
		if same {
			one++
		}
	}
	s := &w.Stats
	fmt.Fprintf(out, "%d homes, all 192.168.1.0/24, each with %d friends: %d tunnels, no clash\n", homes, friends, up)
	fmt.Fprintf(out, "messages a set-up %.4f, at most %d; further rounds %d; %d set-ups in all; %d homes are the same to all their friends\n",
		float64(s.Messages)/float64(s.Setups), s.Most, s.Naks, s.Setups, one)
	fmt.Fprintf(out, "took %v\n\n", time.Since(start).Round(time.Millisecond))
	return many(out, tunnels)
}

// quietWorld is one without faults in which all use one network.
func quietWorld(homes, friends int) *World {
	w := &World{byKey: map[string][]*node{}, layout: NewRand(1, 2), net: NewRand(1, 3), life: NewRand(1, 4), users: NewRand(1, 5), quiet: true}
	w.sc = scenario{gateways: homes, friends: friends, ports: 64}
	w.build()
	for _, n := range w.nodes {
		for _, s := range n.slots {
			s.peer.Auto, s.peer.Domain = false, s.node.domain
		}
	}
	return w
}

// many is the cost of the n-th tunnel of one gateway: all its friends call it,
// then, in another world, it calls them.
func many(out io.Writer, tunnels int) error {
	var rows [2]map[int]string
	for i, calls := range []bool{false, true} {
		var err error
		if rows[i], err = hub(tunnels, calls); err != nil {
			return err
		}
	}
	fmt.Fprintf(out, "the n-th tunnel of one gateway: messages, and the gateway's own time for the whole set-up\n")
	fmt.Fprintf(out, "%6s  %-20s %-20s\n", "n", "as responder", "as initiator")
	for n := 1; n <= tunnels; n++ {
		if rows[0][n] != "" {
			fmt.Fprintf(out, "%6d  %-20s %-20s\n", n, rows[0][n], rows[1][n])
		}
	}
	return nil
}

// hub gives a gateway one tunnel after the other. The time is the median of
// some neighbours, because other things run on the machine, too.
func hub(tunnels int, calls bool) (map[int]string, error) {
	w := quietWorld(1, 8)
	w.sc.ports = uint16(tunnels)
	hub := w.nodes[0]
	for i := range tunnels {
		n := w.newNode(i+1, fmt.Sprintf("g%d", i+1), nil)
		n.addSlot(hub, hub.domain, false)
		hub.addSlot(n, n.domain, false)
		a, b := hub.slots[i], n.slots[0]
		a.mirrors, b.mirrors = []*slot{b}, []*slot{a}
	}
	for _, n := range w.nodes {
		n.boots(0)
	}
	w.until(time.Second)
	rows := map[int]string{}
	var last []time.Duration
	for i, a := range hub.slots {
		b := a.mirrors[0]
		from := b
		if calls {
			from = a
		}
		hub.timed, hub.busy = a, 0
		before := w.Stats.Messages
		from.at.connect(from)
		for range 100 {
			if w.until(w.now + 100*time.Millisecond); a.seen.state == htip.Up && b.seen.state == htip.Up {
				break
			}
		}
		if w.wrong != nil {
			return nil, w.wrong
		}
		if a.seen.state != htip.Up || b.seen.state != htip.Up {
			return nil, fmt.Errorf("the %d. tunnel does not come up: %v, %v", i+1, a.seen.state, b.seen.state)
		}
		if last = append(last, hub.busy); len(last) > 15 {
			last = last[1:]
		}
		switch i + 1 {
		case 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000:
			times := slices.Sorted(slices.Values(last))
			rows[i+1] = fmt.Sprintf("%d, %v", w.Stats.Messages-before, times[len(times)/2].Round(time.Microsecond))
		}
	}
	return rows, nil
}
