package dns

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func prefixes(s ...string) (list []netip.Prefix) {
	for _, p := range s {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

// bob is home B of FIG. 12 as A sees it.
func bob() Peer {
	return Peer{
		Name: "bob", Domain: "bob.example.org", Up: true, Device: "htip-bob", Server: addr("10.0.2.1"),
		Own: []Mapping{mapping("10.0.0.0/24", "10.0.1.0/24")}, Substitutes: prefixes("10.0.2.0/24"),
	}
}

func carol() Peer {
	return Peer{Name: "carol", Domain: "carol.bob.example.org", Substitutes: prefixes("10.0.3.0/24")}
}

func TestTableBadPeers(t *testing.T) {
	for _, c := range []struct {
		want   string
		change func(p *Peer)
	}{
		{"name: want one label", func(p *Peer) { p.Name = "" }},
		{"name: want one label", func(p *Peer) { p.Name = "a.b" }},
		{"name: want one label", func(p *Peer) { p.Name = "o'b" }},
		{"name: given twice", func(p *Peer) { p.Name = "BOB" }},
		{"would hide the LAN domain", func(p *Peer) { p.Name = "home" }},
		{"at least two labels", func(p *Peer) { p.Domain = "org" }},
		{"want labels of letters", func(p *Peer) { p.Domain = "x.org/1.2.3.4\nserver=" }},
		{"lies in the zone", func(p *Peer) { p.Domain = "x.internal" }},
		{"lies in arpa", func(p *Peer) { p.Domain = "10.in-addr.arpa" }},
		{`peer "bob" has it`, func(p *Peer) { p.Domain = "Bob.Example.Org." }},
		{`device htip-bob: peer "bob" has it`, func(p *Peer) { p.Device = "htip-bob" }},
		{"outside the peer's substitutes", func(p *Peer) { p.Server = addr("10.0.4.1") }},
		{"up without device or server", func(p *Peer) { p.Up = true }},
		{"not an IPv4 network", func(p *Peer) { p.Substitutes = prefixes("10.0.3.1/24") }},
		{"not an IPv4 network", func(p *Peer) { p.Substitutes = prefixes("fd00::/64") }},
		{"not an IPv4 network", func(p *Peer) { p.Substitutes = prefixes("0.0.0.0/0") }},
		{`overlaps 10.0.2.0/24 of peer "bob"`, func(p *Peer) { p.Substitutes = prefixes("10.0.2.128/25") }},
		{"overlaps own network 10.0.0.0/24", func(p *Peer) { p.Substitutes = prefixes("10.0.0.0/16") }},
		{"the lengths differ", func(p *Peer) { p.Own = []Mapping{mapping("10.0.0.0/24", "10.9.0.0/25")} }},
		{"overlaps 10.9.0.0/24=10.8.0.0/24", func(p *Peer) {
			p.Own = []Mapping{mapping("10.9.0.0/24", "10.8.0.0/24"), mapping("10.7.0.0/24", "10.8.0.0/24")}
		}},
		{`overlaps substitute 10.0.2.0/24 of peer "bob"`, func(p *Peer) { p.Own = []Mapping{mapping("10.0.2.0/24", "10.9.0.0/24")} }},
	} {
		bad := carol()
		c.change(&bad)
		table, err := newTable("internal.", "home.internal.", []Peer{bob(), bad}, nil, time.Time{})
		var pe *PeerError
		if !errors.As(err, &pe) || pe.Retry || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: got %v, want %q", bad, err, c.want)
		}
		if len(table.peers) != 1 || table.peers["bob"] == nil {
			t.Errorf("%s: bob is not in force", c.want)
		}
	}
	if _, err := newTable("internal.", "home.internal.", []Peer{bob(), carol()}, nil, time.Time{}); err != nil {
		t.Error(err)
	}
}

func TestTableGenerations(t *testing.T) {
	t0 := time.Unix(1000, 0)
	first, _ := newTable("internal.", "lan.", []Peer{bob(), carol()}, nil, t0)
	same, _ := newTable("internal.", "lan.", []Peer{carol(), bob()}, first, t0.Add(time.Hour))
	for name, p := range first.peers {
		if q := same.peers[name]; q.gen != p.gen || q.since != p.since {
			t.Errorf("%s changed without a change", name)
		}
	}
	b := bob()
	b.Up = false
	down, _ := newTable("internal.", "lan.", []Peer{b}, same, t0.Add(2*time.Hour))
	if p := down.peers["bob"]; p.gen == same.peers["bob"].gen || p.since != t0.Add(2*time.Hour) {
		t.Error("bob did not change")
	}
	again, _ := newTable("internal.", "lan.", []Peer{b, carol()}, down, t0)
	if g := again.peers["carol"].gen; g == first.peers["carol"].gen || g == down.peers["bob"].gen {
		t.Errorf("carol came back with generation %d", g)
	}
}

func TestRoute(t *testing.T) {
	table, err := newTable("internal.", "lan.", []Peer{bob(), carol()}, nil, time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		kind kind
		peer string
		host string
		soa  string
	}{
		{".", kindForeign, "", "", ""},
		{"example.org.", kindForeign, "", "", ""},
		{"xbob.example.org.", kindForeign, "", "", ""},
		{"nas.htip.", kindForeign, "", "", ""},
		{"4.4.8.8.in-addr.arpa.", kindForeign, "", "", ""},
		{"nas.lan.", kindNobody, "", "", "lan."},
		{"lan.", kindNobody, "", "", "lan."},
		{"internal.", kindEmpty, "", "", "internal."},
		{"dave.internal.", kindNobody, "", "", "internal."},
		{"nas.dave.internal.", kindNobody, "", "", "internal."},
		{`nas\.bob.internal.`, kindNobody, "bob", "", "bob.internal."},
		{"nas.bob.internal.", kindHost, "bob", "nas", "bob.internal."},
		{"a.b.bob.internal.", kindHost, "bob", "a.b", "bob.internal."},
		{"bob.internal.", kindGateway, "bob", "", "bob.internal."},
		{"my\\032pc.bob.internal.", kindNobody, "bob", "", "bob.internal."},
		{"bob.example.org.", kindUpstream, "bob", "", "bob.example.org."},
		{"nas.bob.example.org.", kindPublic, "bob", "nas", "bob.example.org."},
		{"*.bob.example.org.", kindUpstream, "bob", "", "bob.example.org."},
		{"carol.bob.example.org.", kindUpstream, "carol", "", "carol.bob.example.org."},
		{"nas.carol.bob.example.org.", kindPublic, "carol", "nas", "carol.bob.example.org."},
		{"in-addr.arpa.", kindEmpty, "", "", "in-addr.arpa."},
		{"0.10.in-addr.arpa.", kindEmpty, "", "", "in-addr.arpa."},
		{"x.10.in-addr.arpa.", kindNobody, "", "", "in-addr.arpa."},
		{"7.0.0.10.in-addr.arpa.", kindNobody, "", "", "10.in-addr.arpa."},
		{"7.1.0.10.in-addr.arpa.", kindNobody, "", "", "10.in-addr.arpa."},
		{"7.2.0.10.in-addr.arpa.", kindReverse, "bob", "", "10.in-addr.arpa."},
		{"7.3.0.10.in-addr.arpa.", kindReverse, "carol", "", "10.in-addr.arpa."},
		{"7.99.31.172.in-addr.arpa.", kindNobody, "", "", "172.in-addr.arpa."},
	} {
		r := table.route(c.name)
		peer := ""
		if r.peer != nil {
			peer = r.peer.Name
		}
		if r.kind != c.kind || peer != c.peer || r.host != c.host || r.soa != c.soa {
			t.Errorf("%s: kind %d peer %q host %q soa %q, want %+v", c.name, r.kind, peer, r.host, r.soa, c)
		}
	}
}

func TestValidDomainLAN(t *testing.T) {
	for _, d := range []string{"home.example.org", "x.home.example.org"} {
		if err := validDomain(d, "internal.", "home.example.org."); err == nil || !strings.Contains(err.Error(), "LAN domain") {
			t.Errorf("%s: %v", d, err)
		}
	}
	if err := validDomain("example.org", "internal.", "home.example.org."); err != nil {
		t.Error(err) // what lies below the LAN domain is asked of nobody
	}
}

// A LAN domain within the zone ("home.internal") is allowed; its names never
// go to a peer.
func TestRouteLANWithinZone(t *testing.T) {
	table, _ := newTable("internal.", "home.internal.", []Peer{bob()}, nil, time.Time{})
	for name, want := range map[string]kind{"nas.home.internal.": kindNobody, "home.internal.": kindNobody, "nas.bob.internal.": kindHost} {
		if r := table.route(name); r.kind != want {
			t.Errorf("%s: %d, want %d", name, r.kind, want)
		}
	}
}
