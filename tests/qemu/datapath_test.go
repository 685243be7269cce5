//go:build qemu

package qemu_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"htip/src/datapath"
	"htip/tests/qemu/lab"
)

const dptool = "/usr/sbin/dptool"

// dpResult is dptool's output.
type dpResult struct {
	Changes, Warnings []string
	Errors            map[string]string
	Permanent         map[string]bool
	Error             string
	Events            []struct {
		datapath.Event
		Seconds float64
	}
	Status       map[string]datapath.Status
	Capabilities []datapath.Capability
	Refusals     map[string]datapath.Refused

	ApplySeconds, UpSeconds       float64
	AgainSeconds, AgainCPUSeconds []float64
	AgainForks                    []int
	AgainChanges                  []string
}

// withDptool is the files of a router that can run dptool.
func withDptool(t *testing.T, arch lab.Arch) map[string]lab.File {
	t.Helper()
	path, err := lab.GoBuild(context.Background(), "htip/tests/qemu/dptool", arch)
	if err != nil {
		t.Fatal(err)
	}
	f, err := lab.Program(path)
	if err != nil {
		t.Fatal(err)
	}
	return map[string]lab.File{dptool: f}
}

// dp runs dptool on a router.
func dp(t *testing.T, ctx context.Context, r *lab.Router, args string, w datapath.Wanted) dpResult {
	t.Helper()
	in, err := json.Marshal(w)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Put(ctx, "/tmp/dptool.in", in, 0o600); err != nil {
		t.Fatal(err)
	}
	res, err := r.Run(ctx, dptool+" "+args+" </tmp/dptool.in 2>/tmp/dptool.err || cat /tmp/dptool.err")
	if err != nil {
		t.Fatal(err)
	}
	var out dpResult
	if err := json.Unmarshal([]byte(res.Output), &out); err != nil {
		t.Fatalf("%s: dptool %s: %v: %s", r.Name, args, err, res.Output)
	}
	return out
}

func dpPrefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// dpPair is the wanted state of both ends of a tunnel from A (initiator, LAC) to B.
func dpPair(a, b *lab.Router, ownA, subA, ownB, subB string) (datapath.Wanted, datapath.Wanted) {
	first := func(p, own string) netip.Addr {
		// The gateway is the first host of its LAN in all tests.
		return dpPrefix(p).Addr().Next()
	}
	secret := []byte("0123456789abcdef0123456789abcdef")
	wa := datapath.Wanted{Tunnels: []datapath.Tunnel{{
		Name: "bob", Device: "htip-bob", Protocol: datapath.ProtocolL2TP,
		Remote:    netip.AddrPortFrom(b.WANAddr(), 17010),
		LocalAddr: first(subA, ownA), PeerAddr: first(subB, ownB),
		Own:    []datapath.Mapping{{Network: dpPrefix(ownA), Substitute: dpPrefix(subA)}},
		Peer:   []netip.Prefix{dpPrefix(subB)},
		Secret: secret,
	}}}
	wb := datapath.Wanted{Tunnels: []datapath.Tunnel{{
		Name: "alice", Device: "htip-alice", Protocol: datapath.ProtocolL2TP,
		Server: true, LocalPort: 17010,
		Remote:    netip.AddrPortFrom(a.WANAddr(), 0),
		LocalAddr: first(subB, ownB), PeerAddr: first(subA, ownA),
		Own:    []datapath.Mapping{{Network: dpPrefix(ownB), Substitute: dpPrefix(subB)}},
		Peer:   []netip.Prefix{dpPrefix(subA)},
		Secret: secret,
	}}}
	return wa, wb
}

// dpHomes is two homes for package datapath alone, without the daemon.
type dpHomes struct {
	ctx    context.Context
	lab    *lab.Lab
	a, b   *lab.Router
	ha, hb *lab.Host
	hostB  netip.Addr // present address of hb
}

