package sim

import (
	"fmt"
	"slices"
	"strings"

	"htip/src/htip"
)

// tracef writes a line about a node, or about the world.
func (w *World) tracef(n *node, format string, a ...any) {
	if w.opt.Trace == nil {
		return
	}
	who := "-"
	if n != nil {
		if who = n.name; !w.traced(who) {
			return
		}
	}
	fmt.Fprintf(w.opt.Trace, "%12.6f %-6s %s\n", w.now.Seconds(), who, fmt.Sprintf(format, a...))
}

func (w *World) traced(name string) bool {
	return len(w.opt.Only) == 0 || slices.Contains(w.opt.Only, name)
}

func (w *World) traceEvent(n *node, s *slot, ev htip.Event) {
	if !w.traced(n.name) || !w.traced(s.peer.Name) {
		return
	}
	text := strings.TrimPrefix(fmt.Sprintf("%T", ev), "htip.")
	switch ev := ev.(type) {
	case htip.Received:
		text = fmt.Sprintf("%s on %d", messageText(ev.Msg), ev.Conn)
	case htip.Disconnect:
		text += fmt.Sprintf(" (%v)", ev.Reason)
	case htip.Opened:
		text += fmt.Sprintf(" %d", ev.Conn)
	case htip.Closed:
		text += fmt.Sprintf(" %d (%v %s)", ev.Conn, ev.Reason, ev.Text)
	case htip.DialFailed:
		text += fmt.Sprintf(" (%s)", ev.Text)
	case htip.Malformed:
		text += fmt.Sprintf(" %d", ev.Conn)
	case htip.Started:
		text += fmt.Sprintf(" %08x", ev.TunnelID)
	case htip.StartFailed:
		text += fmt.Sprintf(" %08x %s", ev.TunnelID, ev.Text)
	case htip.LinkUp:
		text += fmt.Sprintf(" %08x", ev.TunnelID)
	case htip.LinkDown:
		text += fmt.Sprintf(" %08x %s", ev.TunnelID, ev.Text)
	case htip.Proven:
		text += fmt.Sprintf(" %08x", ev.TunnelID)
	}
	w.tracef(n, "%s in %v gets %s", s.peer.Name, s.seen.state, text)
}

func (w *World) traceAction(n *node, about *slot, a htip.Action) {
	name := "-"
	if about != nil {
		if name = about.peer.Name; !w.traced(n.name) || !w.traced(name) {
			return
		}
	}
	text := ""
	switch a := a.(type) {
	case htip.Dial:
		text = "dial " + a.Peer
	case htip.Send:
		text = fmt.Sprintf("send on %d %s", a.Conn, messageText(a.Msg))
	case htip.CloseConn:
		text = fmt.Sprintf("close %d", a.Conn)
	case htip.SetTimer:
		text = fmt.Sprintf("timer %v", a.After)
	case htip.StartServer:
		text = fmt.Sprintf("start server %08x", a.Entry.TunnelID)
	case htip.StartClient:
		text = fmt.Sprintf("start client %08x", a.Entry.TunnelID)
	case htip.StopTunnel:
		text = fmt.Sprintf("stop tunnel %08x", a.Entry.TunnelID)
	case htip.Prove:
		text = "prove"
	case htip.Save:
		text = fmt.Sprintf("save %v %v", a.Record.Own, a.Record.Theirs)
	case htip.Progress:
		text = fmt.Sprintf("progress %v", a.Step)
		if a.Reason != 0 {
			text += fmt.Sprintf(" (%v: %s)", a.Reason, a.Text)
		}
		if a.Retry != 0 {
			text += fmt.Sprintf(", again in %v", a.Retry)
		}
	}
	w.tracef(n, "    %s: %s", name, text)
}

func messageText(m *htip.Message) string {
	s := fmt.Sprintf("%v %04x", m.Type, m.Talk&0xffff)
	for _, o := range m.Offers {
		s += fmt.Sprintf(" %v→%v", o.Network, o.Candidates)
	}
	if len(m.Initiator) > 0 {
		s += fmt.Sprintf(" A %v", m.Initiator)
	}
	if len(m.Responder) > 0 {
		s += fmt.Sprintf(" B %v", m.Responder)
	}
	if m.TunnelID != 0 {
		s += fmt.Sprintf(" id %08x", m.TunnelID)
	}
	if m.Reason != 0 {
		s += fmt.Sprintf(" (%v: %s) avoid %v", m.Reason, m.Text, m.Avoid)
	}
	return s
}
