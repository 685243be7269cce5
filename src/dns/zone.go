package dns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// Limits of a list of hosts, both what we tell and what we take.
const (
	maxHosts     = 1024
	maxHostsFile = 256 << 10 // octets read of each file
	maxHostsDir  = 64        // files read of a directory
	perMessage   = 200       // records in one message of a transfer
	maxMessages  = 64
	bookAge      = 2 * time.Second
	hostsWithin  = 5 * time.Second
)

// Host is a host of another home as our home can reach it.
type Host struct {
	Host string     // as its own home calls it: "nas"
	Name string     // as ours does: "nas.bob.internal"
	Addr netip.Addr // the address to use here
}

// record is a host of ours: canonical name below the LAN domain, and address.
type record struct {
	name string
	addr netip.Addr
}

// book is what the files said a moment ago; a peer may ask as often as it
// likes.
type book struct {
	mu      sync.Mutex
	read    time.Time
	records []record
}

// lanName makes what a file calls a host into its name below the LAN domain. A
// name of another domain, or one that no host can have, is left out.
func lanName(s, lan string) (string, bool) {
	s = strings.ToLower(strings.TrimSuffix(s, "."))
	if host, ok := strings.CutSuffix(s, "."+strings.TrimSuffix(lan, ".")); ok {
		return host, hostname(host)
	}
	return s, hostname(s) && !strings.Contains(s, ".")
}

// parseLeases reads dnsmasq's leases file: "expiry mac address name client-id".
// Lines of DHCPv6, without a name ("*") or of another form are left out. The
// expiry is not looked at: dnsmasq removes what has expired, and a router's
// clock may be wrong for a while after it starts.
func parseLeases(s, lan string) []record {
	var list []record
	sc := bufio.NewScanner(strings.NewReader(s))
	for sc.Scan() && len(list) < maxHosts {
		f := strings.Fields(sc.Text())
		if len(f) != 5 {
			continue
		}
		addr, err := netip.ParseAddr(f[2])
		if err != nil || !addr.Is4() {
			continue
		}
		if name, ok := lanName(f[3], lan); ok {
			list = append(list, record{name, addr})
		}
	}
	return list
}

// parseHosts reads hosts(5): an address and its names, to the end of the line
// or to '#'.
func parseHosts(s, lan string) []record {
	var list []record
	sc := bufio.NewScanner(strings.NewReader(s))
	for sc.Scan() && len(list) < maxHosts {
		line, _, _ := strings.Cut(sc.Text(), "#")
		f := strings.Fields(line)
		if len(f) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(f[0])
		if err != nil || !addr.Is4() {
			continue
		}
		for _, s := range f[1:] {
			if name, ok := lanName(s, lan); ok && len(list) < maxHosts {
				list = append(list, record{name, addr})
			}
		}
	}
	return list
}

// tellZone are the records of htip. for a peer: hosts inside own, translated,
// in order and each once.
func tellZone(records []record, own []Mapping) []record {
	var list []record
	for _, r := range records {
		if addr, ok := substitute(own, r.addr); ok && join(r.name, pseudo) != "" {
			list = append(list, record{r.name, addr})
		}
	}
	sortRecords(list)
	list = slices.Compact(list)
	return list[:min(len(list), maxHosts)]
}

// sortRecords sorts by name and address. It does not use package slices, whose
// every instance costs 10 kB of program.
func sortRecords(list []record) {
	sort.Slice(list, func(i, j int) bool {
		a, b := list[i], list[j]
		return a.name < b.name || a.name == b.name && a.addr.Less(b.addr)
	})
}

// ownHosts reads the leases and hosts files, or gives what was read just now.
func (p *Proxy) ownHosts() []record {
	b := &p.book
	b.mu.Lock()
	defer b.mu.Unlock()
	now := p.now()
	if !b.read.IsZero() && now.Sub(b.read) < bookAge {
		return b.records
	}
	lan := p.tbl.Load().lan
	var list []record
	for _, name := range hostsFiles(p.opt.HostsFiles) {
		list = append(list, parseHosts(p.readHosts(name), lan)...)
	}
	if p.opt.LeasesFile != "" {
		list = append(list, parseLeases(p.readHosts(p.opt.LeasesFile), lan)...)
	}
	b.records, b.read = list[:min(len(list), 4*maxHosts)], now
	return b.records
}

// readHosts is a file's content; one that is not there has none, and one that
// can't be read is said so in the log and does not hide the others.
func (p *Proxy) readHosts(name string) string {
	s, err := readSome(name, maxHostsFile)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.log.Warn("names: hosts file not read", "file", name, "err", err)
	}
	return string(s)
}

