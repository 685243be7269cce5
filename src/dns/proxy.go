package dns

import (
	"context"
	"errors"
	"fmt"
	"htip/src/slog"
	"maps"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Options are all that the proxy needs from the world around it.
type Options struct {
	// Listen is where dnsmasq asks us; 127.0.0.1:4854 when empty.
	Listen netip.AddrPort
	// Zone holds <host>.<peer>.<zone>; "internal" when empty.
	Zone string
	// LANDomain is the domain below which our own dnsmasq knows our hosts;
	// "lan" when empty.
	LANDomain string
	// Dnsmasq is our own dnsmasq; 127.0.0.1:53 when empty.
	Dnsmasq netip.AddrPort
	// PeerPort is where proxies listen inside tunnels; 4853 when 0.
	PeerPort uint16
	// ResolvFile lists the upstream resolvers in the form of resolv.conf(5),
	// for the peers' public domains. It is read again when it changes.
	ResolvFile string
	// Upstreams replace ResolvFile when given, loopback addresses included.
	Upstreams []netip.AddrPort
	// PrivateUpstream lets upstream resolvers answer with private addresses for
	// a peer's public domain, as where dnsmasq's rebinding protection is off.
	PrivateUpstream bool
	// LeasesFile is dnsmasq's leases file, HostsFiles hosts files or
	// directories of them: what [Proxy.Hosts] of a peer gets to see.
	LeasesFile string
	HostsFiles []string
	// Connect brings the tunnel to a peer up, or says why it can't; it returns
	// when ctx ends, at the latest after 30 s, and at once for a tunnel that is
	// up. Its error reaches the asker as a sentence. A nil Connect means that tunnels come up in other ways only.
	Connect func(ctx context.Context, peer string) error
	// Log gets one line an event.
	Log *slog.Logger
	// Sockets is [Kernel] when nil.
	Sockets Sockets
	// Addrs are this machine's own addresses, which are never upstream
	// resolvers; [net.InterfaceAddrs] when nil.
	Addrs func() ([]net.Addr, error)
}

// Proxy answers names of other homes to our hosts, and names of our hosts to
// other homes. Make one with [New], then [Proxy.Run] it.
type Proxy struct {
	opt      Options
	log      *slog.Logger
	sockets  Sockets
	stats    counters
	cache    *cache
	hosts    flights[key, answer]
	internet flights[outside, fetched]
	upstream *resolvers
	ready    chan struct{}
	tbl      atomic.Pointer[table]
	now      func() time.Time
	awaited  sync.Map // names that Reached asks for → *atomic.Bool

	base context.Context // ends with Run
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu        sync.Mutex // Set, and what follows
	listeners map[string]*listener
	changed   chan struct{} // closed and made anew by each Set
	calls     map[string]*call
	warned    map[string]time.Time
	book      book
}

// listener is the server inside one tunnel.
type listener struct {
	*server
	device string
	index  int
	cancel context.CancelFunc
}

// ErrClosed is what a proxy gives after Run has ended.
var ErrClosed = errors.New("names proxy is closed")

// ErrUnknownPeer is a name that no [Proxy.Set] has given.
var ErrUnknownPeer = errors.New("unknown peer")

// ErrNoTunnel is a peer without a tunnel to ask it through.
var ErrNoTunnel = errors.New("no tunnel to it")

// New checks the options. All that is wrong is told at once.
func New(o Options) (*Proxy, error) {
	if !o.Listen.IsValid() {
		o.Listen = netip.MustParseAddrPort("127.0.0.1:4854")
	}
	if !o.Dnsmasq.IsValid() {
		o.Dnsmasq = netip.MustParseAddrPort("127.0.0.1:53")
	}
	if o.PeerPort == 0 {
		o.PeerPort = 4853
	}
	if o.Zone == "" {
		o.Zone = "internal"
	}
	if o.LANDomain == "" {
		o.LANDomain = "lan"
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Sockets == nil {
		o.Sockets = Kernel{}
	}
	if o.Addrs == nil {
		o.Addrs = net.InterfaceAddrs
	}
	if err := errors.Join(validZones(o.Zone, o.LANDomain), o.validAddrs()); err != nil {
		return nil, err
	}
	p := &Proxy{
		opt: o, log: o.Log, sockets: o.Sockets, cache: newCache(), ready: make(chan struct{}), now: time.Now,
		listeners: make(map[string]*listener), changed: make(chan struct{}),
		calls: make(map[string]*call), warned: make(map[string]time.Time),
	}
	p.upstream = &resolvers{file: o.ResolvFile, fixed: o.Upstreams, own: o.Addrs, never: []netip.AddrPort{o.Dnsmasq, o.Listen}}
	p.base, p.stop = context.WithCancel(context.Background())
	p.tbl.Store(&table{zone: canonical(o.Zone), lan: canonical(o.LANDomain)})
	return p, nil
}

// validZones tells whether zone and LAN domain can live side by side. Were the
// zone within the LAN domain, a peer could ask our dnsmasq for a third home's
// hosts.
func validZones(zone, lan string) error {
	var errs []error
	if !domainname(zone) || within(canonical(zone), "arpa.") {
		errs = append(errs, fmt.Errorf("zone %q: want labels of letters, digits, '-' and '_'", zone))
	}
	if !domainname(lan) || within(canonical(lan), "arpa.") {
		errs = append(errs, fmt.Errorf("LAN domain %q: want labels of letters, digits, '-' and '_'", lan))
	}
	if within(canonical(zone), canonical(lan)) {
		errs = append(errs, fmt.Errorf("zone %q lies in the LAN domain %q: choose another zone", zone, lan))
	}
	return errors.Join(errs...)
}

func (o *Options) validAddrs() error {
	var errs []error
	if !o.Listen.Addr().Is4() || o.Listen.Port() == 0 {
		errs = append(errs, fmt.Errorf("listen %s: want an IPv4 address and a port", o.Listen))
	}
	if o.Listen == o.Dnsmasq {
		errs = append(errs, fmt.Errorf("listen %s: that is dnsmasq", o.Listen))
	}
	if o.Listen.Port() == o.PeerPort {
		errs = append(errs, fmt.Errorf("listen %s: port %d is for the tunnels", o.Listen, o.PeerPort))
	}
	return errors.Join(errs...)
}

// Run answers until ctx ends; nothing is open when it returns. It runs once.
func (p *Proxy) Run(ctx context.Context) error {
	defer p.shut()
	s, err := listen(p.sockets, "", p.opt.Listen, localSlots, localConns, &p.stats, p.serveLocal)
	if err != nil {
		return fmt.Errorf("listening for dnsmasq at %s: %w", p.opt.Listen, err)
	}
	p.spawn(func() {
		for sleep(p.base, mendEvery) {
			p.mend()
		}
	})
	close(p.ready)
	s.run(ctx)
	return nil
}

// mendEvery is how long a listener may stay deaf after its device was replaced
// and nobody called Set.
const mendEvery = 3 * time.Second

// mend opens and closes listeners where devices came, went or were replaced
// since Set: a new call of PPP has the old name.
func (p *Proxy) mend() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base.Err() != nil {
		return
	}
	if err := p.setListeners(p.tbl.Load()); err != nil {
		p.log.Debug("names: listener missing", "err", err) // Set has said so aloud
	}
}

// Ready is closed when dnsmasq can ask.
func (p *Proxy) Ready() <-chan struct{} { return p.ready }

// String names the task.
func (p *Proxy) String() string { return "names proxy at " + p.opt.Listen.String() }

// shut closes the listeners and waits for all that runs.
func (p *Proxy) shut() {
	p.mu.Lock()
	p.stop()
	for name, l := range p.listeners {
		l.shut()
		delete(p.listeners, name)
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// spawn runs f beside the rest, unless the proxy is closed.
func (p *Proxy) spawn(f func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base.Err() != nil {
		return false
	}
	p.wg.Go(f)
	return true
}

func (l *listener) shut() {
	l.close()
	l.cancel()
}

// Set makes peers the homes that the proxy knows. Giving the same again changes
// nothing; a listener is opened, closed or opened anew where a device came,
// went or was replaced. The error joins a [*PeerError] for each peer that could
// not be served; all others are in force.
func (p *Proxy) Set(peers []Peer) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.base.Err() != nil {
		return ErrClosed
	}
	old := p.tbl.Load()
	t, err := newTable(old.zone, old.lan, peers, old, p.now())
	p.tbl.Store(t)
	p.cache.keep(func(k key) bool {
		peer := t.peers[k.peer]
		return peer != nil && peer.gen == k.gen
	})
	gone := func(name string) bool { return t.peers[name] == nil }
	maps.DeleteFunc(p.warned, func(name string, _ time.Time) bool { return gone(name) })
	maps.DeleteFunc(p.calls, func(name string, _ *call) bool { return gone(name) })
	err = errors.Join(err, p.setListeners(t))
	close(p.changed)
	p.changed = make(chan struct{})
	return err
}

// setListeners opens and closes what t asks for. mu is held.
func (p *Proxy) setListeners(t *table) error {
	index := make(map[string]int, len(t.peers))
	var errs []error
	for name, peer := range t.peers {
		if peer.Device == "" {
			continue
		}
		i, err := p.sockets.Index(peer.Device)
		if err != nil {
			errs = append(errs, &PeerError{Peer: peer.Name, Retry: true, Err: err})
			continue
		}
		index[name] = i
	}
	for name, l := range p.listeners {
		if i, ok := index[name]; ok && l.index == i && l.device == t.peers[name].Device {
			continue
		}
		l.shut()
		delete(p.listeners, name)
		p.log.Info("names: listener closed", "peer", name, "device", l.device)
	}
	at := netip.AddrPortFrom(netip.IPv4Unspecified(), p.opt.PeerPort)
	for name, i := range index {
		if p.listeners[name] != nil {
			continue
		}
		device := t.peers[name].Device
		s, err := listen(p.sockets, device, at, peerSlots, peerConns, &p.stats, p.serveRemote(name))
		if err != nil {
			errs = append(errs, &PeerError{Peer: t.peers[name].Name, Retry: true, Err: fmt.Errorf("listening in %s: %w", device, err)})
			continue
		}
		ctx, cancel := context.WithCancel(p.base)
		p.listeners[name] = &listener{server: s, device: device, index: i, cancel: cancel}
		p.wg.Go(func() { s.run(ctx) })
		p.log.Info("names: listener open", "peer", name, "device", device)
	}
	return errors.Join(errs...)
}

// find is the peer of that name as it is now.
func (p *Proxy) find(name string) (*peer, error) {
	peer := p.tbl.Load().peers[strings.ToLower(name)]
	if peer == nil {
		return nil, fmt.Errorf("peer %q: %w", name, ErrUnknownPeer)
	}
	return peer, nil
}

// reachable is the peer if it has a tunnel, whether its names are asked yet or
// not.
func (p *Proxy) reachable(name string) (*peer, error) {
	peer, err := p.find(name)
	if err == nil && (peer.Device == "" || !peer.Server.IsValid()) {
		err = fmt.Errorf("peer %q: %w", name, ErrNoTunnel)
	}
	return peer, err
}

// askPeer asks a peer's proxy through its tunnel.
func (p *Proxy) askPeer(ctx context.Context, to *peer, name string, qtype dnsmessage.Type, tries int) (*msg, error) {
	p.stats.asked.Add(1)
	q := question{Name: name, Type: qtype, Class: dnsmessage.ClassINET}
	return ask(ctx, p.sockets, to.Device, netip.AddrPortFrom(to.Server, p.opt.PeerPort), q, dnsmessage.Header{}, tries)
}

// Probe asks the peer's proxy for the SOA of htip. until it answers or ctx
// ends: proof that packets pass the tunnel both ways. Without a deadline in ctx
// it tries for 5 s.
func (p *Proxy) Probe(ctx context.Context, name string) error {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
	}
	for {
		peer, err := p.reachable(name)
		if err != nil {
			return err
		}
		m, err := p.askPeer(ctx, peer, pseudo, dnsmessage.TypeSOA, 1)
		if err == nil {
			err = isSOA(m)
		}
		if err == nil {
			return nil
		}
		if !sleep(ctx, askPause) {
			return fmt.Errorf("peer %q: %w", name, err)
		}
	}
}

// isSOA tells whether m is what a proxy says of htip. itself.
func isSOA(m *msg) error {
	if m.RCode != dnsmessage.RCodeSuccess || len(m.Answer) != 1 || m.Answer[0].Type != dnsmessage.TypeSOA || !ours(m.Answer[0], pseudo) {
		return fmt.Errorf("the other end answers %s, but is no names proxy", rcodeName(m.RCode))
	}
	return nil
}

// warn logs something that a peer can cause at will: at most once in 10 s.
func (p *Proxy) warn(name string, err error) {
	p.mu.Lock()
	now := p.now()
	again := now.Sub(p.warned[name]) < 10*time.Second
	if !again {
		p.warned[name] = now
	}
	p.mu.Unlock()
	if !again {
		p.log.Warn("names: answer refused", "peer", name, "err", err)
	}
}
