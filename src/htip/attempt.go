package htip

import (
	"bytes"
	"time"
)

func (g *Gateway) connect(p *peer) {
	p.held = 0
	switch p.state {
	case Up:
		g.do(Progress{Peer: p.Name, Step: StepUp})
	case Idle, Waiting:
		p.attempts = 0
		g.start(p)
	default:
		p.wants = true // when the talk under way is the other home's and comes to nothing, ours follows
	}
}

// start begins an attempt as initiator.
func (g *Gateway) start(p *peer) {
	g.dropConn(p)
	p.role, p.rounds, p.wants = Initiator, 0, true
	p.entry, p.offers, p.theirs, p.nets, p.avoid = Entry{}, nil, nil, nil, nil
	if g.ourselves(p) {
		g.fail(p, ReasonLoop, itself)
		return
	}
	g.do(Progress{Peer: p.Name, Step: StepConnecting})
	g.to(p, Dialing, DialLimit)
	g.do(Dial{p.Name})
}

const itself = "this peer has our own key: a home can't have a tunnel to itself. The key of the other home is wanted here; or one of the two gateways was made from a copy of the other and needs a key of its own"

// ourselves tells whether a peer is configured with our own key.
func (g *Gateway) ourselves(p *peer) bool { return bytes.Equal(p.Key, g.cfg.Key) }

func (g *Gateway) disconnect(p *peer, r Reason) {
	if p.state == Idle {
		p.established = false
		if p.held != 0 && r != ReasonUser {
			p.held = 0
			g.timer(p, 0)
		}
		return
	}
	if p.held = 0; r == ReasonUser && p.state >= Acked {
		p.held = p.stake()
	}
	g.end(p, r, "")
	p.established, p.wants, p.reason, p.text = false, false, 0, ""
	g.do(Progress{Peer: p.Name, Step: StepDown, Reason: r})
	p.state = Idle
	var hold time.Duration
	if p.held != 0 {
		hold = HoldTime
	}
	g.timer(p, hold)
}

// end closes what there is of a tunnel and its talk, and tells the peer why.
func (g *Gateway) end(p *peer, r Reason, text string) {
	n := &Message{Type: Nak, Talk: p.talk, Refused: Request, Reason: r, Text: clip(text), Replaces: p.held}
	switch {
	case p.conn == 0 || p.told || p.state < Requested:
		n = nil
	case p.state >= Connecting:
		n = &Message{Type: Close, Talk: p.talk, TunnelID: p.entry.TunnelID, Reason: r, Text: clip(text)}
	case p.state == Preparing:
		n.Refused = Ack
	case p.role == Initiator:
		n.Refused = Response
	}
	if n != nil {
		g.send(p, n)
	}
	p.told = false
	g.dropConn(p)
	g.stop(p)
}

// stop ends the VPN program of an agreement, if one was asked for, and forgets
// the agreement.
func (g *Gateway) stop(p *peer) {
	if p.running {
		g.do(StopTunnel{p.entry})
	}
	p.running, p.entry = false, Entry{}
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
	pr := Progress{Peer: p.Name, Step: StepFailed, Reason: r, Text: text}
	if p.state == Up {
		pr.Step = StepDown
	}
	g.end(p, r, text)
	p.reason, p.text = r, text
	p.wants = p.again(r)
	if !p.wants {
		p.established = false
		g.to(p, Idle, 0)
		g.do(pr)
		return
	}
	pr.Retry = backoff(p.attempts)
	if (r == ReasonApproval || r == ReasonUnauthorized) && p.attempts >= MaxApproval {
		pr.Retry = ApprovalPause
	}
	p.attempts++
	g.to(p, Waiting, pr.Retry)
	g.do(pr)
}

// failThere is a fail for what the peer told us: it knows already. What is over
// is a tunnel or a talk that the peer's people have ended.
func (g *Gateway) failThere(p *peer, r Reason, text string, over uint64) {
	if text == "" {
		text = r.String()
	}
	text = "the other gateway says: " + text
	switch r {
	case ReasonUser:
		p.replaces = over // who asks again now does so on purpose
	case ReasonSuperseded:
		// We have one talk or tunnel with a home and did not begin another one.
		text = "another device seems to use the key of this home, from a copied configuration or a restored backup: it has taken the tunnel over. Give that device a key of its own, then connect again"
	}
	p.told = true
	g.fail(p, r, text)
}

// again says whether another attempt of ours follows a failure by itself.
func (p *peer) again(r Reason) bool {
	switch {
	case p.Domain == "", r == ReasonUser, r == ReasonSuperseded, r == ReasonLoop, r.Invite(): // somebody has to do something here
		return false
	case r == ReasonRefused && p.before.Own == nil: // a home that we never had a tunnel with does not want one
		return false
	}
	switch {
	case p.role != Initiator && !p.wants || r.Permanent():
	case r == ReasonApproval:
		if p.established || p.Auto || p.attempts < MaxApproval {
			p.attempts = max(p.attempts, len(pauses)-2) // people take their time
			return true
		}
	case p.established, p.Auto:
		return true
	case r == ReasonBusy, r == ReasonStands, r == ReasonAddresses, p.role != Initiator:
		if p.attempts < MaxBusy {
			return true
		}
	}
	if p.Auto {
		p.attempts = max(p.attempts, len(pauses)-1) // somebody may mend it meanwhile; don't hurry
	}
	return p.Auto
}

func (g *Gateway) up(p *peer) {
	p.established, p.answered, p.wants, p.reason, p.text, p.replaces = true, true, false, 0, "", 0
	g.to(p, Up, 0)
	if p.role == Initiator {
		g.timer(p, KeepaliveEvery)
	}
	g.remember(p)
	g.do(Progress{Peer: p.Name, Step: StepUp})
}

// remember saves the substitutes of a tunnel, when they are other ones than
// last time: flash wears out.
func (g *Gateway) remember(p *peer) {
	if r := (Record{Own: p.entry.Own, Theirs: p.entry.Theirs}); !r.Equal(p.before) {
		p.before = r
		g.do(Save{p.Name, r})
	}
}

func (g *Gateway) timeout(p *peer) {
	switch p.state {
	case Idle:
		p.held = 0
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
	case Listening, Preparing:
		g.fail(p, ReasonServer, "the VPN server did not start within "+PrepareLimit.String())
	default:
		g.fail(p, ReasonTimeout, "the other gateway did not answer")
	}
}
