//go:build qemu

package qemu_test

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"htip/src/control"
	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

// Budgets of the design, kB: they hold under attack, too.
const (
	floodResident = 10 << 10
	floodAnon     = 4 << 10
	// honestLimit is in the honest router's clock. Where even without an attack a
	// third of it is not enough, because others use the machine, it is three times
	// what it takes without.
	honestLimit = 5 * time.Second

	nobody = "nobody" // attacks

	floodAtLeast = 10 * time.Second // of each attack
	floodAtMost  = 40 * time.Second
)

// attack is what strangers do to a router, from several addresses.
type attack struct {
	name string
	each time.Duration // between two connections, if the machine can
	most int           // connections in all; 0: as long as it lasts
	do   func(c net.Conn, a *attacker)
}

// attacker counts what became of an attack.
type attacker struct {
	attack
	inet  *lab.Internet
	from  []netip.Addr
	to    netip.AddrPort
	hello []byte // the first message of a TLS handshake, as an honest client sends it

	made, failed, octets, shaken atomic.Int64
	id                           *control.Identity // a stranger's
	key                          []byte            // of the gateway that is attacked

	mu   sync.Mutex
	held []net.Conn
}

// run attacks until ctx is done.
func (a *attacker) run(ctx context.Context) {
	slots := make(chan bool, 1000) // dials under way
	var wg sync.WaitGroup
	t := time.NewTicker(a.each)
	defer t.Stop()
	for i := 0; a.most == 0 || i < a.most; i++ {
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		if ctx.Err() != nil {
			break
		}
		select {
		case slots <- true:
		case <-ctx.Done():
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			c, err := a.inet.DialFrom(short, a.from[i%len(a.from)], a.to)
			if err != nil {
				a.failed.Add(1) // the firewall, or turned away before the dialler looked
				return
			}
			a.made.Add(1)
			a.mu.Lock()
			a.held = append(a.held, c)
			a.mu.Unlock()
			if a.do != nil {
				a.do(c, a)
			}
		})
	}
	<-ctx.Done()
	a.mu.Lock()
	for _, c := range a.held {
		c.Close()
	}
	a.mu.Unlock()
	wg.Wait()
}

func (a *attacker) write(c net.Conn, b []byte) error {
	c.SetWriteDeadline(time.Now().Add(2 * time.Second))
	n, err := c.Write(b)
	a.octets.Add(int64(n))
	return err
}

// clientHello is what an honest client says first.
func clientHello(t *testing.T) []byte {
	t.Helper()
	x, y := net.Pipe()
	go tls.Client(x, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS13, NextProtos: []string{"htip/1"}}).Handshake()
	b := make([]byte, 16<<10)
	n, err := y.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	x.Close()
	y.Close()
	return b[:n]
}

// process is how the daemon is doing.
type process struct {
	peak, resident, anon int // kB
	ticks                int // of CPU time, 1/100 s
	uptime               float64
	received             int // octets at the WAN device
	lost                 string
}

func look(ctx context.Context, r *lab.Router) (p process, err error) {
	out, err := r.Check(ctx, "cat /proc/$(pidof htipd)/status; echo stat $(cut -d' ' -f14,15 /proc/$(pidof htipd)/stat); echo up $(cat /proc/uptime); echo rx $(cat /sys/class/net/$(ip -o route show default | sed 's/.* dev \\([^ ]*\\).*/\\1/')/statistics/rx_bytes); "+
		// Where packets are lost before anybody could look at them.
		"echo lost by the WAN device $(cat /sys/class/net/wan/statistics/rx_dropped /sys/class/net/wan/statistics/rx_missed_errors), by the queue of the kernel $(cut -d' ' -f2 /proc/net/softnet_stat), "+
		"conntrack $(cat /proc/sys/net/netfilter/nf_conntrack_count /proc/sys/net/netfilter/nf_conntrack_max) $(dmesg | grep -c 'table full')")
	var user, system int
	for _, line := range strings.Split(out, "\n") {
		fmt.Sscanf(line, "VmHWM: %d", &p.peak)
		fmt.Sscanf(line, "VmRSS: %d", &p.resident)
		fmt.Sscanf(line, "RssAnon: %d", &p.anon)
		fmt.Sscanf(line, "stat %d %d", &user, &system)
		fmt.Sscanf(line, "up %f", &p.uptime)
		fmt.Sscanf(line, "rx %d", &p.received)
		if strings.HasPrefix(line, "lost ") {
			p.lost = line
		}
	}
	p.ticks = user + system
	if err == nil && (p.resident == 0 || p.uptime == 0 || p.received == 0) {
		err = fmt.Errorf("not understood: %q", out)
	}
	return p, err
}

