package datapath

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Refused counts packets out of a tunnel that were dropped since the daemon
// began to look.
type Refused struct {
	Source      uint64 // forged: from outside the peer's substitutes
	Destination uint64 // to anything but our substitutes: the WAN, a third home, other addresses of the router
	Host        uint64 // to hosts and ports that the peer may not reach
	Router      uint64 // to services of this router
}

// None tells whether nothing was dropped.
func (r Refused) None() bool { return r == Refused{} }

func (r *Refused) add(o Refused) {
	r.Source += o.Source
	r.Destination += o.Destination
	r.Host += o.Host
	r.Router += o.Router
}

// refusals sums counters of the kernel, which begin anew with each rule that is
// written anew.
type refusals struct {
	before map[string]Refused // by device: of rules that are no more
	last   map[string]Refused // as last read

	gone, forged map[string]uint64 // the same of WireGuard's own check, which comes before our rules
}

// read takes the output of iptables-save -c.
func (c *refusals) read(text string) { c.last = parseRefusals(text) }

// restored takes what iptables-restore was given: chains that are named in it
// were emptied.
func (c *refusals) restored(text string) {
	gone := map[string]bool{}
	table := ""
	for line := range strings.Lines(text) {
		switch words := strings.Fields(line); {
		case strings.HasPrefix(line, "*"):
			table = words[0][1:]
		case strings.HasPrefix(line, ":"):
			gone[table+" "+words[0][1:]] = true
		case strings.HasPrefix(line, "-F "):
			gone[table+" "+words[1]] = true
		}
	}
	if c.before == nil {
		c.before = map[string]Refused{}
	}
	for dev, r := range c.last {
		lost := Refused{}
		if gone["raw "+chainPrefix+"PREROUTING"] {
			lost.Source, lost.Destination, r.Source, r.Destination = r.Source, r.Destination, 0, 0
		}
		if gone["mangle "+chainPrefix+"ACCESS-FORWARD"] {
			lost.Host, r.Host = r.Host, 0
		}
		if gone["mangle "+chainPrefix+"INPUT"] {
			lost.Router, r.Router = r.Router, 0
		}
		b := c.before[dev]
		b.add(lost)
		c.before[dev], c.last[dev] = b, r
	}
}

// links takes the devices as they are. A count that is smaller than before is
// that of a new device.
func (c *refusals) links(ls []link) {
	if c.gone == nil {
		c.gone, c.forged = map[string]uint64{}, map[string]uint64{}
	}
	for i := range ls {
		l := &ls[i]
		if l.Kind != wgKind {
			continue
		}
		if l.FrameErrors < c.forged[l.Name] {
			c.gone[l.Name] += c.forged[l.Name]
		}
		c.forged[l.Name] = l.FrameErrors
	}
}

// sum is what is known by now.
func (c *refusals) sum() map[string]Refused {
	out := map[string]Refused{}
	for _, m := range []map[string]Refused{c.before, c.last} {
		for dev, r := range m {
			b := out[dev]
			b.add(r)
			out[dev] = b
		}
	}
	for _, m := range []map[string]uint64{c.gone, c.forged} {
		for dev, n := range m {
			b := out[dev]
			b.Source += n
			out[dev] = b
		}
	}
	return out
}

// Refusals reads what the rules have dropped, by device, with what rules of
// this process's life that are no more had. It costs one exec.
func (m *Manager) Refusals(ctx context.Context) (map[string]Refused, error) {
	path, err := lookPath(m.o.IptablesSave)
	if err != nil {
		return nil, permanent("iptables is not installed (package iptables-nft or iptables-legacy): %w", err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	out, err := m.o.run(ctx, "", path, "-c")
	if err != nil {
		return nil, fmt.Errorf("read the guard's counters: %s: %w", lastLine(out), err)
	}
	m.counts.read(out)
	ls, err := m.o.kernel.links()
	if err != nil {
		return nil, err
	}
	m.counts.links(ls)
	return m.counts.sum(), nil
}

// parseRefusals reads lines like "[12:1008] -A HTIP-PREROUTING -i htip-bob -j
// DROP" of the output of iptables-save -c; with a source in it the source was
// right.
func parseRefusals(text string) map[string]Refused {
	refused := map[string]Refused{}
	table := ""
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "*") {
			table = strings.TrimSpace(line[1:])
		}
		counters, rule, ok := strings.Cut(line, "] -A "+chainPrefix)
		packets, _, colon := strings.Cut(strings.TrimPrefix(counters, "["), ":")
		n, err := strconv.ParseUint(packets, 10, 64)
		words := strings.Fields(rule)
		i := slices.Index(words, "-i")
		if !ok || !colon || err != nil || !hasPair(words, "-j", "DROP") || i < 0 || i+1 >= len(words) || words[i+1] == anyDevice {
			continue
		}
		r := refused[words[i+1]]
		switch table + " " + words[0] {
		case "raw PREROUTING":
			if slices.Contains(words, "-s") {
				r.Destination += n
			} else {
				r.Source += n
			}
		case "mangle ACCESS-FORWARD":
			r.Host += n
		case "mangle INPUT":
			r.Router += n
		}
		refused[words[i+1]] = r
	}
	return refused
}
