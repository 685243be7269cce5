package sim

import (
	"fmt"
	"strings"
	"time"

	"htip/src/htip"
)

// Stats counts what happened in a world, or in many.
type Stats struct {
	Worlds, Gateways int
	Setups           int // tunnels that came up at both ends
	Messages         int // of the talks that led to them
	Most             int // messages of the longest of these talks
	Naks             int // further rounds in them
	Avoided          int // set-ups of homes with colliding networks
	Kept             int // set-ups without any translation
	First, Again     int // set-ups where laws 4, 5 were looked at
	Talk, Other      int // all messages of talks; keepalives and closes
	Events, Steps    int // of the world; of the gateways
	Crashes, Adopted int
	Cuts, Lost       int // connections cut, messages lost
	Links, Lies      int
	Moves, Peers     int // changes of addresses, of peers
	Writes           int // to flash
	Failed           [64]int
	Virtual          time.Duration
	Fair             int // pairs that had to come up in the end, and did
}

func (s *Stats) setUp(n *node, a, b *slot) {
	s.Setups++
	k := a.seen.sent + b.seen.sent
	s.Messages += k
	s.Most = max(s.Most, k)
	s.Naks += a.seen.naks + b.seen.naks
	clash, nat := false, false
	for _, x := range a.seen.entry.Own {
		clash = clash || overlapsAny(x.Network, htip.Networks(a.seen.entry.Theirs))
		nat = nat || x.NAT()
	}
	for _, x := range a.seen.entry.Theirs {
		nat = nat || x.NAT()
	}
	if clash {
		s.Avoided++
	}
	if !nat {
		s.Kept++
	}
}

// count notes a message that is sent.
func (w *World) count(e *end, m *htip.Message) {
	switch m.Type {
	case htip.Close, htip.Keepalive:
		w.Stats.Other++
		return
	}
	w.Stats.Talk++
	if e.id == e.node.gw.Conn(e.slot.peer.Name) {
		e.slot.sent++
		if m.Type == htip.Nak && m.Reason == htip.ReasonClash {
			e.slot.naks++
		}
	}
}

// Add adds the counts of another run.
func (s *Stats) Add(o *Stats) {
	s.Worlds += o.Worlds
	s.Gateways += o.Gateways
	s.Setups += o.Setups
	s.Messages += o.Messages
	s.Most = max(s.Most, o.Most)
	s.Naks += o.Naks
	s.Avoided += o.Avoided
	s.Kept += o.Kept
	s.First += o.First
	s.Again += o.Again
	s.Talk += o.Talk
	s.Other += o.Other
	s.Events += o.Events
	s.Steps += o.Steps
	s.Crashes += o.Crashes
	s.Adopted += o.Adopted
	s.Cuts += o.Cuts
	s.Lost += o.Lost
	s.Links += o.Links
	s.Lies += o.Lies
	s.Moves += o.Moves
	s.Peers += o.Peers
	s.Writes += o.Writes
	for i := range s.Failed {
		s.Failed[i] += o.Failed[i]
	}
	s.Virtual += o.Virtual
	s.Fair += o.Fair
}

// String is the summary for people.
func (s *Stats) String() string {
	var b strings.Builder
	per := func(a, b int) float64 { return float64(a) / float64(max(b, 1)) }
	fmt.Fprintf(&b, "seeds                %d\n", s.Worlds)
	fmt.Fprintf(&b, "gateways             %d\n", s.Gateways)
	fmt.Fprintf(&b, "tunnel set-ups       %d, of them %d of colliding homes, %d without translation\n", s.Setups, s.Avoided, s.Kept)
	fmt.Fprintf(&b, "messages a set-up    %.3f, at most %d; further rounds a set-up %.4f\n", per(s.Messages, s.Setups), s.Most, per(s.Naks, s.Setups))
	fmt.Fprintf(&b, "messages in all      %d of talks, %d keepalives and closes, %d lost\n", s.Talk, s.Other, s.Lost)
	fmt.Fprintf(&b, "laws 4 and 5         looked at in %d first and %d repeated set-ups\n", s.First, s.Again)
	fmt.Fprintf(&b, "crashes and stops    %d, tunnels taken over after them %d\n", s.Crashes, s.Adopted)
	fmt.Fprintf(&b, "connections cut      %d, links broken %d, lies told %d\n", s.Cuts, s.Links, s.Lies)
	fmt.Fprintf(&b, "changes              %d of addresses, %d of peers\n", s.Moves, s.Peers)
	fmt.Fprintf(&b, "writes to flash      %d\n", s.Writes)
	fmt.Fprintf(&b, "pairs up in the end  %d\n", s.Fair)
	fmt.Fprintf(&b, "events               %d of the world, %d steps of gateways\n", s.Events, s.Steps)
	fmt.Fprintf(&b, "time in the worlds   %v\n", s.Virtual.Round(time.Second))
	fmt.Fprintf(&b, "failed attempts     ")
	for r, k := range s.Failed {
		if k > 0 {
			fmt.Fprintf(&b, " %v %d;", htip.Reason(r), k)
		}
	}
	b.WriteByte('\n')
	return b.String()
}
