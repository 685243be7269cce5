package htip

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// script reads decisions from fuzzed octets; at its end it says 0.
type script struct{ b []byte }

func (s *script) next() int {
	if len(s.b) == 0 {
		return 0
	}
	n := s.b[0]
	s.b = s.b[1:]
	return int(n)
}

func (s *script) of(n int) int { return s.next() % n }

// puppet is what the fuzzer plays: everything around one gateway.
type puppet struct {
	n    *node
	s    *script
	last ConnID
	open map[string][]ConnID
	said map[string]map[Type]*Message // what the gateway last sent
	ids  map[string]uint32            // of the program that runs, or ran
	went []Entry                      // entries of Up tunnels, to be adopted
}

func (p *puppet) took(as []Action) {
	for _, a := range as {
		switch a := a.(type) {
		case Send:
			for peer, cs := range p.open {
				for _, c := range cs {
					if c == a.Conn {
						p.said[peer][a.Msg.Type] = a.Msg
					}
				}
			}
		case CloseConn:
			for peer, cs := range p.open {
				for i, c := range cs {
					if c == a.Conn {
						p.open[peer] = append(cs[:i:i], cs[i+1:]...)
					}
				}
			}
		case StartServer:
			p.ids[a.Entry.Peer] = a.Entry.TunnelID
		case StartClient:
			p.ids[a.Entry.Peer] = a.Entry.TunnelID
		}
	}
}

var fuzzNets = []netip.Prefix{px("192.168.1.0/24"), px("10.0.0.0/24"), px("10.0.0.0/16"), px("10.0.0.0/8"), px("172.16.0.0/12"), px("192.168.1.0/30"), px("10.128.0.0/9")}

func (p *puppet) net() netip.Prefix { return fuzzNets[p.s.of(len(fuzzNets))] }

// offers are one or two networks, with candidates good or bad.
func (p *puppet) offers() []Offer {
	n := p.net()
	os := []Offer{{n, []netip.Prefix{n}}}
	switch p.s.of(4) {
	case 0:
		os[0].Candidates = slices.Clone(Private)
	case 1:
		os[0].Candidates = []netip.Prefix{px("0.0.0.0/0")}
	case 2:
		if m := p.net(); !m.Overlaps(n) {
			os = append(os, Offer{m, []netip.Prefix{m, px("10.0.0.0/8")}})
		}
	}
	for i := range os { // none longer than the network
		for j, c := range os[i].Candidates {
			if c.Bits() > os[i].Network.Bits() {
				os[i].Candidates[j] = px("0.0.0.0/0")
			}
		}
	}
	return os
}

// pick chooses out of the gateway's offers, well or badly.
func (p *puppet) pick(os []Offer) []Mapping {
	if p.s.of(8) == 1 {
		n := p.net()
		return []Mapping{{n, n}}
	}
	ms, err := Choose(os, fuzzNets[:p.s.of(4)], nil, false)
	if err != nil {
		return []Mapping{{os[0].Network, os[0].Network}}
	}
	return ms
}

// message is one that makes sense after what the gateway has said, or not.
func (p *puppet) message(peer string, kind Type) *Message {
	said := p.said[peer]
	m := &Message{Talk: p.n.peers[peer].talk, Protocols: []Protocol{L2TP}}
	if p.s.of(8) == 1 {
		m.Talk = uint64(p.s.next())
	}
	if p.s.of(2) == 0 {
		m.Features = FeatureThreeMessages
	}
	if p.s.of(16) == 1 {
		m.Protocols = []Protocol{PPTP}
	}
	m.TunnelID, m.Port = p.ids[peer], uint16(1+p.s.next())
	if p.s.of(8) == 1 {
		m.TunnelID = uint32(p.s.next())
	}
	switch m.Type = kind; kind {
	case Request, Response:
		if m.Type == Request && p.s.of(4) != 1 {
			m.Talk += 1 + uint64(p.s.next())
		}
		m.Offers = p.offers()
		m.Gateway = m.Offers[0].Network.Addr().Next()
		if p.s.of(4) == 1 {
			m.Replaces = p.n.peers[peer].stake()
		}
		if q := said[Request]; m.Type == Response && q != nil {
			m.Initiator = p.pick(q.Offers)
		}
	case Nak:
		m.Refused, m.Reason, m.Replaces = Type(1+p.s.of(5)), Reason(1+p.s.of(24)), uint64(p.s.next())
		if p.s.of(2) == 0 {
			m.Reason = ReasonClash
		}
		for range p.s.of(4) {
			m.Avoid = append(m.Avoid, p.net())
		}
		m.Offers = []Offer{{Network: p.net()}}
	case Ack:
		if r := said[Response]; r != nil {
			m.Initiator, m.Responder = r.Initiator, p.pick(r.Offers)
		}
	case Ready:
		if a := said[Ack]; a != nil {
			m.Initiator, m.Responder = a.Initiator, a.Responder
		}
	case Close, Keepalive:
		m.Reason = Reason(1 + p.s.of(21))
	}
	b, err := m.Encode()
	if err != nil {
		return nil
	}
	if m, err = Decode(b); err != nil {
		p.n.watch.t.Fatal(err)
	}
	return m
}

