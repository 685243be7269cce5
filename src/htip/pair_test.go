package htip

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func px(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// node is a gateway in the little world of these tests.
type node struct {
	name string
	*Gateway
	home   Home
	watch  *watch
	timers map[string]SetTimer
	stops  []Entry
	starts []Entry // of servers
	agreed []Entry
	saved  map[string]Record
	saves  int
	steps  []Progress
	broken bool   // VPN programs can't be started
	mute   bool   // its link never comes up
	as     string // how the others call it, when it is another one's double
}

// known is the name by which other gateways know the node of that name.
func (w *world) known(name string) string {
	if n := w.nodes[name]; n != nil && n.as != "" {
		return n.as
	}
	return name
}

// world delivers what gateways send each other, in order and at once, through
// the real encoding; every message is written down.
type world struct {
	t     testing.TB
	nodes map[string]*node
	conns map[ConnID][2]string // opener, accepter
	last  ConnID
	queue []func()
	log   []string
	wire  []string
	drop  func(from string, m *Message) bool
}

func newWorld(t testing.TB) *world {
	return &world{t: t, nodes: map[string]*node{}, conns: map[ConnID][2]string{}}
}

func key(name string) []byte { return []byte(fmt.Sprintf("%-32s", name)) }

// add makes a gateway. Networks are given as "10.0.0.0/24"; the gateway has the
// first host address of the first.
func (w *world) add(name string, order Order, pool string, nets ...string) *node {
	h := Home{Order: order, Pool: Private, Seed: key(name)}
	if pool != "" {
		h.Pool = []netip.Prefix{px(pool)}
	}
	for _, n := range nets {
		h.Networks = append(h.Networks, px(n))
	}
	if len(nets) > 0 {
		h.Gateway = h.Networks[0].Addr().Next()
	}
	seq := uint64(0)
	random := func() uint64 {
		seq++
		return binary.BigEndian.Uint64([]byte(fmt.Sprintf("%.7s%c", name+"-------", 'a'+byte(seq))))
	}
	n := &node{name: name, home: h, timers: map[string]SetTimer{}, saved: map[string]Record{}}
	n.Gateway = NewGateway(Config{Key: key(name), Domain: name + ".example.org", Protocols: []Protocol{L2TP}, PortBase: 17010, Ports: 64, Random: random}, h)
	n.watch = newWatch(w.t, n.Gateway)
	w.nodes[name] = n
	return n
}

// friends makes all gateways known to each other.
func (w *world) friends() {
	for _, a := range w.nodes {
		var ps []Peer
		for _, b := range []string{"alice", "bob", "carol", "dave", "erin"} {
			if _, ok := w.nodes[b]; ok && b != a.name {
				ps = append(ps, Peer{Name: b, Domain: b + ".example.org", Key: key(b), Protocols: []Protocol{L2TP}})
			}
		}
		w.act(a, a.SetPeers(ps, a.saved))
	}
}

func (w *world) handle(n *node, peer string, ev Event) {
	w.act(n, n.Handle(peer, ev))
	w.drain()
}

func (w *world) drain() {
	for len(w.queue) > 0 {
		w.step()
	}
}

// step delivers what is next under way.
func (w *world) step() {
	f := w.queue[0]
	w.queue = w.queue[1:]
	f()
}

// until lets things take their course until something is so.
func (w *world) until(what string, so func() bool) {
	w.t.Helper()
	for !so() {
		if len(w.queue) == 0 {
			w.t.Fatalf("never %s\n%s", what, strings.Join(w.log, "\n"))
		}
		w.step()
	}
}

func (w *world) later(n *node, peer string, ev Event) {
	w.queue = append(w.queue, func() { w.act(n, n.Handle(peer, ev)) })
}

func (w *world) act(n *node, as []Action) {
	w.t.Helper()
	for _, a := range as {
		switch a := a.(type) {
		case Dial:
			if w.nodes[a.Peer] == nil {
				w.later(n, a.Peer, DialFailed{ReasonUnreachable, "no such host"})
				continue
			}
			w.last++
			w.conns[w.last] = [2]string{n.name, a.Peer}
			w.later(n, a.Peer, Opened{Conn: w.last})
		case Send:
			ends, ok := w.conns[a.Conn]
			if !ok {
				continue
			}
			to := ends[0]
			if to == n.name {
				to = ends[1]
			}
			b, err := a.Msg.Encode()
			if err != nil {
				w.t.Fatalf("%s sends %+v: %v", n.name, a.Msg, err)
			}
			if w.drop != nil && w.drop(n.name, a.Msg) {
				continue
			}
			w.wire = append(w.wire, fmt.Sprintf("%s > %s %v\n%s", n.name, to, a.Msg.Type, hexLines(b)))
			m, err := Decode(b)
			if err != nil {
				w.t.Fatal(err)
			}
			if w.nodes[to] != nil {
				w.later(w.nodes[to], w.known(n.name), Received{Conn: a.Conn, Msg: m})
			}
		case CloseConn:
			ends, ok := w.conns[a.Conn]
			delete(w.conns, a.Conn)
			for i, e := range ends {
				if ok && e != n.name {
					w.later(w.nodes[e], w.known(ends[1-i]), Closed{Conn: a.Conn})
				}
			}
		case SetTimer:
			n.timers[a.Peer] = a
		case StartServer:
			n.starts = append(n.starts, a.Entry)
			if n.broken {
				w.later(n, a.Entry.Peer, StartFailed{a.Entry.TunnelID, "kernel has no L2TP"})
				continue
			}
			w.later(n, a.Entry.Peer, Started{a.Entry.TunnelID})
		case StartClient:
			if n.broken {
				w.later(n, a.Entry.Peer, StartFailed{a.Entry.TunnelID, "kernel has no L2TP"})
				continue
			}
			w.queue = append(w.queue, func() { // a server gives no addresses before they are agreed
				to := w.nodes[a.Entry.Peer]
				p := to.peers[w.known(n.name)]
				if !n.mute && p != nil && p.state >= Connecting && p.entry.TunnelID == a.Entry.TunnelID {
					w.later(n, a.Entry.Peer, LinkUp{a.Entry.TunnelID})
					w.later(to, w.known(n.name), LinkUp{a.Entry.TunnelID})
				}
			})
		case Agreed:
			n.agreed = append(n.agreed, a.Entry)
		case Prove:
			w.later(n, a.Entry.Peer, Proven{a.Entry.TunnelID})
		case StopTunnel:
			n.stops = append(n.stops, a.Entry)
		case Save:
			n.saved[a.Peer] = a.Record
			n.saves++
		case Progress:
			n.steps = append(n.steps, a)
			w.log = append(w.log, fmt.Sprintf("%s: %s %v %s", n.name, a.Peer, a.Step, a.Text))
		}
	}
}

// fire lets the timer of a peer run out.
func (w *world) fire(n *node, peer string) {
	w.t.Helper()
	tm := n.timers[peer]
	if tm.After == 0 {
		w.t.Fatalf("%s has no timer for %s (state %v)", n.name, peer, n.state(peer))
	}
	w.handle(n, peer, Timeout{tm.Seq})
}

func (n *node) state(peer string) State      { return n.peers[peer].state }
func (n *node) entry(peer string) Entry      { return n.peers[peer].entry }
func (n *node) limit(p string) time.Duration { return n.timers[p].After }

func hexLines(b []byte) string {
	s := hex.EncodeToString(b)
	var out strings.Builder
	for len(s) > 64 {
		out.WriteString("  " + s[:64] + "\n")
		s = s[64:]
	}
	out.WriteString("  " + s)
	return out.String()
}

// agree checks law 1 and 2 for every pair of gateways that are up.
func (w *world) agree() {
	w.t.Helper()
	for _, a := range w.nodes {
		for _, p := range a.order {
			b := w.nodes[p]
			if b == nil || a.state(p) != Up {
				continue
			}
			x, y := a.entry(p), b.entry(a.name)
			if b.state(a.name) != Up || x.TunnelID != y.TunnelID || fmt.Sprint(x.Own, x.Theirs) != fmt.Sprint(y.Theirs, y.Own) ||
				x.OwnGateway != y.PeerGateway || y.OwnGateway != x.PeerGateway || x.Role == y.Role {
				w.t.Fatalf("%s and %s disagree:\n%+v\n%+v", a.name, p, x, y)
			}
			taken := a.taken(a.peers[p])
			for i, m := range x.Theirs {
				if overlapsAny(m.Substitute, taken) || overlapsAny(m.Substitute, Substitutes(x.Own)) || !insideAny(m.Substitute, Private) {
					w.t.Fatalf("%s: %v of %s is not free here", a.name, m, p)
				}
				if m.Network.Bits() != m.Substitute.Bits() || overlapsAny(m.Substitute, Substitutes(x.Theirs[:i])) {
					w.t.Fatalf("%s: substitutes of %s: %v", a.name, p, x.Theirs)
				}
			}
		}
	}
}
