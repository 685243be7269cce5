package htip

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
)

func BenchmarkThousandthTunnel(b *testing.B) {
	h := Home{Networks: []netip.Prefix{px("192.168.1.0/24")}, Pool: Private, Seed: key("alice")}
	var taken []netip.Prefix
	for i := range 999 {
		taken = append(taken, netip.PrefixFrom(fromUint(uint32(first(h.slot(hash(key("x"), h.Networks[0], uint32(i))%65536, 24)))), 24))
	}
	offers := Home{Networks: h.Networks, Pool: Private, Seed: key("bob")}.Offers(Bounds{})
	b.ReportAllocs()
	for b.Loop() {
		h.Offers(Bounds{Avoid: taken})
		if _, err := Choose(offers, taken, nil, false); err != nil {
			b.Fatal(err)
		}
	}
}

// crowd is a gateway with n tunnels, and one more peer that has none.
func crowd(t testing.TB, n int) *Gateway {
	lan := px("192.168.1.0/24")
	home := Home{Networks: []netip.Prefix{lan}, Gateway: lan.Addr().Next(), Pool: Private, Seed: key("alice")}
	seq := uint64(1)
	g := NewGateway(Config{Key: key("alice"), Protocols: []Protocol{L2TP}, PortBase: 1024, Ports: 1200, Random: func() uint64 { seq++; return seq }}, home)
	own := Mapping{lan, home.Offers(Bounds{})[0].Candidates[1]}
	var ps []Peer
	for i := range n + 1 {
		ps = append(ps, Peer{Name: fmt.Sprint("home", i), Domain: "x.example.org", Key: binary.BigEndian.AppendUint32(key("home"), uint32(i)), Protocols: []Protocol{L2TP}})
	}
	g.SetPeers(ps, nil)
	taken := newSpace([]netip.Prefix{own.Substitute, lan})
	for i := range n {
		there := Home{Networks: home.Networks, Pool: Private, Seed: ps[i].Key}
		var sub netip.Prefix
		for _, c := range there.Offers(Bounds{Avoid: nil})[0].Candidates[1:] {
			if p, ok := taken.lowest(c, 24); ok {
				sub = p
				break
			}
		}
		taken = taken.with([]netip.Prefix{sub})
		as := g.Adopt(Entry{
			Peer: ps[i].Name, Protocol: L2TP, TunnelID: uint32(i + 1), Role: Responder, Own: []Mapping{own}, Theirs: []Mapping{{lan, sub}},
			OwnGateway: own.Substitute.Addr().Next(), PeerGateway: sub.Addr().Next(), LocalPort: uint16(1024 + i),
		})
		if g.peers[ps[i].Name].state != Up {
			t.Fatal(i, as)
		}
	}
	return g
}

// BenchmarkTalk is all that a responder with so many tunnels does to set up one
// more: REQUEST, ACK, and what follows.
func BenchmarkTalk(b *testing.B) {
	for _, n := range []int{0, 10, 100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			g := crowd(b, n)
			name := fmt.Sprint("home", n)
			p := g.peers[name]
			req := requestOf(0, 0)
			req.Offers = Home{Networks: g.home.Networks, Pool: Private, Seed: p.Key}.Offers(Bounds{})
			conn := ConnID(0)
			b.ReportAllocs()
			for b.Loop() {
				conn++
				req.Talk = uint64(conn)
				m := sent(b, g.Handle(name, Received{Conn: conn, Msg: req}))
				g.Handle(name, Received{Conn: conn, Msg: &Message{Type: Ack, Talk: req.Talk, Protocols: req.Protocols, Initiator: m.Initiator,
					Responder: []Mapping{{m.Offers[0].Network, m.Offers[0].Candidates[0]}}}})
				if p.state != Preparing {
					b.Fatal(p.state, p.text)
				}
				g.Handle(name, Disconnect{ReasonShutdown})
			}
		})
	}
}
