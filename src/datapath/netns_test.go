package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// The tests of this file need a kernel, and get it in a network namespace of
// their own: the test binary starts itself again in one. They need root.

const inNamespace = "HTIP_TEST_NETNS"

// emulated is set by scripts/foreign: QEMU's user mode sometimes hangs for ever
// where a process with threads forks.
const emulated = "HTIP_EMULATED"

// startsPrograms is said by tests that do.
func startsPrograms(t *testing.T) {
	t.Helper()
	if os.Getenv(emulated) != "" {
		t.Skip("starts programs")
	}
}

func TestMain(m *testing.M) {
	if mode := os.Getenv("HTIP_FAKE_XL2TPD"); mode != "" && len(os.Args) > 1 && os.Args[1] == "-D" {
		os.Exit(fakeXl2tpd(mode, os.Args[1:]))
	}
	if os.Getenv(fakeMark) != "" {
		os.Exit(fakePPTP(os.Args[1:]))
	}
	if os.Getenv(inNamespace) != "" || os.Getenv(emulated) != "" || os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil: // no namespaces here: the pure tests still can
		os.Exit(m.Run())
	}
	os.Exit(0)
}

// sh runs a shell command in the namespace of a process, 0 for our own.
func sh(t *testing.T, pid int, command string) string {
	t.Helper()
	out, err := tryShell(pid, command)
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	return out
}

func tryShell(pid int, command string) (string, error) {
	args := []string{"sh", "-c", command}
	if pid != 0 {
		args = append([]string{"nsenter", "-n", "-t", strconv.Itoa(pid)}, args...)
	}
	out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
	return string(out), err
}

// namespace keeps a network namespace alive for the time of the test.
func namespace(t *testing.T) int {
	t.Helper()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process.Pid
}

// vethDriver makes links whose other end lies in another namespace: all of a
// tunnel but the tunnel.
type vethDriver struct {
	fakeDriver
	peer int
}

func (d *vethDriver) start(ctx context.Context, t Tunnel) error {
	return errors.Join(d.fakeDriver.start(ctx, t), d.make(t))
}

