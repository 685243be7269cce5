package dns

import (
	"bytes"
	"context"
	"fmt"
	"htip/src/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// dnsmasqPath is the dnsmasq to test with: HTIP_DNSMASQ (older and newer
// versions), or the machine's.
func dnsmasqPath(t testing.TB) string {
	t.Helper()
	if os.Getenv("HTIP_EMULATED") != "" { // scripts/foreign: a fork may hang there
		t.Skip("starts programs")
	}
	if path := os.Getenv("HTIP_DNSMASQ"); path != "" {
		return path
	}
	for _, path := range []string{"dnsmasq", "/usr/sbin/dnsmasq"} {
		if path, err := exec.LookPath(path); err == nil {
			return path
		}
	}
	t.Skip("no dnsmasq here")
	return ""
}

// home is a gateway under test: a proxy, usually with a real dnsmasq.
type home struct {
	*Proxy
	opt     Options
	dnsmasq netip.AddrPort
	dir     string
	cancel  context.CancelFunc
	ended   chan error
	clock   atomic.Int64 // how far the proxy's clock is ahead
}

// net127 gives each test process, and each home in it, addresses of its own in
// 127.0.0.0/8.
var (
	net127   sync.Mutex
	next127  = 1 + os.Getpid()%200
	homes127 = 0
)

func ownAddr() netip.Addr {
	net127.Lock()
	defer net127.Unlock()
	homes127++
	return netip.AddrFrom4([4]byte{127, byte(next127), byte(100 + homes127/200), byte(1 + homes127%200)})
}

const (
	testDNS   = 15353
	testLocal = 14854
	testPeer  = 14853
)

// newHome makes a home on loopback addresses. change may alter the options
// before the proxy is made.
func newHome(t testing.TB, sockets Sockets, change func(*Options)) *home {
	t.Helper()
	at := ownAddr()
	h := &home{dir: t.TempDir(), dnsmasq: netip.AddrPortFrom(at, testDNS)}
	h.opt = Options{
		Listen: netip.AddrPortFrom(at, testLocal), Dnsmasq: h.dnsmasq, PeerPort: testPeer, Sockets: sockets,
		LeasesFile: filepath.Join(h.dir, "leases"), HostsFiles: []string{filepath.Join(h.dir, "hosts")},
		Log: slog.New(slog.NewTextHandler(testLog{t}, nil)),
	}
	if change != nil {
		change(&h.opt)
	}
	h.start(t)
	return h
}

func (h *home) start(t testing.TB) {
	t.Helper()
	var err error
	if h.Proxy, err = New(h.opt); err != nil {
		t.Fatal(err)
	}
	h.Proxy.now = func() time.Time { return time.Now().Add(time.Duration(h.clock.Load())) }
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(context.Background())
	h.ended = make(chan error, 1)
	go func() { h.ended <- h.Proxy.Run(ctx) }()
	select {
	case <-h.Ready():
	case err := <-h.ended:
		t.Fatal(err)
	}
	t.Cleanup(h.end)
}

func (h *home) end() {
	h.cancel()
	<-h.ended
	h.ended <- nil
}

// testLog writes a test's log.
type testLog struct{ t testing.TB }

func (l testLog) Write(b []byte) (int, error) {
	l.t.Log(string(bytes.TrimSpace(b)))
	return len(b), nil
}

// write puts a file into the home's directory.
func (h *home) write(t testing.TB, name, content string) {
	t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// startDnsmasq runs a dnsmasq set up as OpenWrt sets it up, with our drop-in in
// its conf-dir. upstream is where it asks for everything else. wrap puts words
// before the command ("ip netns exec …").
func (h *home) startDnsmasq(t testing.TB, domains []string, upstream netip.AddrPort, wrap ...string) {
	t.Helper()
	bin := dnsmasqPath(t)
	if err := os.Chmod(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, sub := range []string{"conf.d", "hosts"} {
		if err := os.MkdirAll(filepath.Join(h.dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	dropin, err := DropIn("internal", "lan", domains, private, h.opt.Listen)
	if err != nil {
		t.Fatal(err)
	}
	h.write(t, "conf.d/htip.conf", string(dropin))
	h.write(t, "dnsmasq.conf", fmt.Sprintf(`port=%d
listen-address=%s
bind-interfaces
no-hosts
no-resolv
server=%s#%d
domain=lan
local=/lan/
expand-hosts
domain-needed
bogus-priv
localise-queries
stop-dns-rebind
dhcp-leasefile=%s
dhcp-range=10.0.0.100,10.0.0.200,255.255.255.0,12h
no-ping
addn-hosts=%s
conf-dir=%s
cname=files.lan,nas.lan
user=root
log-queries
pid-file=
log-facility=%s
`, h.dnsmasq.Port(), h.dnsmasq.Addr(), upstream.Addr(), upstream.Port(), filepath.Join(h.dir, "leases"),
		filepath.Join(h.dir, "hosts"), filepath.Join(h.dir, "conf.d"), filepath.Join(h.dir, "dnsmasq.log")))
	args := append(slices.Clone(wrap), bin, "-k", "-C", filepath.Join(h.dir, "dnsmasq.conf"))
	cmd := exec.Command(args[0], args[1:]...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(h.dir, "dnsmasq.log"))
			t.Logf("dnsmasq of %s: %s%s", h.opt.Listen, out.String(), log)
		}
	})
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); {
		if _, err := resolve(h.opt.Sockets, h.dnsmasq, queryOf("nobody.lan.", dns.TypeA)); err == nil {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("dnsmasq did not start: %s", out.String())
}

// resolve asks like a host's stub resolver.
func resolve(s Sockets, server netip.AddrPort, req *dns.Msg) (*dns.Msg, error) {
	if s == nil {
		s = Kernel{}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := s.Dial(ctx, "udp", "", server)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	co := &dns.Conn{Conn: c, UDPSize: 4096}
	c.SetDeadline(time.Now().Add(10 * time.Second))
	if err := co.WriteMsg(req); err != nil {
		return nil, err
	}
	return co.ReadMsg()
}

// look asks name and gives the answer in short: "NOERROR 10.0.2.5 10.0.2.6".
func look(t testing.TB, s Sockets, server netip.AddrPort, name string, qtype uint16) string {
	t.Helper()
	req := queryOf(name, qtype)
	req.SetEdns0(4096, false)
	m, err := resolve(s, server, req)
	if err != nil {
		return "error " + err.Error()
	}
	return brief(m)
}

func brief(m *dns.Msg) string {
	words := []string{dns.RcodeToString[m.Rcode]}
	for _, rr := range m.Answer {
		if rr.Header().Name != m.Question[0].Name {
			words = append(words, "("+rr.Header().Name+")")
		}
		words = append(words, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	slices.Sort(words[1:])
	for _, rr := range m.Ns {
		if rr.Header().Rrtype == dns.TypeSOA {
			words = append(words, "SOA:"+rr.Header().Name)
		}
	}
	if opt := m.IsEdns0(); opt != nil {
		for _, o := range opt.Option {
			if ede, ok := o.(*dns.EDNS0_EDE); ok {
				words = append(words, fmt.Sprintf("[%d %s]", ede.InfoCode, ede.ExtraText))
			}
		}
	}
	return strings.Join(words, " ")
}

// records answers like an authoritative server that knows only these.
func records(t testing.TB, list ...string) func(*dns.Msg, bool) []*dns.Msg {
	known := rrs(t, list...)
	return func(req *dns.Msg, _ bool) []*dns.Msg {
		m := respond(req, dns.RcodeNameError)
		for _, rr := range known {
			if strings.EqualFold(rr.Header().Name, req.Question[0].Name) {
				m.Rcode = dns.RcodeSuccess
				if rr.Header().Rrtype == req.Question[0].Qtype {
					m.Answer = append(m.Answer, dns.Copy(rr))
				}
			}
		}
		return []*dns.Msg{m}
	}
}

func noAddrs() ([]net.Addr, error) { return nil, nil }
