package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// lone is home A alone with a peer "bob" that the test plays.
func lone(t testing.TB, change func(*Options)) (*pair, netip.AddrPort) {
	t.Helper()
	p := newPair(t, change)
	p.b.end()
	return p, netip.AddrPortFrom(p.addrB, testPeer)
}

// A peer whose name server lies.
func TestHostilePeerAnswers(t *testing.T) {
	upstream := netip.AddrPortFrom(ownAddr(), testDNS)
	nameServer(t, nil, "", upstream, records(t, "lie.bob.example.org. 60 A 198.18.0.9", "broken.bob.example.org. 60 A 198.18.0.9"))
	p, at := lone(t, func(o *Options) { o.Upstreams = []netip.AddrPort{upstream} })
	good := in(p.subB, 5)
	nameServer(t, p.socksA, "", at, func(req *dns.Msg, tcp bool) []*dns.Msg {
		m := respond(req, dns.RcodeSuccess)
		host, _ := below(canonical(req.Question[0].Name), pseudo)
		say := func(name, a string) {
			m.Answer = append(m.Answer, &dns.A{Hdr: header(name, dns.TypeA, 86400), A: addr(a).AsSlice()})
		}
		own := req.Question[0].Name
		switch host {
		case "lie":
			say(own, "192.168.1.1")
		case "half":
			say(own, good)
			say(own, "127.0.0.1")
		case "aside":
			say(own, good)
			say("router.lan.", "192.168.1.1")
		case "cname":
			m.Answer = append(m.Answer, &dns.CNAME{Hdr: header(own, dns.TypeCNAME, 1), Target: "www.example.org."})
		case "otherid":
			forged := m.Copy()
			forged.Id++
			say(own, good)
			return []*dns.Msg{forged, m}
		case "otherquestion":
			forged := m.Copy()
			forged.Question[0].Name = "x.htip."
			forged.Answer = append(forged.Answer, &dns.A{Hdr: header(own, dns.TypeA, 60), A: []byte{192, 168, 1, 1}})
			say(own, good)
			return []*dns.Msg{forged, m}
		case "many":
			if m.Truncated = !tcp; tcp {
				for i := range 250 {
					say(own, in(p.subB, byte(i)))
				}
			}
		case "dot":
			m.Answer = append(m.Answer, rrs(t, own+` 60 CNAME a\.b.htip.`, own+" 60 A "+good)...)
		case "broken":
			m.Rcode = dns.RcodeRefused
		default:
			if req.Question[0].Qtype == dns.TypePTR {
				for _, n := range []string{"www.example.org.", "nas.bob.internal.", `a\ b.htip.`, `a\000.htip.`, `<script>.htip.`, "htip.", "nas.htip."} {
					m.Answer = append(m.Answer, &dns.PTR{Hdr: header(own, dns.TypePTR, 60), Ptr: n})
				}
			}
		}
		return []*dns.Msg{m}
	})
	refused := uint64(0)
	for _, c := range []struct {
		name    string
		want    string
		refused bool
	}{
		{"lie.bob.internal.", "SERVFAIL [15 address outside the peer's substitutes: 192.168.1.1]", true},
		{"half.bob.internal.", "SERVFAIL [15 address outside the peer's substitutes: 127.0.0.1]", true},
		{"aside.bob.internal.", "SERVFAIL [15 address outside the peer's substitutes: 192.168.1.1]", true},
		{"lie.bob.example.org.", "SERVFAIL [15 address outside the peer's substitutes: 192.168.1.1]", false}, // remembered
		{"cname.bob.internal.", "NOERROR SOA:bob.internal.", false},
		{"dot.bob.internal.", "SERVFAIL [22 asking " + at.String() + " for dot.htip.: invalid dns name]", false},
		{"otherid.bob.internal.", "NOERROR " + good, false},
		{"otherquestion.bob.internal.", "NOERROR " + good, false},
		{"broken.bob.internal.", "SERVFAIL [23 the other home's router answered REFUSED]", false},
		{"broken.bob.example.org.", "NOERROR 198.18.0.9", false},
		{reverseName(addr(good)), "NOERROR nas.bob.internal.", false},
	} {
		qtype := dns.TypeA
		if strings.HasSuffix(c.name, reverseZone) {
			qtype = dns.TypePTR
		}
		if got := look(t, nil, p.a.opt.Listen, c.name, qtype); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
		if c.refused {
			refused++
		}
		if n := p.a.Stats().Refused; n != refused {
			t.Errorf("%s: %d refused answers counted, want %d", c.name, n, refused)
		}
	}
	if got := look(t, nil, p.a.opt.Listen, "many.bob.internal.", dns.TypeA); strings.Count(got, " 127.") != maxAddrs {
		t.Errorf("many: %s", got)
	}
}