func (d *vethDriver) make(t Tunnel) error {
	out, err := tryShell(0, fmt.Sprintf("ip link add %[1]s type veth peer name %[1]s netns %[2]d && ip addr add %[3]s peer %[4]s dev %[1]s && ip link set %[1]s up mtu %[5]d",
		t.Device, d.peer, t.LocalAddr, t.PeerAddr, t.mtu()))
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	out, err = tryShell(d.peer, fmt.Sprintf("ip addr add %s peer %s dev %s && ip link set %[3]s up", t.PeerAddr, t.LocalAddr, t.Device))
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	if out, err = tryShell(0, carrier(t.Device)); err != nil {
		return fmt.Errorf("no carrier: %w: %s", err, out)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.states[t.Device] = driverState{running: true, kernel: true, since: time.Now()}
	return nil
}

// carrier waits for it: it comes a moment after the other end is up.
func carrier(device string) string {
	return "for i in $(seq 100); do ip link show " + device + " | grep -q 'state UP' && exit 0; sleep 0.05; done; exit 1"
}

func (d *vethDriver) end(ctx context.Context, device string) error {
	_, err := tryShell(0, "! ip link show "+device+" || ip link del "+device)
	return errors.Join(d.fakeDriver.end(ctx, device), err)
}

// gateway is our own namespace as a home router: LAN 10.0.0.0/24 with host
// 10.0.0.4, a WAN with MASQUERADE, and a peer that has whatever the test gives it.
type gateway struct {
	*Manager
	lan, wan, peer int
	execs          *int
	save           string
}

func newGateway(t *testing.T, variant string) *gateway {
	t.Helper()
	if os.Getenv(inNamespace) == "" {
		t.Skip("needs root and network namespaces")
	}
	save, err1 := lookPath("iptables-" + variant + "-save")
	restore, err2 := lookPath("iptables-" + variant + "-restore")
	if err := errors.Join(err1, err2); err != nil {
		t.Skip(err)
	}
	g := &gateway{lan: namespace(t), wan: namespace(t), peer: namespace(t), execs: new(int), save: save}
	veth := &vethDriver{peer: g.peer, fakeDriver: fakeDriver{tunnels: map[string]Tunnel{}, states: map[string]driverState{}}}
	g.Manager = New(Options{
		RunDir:       filepath.Join(t.TempDir(), "run"),
		IptablesSave: save, IptablesRestore: restore,
		drivers: map[string]driver{ProtocolL2TP: veth},
		run: func(ctx context.Context, stdin, path string, args ...string) (string, error) {
			*g.execs++
			return run(ctx, stdin, path, args...)
		},
	})
	t.Cleanup(func() {
		if err := g.CleanUp(context.Background()); err != nil {
			t.Error(err)
		}
		sh(t, 0, "iptables-"+variant+" -t nat -F; ip link del lan; ip link del wan; nft flush ruleset")
	})
	for name, peer := range map[string]int{"lan": g.lan, "wan": g.wan} {
		sh(t, 0, fmt.Sprintf("ip link add %s type veth peer name eth0 netns %d && ip link set %s up", name, peer, name))
	}
	sh(t, 0, "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=1; ip link set lo up; ip addr add 10.0.0.1/24 dev lan; ip addr add 192.0.2.1/24 dev wan; ip route add default via 192.0.2.2")
	sh(t, 0, "iptables-"+variant+" -t nat -A POSTROUTING -o wan -j MASQUERADE")
	sh(t, g.lan, "ip addr add 10.0.0.4/24 dev eth0; ip link set eth0 up; ip link set lo up; ip route add default via 10.0.0.1")
	sh(t, g.wan, "ip addr add 192.0.2.2/24 dev eth0; ip link set eth0 up; ip link set lo up; ip addr add 203.0.113.9/32 dev lo")
	sh(t, 0, carrier("lan"))
	sh(t, 0, carrier("wan"))
	return g
}

// rules are the rules as iptables-save prints them, without what differs
// between two runs.
func (g *gateway) rules(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(sh(t, 0, g.save)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		if i := strings.Index(line, " ["); line[0] == ':' && i > 0 {
			line = line[:i] + "\n"
		}
		b.WriteString(line)
	}
	// The order of the tables depends on which was used first.
	tables := strings.SplitAfter(b.String(), "COMMIT\n")
	slices.Sort(tables)
	return strings.Join(tables, "")
}

func (g *gateway) must(t *testing.T, w Wanted) Report {
	t.Helper()
	*g.execs = 0
	r, err := g.Apply(context.Background(), w)
	if err := errors.Join(err, r.Err()); err != nil {
		t.Fatal(err)
	}
	return r
}

func variants(t *testing.T, f func(t *testing.T, variant string)) {
	for _, v := range []string{"legacy", "nft"} {
		t.Run(v, func(t *testing.T) { f(t, v) })
	}
}

func TestKernelApplyTwice(t *testing.T) {
	variants(t, func(t *testing.T, variant string) {
		g := newGateway(t, variant)
		before, routesBefore := g.rules(t), sh(t, 0, "ip route")
		w := Wanted{Tunnels: []Tunnel{homeA()}, Known: []netip.Prefix{pfx("10.5.0.0/24")}}
		if r := g.must(t, w); len(r.Changes) < 5 {
			t.Errorf("%q", r.Changes)
		}
		golden(t, "kernel-"+variant+".txt", g.rules(t))
		golden(t, "kernel-routes.txt", sh(t, 0, "ip route show proto 72"))
		if got := strings.TrimSpace(sh(t, 0, "cat /proc/sys/net/ipv4/conf/htip-bob/rp_filter /proc/sys/net/ipv6/conf/htip-bob/disable_ipv6")); got != "2\n1" {
			t.Errorf("settings: %q", got)
		}
		if r := g.must(t, w); len(r.Changes) != 0 || len(r.Warnings) != 0 || *g.execs != 1 {
			t.Errorf("second time: %+v, %d programs", r, *g.execs)
		}
		// Somebody deletes something of everything.
		sh(t, 0, "iptables-"+variant+" -t nat -F HTIP-PREROUTING; iptables-"+variant+" -t raw -F PREROUTING; ip route del 10.0.2.0/24 dev htip-bob; ip route del unreachable 10.5.0.0/24")
		if r := g.must(t, w); len(r.Changes) < 3 {
			t.Errorf("mended only %q", r.Changes)
		}
		golden(t, "kernel-"+variant+".txt", g.rules(t))
		golden(t, "kernel-routes.txt", sh(t, 0, "ip route show proto 72"))

		g.must(t, Wanted{})
		if after := withoutEmpty(g.rules(t)); after != withoutEmpty(before) || variant == "nft" && g.rules(t) != before {
			t.Errorf("rules before:\n%s\nafter:\n%s", before, g.rules(t))
		}
		if after := sh(t, 0, "ip route"); after != routesBefore {
			t.Errorf("routes before:\n%s\nafter:\n%s", routesBefore, after)
		}
		if err := g.CleanUp(context.Background()); err != nil {
			t.Errorf("nothing to clean up: %v", err)
		}
	})
}

// withoutEmpty leaves out tables without a rule. Legacy tables are kernel
// modules: they come with the first look and never go.
func withoutEmpty(rules string) string {
	var out strings.Builder
	for _, table := range strings.SplitAfter(rules, "COMMIT\n") {
		if strings.Contains(table, "-A ") {
			out.WriteString(table)
		}
	}
	return out.String()
}

// Packets of FIG. 12, seen from A's gateway: 10.0.0.4 talks to 10.0.2.5, which
// sees 10.0.1.4; both ways.
func TestKernelPackets(t *testing.T) {
	variants(t, func(t *testing.T, variant string) {
		g := newGateway(t, variant)
		const toB = "ping -n -c 1 -W 1 -I 10.0.0.4 10.0.2.5"
		sh(t, g.lan, "ping -n -c 1 -W 1 203.0.113.9")

		// Before there is a tunnel the packets leave through the WAN. This one
		// makes the flow that has to be forgotten: same addresses, same ID.
		sh(t, g.peer, "ip link set lo up; ip addr add 10.0.2.5/32 dev lo")
		const early = "ping -n -c 1 -W 0.5 -e 4711 -I 10.0.0.4 10.0.2.5"
		if out, err := tryShell(g.lan, early); err == nil {
			t.Fatalf("answered without a tunnel: %s", out)
		}

		w := Wanted{Tunnels: []Tunnel{homeA()}}
		r := g.must(t, w)
		if !strings.Contains(strings.Join(r.Changes, "\n"), "tracked flows forgotten") {
			t.Errorf("no flow forgotten: %q", r.Changes)
		}
		sh(t, g.peer, "ip route add 10.0.1.0/24 via 10.0.1.1 dev htip-bob")
		sh(t, g.lan, early)
		sh(t, g.lan, toB)
		if got := tracked(t, "10.0.2.5"); !strings.Contains(got, "10.0.0.4 10.0.2.5 10.0.2.5 10.0.1.4") || strings.Contains(got, "192.0.2.1") {
			t.Errorf("flows:\n%s", got)
		}
		sh(t, g.peer, "ping -n -c 1 -W 1 -I 10.0.2.5 10.0.1.4")
		sh(t, g.lan, "ping -n -c 1 -W 1 203.0.113.9")
		sh(t, 0, "ping -n -c 1 -W 1 10.0.2.5")
		sh(t, g.peer, "ping -n -c 1 -W 1 -I 10.0.2.5 10.0.1.1")

		// What a hostile peer may try.
		for what, command := range map[string]string{
			"forged source":        "ip addr add 10.9.9.9/32 dev lo; ping -n -c 1 -W 0.3 -I 10.9.9.9 10.0.1.4",
			"our LAN's real one":   "ip route add 10.0.0.0/24 via 10.0.1.1; ping -n -c 1 -W 0.3 -I 10.0.2.5 10.0.0.4",
			"our WAN address":      "ip route add 192.0.2.0/24 via 10.0.1.1; ping -n -c 1 -W 0.3 -I 10.0.2.5 192.0.2.1",
			"Internet through us":  "ip route add 203.0.113.9/32 via 10.0.1.1; ping -n -c 1 -W 0.3 -I 10.0.2.5 203.0.113.9",
			"multicast to us":      "ping -n -c 1 -W 0.3 -I htip-bob 224.0.0.1",
			"third home's network": "ip route add 10.9.0.0/24 via 10.0.1.1; ping -n -c 1 -W 0.3 -I 10.0.2.5 10.9.0.5",
		} {
			before, err1 := g.Refusals(context.Background())
			if out, err := tryShell(g.peer, command); err == nil {
				t.Errorf("%s: answered: %s", what, out)
			}
			after, err2 := g.Refusals(context.Background())
			if err := errors.Join(err1, err2); err != nil {
				t.Fatal(err)
			}
			b, a := before["htip-bob"], after["htip-bob"]
			if forged := what == "forged source"; forged && a.Source == b.Source || !forged && a.Destination == b.Destination {
				t.Errorf("%s: not counted: %+v, %+v", what, b, a)
			}
		}

		// The link goes: nothing leaves through the WAN.
		sh(t, 0, "ip link del htip-bob")
		if n, err := (rtnetlink{}).forget([]netip.Prefix{pfx("0.0.0.0/0")}); n == 0 || err != nil {
			t.Errorf("%d flows forgotten, %v", n, err)
		}
		out, err := tryShell(g.lan, toB)
		if err == nil || !strings.Contains(out, "Unreachable") {
			t.Errorf("without link: %s", out)
		}
		if got := tracked(t, "10.0.2.5"); got != "" {
			t.Errorf("a flow to the other home is tracked:\n%s", got)
		}
	})
}

// tracked lists the addresses of the flows that an address is part of.
func tracked(t *testing.T, address string) string {
	t.Helper()
	req := nl.NewNetlinkRequest(netlink.ConntrackTable<<8|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_INET})
	messages, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, m := range messages {
		f, err := decodeFlow(m)
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(f.addrs[:], addr(address)) {
			fmt.Fprintln(&b, f.addrs[0], f.addrs[1], f.addrs[2], f.addrs[3])
		}
	}
	return b.String()
}