func (p *puppet) home() Home {
	h := p.n.Gateway.home
	h.Networks = []netip.Prefix{p.net()}
	h.Gateway = h.Networks[0].Addr().Next()
	if p.s.of(2) == 0 {
		if n := p.net(); !n.Overlaps(h.Networks[0]) {
			h.Networks = append(h.Networks, n)
		}
	}
	h.Occupied = nil
	if p.s.of(2) == 0 {
		h.Occupied = []netip.Prefix{p.net()}
	}
	h.Order = Order(p.s.of(2))
	return h
}

func (p *puppet) peers() []Peer {
	var ps []Peer
	for _, name := range []string{"alpha", "zulu"} { // one with a smaller, one with a larger key than ours
		x := Peer{Name: name, Domain: name + ".example.org", Key: key(name), Protocols: []Protocol{L2TP}, Auto: p.s.of(4) == 1}
		switch p.s.of(16) {
		case 1:
			continue
		case 2:
			x.Protocols = nil
		case 3:
			x.Key = key("mallory")
		case 4:
			x.Domain = ""
		}
		ps = append(ps, x)
	}
	return ps
}

// step is one thing that happens.
func (p *puppet) step() {
	peer := []string{"alpha", "zulu"}[p.s.of(2)]
	if p.n.peers[peer] == nil {
		p.open[peer] = nil
		p.took(p.n.SetPeers(p.peers(), nil))
		return
	}
	var ev Event
	if p.s.of(2) == 1 { // what an honest peer and a sound router would do next
		rest := p.s
		p.s = &script{}
		ev = p.proper(peer)
		p.s = rest
	} else {
		ev = p.any(peer)
	}
	if ev != nil {
		p.took(p.n.Handle(peer, ev))
	}
}

// conn is a connection of the peer, or a new one.
func (p *puppet) conn(peer string) ConnID {
	if cs := p.open[peer]; len(cs) > 0 && p.s.of(4) > 0 {
		return cs[p.s.of(len(cs))]
	}
	p.last++
	p.open[peer] = append(p.open[peer], p.last)
	return p.last
}

func (p *puppet) proper(peer string) Event {
	x := p.n.peers[peer]
	answer := func(t Type) Event {
		if m := p.message(peer, t); m != nil && x.conn != 0 {
			return Received{Conn: x.conn, Msg: m}
		}
		return nil
	}
	switch x.state {
	case Idle, Waiting:
		if p.last++; p.last%2 == 0 {
			return Connect{}
		}
		p.open[peer] = append(p.open[peer], p.last)
		if m := p.message(peer, Request); m != nil {
			return Received{Conn: p.last, Msg: m}
		}
	case Dialing:
		return Opened{Conn: p.conn(peer)}
	case Requested:
		return answer(Response)
	case Acked:
		return answer(Ready)
	case Responded:
		return answer(Ack)
	case Listening, Preparing:
		return Started{p.ids[peer]}
	case Connecting:
		return LinkUp{p.ids[peer]}
	case Proving:
		return Proven{p.ids[peer]}
	}
	return nil
}

