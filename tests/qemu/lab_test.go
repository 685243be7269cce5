//go:build qemu

package qemu_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"htip/tests/qemu/lab"
)

// twoHomes boots homes a and b that use the same network: routers 10.0.0.1, hosts 10.0.0.4 and
// 10.0.0.5, called "pc" and "nas".
func twoHomes(t *testing.T, newLab func(*testing.T) (context.Context, *lab.Lab), files map[string]lab.File) (context.Context, *lab.Lab, *lab.Router, *lab.Router) {
	t.Helper()
	ctx, l := newLab(t)
	home := func(name, host, hostName string) *lab.Router {
		addr := netip.MustParseAddr(host)
		r, err := l.AddRouter(ctx, lab.RouterConfig{
			Name:  name,
			LAN:   []lab.LAN{{Router: netip.MustParsePrefix("10.0.0.1/24"), Host: addr, Names: map[string]netip.Addr{hostName: addr}}},
			Files: files,
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	a, b := home("a", "10.0.0.4", "pc"), home("b", "10.0.0.5", "nas")
	begin := time.Now()
	if err := l.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("both routers booted in %.1f s", time.Since(begin).Seconds())
	return ctx, l, a, b
}

// TestLab shows that the lab is what other tests take it for, whatever routers they have.
func TestLab(t *testing.T) {
	t.Run("MIPS", func(t *testing.T) { testLab(t, newLabMIPS) })
	t.Run("any", func(t *testing.T) { testLab(t, newLab) })
}

func testLab(t *testing.T, newLab func(*testing.T) (context.Context, *lab.Lab)) {
	ctx, l, a, b := twoHomes(t, newLab, nil)
	hostA, hostB := l.Host(a, 0), l.Host(b, 0)

	t.Run("commands", func(t *testing.T) { testCommands(ctx, t, a) })
	t.Run("clock", func(t *testing.T) { testClock(ctx, t, a) })
	t.Run("files", func(t *testing.T) { testFiles(ctx, t, a) })
	t.Run("internet", func(t *testing.T) {
		testInternet(ctx, t, l, hostA)
		testInternet(ctx, t, l, hostB)
	})
	t.Run("firewall", func(t *testing.T) { testFirewall(ctx, t, l, a) })
	t.Run("names", func(t *testing.T) { testNames(ctx, t, l, a, hostA) })
	t.Run("modules", func(t *testing.T) { testModules(ctx, t, a) })
	t.Run("l2tp", func(t *testing.T) { testL2TP(ctx, t, l, a, b) })
	t.Run("power", func(t *testing.T) { testPower(ctx, t, a, hostA) })
}

func testCommands(ctx context.Context, t *testing.T, r *lab.Router) {
	short, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if res, err := r.Run(short, "echo begun; sleep 1234"); err == nil || res.Output != "begun\n" {
		t.Errorf("command out of time: got %+v, %v", res, err)
	}
	if out := r.MustRun(ctx, "ps"); strings.Contains(out, "1234") {
		t.Errorf("a command goes on after its time is out: %s", out)
	}
	res, err := r.Run(ctx, "echo out; echo err >&2; exit 3")
	if err != nil || res.Code != 3 || res.Output != "out\nerr\n" {
		t.Errorf("got %+v, %v", res, err)
	}
	if res, err := r.Run(ctx, "kill -9 $$"); err != nil || res.Code != -9 {
		t.Errorf("command killed: got %+v, %v", res, err)
	}
	begin := time.Now()
	r.MustRun(ctx, "sleep 100 & echo $! >/tmp/sleep.pid")
	if time.Since(begin) > 30*time.Second {
		t.Error("a process left in the background holds the command up")
	}
	r.MustRun(ctx, "kill $(cat /tmp/sleep.pid)")
	results := make(chan string)
	for i := range 5 {
		go func() {
			out, err := r.Check(ctx, fmt.Sprintf("sleep 0.%d; echo %d", 5-i, i))
			results <- fmt.Sprintf("%s %v", strings.TrimSpace(out), err)
		}()
	}
	seen := map[string]bool{}
	for range 5 {
		seen[<-results] = true
	}
	for i := range 5 {
		if !seen[fmt.Sprintf("%d %v", i, error(nil))] {
			t.Errorf("concurrent commands: %v", seen)
		}
	}
}

// testClock finds out if the guest oversleeps, as malta does by 25.8 s with the processor's timer.
func testClock(ctx context.Context, t *testing.T, r *lab.Router) {
	for range 5 {
		before, err := r.Uptime(ctx)
		if err != nil {
			t.Fatal(err)
		}
		begin := time.Now()
		r.MustRun(ctx, "sleep 1.1")
		host := time.Since(begin)
		after, err := r.Uptime(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if guest := after - before; guest < time.Second || host > guest+20*time.Second {
			t.Errorf("sleep 1.1 took %v by the guest's clock and %v here", guest, host)
		}
	}
}

func testFiles(ctx context.Context, t *testing.T, r *lab.Router) {
	data := make([]byte, 8<<20)
	rand.Read(data)
	begin := time.Now()
	if err := r.Put(ctx, "/tmp/it's/here", data, 0o750); err != nil {
		t.Fatal(err)
	}
	put := time.Since(begin)
	got, err := r.Get(ctx, "/tmp/it's/here")
	if err != nil || !bytes.Equal(got, data) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	t.Logf("8 MiB: put %.1f s, get %.1f s", put.Seconds(), (time.Since(begin) - put).Seconds())
	if out := r.MustRun(ctx, `stat -c %a "/tmp/it's/here"; rm -r "/tmp/it's"`); out != "750\n" {
		t.Errorf("mode %s", out)
	}
	if _, err := r.Get(ctx, "/tmp/absent"); err == nil {
		t.Error("no error for a file that does not exist")
	}
}

func testInternet(ctx context.Context, t *testing.T, l *lab.Lab, h *lab.Host) {
	if err := h.Ping(ctx, lab.InternetHost, 1400, 2); err != nil {
		t.Error(err)
	}
	l.Internet().SetA("www.example.org", lab.InternetHost)
	resp, err := h.HTTP().Get("http://www.example.org/")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || string(body) != lab.InternetText {
		t.Errorf("got %d %q, %v", resp.StatusCode, body, err)
	}
}

// testFirewall checks that the Internet reaches what a home router opens, and nothing else.
func testFirewall(ctx context.Context, t *testing.T, l *lab.Lab, r *lab.Router) {
	for _, port := range []string{"4847", "4848"} {
		listening, cancel := context.WithCancel(ctx)
		go r.Run(listening, "nc -l -p "+port+" -e /bin/echo hello")
		for r.MustRun(ctx, "ss -Hltn sport = :"+port) == "" {
			time.Sleep(100 * time.Millisecond)
		}
		dial, stop := context.WithTimeout(ctx, map[string]time.Duration{"4847": 15 * time.Second, "4848": 3 * time.Second}[port])
		conn, err := l.Internet().Dial(dial, "tcp", netip.AddrPortFrom(r.WANAddr(), 0).Addr().String()+":"+port)
		stop()
		if open := err == nil; open != (port == "4847") {
			t.Errorf("port %s from the Internet: %v", port, err)
		}
		if err == nil {
			conn.Close()
		}
		cancel()
	}
}

func testNames(ctx context.Context, t *testing.T, l *lab.Lab, r *lab.Router, h *lab.Host) {
	if addrs, err := h.Lookup(ctx, "absent.example.org"); err == nil {
		t.Errorf("absent name: got %v", addrs)
	}
	l.Internet().SetA("rebind.example.org", netip.MustParseAddr("10.0.0.9"))
	if addrs, err := h.Lookup(ctx, "rebind.example.org"); err == nil {
		t.Errorf("private address from the Internet: got %v", addrs)
	}
	for _, name := range []string{"pc", "pc.lan"} {
		if addrs, err := h.Lookup(ctx, name); err != nil || len(addrs) != 1 || addrs[0] != h.Addr() {
			t.Errorf("%s: got %v, %v", name, addrs, err)
		}
	}
	if names, err := h.LookupPTR(ctx, h.Addr()); err != nil || len(names) != 1 || names[0] != "pc.lan" {
		t.Errorf("got %v, %v", names, err)
	}
	another := netip.MustParseAddr("10.0.0.77")
	if err := h.AddAddr(another); err != nil {
		t.Fatal(err)
	}
	if err := r.Put(ctx, "/tmp/hosts/more", []byte("10.0.0.77 printer\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := r.Put(ctx, "/tmp/dnsmasq.d/test.conf", []byte("address=/test.invalid/10.1.2.3\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	r.MustRun(ctx, "restart-dnsmasq")
	for name, want := range map[string]netip.Addr{"printer": another, "test.invalid": netip.MustParseAddr("10.1.2.3")} {
		if addrs, err := h.Lookup(ctx, name); err != nil || len(addrs) != 1 || addrs[0] != want {
			t.Errorf("%s: got %v, %v", name, addrs, err)
		}
	}
	if err := h.PingFrom(ctx, another, lab.InternetHost, 56, 1); err != nil {
		t.Error(err)
	}
}

// testModules checks that the kernel has what the drivers need.
func testModules(ctx context.Context, t *testing.T, r *lab.Router) {
	for _, cmd := range []string{
		"ip link add x type wireguard && ip link del x",
		"ip link add x type xfrm dev wan if_id 7 && ip link del x",
		"ip link add x type gre remote 192.88.99.77 && ip link del x",
		"modprobe -a pptp nf_nat_pptp ppp_mppe",
		"tc qdisc add dev br-lan root netem delay 1ms loss 1% && tc qdisc del dev br-lan root",
		"ip xfrm state add src 192.88.99.1 dst 192.88.99.2 proto esp spi 0x101 mode transport " +
			"aead 'rfc4106(gcm(aes))' 0x0102030405060708090a0b0c0d0e0f1011121314 128",
		"ip xfrm state add src 192.88.99.1 dst 192.88.99.2 proto esp spi 0x102 mode transport " +
			"aead 'rfc7539esp(chacha20,poly1305)' 0x" + strings.Repeat("0102030405060708090a0b0c", 3) + " 128",
		"ip xfrm policy add src 192.88.99.1 dst 192.88.99.77 proto udp sport 17010 dport 17010 dir out tmpl proto esp mode transport",
		"ip xfrm state flush && ip xfrm policy flush",
		"iptables -t mangle -A FORWARD -o htip-+ -p tcp --tcp-flags SYN,RST SYN -j TCPMSS --clamp-mss-to-pmtu",
		"iptables -t nat -A PREROUTING -i htip-x -d 10.1.0.0/24 -j NETMAP --to 10.0.0.0/24",
		"iptables -A FORWARD -i htip-x -m comment --comment x -m mark --mark 1 -m limit --limit 1/s -j REJECT",
		"iptables -A FORWARD -m policy --dir in --pol ipsec --proto esp -m set --help >/dev/null",
		"iptables -t mangle -F && iptables -t nat -F PREROUTING && iptables-restore </etc/firewall",
		"conntrack -L >/dev/null 2>&1",
		"nft add table inet fw4 && nft delete table inet fw4",
	} {
		if out, err := r.Check(ctx, cmd); err != nil {
			t.Errorf("%v %s", err, out)
		}
	}
}

// testPower takes a router's power away and boots it again, with its links kept.
func testPower(ctx context.Context, t *testing.T, r *lab.Router, h *lab.Host) {
	r.MustRun(ctx, "echo x >/tmp/x")
	sleeping := make(chan error)
	go func() {
		_, err := r.Run(ctx, "sleep 1000")
		sleeping <- err
	}()
	r.Kill()
	if err := <-sleeping; err == nil {
		t.Error("a command of a router without power ends well")
	}
	if _, err := r.Run(ctx, "true"); err == nil {
		t.Error("a router without power runs a command")
	}
	if err := h.Ping(ctx, lab.InternetHost, 56, 1); err == nil {
		t.Error("a router without power forwards packets")
	}
	if err := r.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("booted again in %.1f s", r.BootTime().Seconds())
	if res, err := r.Run(ctx, "cat /tmp/x"); err != nil || res.Code == 0 {
		t.Errorf("a file of before is still there: %+v, %v", res, err)
	}
	if err := h.Ping(ctx, lab.InternetHost, 56, 1); err != nil {
		t.Error(err)
	}
}

// Substitutes of the homes' networks in the tunnel set up by hand.
var (
	netSubA = netip.MustParsePrefix("10.0.1.0/24")
	netSubB = netip.MustParsePrefix("10.0.2.0/24")
)

// testL2TP sets a tunnel up by hand, so that what is missing for it is missing in the image and
// not in our programs, and follows a packet over its four hops (FIG. 12).
func testL2TP(ctx context.Context, t *testing.T, l *lab.Lab, a, b *lab.Router) {
	const ppp = "noauth noccp novj nopcomp noaccomp nodefaultroute nodetach noipv6 ipcp-accept-local " +
		"ipcp-accept-remote mtu 1410 mru 1410 lcp-restart 1 ipcp-restart 1 lcp-max-terminate 1 " +
		"lcp-echo-interval 2 lcp-echo-failure 3 "
	const global = "[global]\nport = 17010\naccess control = no\nmax retries = 1\n"
	start := func(r *lab.Router, conf, options, own string) {
		for name, text := range map[string]string{
			"/tmp/l2tp.conf":    global + conf + "length bit = yes\nrequire authentication = no\npppoptfile = /tmp/l2tp.options\n",
			"/tmp/l2tp.options": strings.ReplaceAll(ppp+options, " ", "\n") + "\n",
		} {
			if err := r.Put(ctx, name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		r.MustRun(ctx, "xl2tpd -c /tmp/l2tp.conf -C /tmp/l2tp.control -p /tmp/l2tp.pid")
		r.MustRun(ctx, fmt.Sprintf("iptables -t nat -A POSTROUTING -s 10.0.0.0/24 -o htip-+ -j NETMAP --to %s && "+
			"iptables -t nat -A PREROUTING -i htip-+ -d %s -j NETMAP --to 10.0.0.0/24", own, own))
	}
	start(b, "[lns default]\nassign ip = no\n", "silent ifname htip-a 10.0.2.1:10.0.1.1", netSubB.String())
	start(a, "[lac b]\nlns = "+b.WANAddr().String()+":17010\nautodial = yes\nredial = yes\nredial timeout = 1\n", "ifname htip-b",
		netSubA.String())
	deadline := time.Now().Add(time.Minute)
	for r, device := range map[*lab.Router]string{a: "htip-b", b: "htip-a"} {
		for !strings.Contains(r.MustRun(ctx, "ip -4 addr show"), device) {
			time.Sleep(200 * time.Millisecond)
			if time.Now().After(deadline) {
				t.Fatalf("%s: no tunnel: %s", r.Name, r.MustRun(ctx, "ip addr; ps; tail -30 /var/log/messages"))
			}
		}
	}
	a.MustRun(ctx, "ip route add 10.0.2.0/24 dev htip-b")
	b.MustRun(ctx, "ip route add 10.0.1.0/24 dev htip-a")
	if out := a.MustRun(ctx, "cat /proc/net/pppol2tp"); !strings.Contains(out, "SESSION 'htip-b'") && !strings.Contains(out, "SESSION") {
		t.Errorf("the kernel does not carry the data: %s", out)
	}

	hostA, hostB := l.Host(a, 0), l.Host(b, 0)
	subA, subB := netip.MustParseAddr("10.0.1.4"), netip.MustParseAddr("10.0.2.5")
	hops := []struct {
		start    func() (*lab.Capture, error)
		src, dst netip.Addr
	}{
		{hostA.Capture, hostA.Addr(), subB},
		{func() (*lab.Capture, error) { return a.Capture(ctx, "htip-b", "icmp") }, subA, subB},
		{func() (*lab.Capture, error) { return b.Capture(ctx, "htip-a", "icmp") }, subA, subB},
		{hostB.Capture, subA, hostB.Addr()},
	}
	captures := make([]*lab.Capture, len(hops))
	for i, hop := range hops {
		c, err := hop.start()
		if err != nil {
			t.Fatal(err)
		}
		captures[i] = c
	}
	wan, err := l.Internet().Capture()
	if err != nil {
		t.Fatal(err)
	}
	if err := hostA.PingUntil(ctx, subB); err != nil {
		t.Fatal(err)
	}
	for i, c := range captures {
		wait, cancel := context.WithTimeout(ctx, 10*time.Second)
		request, err := c.Wait(wait, lab.Echo(hops[i].src, hops[i].dst))
		if err != nil {
			t.Error(err)
		}
		reply, err := c.Wait(wait, lab.EchoReply(hops[i].dst, hops[i].src))
		if err != nil {
			t.Error(err)
		}
		cancel()
		t.Logf("hop %d: %v; %v", i+1, request, reply)
		if err := c.Stop(); err != nil {
			t.Error(err)
		}
	}
	if err := hostB.Ping(ctx, subA, 3000, 3); err != nil {
		t.Error(err)
	}
	// The first one tells the host of the path's MTU.
	hostA.PingDF(ctx, subB, 1400, 1)
	if err := hostA.PingDF(ctx, subB, 1382, 2); err != nil {
		t.Error(err)
	}
	if err := hostA.PingDF(ctx, subB, 1383, 1); err == nil {
		t.Error("a packet above the path's MTU gets through")
	}
	if err := wan.Stop(); err != nil {
		t.Error(err)
	}
	for _, n := range []netip.Prefix{netSubA, netSubB} {
		if leaks := wan.Packets(lab.To(n)); len(leaks) > 0 {
			t.Errorf("%d packets to %s on the Internet, first %v", len(leaks), n, leaks[0])
		}
	}
	if len(wan.Packets(func(p lab.Packet) bool { return p.Src == a.WANAddr() && p.DstPort == 17010 })) == 0 {
		t.Error("no packet of the tunnel on the Internet")
	}
	transfer(ctx, t, hostA, hostB, subB, 20<<20)
	for _, r := range []*lab.Router{a, b} {
		r.MustRun(ctx, "kill $(cat /tmp/l2tp.pid); iptables-restore </etc/firewall")
	}
}

// transfer fetches size random bytes from a web server on one host by another one.
func transfer(ctx context.Context, t *testing.T, client, server *lab.Host, addr netip.Addr, size int) {
	t.Helper()
	data := make([]byte, size)
	rand.Read(data)
	stop, err := server.Serve(server.Addr().String()+":8080", http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(data)
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	begin := time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr.String()+":8080/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := client.HTTP().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil || sha256.Sum256(got) != sha256.Sum256(data) {
		t.Errorf("got %d bytes of %d, %v", len(got), len(data), err)
	}
	t.Logf("%d MiB in %.1f s", size>>20, time.Since(begin).Seconds())
}