// hostsFiles are the files of a list of files and directories.
func hostsFiles(paths []string) []string {
	var list []string
	for _, path := range paths {
		entries, err := os.ReadDir(path)
		if err != nil { // a file, or nothing; reading it tells
			list = append(list, path)
			continue
		}
		n := 0
		for _, e := range entries {
			if !strings.HasPrefix(e.Name(), ".") && e.Type().IsRegular() && n < maxHostsDir {
				list = append(list, filepath.Join(path, e.Name()))
				n++
			}
		}
	}
	return list
}

// transferOut gives the peer the zone htip. (AXFR, RFC 5936).
func (p *Proxy) transferOut(req *msg, to *peer, write func(*msg) error) {
	apex := soa(pseudo, seconds(negTTL))
	rrs := []resource{apex}
	for _, r := range tellZone(p.ownHosts(), to.Own) {
		rrs = append(rrs, newA(join(r.name, pseudo), seconds(minTTL), r.addr))
	}
	rrs = append(rrs, apex)
	for part := range slices.Chunk(rrs, perMessage) {
		m := reply(req, dnsmessage.RCodeSuccess)
		m.Answer = part
		if write(m) != nil { // counted there; the peer asks again
			return
		}
	}
}

// transfer collects the messages of a zone transfer.
type transfer struct {
	substitutes []netip.Prefix
	messages    int
	begun       bool
	records     []record
}

// add takes the next message. It tells whether the zone is complete. One
// address outside the peer's substitutes makes the whole zone worthless.
func (t *transfer) add(m *msg) (done bool, err error) {
	if m.RCode != dnsmessage.RCodeSuccess {
		return false, fmt.Errorf("the other home's router answered %s", rcodeName(m.RCode))
	}
	if t.messages++; t.messages > maxMessages {
		return false, errors.New("the list of hosts has no end")
	}
	for _, rr := range m.Answer {
		apex := rr.Type == dnsmessage.TypeSOA && ours(rr, pseudo)
		switch {
		case apex && t.begun:
			return true, nil
		case apex:
			t.begun = true
			continue
		case !t.begun:
			return false, errors.New("the list of hosts has no beginning")
		}
		rec, err := t.read(rr)
		if err != nil {
			return false, err
		}
		if rec.name == "" {
			continue
		}
		if len(t.records) == maxHosts {
			return false, fmt.Errorf("more than %d hosts", maxHosts)
		}
		t.records = append(t.records, rec)
	}
	return false, nil
}

// read is the host that rr describes; one without a name is to be skipped.
func (t *transfer) read(rr resource) (record, error) {
	if !rr.Addr.IsValid() {
		return record{}, nil
	}
	if !rr.Addr.Is4() || !inside(t.substitutes, rr.Addr) {
		return record{}, fmt.Errorf("%w: %s", errOutside, rr.Addr)
	}
	host, ok := below(canonical(rr.Name), pseudo)
	if !ok || !hostname(host) || rr.Class != dnsmessage.ClassINET {
		return record{}, nil
	}
	return record{host, rr.Addr}, nil
}

// Hosts lists the other home's hosts, by name, with the addresses to use here.
// It takes at most 5 s.
func (p *Proxy) Hosts(ctx context.Context, name string) ([]Host, error) {
	from, err := p.reachable(name)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, hostsWithin)
	defer cancel()
	records, err := p.transferIn(ctx, from)
	if errors.Is(err, errOutside) {
		p.stats.refused.Add(1)
		p.warn(strings.ToLower(name), err)
	}
	if err != nil {
		return nil, fmt.Errorf("hosts of peer %q: %w", name, quiet(err))
	}
	sortRecords(records)
	var hosts []Host
	for _, r := range slices.Compact(records) {
		if full := join(r.name, from.zone); full != "" {
			hosts = append(hosts, Host{Host: r.name, Name: strings.TrimSuffix(full, "."), Addr: r.addr})
		}
	}
	return hosts, nil
}

func (p *Proxy) transferIn(ctx context.Context, from *peer) ([]record, error) {
	until, _ := ctx.Deadline()
	p.stats.asked.Add(1)
	c, err := p.sockets.Dial(ctx, "tcp", from.Device, netip.AddrPortFrom(from.Server, p.opt.PeerPort))
	if err != nil {
		return nil, err
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })()
	req := new(msg)
	req.ID = newID()
	req.Question = []question{{pseudo, dnsmessage.TypeAXFR, dnsmessage.ClassINET}}
	if err := writeTCP(c, req, until); err != nil {
		return nil, err
	}
	t := transfer{substitutes: from.Substitutes}
	for {
		b, err := readTCP(c, maxMessage, until)
		if err != nil {
			return nil, err
		}
		m := new(msg)
		if err := m.Unpack(b); err != nil {
			return nil, err
		}
		if m.ID != req.ID || !m.Response {
			return nil, errors.New("answer to another question")
		}
		if done, err := t.add(m); done || err != nil {
			return t.records, err
		}
	}
}
