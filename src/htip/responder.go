package htip

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// received sorts a message by what it is an answer to. What fits no state is
// dropped: it belongs to a talk that is over.
func (g *Gateway) received(p *peer, c ConnID, ends Ends, m *Message) {
	switch m.Type {
	case Request:
		g.requested(p, c, ends, m)
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
	case m.Type == Ready && p.state == Acked:
		g.ready(p, m)
	case m.Type == Ack && p.state == Responded:
		g.acked(p, m)
	case m.Type == Nak && p.role == Initiator && (p.state == Requested || p.state == Acked || p.state == Connecting):
		g.naked(p, m)
	case m.Type == Nak && p.role == Responder && p.state >= Refusing && p.state < Up:
		g.responseNaked(p, m)
	}
}

// nak refuses a message and says what would have to be different.
func (g *Gateway) nak(p *peer, m *Message, err error) {
	n := &Message{Type: Nak, Talk: m.Talk, Refused: m.Type, Reason: ReasonClash, Text: clip(err.Error())}
	for _, x := range g.home.Networks {
		n.Offers = append(n.Offers, Offer{Network: x})
	}
	if clash, ok := err.(*ClashError); ok {
		n.Avoid = clash.With
	}
	g.send(p, n)
	g.do(Progress{Peer: p.Name, Step: StepNak, Reason: ReasonClash, Text: err.Error()})
}

// refuse answers a message with a NAK that ends the talk.
func (g *Gateway) refuse(p *peer, m *Message, r Reason, text string) {
	g.tell(p, m, r, text)
	g.fail(p, r, text)
}

func (g *Gateway) tell(p *peer, m *Message, r Reason, text string) {
	g.send(p, &Message{Type: Nak, Talk: m.Talk, Refused: m.Type, Reason: r, Text: clip(text)})
	p.told = true
}

// admit says whether a REQUEST is taken; what is not taken is answered.
func (g *Gateway) admit(p *peer, c ConnID, m *Message) bool {
	n := &Message{Type: Nak, Talk: m.Talk, Refused: Request}
	switch stake := p.stake(); {
	case c == p.conn:
		return p.role == Responder && m.Talk != p.talk // on a connection that we opened only we ask
	case g.deaf:
		n.Reason, n.Text = ReasonRefused, "it takes no requests; only from there can this tunnel be asked for"
	case g.ourselves(p):
		n.Reason, n.Text = ReasonLoop, "this gateway has the same key"
	case p.held != 0 && m.Replaces != p.held:
		n.Reason, n.Replaces, n.Text = ReasonUser, p.held, "ended here by a user a moment ago"
	case p.state == Requested && m.Talk == p.talk:
		n.Reason, n.Text = ReasonLoop, "the request came back to its sender"
	case p.state == Requested && bytes.Compare(g.cfg.Key, p.Key) < 0:
		// Both asked at once. The gateway with the smaller key stays initiator;
		// both compute that alone.
		n.Reason, n.Text = ReasonBusy, "our own request is on its way to you"
	case p.state >= Acked && m.Replaces != stake:
		// The peer has forgotten the tunnel or given up the talk; or this is an
		// old REQUEST of its that was under way for long and must do no harm.
		// Only who still waits for an answer can repeat it.
		n.Reason, n.Replaces = ReasonStands, stake
	default:
		return true
	}
	g.do(Send{c, n})
	if n.Reason != ReasonStands {
		g.do(CloseConn{c})
	}
	return false
}

// stake names what a REQUEST on another connection would put an end to: the
// tunnel, or the talk that may lead to one.
func (p *peer) stake() uint64 {
	if p.entry.TunnelID != 0 {
		return uint64(p.entry.TunnelID)
	}
	return p.talk
}

