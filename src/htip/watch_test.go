package htip

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

// watch holds what a gateway does against the rules that are true at all times,
// whatever it is told. Every gateway of these tests has one.
type watch struct {
	t       testing.TB
	g       *Gateway
	running map[string]Entry // VPN programs, by peer
	timers  map[string]SetTimer
	shut    map[ConnID]bool
}

func newWatch(t testing.TB, g *Gateway) *watch {
	return &watch{t, g, map[string]Entry{}, map[string]SetTimer{}, map[ConnID]bool{}}
}

// The calls of a gateway, each one watched.
func (n *node) Handle(peer string, ev Event) []Action {
	n.watch.t.Helper()
	if tm, ok := ev.(Timeout); ok && tm.Seq == n.watch.timers[peer].Seq {
		delete(n.watch.timers, peer) // it has fired
	}
	return n.watch.did(n.Gateway.Handle(peer, ev))
}

func (n *node) SetHome(h Home) []Action { return n.watch.did(n.Gateway.SetHome(h)) }

func (n *node) SetPeers(ps []Peer, rs map[string]Record) []Action {
	as := n.Gateway.SetPeers(ps, rs)
	for name := range n.watch.timers {
		if n.peers[name] == nil {
			delete(n.watch.timers, name)
		}
	}
	return n.watch.did(as)
}

func (n *node) Adopt(e Entry) []Action {
	if _, ok := n.watch.running[e.Peer]; ok {
		return n.Gateway.Adopt(e) // a second one, to be stopped
	}
	n.watch.running[e.Peer] = e
	return n.watch.did(n.Gateway.Adopt(e))
}

// limits is how long a state may last at the most.
var limits = map[State]time.Duration{
	Waiting: time.Minute, Dialing: DialLimit, Requested: ReadyLimit, Acked: ReadyLimit, Refusing: AnswerLimit, Listening: PrepareLimit,
	Responded: AnswerLimit, Preparing: PrepareLimit, Connecting: LinkLimit, Proving: ProveLimit,
}

// did takes the actions of one call, in their order, and then looks at the
// state.
func (w *watch) did(as []Action) []Action {
	w.t.Helper()
	fail := func(format string, a ...any) {
		w.t.Helper()
		w.t.Fatalf("%s (actions %v)", fmt.Sprintf(format, a...), as)
	}
	for _, a := range as {
		switch a := a.(type) {
		case Send:
			if a.Conn == 0 || w.shut[a.Conn] {
				fail("sends %v on connection %d, which is closed", a.Msg.Type, a.Conn)
			}
			if _, err := a.Msg.Encode(); err != nil {
				fail("sends %+v: %v", a.Msg, err)
			}
		case CloseConn:
			if a.Conn == 0 {
				fail("closes connection 0")
			}
			w.shut[a.Conn] = true
		case SetTimer:
			w.timers[a.Peer] = a
		case StartServer:
			w.start(a.Entry, a.Conn, fail)
		case StartClient:
			w.start(a.Entry, a.Conn, fail)
		case Agreed:
			e := w.running[a.Entry.Peer]
			if e.TunnelID != a.Entry.TunnelID || len(e.Own) > 0 || len(a.Entry.Own) == 0 || !slices.Equal(e.Theirs, a.Entry.Theirs) {
				fail("agreed on %+v, runs %+v", a.Entry, e)
			}
			w.running[a.Entry.Peer] = a.Entry
		case Prove:
			if w.running[a.Entry.Peer].TunnelID != a.Entry.TunnelID {
				fail("proves %+v, which does not run", a.Entry)
			}
		case StopTunnel:
			if e, ok := w.running[a.Entry.Peer]; ok && e.TunnelID != a.Entry.TunnelID {
				fail("stops %+v, runs %+v", a.Entry, e)
			}
			delete(w.running, a.Entry.Peer)
		case Save:
			if len(a.Record.Own) == 0 || len(a.Record.Theirs) == 0 {
				fail("saves nothing")
			}
		}
	}
	for _, name := range w.g.order {
		if what := w.wrong(w.g.peers[name]); what != "" {
			fail("%s in %v: %s", name, w.g.peers[name].state, what)
		}
	}
	for name := range w.running {
		if w.g.peers[name] == nil {
			fail("%s is no peer and has a tunnel", name)
		}
	}
	return as
}

