package htip

import (
	"bytes"
	"fmt"
	"slices"
)

// received sorts a message by what it is an answer to. What fits no state is
// dropped: it belongs to a talk that is over.
func (g *Gateway) received(p *peer, c ConnID, m *Message) {
	switch m.Type {
	case Request:
		g.requested(p, c, m)
		return
	case Keepalive:
		g.keptAlive(p, c, m)
		return
	}
	if c != p.conn {
		g.do(CloseConn{c}) // a talk that is over, or one that never began
		return
	}
	if m.Type == Close {
		g.closeReceived(p, m)
		return
	}
	if m.Talk != p.talk {
		return
	}
	switch {
	case m.Type == Response && p.state == Requested:
		g.response(p, m)
	case m.Type == Nak && (p.state == Requested && m.Refused == Request || p.state == Acked && m.Refused == Ack):
		g.naked(p, m)
	case m.Type == Ready && p.state == Acked:
		g.ready(p, m)
	case m.Type == Ack && p.state == Responded:
		g.acked(p, m)
	case m.Type == Nak && p.state == Responded && m.Refused == Response:
		g.responseNaked(p, m)
	case m.Type == Nak && p.role == Responder && p.state >= Preparing && p.state < Up:
		g.fail(p, m.Reason, "the other gateway says: "+m.Text)
	}
}

// requested takes a REQUEST (¶122, 156).
func (g *Gateway) requested(p *peer, c ConnID, m *Message) {
	answer := func(r Reason, text string) {
		g.do(Send{c, &Message{Type: Nak, Talk: m.Talk, Refused: Request, Reason: r, Text: clip(text)}})
		if c != p.conn {
			g.do(CloseConn{c})
		}
		p.told = c == p.conn
	}
	if c == p.conn && p.role == Initiator {
		return // on a connection that we opened only we ask
	}
	if p.held {
		answer(ReasonUser, "ended here by a user a moment ago")
		return
	}
	if p.role == Initiator && (p.state == Requested || p.state == Acked) {
		if m.Talk == p.talk {
			answer(ReasonLoop, "the request came back to its sender")
			return
		}
		// Both asked at once. The gateway with the smaller key stays initiator;
		// both compute that alone.
		if bytes.Compare(g.cfg.Key, p.Key) < 0 {
			answer(ReasonBusy, "our own request is on its way to you")
			return
		}
	}
	rounds := 0
	if c == p.conn && p.role == Responder {
		rounds = p.rounds // a next round of the same talk
	} else if p.state != Idle && p.state != Waiting {
		// The peer has forgotten the tunnel or given up the talk it had.
		g.end(p, ReasonSuperseded, "")
		if p.established {
			g.do(Progress{Peer: p.Name, Step: StepDown, Reason: ReasonSuperseded})
		}
	}
	if p.conn != c {
		g.dropConn(p)
	}
	if p.state >= Preparing && p.entry.TunnelID != 0 {
		g.do(StopTunnel{p.entry})
	}
	p.conn, p.talk, p.role, p.rounds = c, m.Talk, Responder, rounds
	p.entry, p.theirs, p.nets = Entry{}, m.Offers, nil
	if rounds == 0 {
		p.avoid = nil
	}
	p.state, p.told = Refusing, false
	g.do(Progress{Peer: p.Name, Step: StepRequest})

	i := slices.IndexFunc(m.Protocols, func(x Protocol) bool { return slices.Contains(g.protocols(p), x) })
	if i < 0 {
		answer(ReasonNoProtocol, "this gateway allows you "+g.possible(p))
		g.fail(p, ReasonNoProtocol, fmt.Sprintf("the other gateway proposed %s, allowed here: %s", protocolList(m.Protocols), g.possible(p)))
		return
	}
	p.entry.Protocol = m.Protocols[i]
	theirs, err := g.choose(p, m.Offers, nil)
	if err != nil {
		if p.rounds++; p.rounds > MaxRounds {
			answer(ReasonExhausted, err.Error())
			g.fail(p, ReasonExhausted, err.Error())
			return
		}
		g.nak(p, m, err)
		g.to(p, Refusing, AnswerLimit)
		return
	}
	p.entry.Peer, p.entry.Domain, p.entry.Role = p.Name, p.Domain, Responder
	if p.entry.Domain == "" {
		p.entry.Domain = m.Domain
	}
	p.entry.Theirs = theirs
	p.entry.PeerGateway = Inside(m.Gateway, theirs)
	g.respond(p)
}

// respond sends a RESPONSE with what was chosen for them and what we propose
// for ourselves.
func (g *Gateway) respond(p *peer) {
	if !g.makeOffers(p, Substitutes(p.entry.Theirs)) {
		text := "no private addresses are left to offer for the networks here"
		g.fail(p, ReasonExhausted, text) // tells the peer, too
		return
	}
	g.send(p, &Message{
		Type: Response, Talk: p.talk, Domain: g.cfg.Domain, Protocols: []Protocol{p.entry.Protocol},
		Offers: p.offers, Gateway: g.home.Gateway, Initiator: p.entry.Theirs,
	})
	g.to(p, Responded, AnswerLimit)
	g.do(Progress{Peer: p.Name, Step: StepResponse})
}