// What a young tunnel says is not believed for long; after a change nothing old
// is.
func TestAnswersAge(t *testing.T) {
	p, at := lone(t, nil)
	var asked atomic.Int32
	nameServer(t, p.socksA, "", at, func(req *dns.Msg, _ bool) []*dns.Msg {
		asked.Add(1)
		return records(t, "nas.htip. 3600 A "+in(p.subB, 5))(req, false)
	})
	ttl := func() uint32 {
		t.Helper()
		m, err := resolve(nil, p.a.opt.Listen, queryOf("nas.bob.internal.", dns.TypeA))
		if err != nil || len(m.Answer) != 1 {
			t.Fatal(m, err)
		}
		return m.Answer[0].Header().Ttl
	}
	if got := ttl(); got != 5 {
		t.Errorf("TTL %d of a young tunnel", got)
	}
	p.a.clock.Store(int64(40 * time.Second))
	if got := ttl(); got < 15 || got > 20 || asked.Load() != 1 {
		t.Errorf("TTL %d of an older tunnel after 40 of 60 s, asked %d times", got, asked.Load())
	}
	set(t, p.a.Proxy, p.peerB) // nothing new
	if got := ttl(); got < 15 || got > 20 || asked.Load() != 1 {
		t.Errorf("TTL %d, asked %d times", got, asked.Load())
	}
	p.a.clock.Store(int64(61 * time.Second))
	if got := ttl(); got != 60 || asked.Load() != 2 {
		t.Errorf("TTL %d after the end of the first answer, asked %d times", got, asked.Load())
	}
	changed := p.peerB
	changed.Domain = ""
	set(t, p.a.Proxy, changed)
	if got := ttl(); got != 5 || asked.Load() != 3 {
		t.Errorf("TTL %d, asked %d times", got, asked.Load())
	}
	changed.Substitutes = prefixes("127.251.0.0/24")
	changed.Server = addr("127.251.0.1")
	changed.Up = false
	set(t, p.a.Proxy, changed)
	if got := look(t, nil, p.a.opt.Listen, "nas.bob.internal.", dns.TypeA); got != "SERVFAIL [22 the tunnel is down]" {
		t.Error(got)
	}
	if n := len(p.a.cache.entries); n != 0 {
		t.Errorf("%d old answers kept", n)
	}
}

// Equal questions become one; different ones above the limit are turned away
// at once, and another listener does not suffer.
func TestSlowPeerIsBounded(t *testing.T) {
	t.Parallel()
	p, at := lone(t, nil)
	var asked atomic.Int32
	release := make(chan struct{})
	nameServer(t, p.socksA, "", at, func(req *dns.Msg, _ bool) []*dns.Msg {
		asked.Add(1)
		<-release
		return []*dns.Msg{respond(req, dns.RcodeNameError)}
	})
	var wg sync.WaitGroup
	for range 30 {
		wg.Go(func() { look(t, nil, p.a.opt.Listen, "same.bob.internal.", dns.TypeA) })
	}
	waitFor(t, func() bool { return p.a.Stats().Local == 30 && asked.Load() > 0 })
	if n := p.a.Stats().Asked; n != 1 { // questions; one may be sent twice
		t.Errorf("30 equal questions became %d", n)
	}
	for i := range localSlots - 30 {
		wg.Go(func() { look(t, nil, p.a.opt.Listen, fmt.Sprintf("h%d.bob.internal.", i), dns.TypeA) })
	}
	waitFor(t, func() bool { return p.a.Stats().Local == localSlots })
	start := time.Now()
	if got := look(t, nil, p.a.opt.Listen, "one.more.bob.internal.", dns.TypeA); got != "SERVFAIL [14 too many questions at once]" || time.Since(start) > 3*time.Second {
		t.Errorf("%s after %s", got, time.Since(start))
	}
	if got := look(t, fromDevice{p.socksB, "htip-a"}, netip.AddrPortFrom(p.addrA, testPeer), pseudo, dns.TypeSOA); !strings.HasPrefix(got, "NOERROR") {
		t.Errorf("a peer suffers: %s", got)
	}
	close(release)
	wg.Wait()
	if got := look(t, nil, p.a.opt.Listen, "dave.internal.", dns.TypeA); got != "NXDOMAIN SOA:internal." {
		t.Errorf("after the flood: %s", got)
	}
}

