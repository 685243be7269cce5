package htip

import (
	"flag"
	"fmt"
	"strings"
	"testing"
	"time"
)

// The exhaustive check lives through every order of events of two gateways,
// breadth first, so that what it finds is found in the fewest steps. Every
// state is checked for safety, and every state in which nothing more happens by
// itself for being an end: one tunnel at both, or none at both and a reason.
// Beyond that no endless loop may be left that does not lead to one.

var (
	xCrashes = flag.Int("crashes", 1, "exhaustive check: crashes")
	xLosses  = flag.Int("losses", 1, "exhaustive check: losses of connections, dials, programs, links, and early timeouts")
	xClicks  = flag.Int("clicks", 1, "exhaustive check: connects of each side")
	xEnds    = flag.Int("ends", 0, "exhaustive check: disconnects of each side")
	xMost    = flag.Int("states", 1<<31-1, "exhaustive check: give up after so many states")
	xFull    = flag.Bool("exhaustive", false, "exhaustive check: only what the flags say, and with progress")
)

// xgraph is what was visited.
type xgraph struct {
	seen    map[xkey]uint32
	parents []uint32
	by      []xmove
	good    []bool   // both are up with one tunnel
	offsets []uint32 // of a state's successors without faults and people
	next    []uint32
	steps   int // transitions
	ends    int
}

// explore visits everything from a state on. The error is the first thing found
// wrong, with the way to it.
func explore(w *xworld, from *xstate, most int, tell func(string, ...any)) (*xgraph, error) {
	g := &xgraph{seen: map[xkey]uint32{}}
	type node struct {
		*xstate
		n uint32
	}
	var level, following []node
	visit := func(a *xstate, parent uint32, by xmove) (uint32, bool) {
		k := w.key(a)
		if n, ok := g.seen[k]; ok {
			return n, false
		}
		n := uint32(len(g.parents))
		g.seen[k] = n
		g.parents, g.by = append(g.parents, parent), append(g.by, by)
		g.good = append(g.good, a.good())
		following = append(following, node{a, n})
		return n, true
	}
	visit(from, 0, xmove{})
	var moves []xmove
	for depth := 0; len(following) > 0; depth++ {
		level, following = following, level[:0]
		if tell != nil && depth%10 == 0 {
			tell("depth %d: %d states, %d steps, %d in this level", depth, len(g.parents), g.steps, len(level))
		}
		for i := range level {
			a := level[i]
			level[i].xstate = nil
			g.offsets = append(g.offsets, uint32(len(g.next)))
			var quiet bool
			moves, quiet = a.moves(moves)
			alone := 0
			for _, m := range moves {
				b := a.clone()
				err := w.try(b, m)
				if err == nil {
					err = b.safe()
				}
				if err != nil {
					return g, fmt.Errorf("%w\n%s", err, g.way(w, from, a.n, m))
				}
				g.steps++
				n, _ := visit(b, a.n, m)
				if !m.fault() && !m.environment() {
					alone++
					if n != a.n {
						g.next = append(g.next, n)
					}
				}
			}
			if quiet && !g.good[a.n] && alone == 0 {
				g.ends++
				if err := a.end(); err != nil {
					return g, fmt.Errorf("%w\n%s", err, g.way(w, from, a.n, xmove{}))
				}
			}
			if len(g.parents) > most {
				return g, fmt.Errorf("more than %d states", most)
			}
		}
	}
	g.offsets = append(g.offsets, uint32(len(g.next)))
	if loop := g.loop(); loop != nil {
		return g, fmt.Errorf("an endless loop of %d steps that never leads to a tunnel or to rest\n%s\nand then for ever:\n%s", len(loop)-1, g.way(w, from, loop[0], xmove{}), g.round(w, from, loop))
	}
	return g, nil
}

// try carries a move out; a panic is an error.
func (w *xworld) try(a *xstate, m xmove) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	w.do(a, m)
	return nil
}

// path is how a state was reached.
func (g *xgraph) path(n uint32) []xmove {
	var out []xmove
	for ; n != 0; n = g.parents[n] {
		out = append([]xmove{g.by[n]}, out...)
	}
	return out
}

func (a *xstate) describe(m xmove) string {
	s := fmt.Sprintf("%s %s", xKeys[m.side], xNames[m.kind])
	switch m.kind {
	case xDeliver, xNotice, xCut, xSilent:
		c := &a.conns[m.conn]
		s += fmt.Sprintf(" connection %d", c.id)
		if m.kind == xDeliver {
			if x := c.q[m.side][0]; x != nil {
				s = fmt.Sprintf("%s gets %v on %d", xKeys[m.side], x.Type, c.id)
			} else {
				s = fmt.Sprintf("%s gets the end of %d", xKeys[m.side], c.id)
			}
		}
	}
	return s
}

// way tells how a state was reached, and one more move.
func (g *xgraph) way(w *xworld, from *xstate, n uint32, last xmove) string {
	path := g.path(n)
	if last != (xmove{}) {
		path = append(path, last)
	}
	return w.replay(from.clone(), path)
}

