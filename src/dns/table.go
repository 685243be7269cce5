package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Peer is what the proxy must know of another home. A peer without Device is
// known by name only: its tunnel is down.
type Peer struct {
	// Name is the peer's label below the zone: "bob" in nas.bob.internal.
	Name string
	// Domain is the peer's public domain, "" when its names are not wanted
	// below it.
	Domain string
	// Up tells that names may be asked. Device and Server can be set before:
	// then the peer is answered and can be probed.
	Up bool
	// Device is the tunnel's device; the peer is who asks through it.
	Device string
	// Server is the peer's gateway inside the tunnel: where its proxy listens,
	// and the address of <name>.<zone> itself.
	Server netip.Addr
	// Own are our networks as this peer sees them. Nothing else is told.
	Own []Mapping
	// Substitutes are the prefixes by which we see the peer. Nothing else is
	// believed.
	Substitutes []netip.Prefix
}

// PeerError is what was wrong with one peer given to [Proxy.Set]; the others
// are in force.
type PeerError struct {
	Peer string
	// Retry tells that the same call may succeed later, because the device is
	// not there yet, say. Otherwise the peer's description is wrong.
	Retry bool
	Err   error
}

func (e *PeerError) Error() string { return fmt.Sprintf("peer %q: %v", e.Peer, e.Err) }

// Unwrap is the cause.
func (e *PeerError) Unwrap() error { return e.Err }

// private are the pools whose PTRs dnsmasq gives to us (RFC 6303 §4.2).
var private = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"),
	netip.MustParsePrefix("172.16.0.0/12"),
	netip.MustParsePrefix("192.168.0.0/16"),
}

// peer is a Peer that has been checked, with its names as we compare them.
type peer struct {
	Peer
	zone   string // bob.internal.
	domain string // bob.example.org. or ""
	gen    uint64 // changes with the Peer
	since  time.Time
}

func (p *peer) equal(q Peer) bool {
	a := p.Peer
	return a.Name == q.Name && a.Domain == q.Domain && a.Up == q.Up && a.Device == q.Device &&
		a.Server == q.Server && slices.Equal(a.Own, q.Own) && slices.Equal(a.Substitutes, q.Substitutes)
}

// table is everything that a question is decided by. It is never changed once
// it is in use.
type table struct {
	zone, lan string // canonical
	peers     map[string]*peer
	byDomain  []*peer // longest domain first
	own       []netip.Prefix
	gen       uint64 // the highest generation ever given
}

// newTable checks peers and keeps the good ones. A peer that equals the one in
// old keeps its generation.
func newTable(zone, lan string, peers []Peer, old *table, now time.Time) (*table, error) {
	t := &table{zone: zone, lan: lan, peers: make(map[string]*peer, len(peers))}
	var errs []error
	if old != nil {
		t.gen = old.gen
	}
	for _, given := range peers {
		given.Own = slices.Clone(given.Own)
		given.Substitutes = slices.Clone(given.Substitutes)
		if err := t.validate(given); err != nil {
			errs = append(errs, &PeerError{Peer: given.Name, Err: err})
			continue
		}
		p := &peer{Peer: given, zone: join(strings.ToLower(given.Name), zone), since: now}
		if given.Domain != "" {
			p.domain = canonical(given.Domain)
			t.byDomain = append(t.byDomain, p)
		}
		key := strings.ToLower(given.Name)
		if old != nil && old.peers[key] != nil && old.peers[key].equal(given) {
			p.gen, p.since = old.peers[key].gen, old.peers[key].since
		} else {
			t.gen++
			p.gen = t.gen
		}
		t.peers[key] = p
		for _, m := range given.Own {
			if !slices.Contains(t.own, m.Network) {
				t.own = append(t.own, m.Network)
			}
		}
	}
	sort.SliceStable(t.byDomain, func(i, j int) bool { return len(t.byDomain[i].domain) > len(t.byDomain[j].domain) })
	return t, errors.Join(errs...)
}

// validate finds what is wrong with p beside the peers that t already holds.
func (t *table) validate(p Peer) error {
	if !hostname(p.Name) || strings.Contains(p.Name, ".") {
		return errors.New("name: want one label of letters, digits, '-' and '_'")
	}
	if t.peers[strings.ToLower(p.Name)] != nil {
		return errors.New("name: given twice")
	}
	if zone := join(strings.ToLower(p.Name), t.zone); zone == "" {
		return errors.New("name: too long for the zone")
	} else if within(t.lan, zone) {
		return fmt.Errorf("name: %s would hide the LAN domain %s", zone, t.lan)
	}
	if p.Domain != "" {
		if err := validDomain(p.Domain, t.zone, t.lan); err != nil {
			return err
		}
		for _, q := range t.byDomain {
			if q.domain == canonical(p.Domain) {
				return fmt.Errorf("domain %q: peer %q has it", p.Domain, q.Name)
			}
		}
	}
	if p.Server.IsValid() && !inside(p.Substitutes, p.Server) {
		return fmt.Errorf("server %s lies outside the peer's substitutes", p.Server)
	}
	if p.Up && (p.Device == "" || !p.Server.IsValid()) {
		return errors.New("up without device or server")
	}
	for _, q := range t.peers {
		if p.Device != "" && p.Device == q.Device {
			return fmt.Errorf("device %s: peer %q has it", p.Device, q.Name)
		}
	}
	return t.validatePrefixes(p)
}

