package sim

import (
	"fmt"
	"io"
	"strings"
	"time"

	"htip/src/htip"
)

// Fault is a set of kinds of things that go wrong, or that people do.
type Fault uint32

// The kinds of faults. Those up to Probes happen to the network and the
// programs, those up to SameKey to whole gateways; those up to Junk are a middle
// that does what TCP and TLS would never let through; the last one is a peer.
const (
	Cuts     Fault = 1 << iota // a connection breaks; each end notices when it likes
	Resets                     // what was sent before a close is lost
	Dials                      // dials fail, or nobody answers them
	Slow                       // long delays of messages, dials and programs
	Programs                   // VPN programs don't start
	Links                      // VPN tunnels break
	Probes                     // packets in tunnels get lost
	Crashes                    // a process is killed, its tunnels stay and are adopted
	Halfway                    // a process dies between two actions of one answer
	Reboots                    // the power goes, now and then with the last write to flash
	Stops                      // a gateway is stopped and started properly
	Renumber                   // a home gets other networks
	Networks                   // a home gets one network more, or one less
	WAN                        // something new overlaps a substitute
	Peers                      // peers are removed and added, or allowed other protocols
	SameKey                    // a second gateway has the key of one that is there
	Drops                      // single messages are lost
	Doubles                    // single messages come twice
	Reorders                   // messages overtake each other
	Junk                       // something comes that is no message
	Liars                      // some gateways send what they should not

	noFault Fault = 0
	hostile       = Drops | Doubles | Reorders | Junk | Liars
)

var faultNames = []string{"cuts", "resets", "dials", "slow", "programs", "links", "probes", "crashes", "halfway", "reboots", "stops",
	"renumber", "networks", "wan", "peers", "samekey", "drops", "doubles", "reorders", "junk", "liars"}

// AllFaults is every kind.
const AllFaults = Liars<<1 - 1

func (f Fault) String() string {
	var out []string
	for i, n := range faultNames {
		if f&(1<<i) != 0 {
			out = append(out, n)
		}
	}
	return strings.Join(out, ",")
}

// ParseFaults reads a list of names with commas between them.
func ParseFaults(s string) (Fault, error) {
	var f Fault
next:
	for _, x := range strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' }) {
		for i, n := range faultNames {
			if n == x {
				f |= 1 << i
				continue next
			}
		}
		return 0, fmt.Errorf("no fault is called %q; there are %s", x, strings.Join(faultNames, ", "))
	}
	return f, nil
}

// Options say which world is made. What is zero follows from the seed.
type Options struct {
	Seed     uint64
	Gateways int
	Without  Fault         // kinds of faults left out
	Faulty   time.Duration // how long things go wrong
	Trace    io.Writer     // every event in a line; nil: none
	Only     []string      // gateways whose doings with each other are traced; empty: all

	// Wrap puts something between the driver and a gateway: tests plant bugs
	// there. Bend changes what the driver does.
	Wrap func(node int, g Gateway) Gateway
	Bend func(node int, a []htip.Action) []htip.Action
}

// Gateway is what the driver needs of an [htip.Gateway].
type Gateway interface {
	SetPeers([]htip.Peer, map[string]htip.Record) []htip.Action
	SetAuto(name string, auto bool)
	SetHome(htip.Home) []htip.Action
	Adopt(htip.Entry) []htip.Action
	Handle(name string, ev htip.Event) []htip.Action
	Status() []htip.Status
	Conn(name string) htip.ConnID
}

// scenario is what a seed means.
type scenario struct {
	gateways int
	friends  int // of each; all when there are few
	faults   Fault
	faulty   time.Duration
	style    style
	busy     time.Duration // mean time between two doings of one gateway
	ports    uint16
	three    int  // of 10 gateways, so many can do with three messages
	cgnat    bool // all have private addresses on the Internet side
}

func (o Options) scenario() scenario {
	r := NewRand(o.Seed, 1)
	var s scenario
	switch n := r.Intn(1000); {
	case n < 400:
		s.gateways = 2
	case n < 600:
		s.gateways = 3
	case n < 850:
		s.gateways = 4 + r.Intn(5)
	case n < 960:
		s.gateways = 9 + r.Intn(22)
	case n < 997:
		s.gateways = 31 + r.Intn(120)
	default:
		s.gateways = 300 + r.Intn(900)
	}
	if s.friends = 8; s.gateways > 30 {
		s.friends = 2 * (1 + r.Intn(4))
	}
	// Most worlds have a few kinds of faults, so that each is seen without the
	// others' noise; some have all that honest networks have, some everything.
	switch n := r.Intn(10); {
	case n < 1:
		s.faults = noFault
	case n < 6:
		for range 1 + r.Intn(5) {
			s.faults |= 1 << r.Intn(len(faultNames))
		}
	case n < 9:
		s.faults = Fault(r.Uint64()) & (AllFaults &^ hostile)
	default:
		s.faults = Fault(r.Uint64()) & AllFaults
	}
	s.style = pickStyle(r)
	s.faulty = time.Duration(5+r.Intn(25)) * time.Minute
	if s.gateways > 100 {
		s.faulty = 5 * time.Minute
	}
	s.busy = time.Duration(3+r.Intn(40)) * time.Second
	if s.ports = 64; r.Chance(0.05) {
		s.ports = uint16(1 + r.Intn(3))
	}
	s.cgnat = r.Chance(0.05)
	s.three = pick(r, []int{0, 0, 0, 5, 10, 10})
	if o.Gateways > 0 {
		s.gateways = o.Gateways
	}
	if o.Faulty > 0 {
		s.faulty = o.Faulty
	}
	s.faults &^= o.Without
	return s
}
