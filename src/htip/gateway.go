package htip

import (
	"bytes"
	"net/netip"
	"slices"
	"time"
)

// Config is what a gateway is told about itself.
type Config struct {
	Key       []byte     // our public key: identity, seed of our substitutes, tie-break
	Domain    string     // our public domain name, may be empty
	Protocols []Protocol // possible here, best first
	PortBase  uint16     // first UDP port for VPN programs
	Ports     uint16     // how many of them
	Random    func() uint64
	MaxSpace  uint64 // addresses that one peer's networks may have together; 0: any number

	// Impossible says why other protocols can't be had here, for people at both
	// ends.
	Impossible map[Protocol]string

	// ThreeMessages: as initiator start the VPN client upon our own ACK, where
	// the other home's server listens already (first embodiment, ¶77-81).
	ThreeMessages bool
	// ESP says what we can do with it: FeatureAES, FeatureChaCha, FeatureFastAES.
	ESP Features
	// EarlyServers are the protocols whose server can listen before addresses
	// are agreed: as responder start it upon REQUEST, when the initiator can.
	EarlyServers []Protocol
}

// Peer is another home as configured here.
type Peer struct {
	Name      string
	Domain    string // "" when only it calls us
	Key       []byte
	Protocols []Protocol // allowed with this home; the order is ours
	Auto      bool       // keep a tunnel up without being asked
}

// Gateway is the HTIP processor (¶115): all peers, the connection table and the
// address plan of one gateway. It is not safe for concurrent use.
type Gateway struct {
	cfg   Config
	home  Home
	peers map[string]*peer
	order []string // names, as configured
	out   []Action

	deaf bool // no REQUEST is taken
}

// NewGateway makes a gateway without peers.
func NewGateway(cfg Config, home Home) *Gateway {
	return &Gateway{cfg: cfg, home: home, peers: map[string]*peer{}}
}

// peer is the state of the talk and the tunnel with one other home.
type peer struct {
	Peer
	state State
	role  Role
	conn  ConnID // 0: none
	ends  Ends   // of conn
	talk  uint64
	timer uint32 // sequence number of the live timer

	established bool // was up since the last Connect: try again when it breaks
	wants       bool // an attempt of ours is under way, or follows by itself
	running     bool // a VPN program was asked for and is not stopped yet
	attempts    int
	rounds      int
	answered    bool // the last KEEPALIVE was answered
	told        bool // the peer knows why the talk ends

	offers []Offer        // ours, as last sent
	gate   netip.Addr     // our address that was sent with them
	theirs []Offer        // the peer's, as last received
	nets   []netip.Prefix // the peer's networks, from a NAK
	avoid  []netip.Prefix // what NAKs of this attempt named
	entry  Entry          // agreement in the making or in force
	before Record

	held     uint64 // a user ended this tunnel or talk, and the peer may not know
	replaces uint64 // what the peer says is in the way of our REQUEST

	reason Reason // of the last failure
	text   string
}

// Status is a peer's line for people.
type Status struct {
	Peer   string
	Domain string
	State  State
	Role   Role
	Entry  Entry // meaningful from Connecting on
	Before Record
	Reason Reason // of the last failure, 0 when none
	Text   string
}

// SetPeers takes the configured peers. Tunnels of peers that are gone are
// closed; of those that stay nothing changes. Records are what Save once gave.
func (g *Gateway) SetPeers(ps []Peer, records map[string]Record) []Action {
	g.out = nil
	var names []string
	for _, c := range ps {
		names = append(names, c.Name)
		p := g.peers[c.Name]
		if p != nil && !bytes.Equal(p.Key, c.Key) {
			g.disconnect(p, ReasonRefused) // another home under an old name
			p = nil
		}
		if p == nil {
			p = &peer{before: records[c.Name]}
			g.peers[c.Name] = p
		}
		p.Peer = c
		if p.entry.Protocol != 0 && !contains(c.Protocols, p.entry.Protocol) {
			g.fail(p, ReasonNoProtocol, p.entry.Protocol.String()+" is no longer allowed with this home")
		}
	}
	for _, n := range g.order {
		if !slices.Contains(names, n) {
			g.disconnect(g.peers[n], ReasonRefused)
			delete(g.peers, n)
		}
	}
	g.order = names
	return g.out
}

// SetAuto says whether a peer's tunnel shall be kept up without being asked: a
// tunnel that somebody asked for comes back after a reboot of either gateway.
func (g *Gateway) SetAuto(name string, auto bool) {
	if p := g.peers[name]; p != nil {
		p.Auto = auto
	}
}

// SetDeaf says that nobody's REQUEST is taken: tunnels are asked for from here
// only. What stands already stays.
func (g *Gateway) SetDeaf(deaf bool) { g.deaf = deaf }

