package htip

import "errors"

func (g *Gateway) opened(p *peer, c ConnID, ends Ends) {
	switch {
	case p.state == Dialing:
		p.conn, p.ends = c, ends
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

func (g *Gateway) closed(p *peer, ev Closed) {
	if ev.Conn != p.conn {
		return
	}
	p.conn = 0
	switch p.state {
	case Dialing, Requested, Acked, Refusing, Listening, Responded:
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

// keepalive is the initiator's duty: it shows that the control connection
// works, and opens a new one where it does not. The tunnel itself is watched by
// its own link.
func (g *Gateway) keepalive(p *peer) {
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

// keptAlive takes a KEEPALIVE: an answer to ours, or a peer's question whether
// we still know the tunnel.
func (g *Gateway) keptAlive(p *peer, c ConnID, m *Message) {
	if m.TunnelID != p.entry.TunnelID || p.state < Connecting {
		why := ReasonUnknown
		if p.held == uint64(m.TunnelID) {
			why = ReasonUser // now the peer can be told
		}
		g.do(Send{c, &Message{Type: Close, Talk: m.Talk, TunnelID: m.TunnelID, Reason: why}}, CloseConn{c})
		if c == p.conn { // it is no answer to what we said on it
			g.closed(p, Closed{c, ReasonUnknown, "the other gateway speaks of a tunnel that is not known here"})
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
	g.failThere(p, m.Reason, m.Text, uint64(m.TunnelID))
}
