package htip

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func anyPrefixes(t *rapid.T, name string, n, lo, hi int) (ps []netip.Prefix) {
	for range rapid.IntRange(0, n).Draw(t, name) {
		r := rapid.SampledFrom(Private).Draw(t, "in")
		bits := rapid.IntRange(max(lo, r.Bits()), hi).Draw(t, "bits")
		off := rapid.Uint64Max(size(r.Bits())-1).Draw(t, "off")
		ps = append(ps, netip.PrefixFrom(fromUint(uint32(first(r)+off)), bits).Masked())
	}
	return ps
}

// TestSpace holds the sorted spans against the obvious way of doing it.
func TestSpace(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		taken := anyPrefixes(t, "taken", 12, 9, 32)
		r := px("10.0.0.0/8")
		s := newSpace(taken)
		bits := rapid.IntRange(8, 30).Draw(t, "bits")
		gaps := s.largest(nil, 1000, r, bits)
		for i, g := range gaps {
			if i > 0 && (gaps[i-1].Bits() > g.Bits() || gaps[i-1].Bits() == g.Bits() && first(gaps[i-1]) >= first(g)) {
				t.Fatalf("gaps are not in order: %v", gaps)
			}
			if overlapsAny(g, taken) || !inside(g, r) || g.Bits() > bits || g != g.Masked() {
				t.Fatalf("gap %v with %v taken", g, taken)
			}
		}
		p, ok := s.lowest(r, bits)
		if ok != (len(gaps) > 0) {
			t.Fatalf("lowest finds %v, gaps are %v", ok, gaps)
		}
		if few := s.largest(nil, 3, r, bits); !slices.Equal(few, gaps[:min(3, len(gaps))]) {
			t.Fatalf("the largest three of %v are %v", gaps, few)
		}
		var sum uint64
		for _, g := range s.largest(nil, 1000, r, 32) {
			sum += size(g.Bits())
		}
		for _, x := range s.with([]netip.Prefix{}) {
			if lo, hi := max(x.lo, first(r)), min(x.hi, last(r)); lo <= hi {
				sum += hi - lo + 1
			}
		}
		if sum != size(r.Bits()) {
			t.Fatalf("%d addresses are neither free nor taken", size(r.Bits())-sum)
		}
		if ok {
			if overlapsAny(p, taken) || !inside(p, r) || p != p.Masked() || !s.free(p) {
				t.Fatalf("lowest %v with %v taken", p, taken)
			}
			for _, g := range gaps {
				if first(g) < first(p) {
					t.Fatalf("%v is lower than %v", g, p)
				}
			}
		}
		for _, q := range taken {
			if s.free(q) {
				t.Fatalf("%v is taken", q)
			}
		}
	})
}

func TestTranslateKeepsTheHostPart(t *testing.T) {
	from, to := px("10.0.0.0/24"), px("10.0.2.0/24")
	if got := Translate(netip.MustParseAddr("10.0.0.5"), from, to); got.String() != "10.0.2.5" {
		t.Error(got)
	}
	for _, a := range []string{"10.0.1.5", "fe80::1"} {
		if got := Translate(netip.MustParseAddr(a), from, to); got.IsValid() {
			t.Errorf("%s became %v", a, got)
		}
	}
	if got := Translate(netip.MustParseAddr("10.0.0.5"), from, px("10.1.0.0/16")); got.IsValid() {
		t.Errorf("lengths differ, got %v", got)
	}
}