func (w *xworld) replay(a *xstate, path []xmove) string {
	var out strings.Builder
	w.tell = func(format string, args ...any) { fmt.Fprintf(&out, format+"\n", args...) }
	defer func() { w.tell = nil }()
	for i, m := range path {
		fmt.Fprintf(&out, "%d. %s\n", i+1, a.describe(m))
		w.try(a, m)
		fmt.Fprintf(&out, "  [%v %v]\n", a.s[0].p.state, a.s[1].p.state)
	}
	return out.String()
}

// loop looks for a way round among the states that are no end.
func (g *xgraph) loop() []uint32 {
	into := make([]uint32, len(g.parents))
	each := func(n uint32, f func(uint32)) {
		if g.good[n] {
			return
		}
		for _, m := range g.next[g.offsets[n]:g.offsets[n+1]] {
			if !g.good[m] {
				f(m)
			}
		}
	}
	for n := range into {
		each(uint32(n), func(m uint32) { into[m]++ })
	}
	var free []uint32
	for n, k := range into {
		if k == 0 {
			free = append(free, uint32(n))
		}
	}
	left := len(into) - len(free)
	for len(free) > 0 {
		n := free[len(free)-1]
		free = free[:len(free)-1]
		each(n, func(m uint32) {
			if into[m]--; into[m] == 0 {
				free = append(free, m)
				left--
			}
		})
	}
	if left == 0 {
		return nil
	}
	// What is left lies on a loop or behind one. Going backwards from any of
	// these one stays among them.
	back := map[uint32]uint32{}
	start := uint32(0)
	for n := len(into) - 1; n >= 0; n-- {
		if into[n] > 0 {
			each(uint32(n), func(m uint32) { back[m] = uint32(n) })
			start = uint32(n)
		}
	}
	at := map[uint32]int{}
	var walk []uint32
	for n := start; ; n = back[n] {
		if i, ok := at[n]; ok {
			walk = append(walk[i:], n)
			break
		}
		at[n] = len(walk)
		walk = append(walk, n)
	}
	for i, j := 0, len(walk)-1; i < j; i, j = i+1, j-1 {
		walk[i], walk[j] = walk[j], walk[i]
	}
	return walk
}

// round tells what happens on a loop.
func (g *xgraph) round(w *xworld, from *xstate, loop []uint32) string {
	a := from.clone()
	for _, m := range g.path(loop[0]) {
		w.try(a, m)
	}
	var path []xmove
	b := a.clone()
	for _, want := range loop[1:] {
		moves, _ := b.moves(nil)
		for _, m := range moves {
			c := b.clone()
			if w.try(c, m); !m.fault() && !m.environment() && g.seen[w.key(c)] == want {
				path = append(path, m)
				b = c
				break
			}
		}
	}
	return w.replay(a, path)
}

func TestExhaustive(t *testing.T) {
	type bound struct {
		name            string
		three           bool
		clicks, ends    [2]uint8
		crashes, losses int
	}
	both := func(n int) [2]uint8 { return [2]uint8{uint8(n), uint8(n)} }
	bounds := []bound{
		{"both ask", false, both(1), [2]uint8{}, 1, 1},
		{"both ask, three messages", true, both(1), [2]uint8{}, 1, 1},
		{"one asks", false, [2]uint8{1, 0}, [2]uint8{}, 2, 0},
		{"one asks", false, [2]uint8{1, 0}, [2]uint8{}, 0, 2},
		{"the other asks", false, [2]uint8{0, 1}, [2]uint8{}, 1, 1},
		{"both ask and end it", false, both(1), both(1), 0, 1},
		{"both ask and end it", false, both(1), both(1), 1, 0},
		{"both ask twice", false, both(2), [2]uint8{}, 0, 1},
	}
	if testing.Short() {
		bounds = bounds[2:5]
	}
	if *xFull {
		bounds = []bound{
			{"as the flags say", false, both(*xClicks), both(*xEnds), *xCrashes, *xLosses},
			{"as the flags say, three messages", true, both(*xClicks), both(*xEnds), *xCrashes, *xLosses},
		}
	}
	for _, b := range bounds {
		t.Run(fmt.Sprintf("%s, %d crashes, %d losses", b.name, b.crashes, b.losses), func(t *testing.T) {
			w := newXWorld(b.three)
			from := w.start(b.clicks, b.ends, uint8(b.crashes), uint8(b.losses))
			var tell func(string, ...any)
			began := time.Now()
			if *xFull {
				tell = func(f string, a ...any) {
					fmt.Printf("%v "+f+"\n", append([]any{time.Since(began).Round(time.Second)}, a...)...)
				}
			}
			g, err := explore(w, from, *xMost, tell)
			if err != nil {
				t.Error(err)
			}
			t.Logf("%d states, %d transitions, %d ends without a tunnel, %v", len(g.parents), g.steps, g.ends, time.Since(began).Round(time.Millisecond))
		})
	}
}