var refusedCount = regexp.MustCompile(`control connection refused.* count=(\d+)`)

func refusedSoFar(h *homes.Home) (n, lines int) {
	for _, m := range refusedCount.FindAllStringSubmatch(h.Log(), -1) {
		k, _ := strconv.Atoi(m[1])
		n, lines = n+k, lines+1
	}
	return n, lines
}

// under lets an attack run while alice's hosts use their tunnel to bob's and
// carol connects to bob.
// It returns how long carol waited for an answer.
func under(ctx context.Context, t *testing.T, a *attacker, alice, bob, carol *homes.Home, nas netip.Addr) time.Duration {
	t.Helper()
	if res, err := carol.Router.Run(ctx, "htip disconnect bob"); err != nil || res.Code != 0 {
		t.Log(res, err)
	}
	bob.Router.MustRun(ctx, "echo 5 >/proc/$(pidof htipd)/clear_refs") // the peak begins anew
	before, err := look(ctx, bob.Router)
	if err != nil {
		t.Fatal(err)
	}
	refused, lines := refusedSoFar(bob)
	attack, stop := context.WithCancel(ctx)
	over := make(chan bool)
	go func() { a.run(attack); close(over) }()
	began := time.Now()
	pings := make(chan error, 1)
	sent := 0
	go func() { // as long as it lasts
		defer close(pings)
		for {
			if err := alice.Host.Ping(ctx, nas, 56, 25); err != nil {
				pings <- err
				return
			}
			sent += 25
			select {
			case <-over:
				return
			default:
			}
		}
	}()
	time.Sleep(2 * time.Second) // it has begun in earnest

	// The time that passes in carol's router until bob's has accepted and answered.
	connected := make(chan string, 1)
	go func() {
		res, err := carol.Router.Run(ctx, "htip connect bob --wait --timeout 30s")
		if err != nil || res.Code != 0 {
			t.Errorf("an honest peer did not get in: %v, code %d\n%s", err, res.Code, res.Output)
		}
		connected <- res.Output
	}()
	peak, anon := 0, 0
	var now process
	output := ""
	enough := func() bool { return a.most == 0 || a.made.Load()+a.failed.Load() >= int64(a.most) }
	for output == "" || time.Since(began) < floodAtLeast || !enough() && time.Since(began) < floodAtMost {
		select {
		case output = <-connected:
		case <-time.After(300 * time.Millisecond):
		}
		if now, err = look(ctx, bob.Router); err != nil {
			t.Fatal(err)
		}
		peak, anon = max(peak, now.peak), max(anon, now.anon)
	}
	took := time.Since(began)
	stop()
	<-over
	if lost := <-pings; lost != nil {
		t.Errorf("running tunnels lost something: %v", lost)
	}
	guest := now.uptime - before.uptime
	refusedNow, linesNow := refusedSoFar(bob)
	answered, up := stepAt(output, "RESPONSE"), stepAt(output, "names")
	t.Logf("%s: %d connections (%d more did not come so far) in %.0f s, %.0f a second of bob's clock; %d handshakes finished; %.1f MB offered, %.1f MB reached bob; %d pings; "+
		"refused and told: %d in %d lines; bob's daemon took %.0f %% of the processor; peak %d kB, anonymous %d kB; carol: answered after %.1f s, tunnel up after %.1f s",
		a.name, a.made.Load(), a.failed.Load(), took.Seconds(), float64(a.made.Load()+a.failed.Load())/guest, a.shaken.Load(), float64(a.octets.Load())/1e6, float64(now.received-before.received)/1e6, sent,
		refusedNow-refused, linesNow-lines, float64(now.ticks-before.ticks)/guest, peak, anon, answered.Seconds(), up.Seconds())
	t.Logf("before: %s; after: %s", before.lost, now.lost)
	if a.most > 0 && !enough() {
		t.Errorf("only %d connections were tried", a.made.Load()+a.failed.Load())
	}
	if peak > floodResident || anon > floodAnon {
		t.Errorf("%d kB resident, %d kB anonymous: above the budget", peak, anon)
	}
	if n := linesNow - lines; float64(n) > guest/10+2 {
		t.Errorf("%d lines about refused connections in %.0f s", n, guest)
	}
	return answered
}

