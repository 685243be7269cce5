// Package daemon is htipd: it wires the protocol (htip), the control channel,
// the data path, the names proxy and ubus together. It is the only package that
// knows them all.
//
// One goroutine, the loop, owns the protocol's state. What takes time (dialling,
// applying to the kernel, proving a tunnel) runs beside it and reports back as
// an event; nothing in the loop ever waits.
package daemon

import (
	"context"
	"errors"
	"htip/src/slog"
	"net/netip"
	"os"
	"slices"
	"time"

	"htip/src/config"
	"htip/src/datapath"
	"htip/src/dns"
)

// Options are the daemon's surroundings; each can be set by a flag.
type Options struct {
	Config   string // UCI file
	StateDir string // what survives a reboot: key, substitutes of other homes
	RunDir   string // what does not
	Listen   string // IPv4 address of the control channel without port, "" for all
	Socket   string // ubusd

	Resolv         string         // the WAN's resolvers, as in resolv.conf
	DNSListen      netip.AddrPort // where dnsmasq asks us
	Dnsmasq        netip.AddrPort // where we ask dnsmasq
	DnsmasqDir     string         // its conf-dir; "" leaves dnsmasq alone
	DnsmasqRestart []string       // command that restarts it
	Leases, Hosts  string         // dnsmasq's leases file, directory of its hosts files

	Firewall string // its UCI file, for the doctor; "" leaves it alone

	ESPRekey time.Duration // age at which a tunnel in ESP gets new keys, for tests; 0 is the usual

	// Leave, when something comes, ends Run with ErrLeft. May be nil.
	Leave <-chan os.Signal

	Version string
	Log     *slog.Logger
	Level   *slog.LevelVar // of Log, set from the configuration; may be nil
	// FixedLevel: the level was given by flag, the configuration does not matter.
	FixedLevel bool

	// Path, Names and so on stand in for the kernel, the names proxy and netifd in
	// tests; nil is the real thing.
	Path   datapath.Datapath
	Names  Names
	Links  func() ([]link, error)
	Way    func(from, to netip.Addr) int
	Netifd func(context.Context) ([]iface, error)
}

// ErrRestart says that the configuration changed in a way that needs a fresh
// start. Everything has been cleaned up.
var ErrRestart = errors.New("the configuration changed: starting afresh")

// ErrLeft says that the daemon has ended and left everything in place, for a
// next process to take over: an upgrade of the package. What runs beside the
// loop has not been ended; the process must exit.
var ErrLeft = errors.New("tunnels are left to the next process")

// ErrDisabled says that the configuration does not want the daemon to run.
var ErrDisabled = errors.New("htip is disabled: set option enabled '1' in section main of /etc/config/htip")

// Names is what the daemon needs of package dns.
type Names interface {
	Run(ctx context.Context) error
	Set(peers []dns.Peer) error
	Probe(ctx context.Context, peer string) error
	Hosts(ctx context.Context, peer string) ([]dns.Host, error)
	Resolve(ctx context.Context, name string) ([]netip.Addr, error)
	Resolvers() []netip.Addr
	Own(ctx context.Context, host string) ([]netip.Addr, error)
	Reached(ctx context.Context) error
	Stats() dns.Stats
}

const (
	applyLimit    = 30 * time.Second
	probeInterval = 100 * time.Millisecond
	probeFirst    = 250 * time.Millisecond // for the first answer, for the next ones twice as long each
	probeLimit    = 2 * time.Second
	hostsLimit    = 8 * time.Second
	trimAfter     = 5 * time.Second // from the end of an attempt to giving its memory back
	recheckEvery  = time.Minute     // somebody may have flushed our rules

	maxConns    = 3                // control connections of one peer
	silentLimit = 10 * time.Second // for the first message on a connection that a peer opened
)

// plansAnew tells whether addresses are planned otherwise after a change of the main
// section, and netifd need not be asked how: what an interface is called may have changed,
// too, and its last answer would leave the interface out.
func plansAnew(a, b *config.Main) bool {
	if len(b.Networks)+len(b.LANDevices) == 0 && !slices.Equal(a.Interfaces, b.Interfaces) {
		return false
	}
	return !slices.Equal(a.Networks, b.Networks) || !slices.Equal(a.LANDevices, b.LANDevices) ||
		!slices.Equal(a.Pool, b.Pool) || a.Candidates != b.Candidates
}

// needsRestart tells whether a change of the main section can't be taken over
// while running.
func needsRestart(a, b *config.Main) bool {
	return a.Enabled != b.Enabled || a.Port != b.Port || a.Zone != b.Zone || a.LANDomain != b.LANDomain ||
		a.L2TPPort != b.L2TPPort || a.MTU != b.MTU || a.Domain != b.Domain || !slices.Equal(a.Protocols, b.Protocols)
}