func (w *watch) start(e Entry, c ConnID, fail func(string, ...any)) {
	w.t.Helper()
	if was, ok := w.running[e.Peer]; ok {
		fail("starts %+v, and %+v runs", e, was)
	}
	if e.TunnelID == 0 || e.LocalPort == 0 || c == 0 || w.shut[c] {
		fail("starts %+v with connection %d", e, c)
	}
	for _, o := range w.running {
		if o.LocalPort == e.LocalPort {
			fail("port %d is used twice", e.LocalPort)
		}
	}
	w.running[e.Peer] = e
}

// wrong says what is wrong with the state of a peer.
func (w *watch) wrong(p *peer) string {
	e := &p.entry
	_, runs := w.running[p.Name]
	tm := w.timers[p.Name]
	limit, limited := limits[p.state]
	if p.state == Waiting && (p.reason == ReasonApproval || p.reason == ReasonUnauthorized) && p.attempts > MaxApproval {
		limit = ApprovalPause
	}
	switch {
	case runs != p.running:
		return fmt.Sprintf("a program runs: %v; it believes: %v", runs, p.running)
	case p.state >= Preparing && !runs, p.state == Listening && !runs:
		return "no program was asked for"
	case runs && (p.state < Listening):
		return "a program is left"
	case (p.state < Acked || p.state == Refusing) && (len(e.Own) > 0 || len(e.Theirs) > 0 || e.TunnelID != 0):
		return fmt.Sprintf("an agreement is left: %+v", e)
	case p.conn != 0 && (p.state == Idle || p.state == Waiting || p.state == Dialing || w.shut[p.conn]):
		return fmt.Sprintf("connection %d is left", p.conn)
	case p.conn == 0 && (p.state > Dialing && p.state < Preparing):
		return "no connection"
	case limited && (tm.Seq != p.timer || tm.After <= 0 || tm.After > limit):
		return fmt.Sprintf("lasts for %v (%d, %d)", tm.After, tm.Seq, p.timer)
	case p.state == Up && p.role == Initiator && tm.After <= 0:
		return "no keepalive is due"
	case p.state == Idle && tm.After > 0 && p.held == 0:
		return "a timer is left"
	case p.rounds > 1+MaxRounds || len(p.avoid) > 2*(1+MaxRounds)*(maxAvoid+MaxNetworks*maxCandidates) || len(p.nets) > MaxNetworks || len(p.theirs) > MaxNetworks:
		return fmt.Sprintf("rounds %d, avoid %d, networks %d, offers %d", p.rounds, len(p.avoid), len(p.nets), len(p.theirs))
	case p.told:
		return "the next end would not be told"
	case p.state == Idle && p.wants:
		return "wants a tunnel and does nothing for it"
	}
	if p.state < Connecting {
		return ""
	}
	// The laws, as far as one end can see them.
	for _, l := range [][]Mapping{e.Own, e.Theirs} {
		for i, m := range l {
			if m.Network.Bits() != m.Substitute.Bits() || overlapsAny(m.Substitute, Substitutes(l[:i])) {
				return fmt.Sprintf("law 3: %v", l)
			}
		}
	}
	if overlap(Substitutes(e.Own), Substitutes(e.Theirs)) || len(e.Own) == 0 || len(e.Theirs) == 0 || !e.OwnGateway.IsValid() || !e.PeerGateway.IsValid() {
		return fmt.Sprintf("law 2: %+v", e)
	}
	for _, s := range Substitutes(e.Theirs) {
		if !insideAny(s, Private) || overlapsAny(s, w.g.home.Networks) || overlapsAny(s, w.g.home.Occupied) {
			return fmt.Sprintf("law 2: %v is not free here", s)
		}
	}
	for _, q := range w.g.peers {
		if q != p && q.state >= Connecting && (overlap(Substitutes(e.Theirs), Substitutes(q.entry.Own)) || overlap(Substitutes(e.Theirs), Substitutes(q.entry.Theirs))) {
			return fmt.Sprintf("law 2: %+v and %s's %+v", e, q.Name, q.entry)
		}
	}
	for _, m := range e.Own {
		if overlapsAny(m.Substitute, w.g.home.Occupied) || m.NAT() && overlapsAny(m.Substitute, w.g.home.Networks) {
			return fmt.Sprintf("law 2: our own %v", m)
		}
	}
	return ""
}
