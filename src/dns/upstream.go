package dns

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/net/dns/dnsmessage"
)

// maxResolvers is how many upstream resolvers are used (resolv.conf(5) has 3).
const maxResolvers = 4

// maxResolvFile bounds the octets read of a resolv.conf.
const maxResolvFile = 64 << 10

var errNoResolver = errors.New("no upstream resolver is known")

// resolvers are the upstream resolvers: fixed, or those of a file that is read
// when it has changed.
type resolvers struct {
	file  string
	fixed []netip.AddrPort
	never []netip.AddrPort // dnsmasq and we: asking them would go in a circle
	own   func() ([]net.Addr, error)

	mu   sync.Mutex
	stat os.FileInfo
	list []netip.AddrPort
}

// servers are the resolvers that may be asked now. usable refuses those inside
// a tunnel: the other home could use us as its own resolver.
func (r *resolvers) servers(usable func(netip.Addr) bool) ([]netip.AddrPort, error) {
	list := r.fixed
	if len(list) == 0 {
		var err error
		if list, err = r.read(); err != nil {
			return nil, err
		}
	}
	var good []netip.AddrPort
	for _, s := range list {
		if !slices.Contains(r.never, s) && usable(s.Addr()) && len(good) < maxResolvers {
			good = append(good, s)
		}
	}
	if len(good) == 0 {
		return nil, errNoResolver
	}
	return good, nil
}

// read gives the file's resolvers that are not this machine. A file that is
// only gone for a moment, while it is being replaced, keeps its last content.
func (r *resolvers) read() ([]netip.AddrPort, error) {
	if r.file == "" {
		return nil, errNoResolver
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	stat, err := os.Stat(r.file)
	if err != nil {
		if r.list != nil && errors.Is(err, os.ErrNotExist) {
			return r.list, nil
		}
		return nil, fmt.Errorf("upstream resolvers: %w", err)
	}
	if r.stat != nil && os.SameFile(stat, r.stat) && stat.Size() == r.stat.Size() && stat.ModTime().Equal(r.stat.ModTime()) {
		return r.list, nil
	}
	b, err := readSome(r.file, maxResolvFile)
	if err != nil {
		return nil, fmt.Errorf("upstream resolvers: %w", err)
	}
	addrs, err := r.own()
	if err != nil {
		return nil, fmt.Errorf("own addresses: %w", err)
	}
	own := make(map[netip.Addr]bool, len(addrs))
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own[p.Addr().Unmap().WithZone("")] = true
		}
	}
	r.list = nil
	for _, a := range parseResolv(string(b)) {
		if !own[a.WithZone("")] {
			r.list = append(r.list, netip.AddrPortFrom(a, 53))
		}
	}
	r.stat = stat
	return r.list, nil
}

// parseResolv reads the nameserver lines of a resolv.conf(5). Loopback
// addresses are left out: that is dnsmasq.
func parseResolv(s string) []netip.Addr {
	var list []netip.Addr
	sc := bufio.NewScanner(strings.NewReader(s))
	for sc.Scan() && len(list) < 4*maxResolvers {
		f := strings.Fields(sc.Text())
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(f[1])
		if err != nil {
			continue
		}
		if a = a.Unmap(); !a.IsLoopback() && !a.IsUnspecified() && !a.IsMulticast() {
			list = append(list, a)
		}
	}
	return list
}

// readSome reads a regular file up to limit octets; the rest is left.
func readSome(name string, limit int64) ([]byte, error) {
	stat, err := os.Stat(name) // before opening: opening a FIFO would wait
	if err != nil {
		return nil, err
	}
	if !stat.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, limit))
}

// forward answers req as the Internet does.
func (p *Proxy) forward(ctx context.Context, req *msg) *msg {
	q := req.Question[0]
	k := outside{strings.ToLower(q.Name), q.Type, req.CheckingDisabled}
	f, err := p.internet.do(ctx, k, p.spawn, func() fetched { return p.fetch(p.base, k) })
	if err == nil {
		err = f.err
	}
	if err != nil {
		return render(req, failure(edeUnreachable, quiet(err)))
	}
	if a, bad := foreign(f.msg); bad && !p.opt.PrivateUpstream {
		p.stats.refused.Add(1)
		return render(req, failure(edeBlocked, fmt.Errorf("private address %s in the public DNS", a)))
	}
	m := reply(req, f.msg.RCode&0xf)
	m.Authoritative = false
	m.AuthenticData = f.msg.AuthenticData
	m.CheckingDisabled = f.msg.CheckingDisabled
	m.Answer, m.Authority = f.msg.Answer, f.msg.Authority
	return m
}

// outside is a question to the Internet; fetched is what came of it.
type outside struct {
	name  string
	qtype dnsmessage.Type
	cd    bool // checking disabled
}

type fetched struct {
	msg *msg // read only: several may have asked
	err error
}

// fetch asks the resolvers in turn. One that fails or refuses is no answer as
// long as there is another.
func (p *Proxy) fetch(ctx context.Context, k outside) fetched {
	t := p.tbl.Load()
	servers, err := p.upstream.servers(func(a netip.Addr) bool { return !t.ofPeer(a) })
	if err != nil {
		return fetched{err: err}
	}
	q := question{Name: k.name, Type: k.qtype, Class: dnsmessage.ClassINET}
	flags := dnsmessage.Header{RecursionDesired: true, CheckingDisabled: k.cd, AuthenticData: true}
	var got *msg
	for try := range max(askTries, len(servers)) {
		p.stats.forwarded.Add(1)
		m, failed := ask(ctx, p.sockets, "", servers[try%len(servers)], q, flags, 1)
		if failed != nil {
			err = failed
			continue
		}
		got = m
		if m.RCode == dnsmessage.RCodeSuccess || m.RCode == dnsmessage.RCodeNameError {
			break
		}
	}
	if got == nil {
		return fetched{err: err}
	}
	return fetched{msg: got}
}