func TestKernelWatch(t *testing.T) {
	g := newGateway(t, "nft")
	d := g.drivers[ProtocolL2TP].(*vethDriver)
	g.must(t, Wanted{Tunnels: []Tunnel{homeA()}})
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	events := make(chan Event, 10)
	done := make(chan error, 1)
	go func() { done <- g.Watch(ctx, func(e Event) { events <- e }) }()
	expect := func(up bool) {
		t.Helper()
		select {
		case e := <-events:
			if e.Up != up || e.Device != "htip-bob" {
				t.Fatalf("got %+v", e)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no event")
		}
	}
	expect(true)
	sh(t, 0, "ip link del htip-bob")
	expect(false)
	if err := d.make(homeA()); err != nil {
		t.Fatal(err)
	}
	expect(true)
	if out := sh(t, 0, "ip route show proto 72 dev htip-bob"); !strings.Contains(out, "10.0.2.0/24") {
		t.Errorf("routes at the event: %q", out)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// Somebody else's route to the same place is left alone and named.
func TestKernelForeignRoute(t *testing.T) {
	g := newGateway(t, "nft")
	sh(t, 0, "ip route add 10.0.2.0/24 via 192.0.2.2")
	r, err := g.Apply(context.Background(), Wanted{Tunnels: []Tunnel{homeA()}})
	if err != nil || r.Errors["htip-bob"] == nil || !strings.Contains(r.Err().Error(), "somebody else") {
		t.Errorf("%v, %v", r.Errors, err)
	}
	if out := sh(t, 0, "ip route show 10.0.2.0/24"); !strings.Contains(out, "via 192.0.2.2") {
		t.Errorf("foreign route: %q", out)
	}
	sh(t, 0, "ip route del 10.0.2.0/24 via 192.0.2.2")
	g.must(t, Wanted{Tunnels: []Tunnel{homeA()}})
}