// responseNaked takes a NAK to our RESPONSE: we propose other substitutes of
// ours (claim 14).
func (g *Gateway) responseNaked(p *peer, m *Message) {
	if m.Reason != ReasonClash {
		g.fail(p, m.Reason, "the other gateway says: "+m.Text)
		return
	}
	if p.rounds++; p.rounds > MaxRounds {
		g.fail(p, ReasonClash, fmt.Sprintf("no substitute addresses suit both homes after %d rounds", MaxRounds))
		return
	}
	p.avoid = append(p.avoid, m.Avoid...)
	for _, o := range p.offers { // what was just refused is not proposed again
		for _, c := range o.Candidates {
			if c.Bits() == o.Network.Bits() {
				p.avoid = append(p.avoid, c)
			}
		}
	}
	g.do(Progress{Peer: p.Name, Step: StepNak, Reason: m.Reason, Text: m.Text})
	g.respond(p)
}

// acked takes ACK: the VPN server is started (¶126).
func (g *Gateway) acked(p *peer, m *Message) {
	clash := func(text string) { // the initiator starts over with a new REQUEST
		g.send(p, &Message{Type: Nak, Talk: m.Talk, Refused: Ack, Reason: ReasonClash, Text: clip(text)})
		g.to(p, Refusing, AnswerLimit)
	}
	if m.Protocol() != p.entry.Protocol || !slices.Equal(m.Initiator, p.entry.Theirs) {
		g.refuse(p, m, ReasonMalformed, "ACK names another protocol or other substitutes than RESPONSE")
		return
	}
	if err := checkMappings(p.offers, m.Responder); err != nil {
		g.refuse(p, m, ReasonMalformed, err.Error())
		return
	}
	if overlapAcross(m.Initiator, m.Responder) {
		g.refuse(p, m, ReasonMalformed, "the substitutes of the two homes overlap")
		return
	}
	if !g.ownFree(p, m.Responder) || !g.substitutesFree(p, p.entry.Theirs) {
		clash("taken by another tunnel in the meantime")
		return
	}
	p.entry.Own = m.Responder
	p.entry.OwnGateway = Inside(g.home.Gateway, m.Responder)
	if p.entry.LocalPort = g.port(); p.entry.LocalPort == 0 {
		g.refuse(p, m, ReasonServer, "all VPN ports of this gateway are in use")
		return
	}
	p.entry.TunnelID = g.tunnelID()
	g.to(p, Preparing, PrepareLimit)
	g.do(Progress{Peer: p.Name, Step: StepAck}, StartServer{p.entry, p.conn})
}

func overlapAcross(a, b []Mapping) bool {
	for _, x := range a {
		for _, y := range b {
			if x.Substitute.Overlaps(y.Substitute) {
				return true
			}
		}
	}
	return false
}

// started: a server that listens is announced with READY; of a client nothing
// more is to be said before its link stands.
func (g *Gateway) started(p *peer) {
	if p.state != Preparing {
		return
	}
	e := &p.entry
	if !g.fits(p) {
		g.fail(p, ReasonBusy, "our addresses have changed meanwhile") // the initiator tries again
		return
	}
	if p.conn == 0 {
		g.fail(p, ReasonUnreachable, "the other gateway closed the connection")
		return
	}
	g.send(p, &Message{
		Type: Ready, Talk: p.talk, Protocols: []Protocol{e.Protocol},
		Initiator: e.Theirs, Responder: e.Own, TunnelID: e.TunnelID, Port: e.LocalPort,
	})
	g.to(p, Connecting, LinkLimit)
	g.do(Progress{Peer: p.Name, Step: StepReady})
}

func (g *Gateway) startFailed(p *peer, text string) {
	g.fail(p, ReasonServer, text) // tells the peer, too
}

// keptAlive takes a KEEPALIVE: an answer to ours, or a peer's question whether
// we still know the tunnel.
func (g *Gateway) keptAlive(p *peer, c ConnID, m *Message) {
	if m.TunnelID != p.entry.TunnelID || p.state < Connecting {
		why := ReasonUnknown
		if p.held {
			why = ReasonUser // now the peer can be told
		}
		g.do(Send{c, &Message{Type: Close, Talk: m.Talk, TunnelID: m.TunnelID, Reason: why}}, CloseConn{c})
		if c == p.conn {
			p.conn = 0
		}
		return
	}
	if p.role == Initiator {
		if c == p.conn && p.state == Up {
			p.answered, p.attempts = true, 0
			g.timer(p, KeepaliveEvery)
		}
		return
	}
	if c != p.conn {
		g.dropConn(p)
		p.conn, p.talk = c, m.Talk
	}
	g.send(p, &Message{Type: Keepalive, Talk: m.Talk, TunnelID: m.TunnelID})
}

// closeReceived takes CLOSE: the tunnel is over at the other end.
func (g *Gateway) closeReceived(p *peer, m *Message) {
	if p.state < Preparing || m.TunnelID != p.entry.TunnelID {
		return
	}
	p.told = true // it knows already: no CLOSE back
	text := m.Text
	if text == "" {
		text = m.Reason.String()
	}
	g.fail(p, m.Reason, "the other gateway says: "+text)
}

// possible lists the protocols for a peer, or says why there are none.
func (g *Gateway) possible(p *peer) string {
	ps := g.protocols(p)
	s := protocolList(ps)
	if len(ps) == 0 {
		switch {
		case len(g.cfg.Protocols) == 0 && g.cfg.Lacks != "":
			s += "; " + g.cfg.Lacks
		case len(g.cfg.Protocols) > 0:
			s += ", because none of those possible (" + protocolList(g.cfg.Protocols) + ") is encrypted or otherwise permitted for this peer"
		}
	}
	return s
}

func protocolList(ps []Protocol) string {
	s := ""
	for i, p := range ps {
		if i > 0 {
			s += ", "
		}
		s += p.String()
	}
	if s == "" {
		return "none"
	}
	return s
}