func (p *puppet) any(peer string) (ev Event) {
	state, id := p.n.peers[peer].state, p.ids[peer]
	conn := func() ConnID { return p.conn(peer) }
	switch p.s.of(18) {
	case 0, 1, 2, 3:
		if m := p.message(peer, Type(1+p.s.of(7))); m != nil {
			c := conn()
			if have := p.n.peers[peer].conn; have != 0 && p.s.of(4) > 0 {
				c = have
			}
			ev = Received{Conn: c, Msg: m}
		}
	case 4:
		ev = Connect{}
	case 5:
		ev = Disconnect{[]Reason{ReasonUser, ReasonShutdown, ReasonRefused}[p.s.of(3)]}
	case 6:
		p.last++
		p.open[peer] = append(p.open[peer], p.last)
		ev = Opened{Conn: p.last}
	case 7:
		ev = DialFailed{Reason(1 + p.s.of(21)), "no"}
	case 8:
		ev = Malformed{conn(), uint64(p.s.next()), []error{errors.New("junk"), VersionError(3)}[p.s.of(2)]}
	case 9:
		c := conn()
		p.took([]Action{CloseConn{c}})
		p.n.watch.shut[c] = true
		ev = Closed{c, Reason(p.s.of(22)), ""}
	case 10:
		ev = Timeout{p.n.peers[peer].timer - uint32(p.s.of(8)/7)}
		if ev.(Timeout).Seq == p.n.peers[peer].timer && p.n.watch.timers[peer].After == 0 {
			ev = nil // none is set
		}
	case 11, 12:
		ev = Started{id}
	case 13:
		ev = []Event{StartFailed{id, "no"}, LinkDown{id, "gone"}}[p.s.of(2)]
	case 14, 15:
		// A link stands only when both know the addresses.
		if state >= Connecting {
			ev = []Event{LinkUp{id}, Proven{id}}[p.s.of(2)]
		}
	case 16:
		p.took(p.n.SetHome(p.home()))
	case 17:
		switch p.s.of(4) {
		case 0:
			p.took(p.n.SetPeers(p.peers(), map[string]Record{peer: p.n.peers[peer].before}))
		case 1:
			p.n.SetAuto(peer, p.s.of(2) == 1)
		case 2:
			for _, e := range p.n.Entries() {
				if e.Peer == peer {
					p.went = append(p.went, e)
				}
			}
			p.n.Status()
			p.n.Known()
		case 3:
			if n := len(p.went); n > 0 && p.n.peers[p.went[n-1].Peer] != nil {
				e := p.went[n-1]
				if p.n.peers[e.Peer].state == Idle && !p.portInUse(e.LocalPort) {
					p.ids[e.Peer] = e.TunnelID
					p.took(p.n.Adopt(e))
				}
			}
		}
	}
	return ev
}

func (p *puppet) portInUse(port uint16) bool {
	for _, e := range p.n.watch.running {
		if e.LocalPort == port {
			return true
		}
	}
	return false
}

// FuzzGateway plays arbitrary orders of events, most of them near what two
// honest gateways do. The watch knows what must never be.
func FuzzGateway(f *testing.F) {
	for i := range byte(4) { // long and dull ones to start from
		b := make([]byte, 400)
		for j := range b {
			b[j] = byte(j*j)*7 + i*31 + byte(j)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) <= 4096 {
			play(t, b, func(*peer) {})
		}
	})
}

// play makes events of octets and gives them to a gateway.
func play(t testing.TB, b []byte, look func(*peer)) {
	p := &puppet{s: &script{b}, open: map[string][]ConnID{}, ids: map[string]uint32{}, said: map[string]map[Type]*Message{"alpha": {}, "zulu": {}}}
	w := newWorld(t)
	p.n = w.add("mike", Order(p.s.of(2)), "", "192.168.1.0/24")
	seq := uint64(1 << 32)
	p.n.cfg.Random = func() uint64 { seq++; return seq }
	p.n.cfg.Ports = 3
	if p.s.of(2) == 0 {
		threeMessages(p.n)
	}
	p.took(p.n.SetPeers(p.peers(), nil))
	for len(p.s.b) > 0 {
		p.step()
		for _, x := range p.n.peers {
			look(x)
		}
	}
}

// TestAnyOrderOfEvents is FuzzGateway with chance for a guide, which gets
// further. Every state must have been met.
func TestAnyOrderOfEvents(t *testing.T) {
	met := map[string]int{}
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 2))
		b := make([]byte, 1500)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		play(t, b, func(p *peer) { met[fmt.Sprint(p.role, " ", p.state)]++ })
	}
	for _, want := range []string{"client waiting", "client dialing", "client requested", "client acked", "client connecting", "client proving", "client up",
		"server refusing", "server listening", "server responded", "server preparing", "server connecting", "server proving", "server up"} {
		if met[want] < 50 {
			t.Errorf("%s: met %d times", want, met[want])
		}
	}
	if testing.Verbose() {
		t.Log(met)
	}
}