// SetHome takes what changed of our own addresses. Tunnels whose agreement no
// longer fits are negotiated anew, the others stay as they are; a talk under way
// notices at its next message.
func (g *Gateway) SetHome(h Home) []Action {
	g.out = nil
	g.home = h
	for _, n := range g.order {
		p := g.peers[n]
		if p.state < Connecting || g.fits(p) {
			continue
		}
		const why = "our addresses have changed"
		if p.role != Initiator { // the other home is told, and asks anew
			g.fail(p, ReasonAddresses, why)
			continue
		}
		g.end(p, ReasonAddresses, why)
		g.do(Progress{Peer: p.Name, Step: StepDown, Reason: ReasonAddresses, Text: why})
		g.start(p)
	}
	return g.out
}

// Adopt takes a tunnel over that a former process of this gateway left
// standing. Nothing is negotiated; an initiator opens a control connection. A
// tunnel that does not fit our addresses as they are now is stopped.
func (g *Gateway) Adopt(e Entry) []Action {
	g.out = nil
	p := g.peers[e.Peer]
	if p == nil || p.state != Idle {
		g.do(StopTunnel{e})
		return g.out
	}
	p.entry, p.role, p.running = e, e.Role, true
	if !g.fits(p) {
		g.stop(p)
		return g.out
	}
	p.state, p.established = Up, true
	g.remember(p)
	g.do(Progress{Peer: p.Name, Step: StepUp})
	if p.role == Initiator {
		g.timer(p, time.Second)
	}
	return g.out
}

// Entries is the connection table: tunnels that stand or are being set up, in
// the order of the configured peers.
func (g *Gateway) Entries() []Entry {
	var out []Entry
	for _, n := range g.order {
		if p := g.peers[n]; p.state >= Connecting {
			out = append(out, p.entry)
		}
	}
	return out
}

// Status tells where every peer's tunnel stands, in the order of the configured
// peers.
func (g *Gateway) Status() []Status {
	out := make([]Status, 0, len(g.order))
	for _, n := range g.order {
		p := g.peers[n]
		out = append(out, Status{p.Name, p.Domain, p.state, p.role, p.entry, p.before, p.reason, p.text})
	}
	return out
}

// Conn is the control connection in use with a peer, 0 when there is none.
func (g *Gateway) Conn(name string) ConnID {
	if p := g.peers[name]; p != nil {
		return p.conn
	}
	return 0
}

// Handle takes an event of a peer and says what to do. An event of a peer that
// is not configured changes nothing.
func (g *Gateway) Handle(name string, ev Event) []Action {
	g.out = nil
	p := g.peers[name]
	if p == nil {
		return nil
	}
	switch ev := ev.(type) {
	case Connect:
		g.connect(p)
	case Disconnect:
		g.disconnect(p, ev.Reason)
	case Opened:
		g.opened(p, ev.Conn, ev.Ends)
	case DialFailed:
		g.dialFailed(p, ev)
	case Received:
		g.received(p, ev.Conn, ev.Ends, ev.Msg)
	case Malformed:
		g.malformed(p, ev)
	case Closed:
		g.closed(p, ev)
	case Timeout:
		if ev.Seq == p.timer {
			g.timeout(p)
		}
	case Started:
		if ev.TunnelID == p.entry.TunnelID {
			g.started(p)
		}
	case StartFailed:
		if ev.TunnelID == p.entry.TunnelID && p.running && p.state <= Connecting {
			g.fail(p, ReasonServer, ev.Text)
		}
	case LinkUp:
		if ev.TunnelID == p.entry.TunnelID && p.state == Connecting {
			g.to(p, Proving, ProveLimit)
			g.do(Progress{Peer: p.Name, Step: StepTunnel}, Prove{p.entry})
		}
	case Proven:
		if ev.TunnelID == p.entry.TunnelID && p.state == Proving {
			g.up(p)
		}
	case LinkDown:
		if ev.TunnelID == p.entry.TunnelID && p.running {
			r := ReasonLink
			if p.state < Connecting {
				r = ReasonServer
			}
			g.fail(p, r, ev.Text)
		}
	}
	return g.out
}

func (g *Gateway) do(a ...Action) { g.out = append(g.out, a...) }

func (g *Gateway) send(p *peer, m *Message) { g.do(Send{p.conn, m}) }

// to moves a peer to a state that may last only so long; 0 is for ever.
func (g *Gateway) to(p *peer, s State, limit time.Duration) {
	p.state = s
	g.timer(p, limit)
}

func (g *Gateway) timer(p *peer, after time.Duration) {
	p.timer++
	g.do(SetTimer{p.Name, p.timer, after})
}