func newDPHomes(t *testing.T, newLab func(*testing.T) (context.Context, *lab.Lab)) dpHomes {
	t.Helper()
	ctx, l := newLab(t)
	files := withDptool(t, l.Arch())
	add := func(name string, lans ...lab.LAN) *lab.Router {
		r, err := l.AddRouter(ctx, lab.RouterConfig{Name: name, LAN: lans, Files: files})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	lan := func(router, host string) lab.LAN {
		return lab.LAN{Router: netip.MustParsePrefix(router), Host: netip.MustParseAddr(host)}
	}
	h := dpHomes{ctx: ctx, lab: l}
	h.a = add("a", lan("10.0.0.1/24", "10.0.0.4"))
	h.b = add("b", lan("10.0.0.1/24", "10.0.0.5"))
	if err := l.Start(ctx); err != nil {
		t.Fatal(err)
	}
	h.ha, h.hb = l.Host(h.a, 0), l.Host(h.b, 0)
	h.hostB = h.hb.Addr()
	return h
}

// snapshot is all that a tunnel may leave behind. The record of logins, utmp, is the system's: a
// pppd with glibc writes into it.
func snapshot(ctx context.Context, r *lab.Router) string {
	return r.MustRun(ctx, `
		iptables-save | grep -v '^#' | sed 's/ \[.*//'
		nft list tables
		ip rule; ip -4 route show table all; ip -4 -o address; ip -o link | cut -d: -f2-
		ps -o args | grep -v '^\[\|^ps\|^sed\|^grep\|^sort\|^cut\|sh -c' | sort
		find /run /etc /tmp /root /var -xdev ! -name 'dptool.*' ! -path /var/log/messages ! -path /run/utmp | sort`)
}

// up brings a tunnel up, B's end first, as READY does (¶143). Each end is a
// process that has ended when up returns: from then on no daemon is there.
func (h dpHomes) up(t *testing.T, wa, wb datapath.Wanted) (ra, rb dpResult) {
	t.Helper()
	done := make(chan dpResult, 1)
	go func() { done <- dp(t, h.ctx, h.b, "-v -wait 60s apply", wb) }()
	h.listening(t, wb)
	ra = dp(t, h.ctx, h.a, "-v -wait 60s apply", wa)
	rb = <-done
	for _, r := range []dpResult{ra, rb} {
		if r.UpSeconds == 0 || r.Error != "" || len(r.Errors) > 0 {
			t.Fatalf("not up: %+v\nA: %s\nB: %s", r, h.a.MustRun(h.ctx, "cat /run/htip/*/log"), h.b.MustRun(h.ctx, "cat /run/htip/*/log"))
		}
	}
	return ra, rb
}

// listening waits until all servers of B accept calls.
func (h dpHomes) listening(t *testing.T, wb datapath.Wanted) {
	t.Helper()
	for _, tun := range wb.Tunnels {
		h.b.MustRun(h.ctx, fmt.Sprintf("n=0; while ! test -p /run/htip/%s/control; do sleep 0.1; n=$((n+1)); test $n -lt 300; done", tun.Device))
	}
}

func (h dpHomes) down(t *testing.T) {
	t.Helper()
	for _, r := range []*lab.Router{h.a, h.b} {
		if res := dp(t, h.ctx, r, "cleanup", datapath.Wanted{}); res.Error != "" {
			t.Errorf("%s: %s", r.Name, res.Error)
		}
	}
}

func (h dpHomes) pings(t *testing.T, from *lab.Host, to string, size int) {
	t.Helper()
	source := from.Addr()
	if from == h.hb {
		source = h.hostB
	}
	if err := from.PingFrom(h.ctx, source, netip.MustParseAddr(to), size, 3); err != nil {
		t.Error(err)
	}
}

const (
	netA  = "10.0.0.0/24"
	subA  = "10.0.3.0/24" // A' of the cases with NAT
	subB  = "10.0.2.0/24" // B'
	hostA = "10.0.3.4"    // as B's hosts know it
	hostB = "10.0.2.5"    // as A's hosts know it
)

func TestDatapath(t *testing.T) {
	h := newDPHomes(t, newLabMIPS)
	ctx, a, b := h.ctx, h.a, h.b
	wa, wb := dpPair(a, b, netA, subA, netA, subB)
	beforeA, beforeB := snapshot(ctx, a), snapshot(ctx, b)
	same := func(t *testing.T) {
		t.Helper()
		for r, before := range map[*lab.Router]string{a: beforeA, b: beforeB} {
			was, is := strings.Split(before, "\n"), strings.Split(snapshot(ctx, r), "\n")
			for _, line := range was {
				if !slices.Contains(is, line) {
					t.Errorf("%s: gone: %s", r.Name, line)
				}
			}
			for _, line := range is {
				if !slices.Contains(was, line) {
					t.Errorf("%s: left: %s", r.Name, line)
				}
			}
		}
	}

	t.Run("capabilities", func(t *testing.T) {
		c := dp(t, ctx, a, "capabilities", wa).Capabilities
		possible := map[string]bool{}
		for _, c := range c {
			possible[c.Protocol] = c.Possible() && len(c.Warnings) == 0
		}
		if !maps.Equal(possible, map[string]bool{
			datapath.ProtocolL2TP: true, datapath.ProtocolL2TPESP: true, datapath.ProtocolPPTP: true, datapath.ProtocolWireGuard: true,
		}) {
			t.Errorf("%+v", c)
		}
	})

	t.Run("leak", func(t *testing.T) {
		// Without anything of ours the packet goes to the Internet: the flow
		// that must work later.
		early := func() error { return h.ha.Ping(ctx, netip.MustParseAddr(hostB), 56, 1) }
		if err := early(); err == nil {
			t.Error("answered without a tunnel")
		}
		if out := a.MustRun(ctx, "conntrack -L 2>/dev/null"); !strings.Contains(out, "dst="+hostB) {
			t.Errorf("no masqueraded flow to begin with:\n%s", out)
		}
		dp(t, ctx, a, "apply", datapath.Wanted{Known: []netip.Prefix{dpPrefix(subB)}})
		capture := make(chan string, 1)
		go func() {
			out, _ := h.lab.Internet().Run(ctx, "timeout", "4", "tcpdump", "-nli", "br-inet", "net", subB)
			capture <- out
		}()
		time.Sleep(time.Second)
		if err := early(); err == nil {
			t.Error("answered without a tunnel")
		}
		if out := <-capture; strings.Contains(out, hostB) || !strings.Contains(out, "0 packets captured") {
			t.Errorf("on the Internet: %s", out)
		}
		if out := a.MustRun(ctx, "conntrack -L 2>/dev/null"); strings.Contains(out, hostB) {
			t.Errorf("flow is still tracked:\n%s", out)
		}
		dp(t, ctx, a, "apply", datapath.Wanted{})
		same(t)
	})

	t.Run("same networks", func(t *testing.T) {
		// A ping that begins before the tunnel and outlasts its coming: one flow.
		if out, err := h.ha.Run(ctx, "ping", "-n", "-c", "1", hostB); err == nil || !strings.Contains(out, "icmp_seq=1 Destination Net Unreachable") {
			t.Errorf("before the tunnel: %s", out)
		}
		var ra, rb dpResult
		sent, lost, err := h.ha.PingWhile(ctx, netip.MustParseAddr(hostB), func() {
			time.Sleep(500 * time.Millisecond)
			ra, rb = h.up(t, wa, wb)
		})
		t.Logf("A up after %.2f s, B after %.2f s", ra.UpSeconds, rb.UpSeconds)
		if err != nil || lost < 2 || lost > sent-2 {
			t.Errorf("flow that began early: %d of %d lost, %v", lost, sent, err)
		}
		for r, device := range map[*lab.Router]string{a: "htip-bob", b: "htip-alice"} {
			if out := r.MustRun(ctx, "cat /proc/net/pppol2tp"); !strings.Contains(out, "interface "+device+"\n") {
				t.Errorf("%s: not in the kernel:\n%s", r.Name, out)
			}
		}
		if s := ra.Status["htip-bob"]; !s.Kernel || s.State != datapath.Up || len(s.Warnings) > 0 || s.MTU != 1410 || s.Since.IsZero() {
			t.Errorf("%+v", s)
		}
		h.traffic(t, hostA, hostB)
		secret := a.MustRun(ctx, "cut -d' ' -f3 /run/htip/htip-bob/secrets")
		if out := a.MustRun(ctx, "ps -o args; cat /run/htip/*/log /var/log/messages /tmp/dptool.err"); strings.Contains(out, strings.TrimSpace(secret)) {
			t.Error("the secret stands in a command line or a log")
		}
		if out := a.MustRun(ctx, "find /run/htip ! -perm 0600 ! -perm 0700 ! -name pid"); out != "" {
			t.Errorf("others may read %s", out)
		}
	})

	t.Run("adoption", func(t *testing.T) {
		pids := func() string { return a.MustRun(ctx, "ps -o pid,args | grep '[x]l2tpd -D\\|[p]ppd plugin'") }
		before := pids()
		r := dp(t, ctx, a, "-again 9 apply", wa)
		if len(r.Changes) > 0 || len(r.Warnings) > 0 || len(r.Errors) > 0 || r.Error != "" || len(r.AgainChanges) > 0 {
			t.Errorf("a new daemon changes %+v", r)
		}
		slices.Sort(r.AgainSeconds)
		slices.Sort(r.AgainCPUSeconds)
		t.Logf("Apply without changes, median of 9: %.3f s, of which %.3f s processor; processes and threads started: %v; the first one of a process %.3f s",
			r.AgainSeconds[4], r.AgainCPUSeconds[4], r.AgainForks, r.ApplySeconds)
		if after := pids(); after != before {
			t.Errorf("processes before:\n%s\nafter:\n%s", before, after)
		}
		h.pings(t, h.ha, hostB, 56)
	})

	t.Run("guard", func(t *testing.T) {
		// B itself sends from an address that it was not given, and to one of A's that it was not given.
		b.MustRun(ctx, "ip address add 10.99.0.1/32 dev lo; ip route add 10.0.9.0/24 dev htip-alice")
		for _, c := range []string{"ping -c 2 -W 1 -I 10.99.0.1 10.0.3.1", "ping -c 2 -W 1 10.0.9.9"} {
			if res, err := b.Run(ctx, c); err != nil || res.Code == 0 {
				t.Errorf("%s: %+v, %v", c, res, err)
			}
		}
		b.MustRun(ctx, "ip address del 10.99.0.1/32 dev lo; ip route del 10.0.9.0/24 dev htip-alice")
		if r := dp(t, ctx, a, "refusals", wa).Refusals["htip-bob"]; r.Source != 2 || r.Destination != 2 {
			t.Errorf("%+v", r)
		}
	})

	t.Run("short cut", func(t *testing.T) {
		b.MustRun(ctx, "ip link set wan down; sleep 3; ip link set wan up; ip route add default via "+lab.InternetGateway.String())
		if err := h.ha.PingUntil(ctx, netip.MustParseAddr(hostB)); err != nil {
			t.Fatal(err)
		}
		if r := dp(t, ctx, a, "apply", wa); len(r.Changes) > 0 || r.Status["htip-bob"].State != datapath.Up {
			t.Errorf("%+v", r)
		}
	})

	t.Run("peer dies", func(t *testing.T) {
		watch := make(chan dpResult, 1)
		go func() { watch <- dp(t, ctx, a, "-until-ended -wait 60s apply", wa) }()
		time.Sleep(6 * time.Second) // quiet, so that the echoes count from none
		b.MustRun(ctx, "kill -9 $(pidof xl2tpd pppd)")
		r := <-watch
		last := r.Events[len(r.Events)-1]
		t.Logf("death noticed: %+v", r.Events)
		if !last.Ended || !strings.Contains(last.Reason, "silent") {
			t.Errorf("%+v, log %s", r.Events, a.MustRun(ctx, "cat /run/htip/*/log"))
		}
		// Both ends are made afresh, whatever lies around.
		dp(t, ctx, a, "apply", datapath.Wanted{Known: []netip.Prefix{dpPrefix(subB)}})
		dp(t, ctx, b, "apply", datapath.Wanted{})
		h.up(t, wa, wb)
		h.pings(t, h.ha, hostB, 56)
	})

	t.Run("orphan", func(t *testing.T) {
		a.MustRun(ctx, "kill -9 $(pidof xl2tpd)")
		r := dp(t, ctx, a, "apply", datapath.Wanted{})
		if out := a.MustRun(ctx, "pidof pppd || true"); out != "" || r.Error != "" {
			t.Errorf("pppd is left: %s, %+v", out, r)
		}
		h.down(t)
		same(t)
	})

	t.Run("wrong secret", func(t *testing.T) {
		wrong := wa
		wrong.Tunnels = slices.Clone(wa.Tunnels)
		wrong.Tunnels[0].Secret = []byte("fedcba9876543210")
		server := make(chan dpResult, 1)
		go func() { server <- dp(t, ctx, b, "-wait 10s apply", wb) }()
		h.listening(t, wb)
		r := dp(t, ctx, a, "-wait 20s apply", wrong)
		if len(r.Events) != 1 || !r.Events[0].Ended || !strings.Contains(r.Events[0].Reason, "secret") {
			t.Errorf("A: %+v\n%s", r, a.MustRun(ctx, "cat /run/htip/*/log"))
		} else {
			t.Logf("A after %.1f s: %s", r.Events[0].Seconds, r.Events[0].Reason)
		}
		if r := <-server; r.UpSeconds != 0 || r.Status["htip-alice"].State != datapath.Starting {
			t.Errorf("B: %+v", r)
		}
		if out := a.MustRun(ctx, "ip -o link") + b.MustRun(ctx, "ip -o link"); strings.Contains(out, "htip-") {
			t.Errorf("a link was made:\n%s", out)
		}
		h.down(t)
	})

	t.Run("no answer", func(t *testing.T) {
		b.MustRun(ctx, "iptables -I INPUT -i wan -p udp --dport 17010 -j DROP")
		r := dp(t, ctx, a, "-wait 40s apply", wa)
		b.MustRun(ctx, "iptables -D INPUT -i wan -p udp --dport 17010 -j DROP")
		if len(r.Events) != 1 || !r.Events[0].Ended || !strings.Contains(r.Events[0].Reason, "does not answer") {
			t.Errorf("%+v\n%s", r, a.MustRun(ctx, "cat /run/htip/*/log"))
		} else {
			t.Logf("after %.1f s: %s", r.Events[0].Seconds, r.Events[0].Reason)
		}
		h.down(t)
	})

	t.Run("port in use", func(t *testing.T) {
		r := dp(t, ctx, b, "apply", wb)
		other := wb
		other.Tunnels = slices.Clone(wb.Tunnels)
		other.Tunnels[0].Device = "htip-else"
		b.MustRun(ctx, "mkdir /tmp/dptool.other")
		r = dp(t, ctx, b, "-run /tmp/dptool.other apply", other)
		if msg := r.Errors["htip-else"]; !strings.Contains(msg, "already in use") || r.Permanent["htip-else"] {
			t.Errorf("%+v", r)
		}
		dp(t, ctx, b, "-run /tmp/dptool.other cleanup", other)
		h.down(t)
		same(t)
	})

	t.Run("no kernel support", func(t *testing.T) {
		b.MustRun(ctx, "rmmod l2tp_ppp && mv /lib/modules/*/kernel/net/l2tp/l2tp_ppp.ko /root/")
		r := dp(t, ctx, b, "apply", wb)
		c := dp(t, ctx, b, "capabilities", wb).Capabilities
		// Who wants it nevertheless gets it, with a warning.
		done := make(chan dpResult, 1)
		go func() { done <- dp(t, ctx, b, "-userspace -wait 30s apply", wb) }()
		h.listening(t, wb)
		dp(t, ctx, a, "-wait 30s apply", wa)
		s := (<-done).Status["htip-alice"]
		if s.State != datapath.Up || s.Kernel || len(s.Warnings) != 1 || !strings.Contains(s.Warnings[0], "user space") {
			t.Errorf("in user space: %+v", s)
		}
		h.pings(t, h.ha, hostB, 56)
		dp(t, ctx, b, "cleanup", wb)
		b.MustRun(ctx, "mv /root/l2tp_ppp.ko /lib/modules/*/kernel/net/l2tp/")
		if msg := r.Errors["htip-alice"]; !strings.Contains(msg, "kernel has no L2TP (module l2tp_ppp): install kmod-pppol2tp") || !r.Permanent["htip-alice"] {
			t.Errorf("%+v", r)
		} else {
			t.Log(msg)
		}
		possible := map[string]bool{}
		for _, c := range c {
			possible[c.Protocol] = c.Possible()
		}
		if !maps.Equal(possible, map[string]bool{
			datapath.ProtocolL2TP: false, datapath.ProtocolL2TPESP: false, datapath.ProtocolPPTP: true, datapath.ProtocolWireGuard: true,
		}) {
			t.Errorf("%+v", c)
		}
		h.down(t)
		same(t)
	})

	t.Run("no collision", func(t *testing.T) { // FIG. 9: no NAT
		h.renumberB(t, "10.0.1.1/24", "10.0.1.5/24")
		wa, wb := dpPair(a, b, netA, netA, "10.0.1.0/24", "10.0.1.0/24")
		// B's daemon dies while its server waits. The next one goes on waiting.
		if r := dp(t, ctx, b, "apply", wb); len(r.Errors) > 0 || r.Error != "" {
			t.Fatalf("%+v", r)
		}
		if _, rb := h.up(t, wa, wb); slices.Contains(rb.Changes, "tunnel htip-alice started") {
			t.Errorf("%q", rb.Changes)
		}
		h.pings(t, h.ha, "10.0.1.5", 56) // TestFig9 looks closely, and at FIG. 13
		if out := a.MustRun(ctx, "iptables-save -t nat"); strings.Contains(out, "HTIP") {
			t.Errorf("NAT without need:\n%s", out)
		}
		h.down(t)
		h.renumberB(t, "10.0.0.1/24", "10.0.0.5/24")
		same(t)
	})

	t.Run("two tunnels", func(t *testing.T) {
		b.MustRun(ctx, "ip address add 10.0.1.1/24 dev br-lan")
		if _, err := h.hb.Run(ctx, "ip", "address", "add", "10.0.1.5/24", "dev", "eth0"); err != nil {
			t.Fatal(err)
		}
		wa2, wb2 := dpPair(a, b, netA, "10.0.4.0/24", "10.0.1.0/24", "10.0.5.0/24")
		ta, tb := wa2.Tunnels[0], wb2.Tunnels[0]
		ta.Device, tb.Device = "htip-bob2", "htip-alice2"
		ta.Remote, tb.LocalPort = netip.AddrPortFrom(b.WANAddr(), 17011), 17011
		both := func(w datapath.Wanted, t datapath.Tunnel) datapath.Wanted {
			return datapath.Wanted{Tunnels: append(slices.Clone(w.Tunnels), t)}
		}
		h.up(t, both(wa, ta), both(wb, tb))
		h.pings(t, h.ha, hostB, 56)
		h.pings(t, h.ha, "10.0.5.5", 56)
		// One goes; the other does not notice.
		r := dp(t, ctx, a, "apply", wa)
		if !slices.Contains(r.Changes, "tunnel htip-bob2 ended") || slices.Contains(r.Changes, "tunnel htip-bob ended") {
			t.Errorf("%q", r.Changes)
		}
		h.pings(t, h.ha, hostB, 56)
		h.down(t)
		h.renumberB(t, "10.0.0.1/24", "10.0.0.5/24")
		same(t)
	})
}

// TestDatapathTimes measures how long a tunnel takes, without the daemon.
func TestDatapathTimes(t *testing.T) {
	h := newDPHomes(t, newLabAlone)
	wa, wb := dpPair(h.a, h.b, netA, subA, netA, subB)
	var up, apply []float64
	for range 5 {
		ra, _ := h.up(t, wa, wb)
		up, apply = append(up, ra.UpSeconds), append(apply, ra.ApplySeconds)
		h.down(t)
	}
	slices.Sort(up)
	slices.Sort(apply)
	t.Logf("from Apply to link up: median %.2f s of %.2f; Apply itself: median %.2f s of %.2f", up[2], up, apply[2], apply)
}

// renumberB gives B's LAN other addresses.
func (h *dpHomes) renumberB(t *testing.T, router, host string) {
	t.Helper()
	h.b.MustRun(h.ctx, "ip address flush dev br-lan; ip address add "+router+" dev br-lan")
	gateway := netip.MustParsePrefix(router).Addr().String()
	for _, args := range [][]string{
		{"address", "flush", "dev", "eth0"}, {"address", "add", host, "dev", "eth0"}, {"route", "add", "default", "via", gateway},
	} {
		if _, err := h.hb.Run(h.ctx, "ip", args...); err != nil {
			t.Fatal(err)
		}
	}
	h.hostB = netip.MustParsePrefix(host).Addr()
}

// traffic checks everything that goes through a tunnel, both ways. The
// addresses are those by which the hosts know each other.
func (h dpHomes) traffic(t *testing.T, hostA, hostB string) {
	t.Helper()
	for _, size := range []int{56, 1382, 3000} {
		h.pings(t, h.ha, hostB, size)
		h.pings(t, h.hb, hostA, size)
	}
	if err := h.ha.PingDF(h.ctx, netip.MustParseAddr(hostB), 1382, 2); err != nil {
		t.Error(err)
	}
	if err := h.ha.PingDF(h.ctx, netip.MustParseAddr(hostB), 1383, 2); err == nil {
		t.Error("a packet larger than the MTU went through in one piece")
	}
	for _, host := range []*lab.Host{h.ha, h.hb} {
		h.pings(t, host, lab.InternetHost.String(), 56)
	}
	h.download(t, h.ha, h.hb, hostB)
	h.download(t, h.hb, h.ha, hostA)
}

// download fetches 4 MB over TCP.
func (h dpHomes) download(t *testing.T, from, to *lab.Host, at string) {
	t.Helper()
	data := make([]byte, 4<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	stop, err := to.Serve("0.0.0.0:80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%-64s", r.RemoteAddr)
		w.Write(data)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	conn, err := from.Dial(h.ctx, "tcp", at+":80")
	if err != nil {
		t.Error(err)
		return
	}
	mss := 0
	if raw, err := conn.(syscall.Conn).SyscallConn(); err == nil {
		err = raw.Control(func(fd uintptr) {
			mss, _ = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG)
		})
		if err != nil {
			t.Error(err)
		}
	}
	conn.Close()
	if mss != 1358 && mss != 1370 { // MTU 1410, headers of 40 bytes, with and without timestamps
		t.Errorf("segments of %d bytes", mss)
	}
	resp, err := from.HTTP().Get("http://" + at + "/")
	if err != nil {
		t.Error(err)
		return
	}
	defer resp.Body.Close()
	begin := time.Now()
	body, err := io.ReadAll(resp.Body)
	if err != nil || len(body) < 64 || sha256.Sum256(body[64:]) != sha256.Sum256(data) {
		t.Errorf("%d bytes came, %v", len(body), err)
		return
	}
	t.Logf("%s fetched %d MB from %s in %.1f s; the server saw %s", from.Namespace(), len(data)>>20, at, time.Since(begin).Seconds(), bytes.TrimSpace(body[:64]))
}
