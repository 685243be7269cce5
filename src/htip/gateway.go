package htip

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"time"
)

// Config is what a gateway is told about itself.
type Config struct {
	Key       []byte // our public key: identity, seed of our substitutes, tie-break
	Domain    string // our public domain name, may be empty
	Protocols []Protocol
	Lacks     string // why others are not possible here, for people at both ends; may be empty
	PortBase  uint16 // first UDP port for VPN programs
	Ports     uint16 // how many of them
	Random    func() uint64
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
	talk  uint64
	timer uint32 // sequence number of the live timer

	established bool // was up since the last Connect: try again when it breaks
	held        bool // a user ended it and the peer could not be told
	attempts    int
	rounds      int
	answered    bool // the last KEEPALIVE was answered
	told        bool // the peer knows why the talk ends

	offers []Offer        // ours, as last sent
	theirs []Offer        // the peer's, as last received
	nets   []netip.Prefix // the peer's networks, from a NAK
	avoid  []netip.Prefix // what NAKs of this attempt named
	entry  Entry          // agreement in the making or in force
	before Record

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
			g.disconnect(p, ReasonSuperseded) // another home under an old name
			p = nil
		}
		if p == nil {
			p = &peer{before: records[c.Name]}
			g.peers[c.Name] = p
		}
		p.Peer = c
		if p.state >= Preparing && !slices.Contains(c.Protocols, p.entry.Protocol) {
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

// SetHome takes what changed of our own addresses. Tunnels whose agreement no
// longer fits are negotiated anew, the others stay as they are.
func (g *Gateway) SetHome(h Home) []Action {
	g.out = nil
	g.home = h
	for _, n := range g.order {
		p := g.peers[n]
		if p.state < Connecting || g.fits(p) {
			continue
		}
		const why = "our addresses have changed"
		g.end(p, ReasonSuperseded, why)
		g.do(Progress{Peer: p.Name, Step: StepDown, Reason: ReasonSuperseded, Text: why})
		if p.role == Initiator {
			g.start(p)
		} else {
			p.reason, p.text = ReasonSuperseded, why
			g.to(p, Idle, 0)
		}
	}
	return g.out
}

// Adopt takes a tunnel over that a former process of this gateway left
// standing. Nothing is negotiated; an initiator opens a control connection.
func (g *Gateway) Adopt(e Entry) []Action {
	g.out = nil
	p := g.peers[e.Peer]
	if p == nil || p.state != Idle {
		g.do(StopTunnel{e})
		return g.out
	}
	p.entry, p.role, p.state, p.established = e, e.Role, Up, true
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
		g.opened(p, ev.Conn)
	case DialFailed:
		g.dialFailed(p, ev)
	case Received:
		g.received(p, ev.Conn, ev.Msg)
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
		if ev.TunnelID == p.entry.TunnelID && (p.state == Preparing || p.state == Connecting) {
			g.startFailed(p, ev.Text)
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
		if ev.TunnelID == p.entry.TunnelID && p.state >= Connecting {
			g.fail(p, ReasonLink, ev.Text)
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

func (g *Gateway) connect(p *peer) {
	p.held = false
	switch p.state {
	case Up:
		g.do(Progress{Peer: p.Name, Step: StepUp})
	case Idle, Waiting:
		p.attempts = 0
		g.start(p)
	}
}

// start begins an attempt as initiator.
func (g *Gateway) start(p *peer) {
	g.dropConn(p)
	p.role, p.rounds = Initiator, 0
	p.entry, p.offers, p.theirs, p.nets, p.avoid = Entry{}, nil, nil, nil, nil
	g.do(Progress{Peer: p.Name, Step: StepConnecting})
	g.to(p, Dialing, DialLimit)
	g.do(Dial{p.Name})
}

func (g *Gateway) disconnect(p *peer, r Reason) {
	if p.state == Idle {
		p.established = false
		return
	}
	p.held = r == ReasonUser && p.conn == 0 && p.state >= Connecting
	g.end(p, r, "")
	p.established, p.reason, p.text = false, 0, ""
	g.do(Progress{Peer: p.Name, Step: StepDown, Reason: r})
	p.state = Idle
	hold := time.Duration(0)
	if p.held {
		hold = HoldTime
	}
	g.timer(p, hold)
}

// end closes what there is of a tunnel and its talk, and tells the peer why.
func (g *Gateway) end(p *peer, r Reason, text string) {
	switch {
	case p.conn == 0 || p.told:
	case p.state >= Connecting:
		g.send(p, &Message{Type: Close, Talk: p.talk, TunnelID: p.entry.TunnelID, Reason: r, Text: clip(text)})
	case p.role == Responder && p.state >= Refusing:
		n := &Message{Type: Nak, Talk: p.talk, Refused: Request, Reason: r, Text: clip(text)}
		if p.state == Preparing {
			n.Refused = Ack
		}
		g.send(p, n)
	}
	p.told = false
	g.dropConn(p)
	if p.state >= Preparing && p.entry.TunnelID != 0 {
		g.do(StopTunnel{p.entry})
	}
	p.entry = Entry{}
}

func (g *Gateway) dropConn(p *peer) {
	if p.conn != 0 {
		g.do(CloseConn{p.conn})
		p.conn = 0
	}
}

// fail ends an attempt or a tunnel that no longer works, and decides whether
// another attempt follows.
func (g *Gateway) fail(p *peer, r Reason, text string) {
	was := p.state
	g.end(p, r, text)
	p.reason, p.text = r, text
	pr := Progress{Peer: p.Name, Step: StepFailed, Reason: r, Text: text}
	if was == Up {
		pr.Step = StepDown
	}
	again := p.role == Initiator && p.Domain != "" && !r.Permanent() && (p.established || p.Auto || r == ReasonBusy && p.attempts < MaxBusy)
	if p.Auto && p.Domain != "" && r != ReasonUser && !again {
		again, p.attempts = true, max(p.attempts, 5) // somebody may mend it meanwhile; don't hurry
	}
	if !again {
		p.established = false
		g.to(p, Idle, 0)
		g.do(pr)
		return
	}
	pr.Retry = backoff(p.attempts)
	p.attempts++
	g.to(p, Waiting, pr.Retry)
	g.do(pr)
}

func (g *Gateway) up(p *peer) {
	p.established, p.answered, p.reason, p.text = true, true, 0, ""
	g.to(p, Up, 0)
	if p.role == Initiator {
		g.timer(p, KeepaliveEvery)
	}
	if r := (Record{Own: p.entry.Own, Theirs: p.entry.Theirs}); !r.Equal(p.before) {
		p.before = r
		g.do(Save{p.Name, r})
	}
	g.do(Progress{Peer: p.Name, Step: StepUp})
}

func (g *Gateway) closed(p *peer, ev Closed) {
	if ev.Conn != p.conn {
		return
	}
	p.conn = 0
	switch p.state {
	case Dialing, Requested, Acked, Refusing, Responded:
		if ev.Reason == 0 {
			ev.Reason, ev.Text = ReasonUnreachable, "the other gateway closed the connection"
		}
		g.fail(p, ev.Reason, ev.Text)
	case Up:
		if p.role == Initiator {
			g.timer(p, backoff(0))
		}
	}
}

func (g *Gateway) malformed(p *peer, ev Malformed) {
	var v VersionError
	r := ReasonMalformed
	if errors.As(ev.Err, &v) {
		r = ReasonVersion
	}
	g.do(Send{ev.Conn, &Message{Type: Nak, Talk: ev.Talk, Refused: Request, Reason: r, Text: clip(ev.Err.Error())}}, CloseConn{ev.Conn})
	if ev.Conn != p.conn {
		return
	}
	p.conn = 0
	if p.state < Connecting {
		g.fail(p, r, ev.Err.Error())
	} else if p.state == Up && p.role == Initiator {
		g.timer(p, backoff(1))
	}
}

func (g *Gateway) timeout(p *peer) {
	switch p.state {
	case Idle:
		p.held = false
	case Waiting:
		g.start(p)
	case Up:
		g.keepalive(p)
	case Dialing:
		g.fail(p, ReasonUnreachable, "no connection within "+DialLimit.String())
	case Connecting:
		g.fail(p, ReasonLink, "the VPN tunnel did not come up within "+LinkLimit.String())
	case Proving:
		g.fail(p, ReasonLink, "the VPN tunnel is up, but no packet came back through it")
	case Preparing:
		g.startFailed(p, "the VPN server did not start within "+PrepareLimit.String())
	default:
		g.fail(p, ReasonTimeout, "the other gateway did not answer")
	}
}

// keepalive is the initiator's duty: it shows that the control connection
// works, and opens a new one where it does not. The tunnel itself is watched by
// its own link.
func (g *Gateway) keepalive(p *peer) {
	if p.role != Initiator {
		return
	}
	if p.conn == 0 {
		g.timer(p, DialLimit+KeepaliveEvery)
		g.do(Dial{p.Name})
		return
	}
	if !p.answered {
		g.dropConn(p)
		g.timer(p, backoff(0))
		return
	}
	p.answered = false
	p.attempts = 0 // it has stood for a while: when it breaks, the next attempt comes soon
	g.send(p, &Message{Type: Keepalive, Talk: p.talk, TunnelID: p.entry.TunnelID})
	g.timer(p, KeepaliveEvery)
}

// protocols are those possible with a peer, our best first.
func (g *Gateway) protocols(p *peer) []Protocol {
	var out []Protocol
	for _, x := range g.cfg.Protocols {
		if slices.Contains(p.Protocols, x) {
			out = append(out, x)
		}
	}
	return out
}

// clip cuts a text to what a message may carry.
func clip(s string) string {
	s = string(bytes.Map(func(r rune) rune {
		if !printable(string(r)) {
			return ' '
		}
		return r
	}, []byte(s)))
	for len(s) > maxText {
		s = s[:len(s)-1]
		for len(s) > 0 && !printable(s) {
			s = s[:len(s)-1]
		}
	}
	return s
}
