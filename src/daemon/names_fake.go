package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"sync"

	"htip/src/dns"
)

// FakeNames is a names proxy without sockets, for tests: public names are what
// SetA says, and every peer that is set answers.
type FakeNames struct {
	mu     sync.Mutex
	public map[string]netip.Addr
	peers  []dns.Peer
	hosts  []dns.Host
	deaf   bool
	own    map[string]netip.Addr
	stats  dns.Stats
}

var _ Names = (*FakeNames)(nil)

// SetA gives a public name an address; the zero address removes it.
func (f *FakeNames) SetA(name string, a netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.public == nil {
		f.public = map[string]netip.Addr{}
	}
	f.public[name] = a
	if !a.IsValid() {
		delete(f.public, name)
	}
}

// SetHosts is what Hosts answers for every peer.
func (f *FakeNames) SetHosts(hs []dns.Host) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hosts = hs
}

// SetDeaf makes every Probe fail, as if nothing came through the tunnel.
func (f *FakeNames) SetDeaf(deaf bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.deaf = deaf
}

// Peers are those last set.
func (f *FakeNames) Peers() []dns.Peer {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.peers)
}

// Run waits for the end.
func (f *FakeNames) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Set records the peers.
func (f *FakeNames) Set(ps []dns.Peer) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.peers = slices.Clone(ps)
	return nil
}

// Probe succeeds for a peer whose tunnel was set.
func (f *FakeNames) Probe(_ context.Context, peer string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, p := range f.peers {
		if p.Name == peer && p.Device != "" && !f.deaf {
			return nil
		}
	}
	return errors.New("no answer in time")
}

// Hosts answers what SetHosts said.
func (f *FakeNames) Hosts(context.Context, string) ([]dns.Host, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.hosts), nil
}

// Resolve answers from what SetA said.
func (f *FakeNames) Resolve(_ context.Context, name string) ([]netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a, ok := f.public[name]; ok {
		return []netip.Addr{a}, nil
	}
	return nil, dns.ErrNoName
}

// Resolvers answers none.
func (f *FakeNames) Resolvers() []netip.Addr { return nil }

// SetOwn gives a host of this home an address; the zero address removes it.
func (f *FakeNames) SetOwn(host string, a netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.own == nil {
		f.own = map[string]netip.Addr{}
	}
	f.own[host] = a
	if !a.IsValid() {
		delete(f.own, host)
	}
}

// Own answers what SetOwn said.
func (f *FakeNames) Own(_ context.Context, host string) ([]netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a, ok := f.own[host]; ok {
		return []netip.Addr{a}, nil
	}
	return nil, nil
}

// Reached succeeds.
func (f *FakeNames) Reached(context.Context) error { return nil }

// SetStats is what Stats answers.
func (f *FakeNames) SetStats(s dns.Stats) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stats = s
}

// Stats answers what SetStats said.
func (f *FakeNames) Stats() dns.Stats {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stats
}
