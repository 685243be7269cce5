package htip

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestExhaustiveFindsBugs: a check that can't fail is worth nothing.
func TestExhaustiveFindsBugs(t *testing.T) {
	without := func(which func(Action) bool) func(*xworld) {
		return func(w *xworld) {
			w.bend = func(as []Action) []Action { return slices.DeleteFunc(slices.Clone(as), which) }
		}
	}
	sent := func(x Action) *Message {
		if s, ok := x.(Send); ok {
			return s.Msg
		}
		return &Message{}
	}
	sends := func(change func(m *Message)) func(*xworld) {
		return func(w *xworld) {
			w.bend = func(as []Action) []Action {
				as = slices.Clone(as)
				for i, a := range as {
					if s, ok := a.(Send); ok {
						m := *s.Msg
						change(&m)
						as[i] = Send{s.Conn, &m}
					}
				}
				return as
			}
		}
	}
	for _, c := range []struct {
		bug             string
		plant           func(*xworld)
		crashes, losses uint8
		want            string
	}{
		{"VPN programs go on", without(func(x Action) bool { _, ok := x.(StopTunnel); return ok }), 0, 1, "leak"},
		{"no timers", without(func(x Action) bool { _, ok := x.(SetTimer); return ok }), 0, 0, "half-open"},
		{"connections stay open", without(func(x Action) bool { _, ok := x.(CloseConn); return ok }), 0, 1, "connection"},
		{"no READY", without(func(x Action) bool { return sent(x).Type == Ready }), 0, 0, "somebody asked"},
		{"no ACK", without(func(x Action) bool { return sent(x).Type == Ack }), 0, 0, "somebody asked"},
		{"nobody proves", without(func(x Action) bool { _, ok := x.(Prove); return ok }), 0, 0, "somebody asked"},
		{"another gateway address in RESPONSE", sends(func(m *Message) {
			if m.Type == Response {
				m.Gateway = netip.MustParseAddr("192.168.1.77")
			}
		}), 0, 0, "law 1"},
		{"READY names something else", sends(func(m *Message) {
			if m.Type == Ready {
				m.Initiator = []Mapping{{px("192.168.1.0/24"), px("10.99.0.0/24")}}
			}
		}), 0, 0, "somebody asked"},
		{"failures without a reason", func(w *xworld) {
			w.bend = func(as []Action) []Action {
				as = slices.Clone(as)
				for i, a := range as {
					if p, ok := a.(Progress); ok {
						p.Reason = 0
						as[i] = p
					}
				}
				return as
			}
		}, 0, 1, "without a reason"},
	} {
		t.Run(c.bug, func(t *testing.T) {
			w := newXWorld(false)
			c.plant(w)
			g, err := explore(w, w.start([2]uint8{1, 1}, [2]uint8{}, c.crashes, c.losses), 1<<20, nil)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("not found among %d states: %.3000v", len(g.parents), err)
			}
		})
	}
}
