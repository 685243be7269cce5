package htip

import "fmt"

// tooMany is what people read when MaxRounds are over.
var tooMany = fmt.Sprintf("no substitute addresses suit both homes after %d rounds", MaxRounds)

// round counts one more try with new parameters within an attempt; false when
// there were enough.
func (p *peer) round() bool {
	p.rounds++
	return p.rounds <= MaxRounds
}

// request sends a REQUEST with new parameters (¶121).
func (g *Gateway) request(p *peer) {
	protocols := g.protocols(p)
	if len(protocols) == 0 {
		g.fail(p, ReasonNoProtocol, "allowed with this home here: "+g.possible(p))
		return
	}
	if !g.makeOffers(p, nil) {
		g.fail(p, ReasonExhausted, g.usedUp())
		return
	}
	p.talk, p.gate = g.cfg.Random(), g.home.Gateway
	features := g.cfg.ESP & featuresESP
	limit := AnswerLimit
	if g.cfg.ThreeMessages {
		features |= FeatureThreeMessages
		limit = ReadyLimit // its server may have to start before it answers
	}
	g.send(p, &Message{
		Type: Request, Features: features, Talk: p.talk, Domain: g.cfg.Domain, Protocols: protocols,
		Offers: p.offers, Gateway: g.home.Gateway, Replaces: p.replaces, Ends: p.ends,
		Text: g.lacking(p),
	})
	g.to(p, Requested, limit)
	g.do(Progress{Peer: p.Name, Step: StepRequest})
}

// startOver sends another REQUEST in place of what was agreed on so far.
func (g *Gateway) startOver(p *peer) {
	g.stop(p)
	p.state = Requested
	g.request(p)
}

// response takes a RESPONSE: A' was chosen, B' is ours to choose (¶123).
func (g *Gateway) response(p *peer, m *Message) {
	protocols := g.protocols(p)
	if !contains(protocols, m.Protocol()) {
		g.refuse(p, m, ReasonNoProtocol, fmt.Sprintf("%v was not proposed", m.Protocol()))
		return
	}
	var cipher Cipher
	if m.Protocol() == L2TPESP {
		if cipher = g.cfg.ESP.cipher(m.Features); cipher == NoCipher {
			g.refuse(p, m, ReasonNoProtocol, noCipher)
			return
		}
	}
	if err := checkMappings(p.offers, m.Initiator); err != nil {
		g.refuse(p, m, ReasonMalformed, err.Error())
		return
	}
	if !sameSet(Networks(m.Initiator), g.home.Networks) || p.gate != g.home.Gateway { // renumbered since the REQUEST
		g.requestAnew(p, m)
		return
	}
	if !g.ownFree(p, m.Initiator) { // taken by another tunnel since the REQUEST
		g.renegotiate(p, m, &ClashError{Network: m.Initiator[0].Network})
		return
	}
	if g.tooLarge(m.Offers) {
		g.refuse(p, m, ReasonExhausted, g.claimed())
		return
	}
	p.theirs = m.Offers
	theirs, err := g.choose(p, m.Offers, Substitutes(m.Initiator))
	if err != nil {
		g.renegotiate(p, m, err)
		return
	}
	p.entry = Entry{
		Peer: p.Name, Domain: p.Domain, Protocol: m.Protocol(), Cipher: cipher, Role: Initiator,
		Own: m.Initiator, Theirs: theirs,
		OwnGateway: Inside(p.gate, m.Initiator), PeerGateway: Inside(m.Gateway, theirs),
	}
	p.entry.Why = g.why(p, m.Protocol(), protocols, m.Text)
	g.do(Progress{Peer: p.Name, Step: StepResponse})
	ack := &Message{Type: Ack, Talk: p.talk, Protocols: m.Protocols, Initiator: m.Initiator, Responder: theirs}
	if g.cfg.ThreeMessages && m.Features&FeatureThreeMessages != 0 {
		g.drive(p, m, ack)
		return
	}
	g.send(p, ack)
	g.to(p, Acked, ReadyLimit)
	g.do(Progress{Peer: p.Name, Step: StepAck})
}

// drive starts the VPN client for the server that READY or RESPONSE names; in a
// talk of three messages ACK goes out first.
func (g *Gateway) drive(p *peer, m, ack *Message) {
	if p.entry.LocalPort = g.port(); p.entry.LocalPort == 0 {
		g.refuse(p, m, ReasonServer, noPort)
		return
	}
	if ack != nil {
		g.send(p, ack)
		g.do(Progress{Peer: p.Name, Step: StepAck})
	}
	p.entry.TunnelID, p.entry.PeerPort, p.running = m.TunnelID, m.Port, true
	g.to(p, Connecting, LinkLimit)
	g.do(Progress{Peer: p.Name, Step: StepReady}, StartClient{p.entry, p.conn})
}

// requestAnew answers a message about addresses that we no longer have with
// another REQUEST.
func (g *Gateway) requestAnew(p *peer, m *Message) {
	if !p.round() {
		g.refuse(p, m, ReasonAddresses, "our addresses keep changing")
		return
	}
	g.startOver(p)
}

// renegotiate answers a RESPONSE whose substitutes clash here with a NAK; the
// responder proposes others (claims 13, 14).
func (g *Gateway) renegotiate(p *peer, m *Message, err error) {
	if !p.round() {
		g.refuse(p, m, ReasonExhausted, tooMany)
		return
	}
	g.nak(p, m, err)
	g.to(p, Requested, AnswerLimit)
}

// naked takes a NAK to our REQUEST or ACK: with a clash, new parameters follow
// (¶157). In a talk of three messages our client may run already.
func (g *Gateway) naked(p *peer, m *Message) {
	answered := Request
	if p.state != Requested {
		answered = Ack
	}
	switch {
	case m.Reason == ReasonClash && m.Refused == answered:
		p.theirs, p.nets = nil, nil
		for _, o := range m.Offers {
			p.nets = append(p.nets, o.Network)
		}
		p.avoid = append(p.avoid, m.Avoid...)
	case m.Reason == ReasonStands && p.state == Requested:
		// The peer has a tunnel or a talk of ours that we know nothing of. That
		// we still answer on this connection shows that it is no old REQUEST
		// that was under way for long.
		p.replaces = m.Replaces
	default:
		g.failThere(p, m.Reason, m.Text, m.Replaces)
		return
	}
	if !p.round() {
		g.fail(p, ReasonExhausted, tooMany)
		return
	}
	g.do(Progress{Peer: p.Name, Step: StepNak, Reason: m.Reason, Text: m.Text})
	g.startOver(p)
}

// ready takes READY: the VPN client is driven (¶127).
func (g *Gateway) ready(p *peer, m *Message) {
	if !p.entry.agreed(m) {
		g.refuse(p, m, ReasonMalformed, "READY names other substitutes than ACK")
		return
	}
	if !g.fits(p) {
		g.requestAnew(p, m)
		return
	}
	g.drive(p, m, nil)
}

const noPort = "all VPN ports of this gateway are in use"