// TestPlanLaws lets two homes with anything taken on both sides plan against
// each other, the way the talk does it.
func TestPlanLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		home := func(name string) Home {
			h := Home{Seed: key(name), Pool: Private, Order: Order(rapid.IntRange(0, 1).Draw(t, "order"))}
			for _, n := range append(anyPrefixes(t, "nets", 3, 12, 28), px("192.168.1.0/24")) {
				if !overlapsAny(n, h.Networks) {
					h.Networks = append(h.Networks, n)
				}
			}
			for _, n := range anyPrefixes(t, "occupied", 5, 10, 32) {
				if !overlapsAny(n, h.Networks) {
					h.Occupied = append(h.Occupied, n)
				}
			}
			return h
		}
		a, b := home("alice"), home("bob")
		// A proposes knowing B's networks, as after a NAK; then B.
		offersA := a.Offers(Bounds{Peer: b.Networks, Reserve: true})
		inA, err := Choose(offersA, slices.Concat(b.Networks, b.Occupied), nil, false)
		if err != nil {
			var clash *ClashError
			if !errors.As(err, &clash) {
				t.Fatal(err)
			}
			return // everything proposed was taken there: a NAK, another round
		}
		offersB := b.Offers(Bounds{Avoid: Substitutes(inA), Peer: a.Networks})
		inB, err := Choose(offersB, slices.Concat(a.Networks, a.Occupied, Substitutes(inA)), nil, false)
		if err != nil {
			return
		}
		law := func(own Home, ms []Mapping, there Home, others []Mapping) {
			for i, m := range ms {
				if m.Network != own.Networks[i] || m.Network.Bits() != m.Substitute.Bits() {
					t.Fatalf("law 3: %v", m)
				}
				if overlapsAny(m.Substitute, there.Networks) || overlapsAny(m.Substitute, there.Occupied) ||
					overlapsAny(m.Substitute, Substitutes(others)) || overlapsAny(m.Substitute, Substitutes(ms[:i])) {
					t.Fatalf("law 2: %v at %+v", m, there)
				}
				if m.NAT() && (overlapsAny(m.Substitute, own.Networks) || overlapsAny(m.Substitute, own.Occupied)) {
					t.Fatalf("%v overlaps its own home %+v", m, own)
				}
				clash := overlapsAny(m.Network, there.Networks) || overlapsAny(m.Network, there.Occupied) ||
					overlapsAny(m.Network, Substitutes(others)) || overlapsAny(m.Network, Substitutes(slices.Delete(slices.Clone(ms), i, i+1)))
				if m.NAT() && !clash {
					t.Fatalf("law 4: %v collides with nothing at %+v", m, there)
				}
			}
			if err := checkMappings(ms2offers(ms), ms); err != nil {
				t.Fatal(err)
			}
		}
		law(a, inA, b, nil)
		law(b, inB, a, inA)
	})
}

func ms2offers(ms []Mapping) (out []Offer) {
	for _, m := range ms {
		out = append(out, Offer{m.Network, []netip.Prefix{m.Substitute}})
	}
	return out
}

// TestSameSubstituteForEverybody: law 5, the first proposal does not depend on
// whom it is made to, and differs from home to home.
func TestSameSubstituteForEverybody(t *testing.T) {
	seen := map[netip.Prefix]int{}
	for i := range 1000 {
		h := Home{Networks: []netip.Prefix{px("192.168.1.0/24")}, Pool: Private, Seed: key(fmt.Sprint("home", i))}
		one := h.Offers(Bounds{})[0].Candidates
		two := h.Offers(Bounds{Peer: h.Networks, Avoid: []netip.Prefix{px("10.200.0.0/16")}})[0].Candidates
		if one[0] != h.Networks[0] || one[1] != two[0] && !px("10.200.0.0/16").Overlaps(one[1]) {
			t.Fatalf("proposals differ: %v, %v", one, two)
		}
		if one[1+explicit].Bits() >= 24 {
			t.Fatalf("no ranges at the end: %v", one)
		}
		seen[one[1]]++
	}
	if len(seen) < 990 {
		t.Errorf("1,000 homes share %d first proposals", len(seen))
	}
}

func TestChooseFromRange(t *testing.T) {
	o := []Offer{{px("192.168.1.0/24"), []netip.Prefix{px("10.0.0.0/8")}}}
	ms, err := Choose(o, []netip.Prefix{px("10.0.0.0/16"), px("10.1.0.0/24")}, nil, false)
	if err != nil || ms[0].Substitute != px("10.1.1.0/24") {
		t.Fatal(ms, err)
	}
	// A range may reach beyond the private space; a choice may not.
	o[0].Candidates = []netip.Prefix{px("8.0.0.0/6")}
	if ms, err := Choose(o, nil, nil, false); err != nil || ms[0].Substitute != px("10.0.0.0/24") {
		t.Fatal(ms, err)
	}
	o[0].Candidates = []netip.Prefix{px("8.8.8.0/24")}
	if ms, err := Choose(o, nil, nil, false); err == nil {
		t.Fatal("took a public prefix: ", ms)
	}
}

func TestCheckMappingsRefuses(t *testing.T) {
	offers := []Offer{{px("10.0.0.0/24"), []netip.Prefix{px("10.1.0.0/16")}}, {px("10.0.1.0/24"), []netip.Prefix{px("10.1.0.0/16")}}}
	good := []Mapping{{px("10.0.0.0/24"), px("10.1.0.0/24")}, {px("10.0.1.0/24"), px("10.1.1.0/24")}}
	if err := checkMappings(offers, good); err != nil {
		t.Fatal(err)
	}
	for name, ms := range map[string][]Mapping{
		"one is missing": good[:1],
		"not offered":    {good[0], {px("10.9.0.0/24"), px("10.1.1.0/24")}},
		"no candidate":   {good[0], {px("10.0.1.0/24"), px("10.2.1.0/24")}},
		"the same twice": {good[0], good[0]},
		"overlap":        {good[0], {px("10.0.1.0/24"), px("10.1.0.0/24")}},
		"another length": {good[0], {px("10.0.1.0/24"), px("10.1.1.0/25")}},
	} {
		if checkMappings(offers, ms) == nil {
			t.Errorf("%s: accepted %v", name, ms)
		}
	}
}