// validatePrefixes sees to it that every address has one meaning: ours, or one
// peer's.
func (t *table) validatePrefixes(p Peer) error {
	for i, m := range p.Own {
		if err := m.validate(); err != nil {
			return err
		}
		for _, o := range p.Own[:i] {
			if m.Network.Overlaps(o.Network) || m.Substitute.Overlaps(o.Substitute) {
				return fmt.Errorf("mapping %s overlaps %s", m, o)
			}
		}
		for _, q := range t.peers {
			if s, ok := overlapping(m.Network, q.Substitutes); ok {
				return fmt.Errorf("own network %s overlaps substitute %s of peer %q", m.Network, s, q.Name)
			}
		}
	}
	own := slices.Clone(t.own)
	for _, m := range p.Own {
		own = append(own, m.Network)
	}
	for _, s := range p.Substitutes {
		if err := validPrefix(s); err != nil {
			return err
		}
		if o, ok := overlapping(s, own); ok {
			return fmt.Errorf("substitute %s overlaps own network %s", s, o)
		}
		for _, q := range t.peers {
			if o, ok := overlapping(s, q.Substitutes); ok {
				return fmt.Errorf("substitute %s overlaps %s of peer %q", s, o, q.Name)
			}
		}
	}
	return nil
}

func overlapping(p netip.Prefix, list []netip.Prefix) (netip.Prefix, bool) {
	i := slices.IndexFunc(list, p.Overlaps)
	if i < 0 {
		return netip.Prefix{}, false
	}
	return list[i], true
}

// validDomain tells what is wrong with a peer's public domain. A single label
// would draw a whole top-level domain to the peer; one that is, or lies below,
// the LAN domain or the zone would make questions go in a circle.
func validDomain(domain, zone, lan string) error {
	d := canonical(domain)
	switch {
	case !domainname(d):
		return fmt.Errorf("domain %q: want labels of letters, digits, '-' and '_'", domain)
	case strings.Count(d, ".") < 2:
		return fmt.Errorf("domain %q: want at least two labels", domain)
	case within(d, zone):
		return fmt.Errorf("domain %q lies in the zone %s", domain, zone)
	case within(d, lan):
		return fmt.Errorf("domain %q lies in the LAN domain %s", domain, lan)
	case within(d, "arpa."):
		return fmt.Errorf("domain %q lies in arpa", domain)
	}
	return nil
}

// kind is what a question of the own home is about.
type kind int

const (
	kindForeign  kind = iota // not ours: REFUSED
	kindNobody               // in our zones, but the name does not exist
	kindEmpty                // the name exists and has no records of its own
	kindHost                 // a host of a peer, below the zone
	kindGateway              // <peer>.<zone> itself
	kindPublic               // below a peer's public domain
	kindUpstream             // a peer's public domain itself
	kindReverse              // the address of a peer's host
)

// route is the decision about one question.
type route struct {
	kind kind
	peer *peer
	host string     // kindHost, kindPublic: the name as the peer calls it
	addr netip.Addr // kindReverse
	soa  string     // the zone whose SOA a negative answer carries
}

// route decides by the canonical name alone.
func (t *table) route(name string) route {
	if within(name, t.lan) {
		return route{kind: kindNobody, soa: t.lan}
	}
	if host, ok := below(name, t.zone); ok {
		return t.inZone(host)
	}
	if within(name, reverseZone) {
		return t.inReverse(name)
	}
	for _, p := range t.byDomain {
		host, ok := below(name, p.domain)
		switch {
		case !ok:
			continue
		case hostname(host):
			return route{kind: kindPublic, peer: p, host: host, soa: p.domain}
		default: // the domain itself, or a name that no host can have
			return route{kind: kindUpstream, peer: p, soa: p.domain}
		}
	}
	return route{kind: kindForeign}
}

func (t *table) inZone(host string) route {
	if host == "" {
		return route{kind: kindEmpty, soa: t.zone}
	}
	name := host
	if i := strings.LastIndexByte(host, '.'); i >= 0 {
		host, name = host[:i], host[i+1:]
	} else {
		host = ""
	}
	p := t.peers[name]
	switch {
	case p == nil:
		return route{kind: kindNobody, soa: t.zone}
	case host == "":
		return route{kind: kindGateway, peer: p, soa: p.zone}
	case !hostname(host):
		return route{kind: kindNobody, peer: p, soa: p.zone}
	}
	return route{kind: kindHost, peer: p, host: host, soa: p.zone}
}

func (t *table) inReverse(name string) route {
	a, octets, ok := reverseAddr(name)
	switch {
	case !ok:
		return route{kind: kindNobody, soa: reverseZone}
	case octets < 4:
		return route{kind: kindEmpty, soa: reverseZone}
	}
	b := a.As4()
	zone := strconv.Itoa(int(b[0])) + "." + reverseZone
	for _, p := range t.peers {
		if inside(p.Substitutes, a) {
			return route{kind: kindReverse, peer: p, addr: a, soa: zone}
		}
	}
	if inside(private, a) {
		return route{kind: kindNobody, soa: zone}
	}
	return route{kind: kindForeign}
}

// ofPeer tells whether a is an address of any peer.
func (t *table) ofPeer(a netip.Addr) bool {
	for _, p := range t.peers {
		if inside(p.Substitutes, a) {
			return true
		}
	}
	return false
}
