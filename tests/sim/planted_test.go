package sim

import (
	"net/netip"
	"slices"
	"testing"

	"htip/src/htip"
)

// bent is a gateway with a bug.
type bent struct {
	Gateway
	handle func(g Gateway, name string, ev htip.Event) []htip.Action
	status func([]htip.Status) []htip.Status
	peers  func(g Gateway, ps []htip.Peer, rs map[string]htip.Record) []htip.Action
	home   func(g Gateway, h htip.Home) []htip.Action
}

func (b *bent) Handle(name string, ev htip.Event) []htip.Action {
	if b.handle != nil {
		return b.handle(b.Gateway, name, ev)
	}
	return b.Gateway.Handle(name, ev)
}

func (b *bent) Status() []htip.Status {
	if b.status != nil {
		return b.status(b.Gateway.Status())
	}
	return b.Gateway.Status()
}

func (b *bent) SetPeers(ps []htip.Peer, rs map[string]htip.Record) []htip.Action {
	if b.peers != nil {
		return b.peers(b.Gateway, ps, rs)
	}
	return b.Gateway.SetPeers(ps, rs)
}

func (b *bent) SetHome(h htip.Home) []htip.Action {
	if b.home != nil {
		return b.home(b.Gateway, h)
	}
	return b.Gateway.SetHome(h)
}

// without leaves actions of a kind out.
func without[T htip.Action](as []htip.Action, which func(T) bool) []htip.Action {
	return slices.DeleteFunc(slices.Clone(as), func(a htip.Action) bool {
		x, ok := a.(T)
		return ok && (which == nil || which(x))
	})
}

// sends changes or removes messages; nil removes.
func sends(as []htip.Action, f func(m htip.Message) *htip.Message) []htip.Action {
	var out []htip.Action
	for _, a := range as {
		if s, ok := a.(htip.Send); ok {
			if s.Msg = f(*s.Msg); s.Msg == nil {
				continue
			}
			a = s
		}
		out = append(out, a)
	}
	return out
}