// requested takes a REQUEST (¶122, 156).
func (g *Gateway) requested(p *peer, c ConnID, ends Ends, m *Message) {
	if !g.admit(p, c, m) {
		return
	}
	if p.state == Up {
		g.do(Progress{Peer: p.Name, Step: StepDown, Reason: ReasonSuperseded})
	}
	if c == p.conn {
		p.rounds++ // a next round of the same talk
		g.stop(p)
	} else {
		r := ReasonSuperseded
		if p.state == Requested {
			r = ReasonBusy // both asked at once, and the other one goes on
		}
		g.end(p, r, "")
		p.rounds, p.avoid = 0, nil
	}
	p.conn, p.talk, p.role = c, m.Talk, Responder
	p.theirs, p.nets = m.Offers, nil
	p.state, p.told, p.held = Refusing, false, 0
	g.do(Progress{Peer: p.Name, Step: StepRequest})
	if p.rounds > MaxRounds {
		g.refuse(p, m, ReasonExhausted, tooMany)
		return
	}

	why := "" // the best of those that both allow is not possible
	i := slices.IndexFunc(m.Protocols, func(x Protocol) bool {
		if !contains(g.protocols(p), x) {
			return false
		}
		o := g.obstacle(x, ends, m)
		if why == "" {
			why = o
		}
		return o == ""
	})
	if i < 0 && why != "" {
		g.refuse(p, m, ReasonNoProtocol, why)
		return
	}
	if i < 0 {
		g.tell(p, m, ReasonNoProtocol, "this gateway allows you "+g.possible(p))
		theirs := protocolList(m.Protocols)
		if m.Text != "" {
			theirs += " and says: " + m.Text
		}
		g.fail(p, ReasonNoProtocol, fmt.Sprintf("the other gateway proposed %s; allowed here: %s", theirs, g.possible(p)))
		return
	}
	if g.tooLarge(m.Offers) {
		g.refuse(p, m, ReasonExhausted, g.claimed())
		return
	}
	theirs, err := g.choose(p, m.Offers, nil)
	if err != nil {
		if p.rounds == MaxRounds {
			g.refuse(p, m, ReasonExhausted, tooMany)
			return
		}
		g.nak(p, m, err)
		g.to(p, Refusing, AnswerLimit)
		return
	}
	p.entry = Entry{
		Peer: p.Name, Domain: p.Domain, Protocol: m.Protocols[i], Role: Responder,
		Theirs: theirs, PeerGateway: Inside(m.Gateway, theirs),
	}
	p.entry.Why = g.why(p, p.entry.Protocol, m.Protocols, m.Text)
	if p.entry.Protocol == L2TPESP {
		p.entry.Cipher = g.cfg.ESP.cipher(m.Features)
	}
	if p.entry.Domain == "" {
		p.entry.Domain = m.Domain
	}
	if m.Features&FeatureThreeMessages != 0 && contains(g.cfg.EarlyServers, p.entry.Protocol) {
		g.serve(p, m, Listening)
		return
	}
	g.respond(p)
}

// serve starts the VPN server: before RESPONSE in a talk of three messages
// (¶77-81), upon ACK otherwise (¶126).
func (g *Gateway) serve(p *peer, m *Message, s State) {
	if p.entry.LocalPort = g.port(); p.entry.LocalPort == 0 {
		g.refuse(p, m, ReasonServer, noPort)
		return
	}
	p.entry.TunnelID, p.running = g.tunnelID(), true
	g.to(p, s, PrepareLimit)
	g.do(StartServer{p.entry, p.conn})
}

// respond sends a RESPONSE with what was chosen for them and what we propose
// for ourselves.
func (g *Gateway) respond(p *peer) {
	if !g.makeOffers(p, Substitutes(p.entry.Theirs)) {
		g.fail(p, ReasonExhausted, g.usedUp()) // tells the peer, too
		return
	}
	p.gate = g.home.Gateway
	m := &Message{
		Type: Response, Talk: p.talk, Domain: g.cfg.Domain, Protocols: []Protocol{p.entry.Protocol},
		Offers: p.offers, Gateway: g.home.Gateway, Initiator: p.entry.Theirs, Features: g.cfg.ESP & featuresESP,
		Text: g.lacking(p),
	}
	if p.running {
		m.Features |= FeatureThreeMessages
		m.TunnelID, m.Port = p.entry.TunnelID, p.entry.LocalPort
	}
	g.send(p, m)
	g.to(p, Responded, AnswerLimit)
	g.do(Progress{Peer: p.Name, Step: StepResponse})
}

