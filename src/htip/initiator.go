package htip

import (
	"errors"
	"fmt"
)

func (g *Gateway) opened(p *peer, c ConnID) {
	switch {
	case p.state == Dialing:
		p.conn = c
		g.request(p)
	case p.state == Up && p.role == Initiator && p.conn == 0:
		// A new connection for a tunnel that stands: the peer may have been
		// restarted and is asked whether it still knows the tunnel.
		p.conn, p.answered = c, false
		g.send(p, &Message{Type: Keepalive, Talk: p.talk, TunnelID: p.entry.TunnelID})
		g.timer(p, AnswerLimit)
	default:
		g.do(CloseConn{c})
	}
}

func (g *Gateway) dialFailed(p *peer, ev DialFailed) {
	switch {
	case p.state == Dialing:
		g.fail(p, ev.Reason, ev.Text)
	case p.state == Up && p.role == Initiator && p.conn == 0:
		p.attempts++
		g.timer(p, backoff(p.attempts))
	}
}

// request sends a REQUEST with new parameters (¶121).
func (g *Gateway) request(p *peer) {
	protocols := g.protocols(p)
	if len(protocols) == 0 {
		g.fail(p, ReasonNoProtocol, "allowed with this home here: "+g.possible(p))
		return
	}
	if !g.makeOffers(p, nil) {
		g.fail(p, ReasonExhausted, "no private addresses are left to offer for "+g.home.names())
		return
	}
	p.talk = g.cfg.Random()
	g.send(p, &Message{
		Type: Request, Talk: p.talk, Domain: g.cfg.Domain, Protocols: protocols,
		Offers: p.offers, Gateway: g.home.Gateway,
	})
	g.to(p, Requested, AnswerLimit)
	g.do(Progress{Peer: p.Name, Step: StepRequest})
}

// names lists the home's networks for people.
func (h Home) names() string {
	s := ""
	for i, n := range h.Networks {
		if i > 0 {
			s += ", "
		}
		s += n.String()
	}
	if s == "" {
		return "this home, which has no network to share"
	}
	return s
}

// response takes a RESPONSE: A' was chosen, B' is ours to choose (¶123).
func (g *Gateway) response(p *peer, m *Message) {
	protocols := g.protocols(p)
	if !contains(protocols, m.Protocol()) {
		g.refuse(p, m, ReasonNoProtocol, fmt.Sprintf("%v was not proposed", m.Protocol()))
		return
	}
	if err := checkMappings(p.offers, m.Initiator); err != nil {
		g.refuse(p, m, ReasonMalformed, err.Error())
		return
	}
	if !sameSet(Networks(m.Initiator), g.home.Networks) || !Inside(g.home.Gateway, m.Initiator).IsValid() { // renumbered since the REQUEST
		if p.rounds++; p.rounds > MaxRounds {
			g.refuse(p, m, ReasonBusy, "our addresses keep changing")
			return
		}
		g.request(p)
		return
	}
	if !g.ownFree(p, m.Initiator) { // taken by another tunnel since the REQUEST
		g.renegotiate(p, m, &ClashError{Network: m.Initiator[0].Network})
		return
	}
	p.theirs = m.Offers
	theirs, err := g.choose(p, m.Offers, Substitutes(m.Initiator))
	if err != nil {
		g.renegotiate(p, m, err)
		return
	}
	p.entry = Entry{
		Peer: p.Name, Domain: p.Domain, Protocol: m.Protocol(), Role: Initiator,
		Own: m.Initiator, Theirs: theirs,
		OwnGateway: Inside(g.home.Gateway, m.Initiator), PeerGateway: Inside(m.Gateway, theirs),
	}
	g.do(Progress{Peer: p.Name, Step: StepResponse})
	g.send(p, &Message{Type: Ack, Talk: p.talk, Protocols: m.Protocols, Initiator: m.Initiator, Responder: theirs})
	g.to(p, Acked, ReadyLimit)
	g.do(Progress{Peer: p.Name, Step: StepAck})
}

// renegotiate answers a RESPONSE whose substitutes clash here with a NAK; the
// responder proposes others (claims 13, 14).
func (g *Gateway) renegotiate(p *peer, m *Message, err error) {
	if p.rounds++; p.rounds > MaxRounds {
		g.refuse(p, m, ReasonClash, err.Error())
		return
	}
	g.nak(p, m, err)
	g.to(p, Requested, AnswerLimit)
}

// nak refuses a message and says what would have to be different.
func (g *Gateway) nak(p *peer, m *Message, err error) {
	n := &Message{Type: Nak, Talk: m.Talk, Refused: m.Type, Reason: ReasonClash, Text: clip(err.Error())}
	for _, x := range g.home.Networks {
		n.Offers = append(n.Offers, Offer{Network: x})
	}
	var clash *ClashError
	if errors.As(err, &clash) {
		n.Avoid = clash.With
	}
	g.send(p, n)
	g.do(Progress{Peer: p.Name, Step: StepNak, Reason: ReasonClash, Text: err.Error()})
}

// refuse answers a message with a NAK that ends the talk.
func (g *Gateway) refuse(p *peer, m *Message, r Reason, text string) {
	g.send(p, &Message{Type: Nak, Talk: m.Talk, Refused: m.Type, Reason: r, Text: clip(text)})
	p.told = true
	g.fail(p, r, text)
}

// naked takes a NAK to our REQUEST or ACK: with a clash, new parameters follow
// (¶157).
func (g *Gateway) naked(p *peer, m *Message) {
	text := m.Text
	if text == "" {
		text = m.Reason.String()
	}
	if m.Reason != ReasonClash {
		g.fail(p, m.Reason, "the other gateway says: "+text)
		return
	}
	if p.rounds++; p.rounds > MaxRounds {
		g.fail(p, ReasonClash, fmt.Sprintf("no substitute addresses suit both homes after %d rounds", MaxRounds))
		return
	}
	p.entry = Entry{}
	p.theirs, p.nets = nil, nil
	for _, o := range m.Offers {
		p.nets = append(p.nets, o.Network)
	}
	p.avoid = append(p.avoid, m.Avoid...)
	g.do(Progress{Peer: p.Name, Step: StepNak, Reason: m.Reason, Text: text})
	g.request(p)
}

// ready takes READY: the VPN client is driven (¶127).
func (g *Gateway) ready(p *peer, m *Message) {
	if !p.entry.agreed(m) {
		g.refuse(p, m, ReasonMalformed, "READY names other substitutes than ACK")
		return
	}
	p.entry.TunnelID, p.entry.PeerPort, p.entry.LocalPort = m.TunnelID, m.Port, g.port()
	if p.entry.LocalPort == 0 {
		g.refuse(p, m, ReasonServer, "all VPN ports of this gateway are in use")
		return
	}
	g.to(p, Connecting, LinkLimit)
	g.do(Progress{Peer: p.Name, Step: StepReady}, StartClient{p.entry, p.conn})
}

func contains(ps []Protocol, p Protocol) bool {
	for _, x := range ps {
		if x == p {
			return true
		}
	}
	return false
}