// TestPlantedBugs: a check that can't fail is worth nothing. Every gateway with
// an odd number has a bug.
func TestPlantedBugs(t *testing.T) {
	other := netip.MustParsePrefix("10.77.77.0/24")
	for name, c := range map[string]struct {
		laws []string // one of these has to be reported
		wrap bent
		bend func([]htip.Action) []htip.Action
	}{
		"another substitute at one end": {laws: []string{"law 1"}, wrap: bent{status: func(st []htip.Status) []htip.Status {
			for i := range st {
				if e := &st[i].Entry; st[i].State >= htip.Connecting && e.Theirs[0].Network.Bits() == 24 {
					e.Theirs = slices.Clone(e.Theirs)
					e.Theirs[0].Substitute = other
				}
			}
			return st
		}}},
		"another gateway address at one end": {laws: []string{"law 1"}, wrap: bent{status: func(st []htip.Status) []htip.Status {
			for i := range st {
				st[i].Entry.PeerGateway = other.Addr()
			}
			return st
		}}},
		"both are server": {laws: []string{"law 1"}, wrap: bent{status: func(st []htip.Status) []htip.Status {
			for i := range st {
				st[i].Entry.Role = htip.Responder
			}
			return st
		}}},
		"a tunnel that moves": {laws: []string{"steady", "law 1"}, wrap: bent{status: func(st []htip.Status) []htip.Status {
			for i := range st {
				if st[i].State == htip.Up && len(st) > 1 {
					st[i].Entry.Own = []htip.Mapping{{Network: other, Substitute: other}}
				}
			}
			return st
		}}},
		"what is beside the home is not looked at": {laws: []string{"law 2"}, wrap: bent{home: func(g Gateway, h htip.Home) []htip.Action {
			h.Occupied = nil
			return g.SetHome(h)
		}}},
		"the gateway's new address is not looked at": {laws: []string{"law 3"}, wrap: bent{home: func(g Gateway, h htip.Home) []htip.Action {
			h.Gateway = gatewayOf(h.Networks)
			return g.SetHome(h)
		}}},
		"own addresses are never proposed": {laws: []string{"law 4"}, bend: func(as []htip.Action) []htip.Action {
			return sends(as, func(m htip.Message) *htip.Message {
				m.Offers = slices.Clone(m.Offers)
				for i, o := range m.Offers {
					if len(o.Candidates) > 1 {
						m.Offers[i].Candidates = slices.DeleteFunc(slices.Clone(o.Candidates), func(p netip.Prefix) bool { return p == o.Network })
					}
				}
				return &m
			})
		}},
		"nothing is remembered": {laws: []string{"law 5"}, wrap: bent{peers: func(g Gateway, ps []htip.Peer, _ map[string]htip.Record) []htip.Action {
			return g.SetPeers(ps, nil)
		}}},
		"nothing is saved":      {laws: []string{"law 5"}, bend: func(as []htip.Action) []htip.Action { return without[htip.Save](as, nil) }},
		"VPN programs go on":    {laws: []string{"leak"}, bend: func(as []htip.Action) []htip.Action { return without[htip.StopTunnel](as, nil) }},
		"connections stay open": {laws: []string{"leak"}, bend: func(as []htip.Action) []htip.Action { return without[htip.CloseConn](as, nil) }},
		"no limit while proving": {laws: []string{"half-open"}, wrap: bent{handle: func(g Gateway, name string, ev htip.Event) []htip.Action {
			as := g.Handle(name, ev)
			if _, ok := ev.(htip.LinkUp); ok {
				return append(as, htip.SetTimer{Peer: name})
			}
			return as
		}}},
		"time-outs are not heard": {laws: []string{"half-open", "answers"}, wrap: bent{handle: func(g Gateway, name string, ev htip.Event) []htip.Action {
			if _, ok := ev.(htip.Timeout); ok {
				return nil
			}
			return g.Handle(name, ev)
		}}},
		"a tunnel takes another one down": {laws: []string{"steady"}, wrap: bent{handle: func(g Gateway, name string, ev htip.Event) []htip.Action {
			as := g.Handle(name, ev)
			if _, ok := ev.(htip.Proven); ok {
				for _, s := range g.Status() {
					if s.Peer != name {
						as = append(as, g.Handle(s.Peer, htip.LinkDown{TunnelID: s.Entry.TunnelID})...)
					}
				}
			}
			return as
		}}},
		"one port for all": {laws: []string{"ports"}, bend: func(as []htip.Action) []htip.Action {
			for i, a := range as {
				if x, ok := a.(htip.StartServer); ok {
					x.Entry.LocalPort = 17010
					as[i] = x
				}
			}
			return as
		}},
		"failures without a reason": {laws: []string{"answers"}, bend: func(as []htip.Action) []htip.Action {
			for i, a := range as {
				if x, ok := a.(htip.Progress); ok {
					x.Reason = 0
					as[i] = x
				}
			}
			return as
		}},
		"READY is not sent": {laws: []string{"liveness"}, bend: func(as []htip.Action) []htip.Action {
			return sends(as, func(m htip.Message) *htip.Message {
				if m.Type == htip.Ready {
					return nil
				}
				return &m
			})
		}},
		"REQUEST is sent over and over": {laws: []string{"bounded"}, bend: func(as []htip.Action) []htip.Action {
			for _, a := range as {
				if s, ok := a.(htip.Send); ok && s.Msg.Type == htip.Request {
					for range 20 {
						as = append(as, s)
					}
					break
				}
			}
			return as
		}},
		"a dead link is not noticed": {laws: []string{"one mind", "leak"}, wrap: bent{handle: func(g Gateway, name string, ev htip.Event) []htip.Action {
			if _, ok := ev.(htip.LinkDown); ok {
				return nil
			}
			return g.Handle(name, ev)
		}}},
		"a user's disconnect is forgotten": {laws: []string{"ended", "leak"}, wrap: bent{handle: func(g Gateway, name string, ev htip.Event) []htip.Action {
			if d, ok := ev.(htip.Disconnect); ok && d.Reason == htip.ReasonUser {
				return nil
			}
			return g.Handle(name, ev)
		}}},
		"a peer is not listed": {laws: []string{"peers"}, wrap: bent{status: func(st []htip.Status) []htip.Status { return st[:len(st)-1] }}},
	} {
		t.Run(name, func(t *testing.T) {
			o := Options{
				Wrap: func(node int, g Gateway) Gateway {
					if node%2 == 0 {
						return g
					}
					b := c.wrap
					b.Gateway = g
					return &b
				},
				Bend: func(node int, as []htip.Action) []htip.Action {
					if c.bend == nil || node%2 == 0 {
						return as
					}
					return c.bend(as)
				},
			}
			found := map[string]int{}
			for o.Seed = 1; o.Seed <= 60; o.Seed++ {
				if v := New(o).Run(); v != nil {
					found[v.Law]++
					if slices.Contains(c.laws, v.Law) {
						return
					}
				}
			}
			t.Errorf("not reported as %v: %v", c.laws, found)
		})
	}
}