func waitFor(t testing.TB, what func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if what() {
			return
		}
	}
	t.Fatal("waited in vain")
}

// Connections that say nothing, or too much, from inside a tunnel.
func TestHostileTCP(t *testing.T) {
	t.Parallel()
	p := newPair(t, nil)
	server := netip.AddrPortFrom(p.addrB, testPeer)
	dial := func() net.Conn {
		t.Helper()
		c, err := p.socksA.Dial(t.Context(), "tcp", "htip-b", server)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	ends := func(c net.Conn) bool {
		c.SetReadDeadline(time.Now().Add(idle - time.Second)) // before it would end by itself
		_, err := io.Copy(io.Discard, c)
		return err == nil || !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err)
	}
	for name, b := range map[string][]byte{
		"a long message": {0xff, 0xff, 0, 0},
		"no header":      {0, 3, 1, 2, 3},
		"an answer":      append([]byte{0, 12}, make([]byte, 12)...),
	} {
		if name == "an answer" {
			b[4] = 0x80
		}
		c := dial()
		c.Write(b)
		if !ends(c) {
			t.Errorf("%s: the connection stays", name)
		}
		c.Close()
	}
	// Silent connections fill the places; the next one waits, and gets its turn
	// when one of them has been idle for too long.
	var silent []net.Conn
	for range peerConns {
		silent = append(silent, dial())
	}
	c := dial()
	m := queryOf(pseudo, dns.TypeSOA)
	if _, err := c.Write(framed(m)); err != nil {
		t.Fatal(err)
	}
	if _, err := readTCP(c, 4096, time.Now().Add(300*time.Millisecond)); !isTimeout(err) {
		t.Errorf("more than %d connections are served: %v", peerConns, err)
	}
	if got := look(t, fromDevice{p.socksA, "htip-b"}, server, pseudo, dns.TypeSOA); !strings.HasPrefix(got, "NOERROR") {
		t.Errorf("UDP suffers: %s", got)
	}
	silent[0].Close()
	if _, err := readTCP(c, 4096, time.Now().Add(idle-time.Second)); err != nil {
		t.Errorf("no answer when there is room: %v", err)
	}
	// Stopping does not wait for them.
	start := time.Now()
	p.b.end()
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("stopping took %s", d)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

// A peer's list of hosts that lies, or never ends.
func TestHostileTransfer(t *testing.T) {
	t.Parallel()
	const apex = "htip. 5 SOA gateway.htip. nobody.htip. 1 1 1 1 1"
	p, at := lone(t, nil)
	var mode atomic.Value
	l, err := p.socksA.ListenTCP("", at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				b, err := readTCP(c, 4096, time.Now().Add(10*time.Second))
				if err != nil {
					return
				}
				req := new(dns.Msg)
				if req.Unpack(b) != nil {
					return
				}
				m := respond(req, 0)
				m.Answer = rrs(t, apex)
				c.SetWriteDeadline(time.Now().Add(10 * time.Second))
				switch mode.Load() {
				case "outside":
					m.Answer = append(m.Answer, &dns.A{Hdr: header("nas.htip.", dns.TypeA, 1), A: []byte{192, 168, 1, 1}})
					m.Answer = append(m.Answer, rrs(t, apex)...)
					c.Write(framed(m))
				case "endless":
					for _, err := c.Write(framed(m)); err == nil; _, err = c.Write(framed(m)) {
						m.Answer = nil
					}
				case "drip":
					for range 100 {
						if _, err := c.Write([]byte{1}); err != nil {
							return
						}
						time.Sleep(100 * time.Millisecond)
					}
				case "junk":
					c.Write(binary.BigEndian.AppendUint16(nil, 65535))
					c.Write(make([]byte, 65535))
				case "id":
					m.Id++
					c.Write(framed(m))
				}
			}()
		}
	}()
	for kind, want := range map[string]string{
		"outside": "outside the peer's substitutes", "endless": "has no end", "drip": "no answer in time", "junk": "", "id": "another question",
	} {
		mode.Store(kind)
		start := time.Now()
		hosts, err := p.a.Hosts(t.Context(), "bob")
		if err == nil || !strings.Contains(err.Error(), want) || hosts != nil || time.Since(start) > hostsWithin+4*time.Second {
			t.Errorf("%s: %v, %v after %s", kind, hosts, err, time.Since(start))
		}
	}
	if n := p.a.Stats().Refused; n != 1 {
		t.Errorf("%d refused", n)
	}
}