// stepAt is when a step of htip connect came.
func stepAt(output, step string) time.Duration {
	for _, line := range strings.Split(output, "\n") {
		var s float64
		var what string
		if n, _ := fmt.Sscanf(line, " %f s %s", &s, &what); n == 2 && strings.HasPrefix(what, step) {
			return time.Duration(s * float64(time.Second))
		}
	}
	return time.Hour
}

// TestFlood: whatever strangers do to the port of the control channel, memory
// stays within its budget, tunnels lose nothing, and an honest peer gets in: at
// the first attack one that has never been there, whose address bob's router has
// to find by its name.
func TestFlood(t *testing.T) {
	ctx, l := newLabAlone(t)
	var specs []homes.Spec
	for i, name := range []string{"alice", "bob", "carol"} {
		specs = append(specs, homes.Spec{Name: name, LAN: lan("192.168.1.1/24", fmt.Sprint("192.168.1.", 4+i), map[string]string{"alice": "pc", "bob": "nas", "carol": "tv"}[name])})
	}
	hs, err := homes.Start(ctx, l, specs...)
	if err != nil {
		t.Fatal(err)
	}
	showLogs(t, hs...)
	alice, bob, carol := hs[0], hs[1], hs[2]
	if _, err := alice.Connect(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.WaitState(ctx, "bob", "up"); err != nil {
		t.Fatal(err)
	}
	nas, err := alice.Host.Lookup(ctx, "nas.bob.internal")
	if err != nil {
		t.Fatal(err)
	}
	var from []netip.Addr
	for i := range 8 {
		a := netip.AddrFrom4([4]byte{192, 88, 99, byte(201 + i)})
		if err := l.Internet().AddAddr(a); err != nil {
			t.Fatal(err)
		}
		from = append(from, a)
	}
	to := netip.AddrPortFrom(bob.Router.WANAddr(), 4847)
	stranger, _, err := control.LoadIdentity(filepath.Join(t.TempDir(), "key"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(bob.Key)
	if err != nil {
		t.Fatal(err)
	}
	hello := clientHello(t)
	junk := make([]byte, 350_000)
	rand.Read(junk)
	records := append([]byte{22, 3, 1, 0x40, 0}, junk...) // TLS at first sight
	answered := map[string]time.Duration{}
	for _, x := range []attack{
		// At 1,000 a second the emulated router is busy with nothing but interrupts
		// until it has shut its door.
		{name: "10,000 connections that say nothing", each: 2500 * time.Microsecond, most: 10_000},
		{name: "1,000 handshakes a second", each: time.Millisecond, do: func(c net.Conn, a *attacker) {
			if a.made.Load()%2 == 0 { // the costly half, and no more
				a.write(c, a.hello)
				return
			}
			short, cancel := context.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			if _, err := control.Over(short, c, a.id, a.key); err == nil {
				a.shaken.Add(1)
			}
		}},
		{name: "byte by byte", each: 20 * time.Millisecond, do: func(c net.Conn, a *attacker) {
			go func() {
				for i := range a.hello {
					if a.write(c, a.hello[i:i+1]) != nil {
						return
					}
					time.Sleep(50 * time.Millisecond)
				}
			}()
		}},
		// 1 GB, if it were let in.
		{name: "1 GB of junk", each: 4 * time.Millisecond, most: 3000, do: func(c net.Conn, a *attacker) {
			b := junk
			if a.made.Load()%2 == 0 {
				b = records
			}
			a.write(c, b)
			c.Close()
		}},
		{name: nobody, each: time.Hour},
	} {
		t.Run(x.name, func(t *testing.T) {
			answered[x.name] = under(ctx, t, &attacker{attack: x, inet: l.Internet(), from: from, to: to, hello: hello, id: stranger, key: key}, alice, bob, carol, nas[0])
		})
	}
	for name, took := range answered {
		if limit := max(honestLimit, 3*answered[nobody]); took > limit {
			t.Errorf("%s: an honest peer was answered after %v of %v", name, took, limit)
		}
	}
}