// responseNaked takes a NAK of the initiator: to our RESPONSE with a clash, and
// we propose other substitutes of ours (claim 14); everything else is the end.
func (g *Gateway) responseNaked(p *peer, m *Message) {
	if m.Reason != ReasonClash || p.state != Responded {
		g.failThere(p, m.Reason, m.Text, m.Replaces)
		return
	}
	if !p.round() {
		g.fail(p, ReasonExhausted, tooMany)
		return
	}
	p.avoid = append(p.avoid, m.Avoid...)
	if !slices.ContainsFunc(p.offers, func(o Offer) bool { return overlap(o.Candidates, m.Avoid) }) {
		// Not said what is in the way: nothing of what was refused once more.
		for _, o := range p.offers {
			for _, c := range o.Candidates {
				if c.Bits() == o.Network.Bits() {
					p.avoid = append(p.avoid, c)
				}
			}
		}
	}
	g.do(Progress{Peer: p.Name, Step: StepNak, Reason: m.Reason, Text: m.Text})
	g.respond(p)
}

// acked takes ACK: the VPN server is started (¶126), or told what it serves
// when it listens already (¶80).
func (g *Gateway) acked(p *peer, m *Message) {
	if m.Protocol() != p.entry.Protocol || !slices.Equal(m.Initiator, p.entry.Theirs) {
		g.refuse(p, m, ReasonMalformed, "ACK names another protocol or other substitutes than RESPONSE")
		return
	}
	if err := checkMappings(p.offers, m.Responder); err != nil { // nothing of A' was offered
		g.refuse(p, m, ReasonMalformed, err.Error())
		return
	}
	p.entry.Own = m.Responder
	p.entry.OwnGateway = Inside(p.gate, m.Responder)
	if !g.fits(p) { // the initiator starts over with a new REQUEST
		g.tryAnother(p, Ack)
		return
	}
	g.do(Progress{Peer: p.Name, Step: StepAck})
	if !p.running {
		g.serve(p, m, Preparing)
		return
	}
	g.to(p, Connecting, LinkLimit)
	g.do(Agreed{p.entry}, Progress{Peer: p.Name, Step: StepReady})
}

// tryAnother refuses REQUEST or ACK because of what has changed since A' was
// chosen.
func (g *Gateway) tryAnother(p *peer, refused Type) {
	g.nak(p, &Message{Type: refused, Talk: p.talk}, errTaken)
	g.stop(p)
	g.to(p, Refusing, AnswerLimit)
}

var errTaken = errors.New("taken by another tunnel in the meantime, or our addresses have changed")

// started: a server that listens is announced with RESPONSE or READY; of a
// client nothing more is to be said before its link stands.
func (g *Gateway) started(p *peer) {
	switch {
	case p.state == Listening && g.substitutesFree(p, p.entry.Theirs):
		g.respond(p)
	case p.state == Listening:
		g.tryAnother(p, Request)
	case p.state != Preparing:
	case !g.fits(p):
		g.fail(p, ReasonAddresses, "our addresses have changed meanwhile") // the initiator tries again
	case p.conn == 0:
		g.fail(p, ReasonUnreachable, "the other gateway closed the connection")
	default:
		e := &p.entry
		g.send(p, &Message{
			Type: Ready, Talk: p.talk, Protocols: []Protocol{e.Protocol},
			Initiator: e.Theirs, Responder: e.Own, TunnelID: e.TunnelID, Port: e.LocalPort,
		})
		g.to(p, Connecting, LinkLimit)
		g.do(Progress{Peer: p.Name, Step: StepReady})
	}
}
