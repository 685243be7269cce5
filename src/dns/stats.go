package dns

import "sync/atomic"

// Stats counts what the proxy has done since its start.
type Stats struct {
	Local     uint64 // questions of our own hosts, through dnsmasq
	Remote    uint64 // questions of peers about our hosts
	Cached    uint64 // answered from memory
	Asked     uint64 // questions sent to peers
	Forwarded uint64 // questions sent to upstream resolvers
	Connects  uint64 // tunnels asked for by a name
	Refused   uint64 // answers with an address that their sender must not give
	Spoofed   uint64 // questions out of a tunnel from an address that is not the peer's
	Failed    uint64 // SERVFAILs given to our hosts
	Busy      uint64 // questions above the limit
	Junk      uint64 // packets that are no question
	Unsent    uint64 // replies that could not be sent
}

type counters struct {
	local, remote, cached, asked, forwarded, connects atomic.Uint64
	refused, spoofed, failed, busy, junk, unsent      atomic.Uint64
}

// Stats is a copy of the counters.
func (p *Proxy) Stats() Stats {
	c := &p.stats
	return Stats{
		Local: c.local.Load(), Remote: c.remote.Load(), Cached: c.cached.Load(), Asked: c.asked.Load(),
		Forwarded: c.forwarded.Load(), Connects: c.connects.Load(), Refused: c.refused.Load(),
		Spoofed: c.spoofed.Load(), Failed: c.failed.Load(), Busy: c.busy.Load(), Junk: c.junk.Load(), Unsent: c.unsent.Load(),
	}
}
