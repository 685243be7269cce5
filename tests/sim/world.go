// Package sim puts many [htip.Gateway]s into one process, with a virtual clock,
// a seeded scheduler and a network, programs, kernels and people that do what
// the seed says, and checks the laws of the protocol after every step.
//
// A world is made from a seed ([New]) and lived through ([World.Run]): first a
// time of faults, then a quiet time in which everything has to come right, then
// a time in which every pair that can have a tunnel has to get one, and last
// everything is taken down and nothing may be left.
//
// Files: world, queue, rand (the machine); options, homes (what a seed means);
// node, life (the driver of one gateway, as src/daemon is one); conn, vpn (the
// network, the kernel); faults, liars (what goes wrong); check, laws, finish
// (what must hold); trace, runs, summary, scale.
package sim

import (
	"encoding/binary"
	"fmt"
	"time"
)

// World is a set of gateways and everything between them.
type World struct {
	opt   Options
	sc    scenario
	now   time.Duration
	q     queue
	nodes []*node
	byKey map[string][]*node

	layout, net, life, users *Rand

	quiet bool // nothing goes wrong any more
	stop  bool // everything is being taken down
	wrong *Violation
	Stats Stats
}

// Violation is a law that does not hold.
type Violation struct {
	Law  string
	Text string
	At   time.Duration
	Who  []string // gateways concerned
}

func (v *Violation) Error() string { return fmt.Sprintf("%s: %s (at %v)", v.Law, v.Text, v.At) }

// New makes a world. Nothing has happened in it yet.
func New(o Options) *World {
	w := &World{
		opt: o, sc: o.scenario(), byKey: map[string][]*node{},
		layout: NewRand(o.Seed, 2), net: NewRand(o.Seed, 3), life: NewRand(o.Seed, 4), users: NewRand(o.Seed, 5),
	}
	w.build()
	return w
}

// fail notes the first violation; the run ends.
func (w *World) fail(law string, who []*node, format string, a ...any) {
	if w.wrong != nil {
		return
	}
	w.wrong = &Violation{Law: law, Text: fmt.Sprintf(format, a...), At: w.now}
	for _, n := range who {
		w.wrong.Who = append(w.wrong.Who, n.name)
	}
	w.tracef(nil, "VIOLATION %v", w.wrong)
}

func (w *World) has(f Fault) bool { return !w.quiet && w.sc.faults&f != 0 }

// gone tells whether a fault of a kind happens now.
func (w *World) gone(f Fault, p float64) bool { return w.has(f) && w.net.Chance(p) }

func (w *World) after(d time.Duration, k kind) *event {
	e := w.q.make()
	e.at, e.kind = w.now+d, k
	return e
}

// build makes the gateways and who knows whom.
func (w *World) build() {
	for i := range w.sc.gateways {
		w.newNode(i, fmt.Sprintf("g%d", i), nil)
	}
	n := len(w.nodes)
	if n <= w.sc.friends+1 {
		for i := range n {
			for j := range i {
				w.befriend(w.nodes[i], w.nodes[j])
			}
		}
	} else {
		order := make([]int, n)
		for i := range order {
			order[i] = i
		}
		shuffle(w.layout, order)
		for d := 1; d <= w.sc.friends/2; d++ {
			for i := range n {
				w.befriend(w.nodes[order[i]], w.nodes[order[(i+d)%n]])
			}
		}
	}
	if w.sc.faults&SameKey != 0 {
		of := w.nodes[w.layout.Intn(n)]
		twin := w.newNode(len(w.nodes), of.name+"twin", of.key)
		twin.twin, twin.domain = of, of.domain
		for _, s := range of.slots {
			twin.addSlot(s.node, s.peer.Domain, s.peer.Auto)
		}
	}
	for _, a := range w.nodes {
		for _, s := range a.slots {
			for _, b := range w.byKey[string(s.peer.Key)] {
				if o := b.byKey[string(a.key)]; o != nil {
					s.mirrors = append(s.mirrors, o)
				}
			}
		}
	}
	w.Stats.Worlds, w.Stats.Gateways = 1, len(w.nodes)
}

// newNode makes a gateway that does not run yet.
func (w *World) newNode(id int, name string, key []byte) *node {
	if key == nil {
		key = make([]byte, 32)
		for i := range 4 {
			binary.BigEndian.PutUint64(key[8*i:], w.layout.Uint64())
		}
	}
	n := &node{
		w: w, id: id, name: name, key: key, domain: name + ".example", rand: NewRand(w.opt.Seed, 100+uint64(id)),
		byName: map[string]*slot{}, byKey: map[string]*slot{}, byConn: map[connID]*end{},
	}
	n.home = w.sc.style.home(w.layout, key)
	n.liar = w.sc.faults&Liars != 0 && w.layout.Chance(0.3)
	n.three = w.layout.Intn(10) < w.sc.three
	if w.sc.cgnat {
		n.wan = wanAddress(id)
	}
	w.nodes = append(w.nodes, n)
	w.byKey[string(key)] = append(w.byKey[string(key)], n)
	return n
}

// befriend makes two gateways peers of each other. Some are known without a
// domain name: they can only be called by.
func (w *World) befriend(a, b *node) {
	r := w.layout
	da, db := a.domain, b.domain
	switch r.Intn(20) {
	case 0:
		da = ""
	case 1:
		db = ""
	}
	a.addSlot(b, db, r.Chance(0.1))
	b.addSlot(a, da, r.Chance(0.1))
}

// Run lives through a world and says what was violated, or nil.
func (w *World) Run() *Violation {
	for _, n := range w.nodes {
		if n.twin == nil || w.life.Chance(0.3) {
			n.boots(w.life.Between(0, 2*time.Second))
		}
		n.churn()
	}
	w.until(w.sc.faulty)
	w.finish()
	w.Stats.Virtual = w.now
	return w.wrong
}

// until lets things happen up to a time.
func (w *World) until(end time.Duration) {
	for w.wrong == nil && len(w.q.heap) > 0 && w.q.heap[0].at <= end {
		e := w.q.pop()
		w.now = e.at
		if e.boot == 0 || e.boot == e.node.boot {
			w.Stats.Events++
			w.happen(e)
		}
		w.q.done(e)
	}
	w.now = max(w.now, end)
}

func (w *World) happen(e *event) {
	switch e.kind {
	case evRecv:
		e.end.arrived(e.msg)
	case evJunk:
		e.end.junk(e.n)
	case evClosed:
		e.end.lost()
	case evDialed:
		e.node.dialed(e.slot, e.n, e.up)
	case evTimer:
		e.node.timeout(e.slot, uint32(e.n))
	case evSilent:
		e.end.silent()
	case evApply:
		e.node.apply()
	case evApplied:
		e.node.applied(e.wish)
	case evNoStart:
		e.node.noStart(e.slot, uint32(e.n))
	case evLink:
		e.dev.changed(e.up)
	case evProbe:
		e.node.probe(e.slot, e.dev, time.Duration(e.n))
	case evChurn:
		e.node.churned()
	case evBoot:
		e.node.start()
	case evDeadline:
		e.node.deadline(e.slot, e.n)
	}
}