// TestWhoChoosesFirst: what the chooser prefers, whatever the order of the
// candidates is.
func TestWhoChoosesFirst(t *testing.T) {
	lan, other, all := px("192.168.1.0/24"), px("192.168.2.0/24"), []netip.Prefix{px("10.0.0.0/8"), px("192.168.0.0/16")}
	last := []Mapping{{lan, px("10.7.7.0/24")}}
	for _, c := range []struct {
		name   string
		offers []Offer
		taken  string
		before []Mapping
		fresh  bool
		want   string // "" for none
	}{
		{"a public network", []Offer{{px("8.8.8.0/24"), []netip.Prefix{px("8.8.8.0/24")}}}, "", nil, false, ""},
		{"a public one that was accepted once", []Offer{{lan, []netip.Prefix{px("8.0.0.0/8")}}}, "", []Mapping{{lan, px("8.8.8.0/24")}}, false, ""},
		{"last time's is taken", []Offer{{lan, all}}, "10.7.7.0/24 192.168.1.0/24", last, false, "10.0.0.0/24"},
		{"last time's is not covered", []Offer{{lan, all[1:]}}, "192.168.1.0/24", last, false, "192.168.0.0/24"},
		{"last time's, before its own", []Offer{{lan, all}}, "", last, false, "10.7.7.0/24"},
		{"its own, after a change", []Offer{{lan, all}}, "", last, true, "192.168.1.0/24"},
		{"last time's, after a change that did not help", []Offer{{lan, all}}, "192.168.1.0/24", last, true, "10.7.7.0/24"},
		{"its own, before the first candidate", []Offer{{lan, all}}, "", nil, false, "192.168.1.0/24"},
		{"nobody takes another one's last", []Offer{{other, []netip.Prefix{px("10.7.7.0/24"), px("10.0.0.0/8")}}, {lan, all}}, "192.168.0.0/16", last, false, "10.0.0.0/24 10.7.7.0/24"},
		{"nobody takes another one's own", []Offer{{px("172.16.0.0/16"), []netip.Prefix{px("192.168.0.0/16"), px("10.0.0.0/8")}}, {lan, all}}, "172.16.0.0/16", nil, false, "10.0.0.0/16 192.168.1.0/24"},
		{"the larger one first", []Offer{{px("172.16.0.0/26"), []netip.Prefix{px("10.0.0.0/24")}}, {px("172.16.1.0/25"), []netip.Prefix{px("10.0.0.0/24")}}}, "172.16.0.0/12 10.0.0.192/26", nil, false, "10.0.0.128/26 10.0.0.0/25"},
	} {
		var taken []netip.Prefix
		for _, s := range list(c.taken) {
			taken = append(taken, px(s))
		}
		ms, err := Choose(c.offers, taken, c.before, c.fresh)
		got := ""
		for i, m := range ms {
			if i > 0 {
				got += " "
			}
			got += m.Substitute.String()
		}
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %s, not %s (%v)", c.name, got, c.want, err)
		}
	}
}

// TestWhoProposesFirst: what a network had, and its own address, are not pushed
// out by what is proposed for another network of the home.
func TestWhoProposesFirst(t *testing.T) {
	lan, iot := px("192.168.1.0/24"), px("172.20.0.0/24")
	for _, order := range []Order{Derived, Sequential} {
		h := Home{Networks: []netip.Prefix{lan, iot}, Pool: Private, Order: order, Seed: key("alice")}
		first := h.Offers(Bounds{Peer: []netip.Prefix{lan}})[0].Candidates[0]
		os := h.Offers(Bounds{Peer: h.Networks, Before: []Mapping{{iot, first}}})
		if os[1].Candidates[0] != first || overlapsAny(first, os[0].Candidates[:explicit]) {
			t.Errorf("order %d: %v", order, os)
		}
		fresh := h.Offers(Bounds{Before: []Mapping{{iot, first}}, Fresh: true})
		if c := fresh[1].Candidates; c[0] != iot || c[1] != first {
			t.Errorf("order %d, after a change: %v", order, c)
		}
	}
}
