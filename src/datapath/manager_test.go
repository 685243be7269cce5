package datapath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeKernel is links, routes and flows in memory.
type fakeKernel struct {
	ls        []link
	rs        []route
	forgotten []string
	addErr    error
	changed   func()
}

var _ kernel = (*fakeKernel)(nil)

func (k *fakeKernel) links() ([]link, error) { return slices.Clone(k.ls), nil }

func (k *fakeKernel) routes() ([]route, error) { return slices.Clone(k.rs), nil }

func (k *fakeKernel) addRoute(r route) error {
	if k.addErr != nil {
		return k.addErr
	}
	k.rs = append(k.rs, r)
	return nil
}

func (k *fakeKernel) deleteRoute(r route) error {
	k.rs = slices.DeleteFunc(k.rs, func(o route) bool { return o == r })
	return nil
}

func (k *fakeKernel) forget(ps []netip.Prefix) (int, error) {
	for _, p := range ps {
		k.forgotten = append(k.forgotten, p.String())
	}
	return 0, nil
}

func (k *fakeKernel) watch(ctx context.Context, changed func()) error {
	k.changed = changed
	changed()
	<-ctx.Done()
	return ctx.Err()
}

// fakeDriver is tunnels in memory.
type fakeDriver struct {
	mu       sync.Mutex
	tunnels  map[string]Tunnel
	lacks    []string
	heldErr  error
	startErr map[string]error
	endErr   map[string]error
	states   map[string]driverState
	calls    []string
}

var _ driver = (*fakeDriver)(nil)

func (d *fakeDriver) missing(context.Context) []string { return d.lacks }

func (d *fakeDriver) held() ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return sortedKeys(d.tunnels), d.heldErr
}

func (d *fakeDriver) runs(t Tunnel) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	have, ok := d.tunnels[t.Device]
	return ok && sameTunnel(have, t), nil
}

func (d *fakeDriver) adopt(t Tunnel) error {
	d.calls = append(d.calls, "adopt "+t.Device)
	return nil
}

func (d *fakeDriver) start(_ context.Context, t Tunnel) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, "start "+t.Device)
	if err := d.startErr[t.Device]; err != nil {
		return err
	}
	d.tunnels[t.Device] = t
	return nil
}

func (d *fakeDriver) end(_ context.Context, device string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.calls = append(d.calls, "end "+device)
	if err := d.endErr[device]; err != nil {
		return err
	}
	delete(d.tunnels, device)
	return nil
}

func (d *fakeDriver) state(t Tunnel) (driverState, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.states[t.Device], nil
}

func (d *fakeDriver) housekeep(string) error { return nil }

func (d *fakeDriver) sweep() error { return nil }

// toyFirewall stands for iptables-save and iptables-restore.
type toyFirewall struct {
	t     *testing.T
	rules savedRules
	execs []string
	fail  string // output of a failing iptables-restore
	lacks string // a word that this kernel does not know
	seen  func() // called before rules change; may be nil
}

func (f *toyFirewall) run(_ context.Context, stdin, path string, args ...string) (string, error) {
	name := filepath.Base(path)
	f.execs = append(f.execs, name)
	if name == "save" {
		return f.text(), nil
	}
	if f.seen != nil {
		f.seen()
	}
	if f.fail != "" {
		return f.fail, errors.New("exit status 2")
	}
	if f.lacks != "" && strings.Contains(stdin, f.lacks) {
		return "iptables-restore: Couldn't load match `" + f.lacks + "':No such file or directory", errors.New("exit status 2")
	}
	f.rules = apply(f.t, f.rules, stdin)
	return "", nil
}

func (f *toyFirewall) text() string {
	var b strings.Builder
	for _, name := range sortedKeys(f.rules.tables) {
		table := f.rules.tables[name]
		fmt.Fprintf(&b, "*%s\n", name)
		for _, c := range sortedKeys(table.chains) {
			policy := table.policies[c]
			if policy == "" {
				policy = "-"
			}
			fmt.Fprintf(&b, ":%s %s [0:0]\n", c, policy)
		}
		for _, c := range sortedKeys(table.chains) {
			for _, r := range table.chains[c] {
				fmt.Fprintf(&b, "-A %s %s\n", c, r)
			}
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}

type bench struct {
	*Manager
	kernel *fakeKernel
	driver *fakeDriver
	fw     *toyFirewall
}

func newBench(t *testing.T) *bench {
	t.Helper()
	dir := t.TempDir()
	for _, p := range []string{"save", "restore"} {
		if err := os.WriteFile(filepath.Join(dir, p), nil, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	proc := filepath.Join(dir, "proc")
	for f, v := range map[string]string{
		"sys/net/ipv4/ip_forward":                "1\n",
		"sys/net/ipv4/conf/htip-bob/rp_filter":   "1\n",
		"sys/net/ipv4/conf/htip-carol/rp_filter": "0\n",
	} {
		if err := errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(proc, f)), 0o755), os.WriteFile(filepath.Join(proc, f), []byte(v), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	b := &bench{
		kernel: &fakeKernel{},
		driver: &fakeDriver{tunnels: map[string]Tunnel{}, startErr: map[string]error{}, endErr: map[string]error{}, states: map[string]driverState{}},
		fw:     &toyFirewall{t: t, rules: mustParse(t, savedLegacy)},
	}
	b.Manager = New(Options{
		RunDir: filepath.Join(dir, "run"), Proc: proc,
		IptablesSave: filepath.Join(dir, "save"), IptablesRestore: filepath.Join(dir, "restore"), Nft: filepath.Join(dir, "no-nft"),
		run: b.fw.run, kernel: b.kernel, drivers: map[string]driver{ProtocolL2TP: b.driver},
	})
	return b
}

func (b *bench) apply(t *testing.T, w Wanted) Report {
	t.Helper()
	r, err := b.Apply(context.Background(), w)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (b *bench) up(t Tunnel) {
	b.kernel.ls = append(b.kernel.ls, link{Name: t.Device, MTU: t.mtu(), Running: true, Local: t.LocalAddr, Peer: t.PeerAddr, Received: 10, Sent: 20})
	b.driver.states[t.Device] = driverState{running: true, kernel: true, since: time.Now()}
}

func TestApplyTwiceIsOnce(t *testing.T) {
	b := newBench(t)
	w := Wanted{Tunnels: []Tunnel{homeA(), homeC()}, Known: []netip.Prefix{pfx("10.5.0.0/24")}}
	r := b.apply(t, w)
	if r.Err() != nil || len(r.Changes) != 3+4 {
		t.Errorf("%q, %v", r.Changes, r.Err())
	}
	if got := strings.Join(b.fw.execs, " "); got != "save restore" {
		t.Errorf("programs: %s", got)
	}
	b.fw.execs = nil
	if r := b.apply(t, w); len(r.Changes) != 0 || r.Err() != nil || len(r.Warnings) != 0 {
		t.Errorf("second time: %+v", r)
	}
	if got := strings.Join(b.fw.execs, " "); got != "save" {
		t.Errorf("programs of the second time: %s", got)
	}

	b.up(homeA())
	b.kernel.forgotten = nil
	r = b.apply(t, w)
	if len(r.Changes) != 2 || !strings.Contains(r.Changes[0], "rp_filter") || r.Changes[1] != "route 10.0.2.0/24 dev htip-bob src 10.0.1.1" {
		t.Errorf("link came up: %q", r.Changes)
	}
	if got := strings.Join(b.kernel.forgotten, " "); got != "10.0.2.0/24" {
		t.Errorf("forgotten: %s", got)
	}
	if r := b.apply(t, w); len(r.Changes) != 0 {
		t.Errorf("with link: %q", r.Changes)
	}
	// A new life: another manager, the same kernel. It may watch before it
	// knows what is wanted.
	again := New(b.o)
	if e := again.look(map[string]State{}, true); len(e) != 0 {
		t.Errorf("events before the first Apply: %v", e)
	}
	if r, err := again.Apply(context.Background(), w); err != nil || len(r.Changes) != 0 {
		t.Errorf("after a restart: %q, %v", r.Changes, err)
	}
	if !slices.Contains(b.driver.calls, "adopt htip-bob") {
		t.Errorf("calls: %q", b.driver.calls)
	}
}

func TestApplyOrder(t *testing.T) {
	b := newBench(t)
	b.apply(t, Wanted{Tunnels: []Tunnel{homeA(), homeC()}})
	b.driver.calls, b.fw.execs = nil, nil
	moved := homeA()
	moved.LocalAddr, moved.Own[0].Substitute = addr("10.0.7.1"), pfx("10.0.7.0/24")
	r := b.apply(t, Wanted{Tunnels: []Tunnel{moved}})
	want := []string{"tunnel htip-bob ended", "tunnel htip-carol ended", "rules in raw, mangle, nat", "tunnel htip-bob started"}
	if len(r.Changes) != 6 || !slices.Equal(r.Changes[:4], want) {
		t.Errorf("%q", r.Changes)
	}
}

// Only the mapping changes: the link stays, the rules and the flows go.
// TestGuardBeforeRules: the rules let a tunnel's packets in, and what this router
// answers to the first of them must find the way to the WAN closed.
func TestGuardBeforeRules(t *testing.T) {
	b := newBench(t)
	w := Wanted{Tunnels: []Tunnel{homeA()}, Known: []netip.Prefix{pfx("10.5.0.0/24")}}
	changed := false
	b.fw.seen = func() {
		changed = true
		for _, p := range knownPrefixes(w) {
			if !slices.Contains(b.kernel.rs, route{Dst: p, Metric: unreachableMetric}) {
				t.Errorf("rules change while %s can be reached through the WAN", p)
			}
		}
	}
	b.apply(t, w)
	if !changed {
		t.Error("no rules have changed")
	}
}

func TestApplyMappingOnly(t *testing.T) {
	b := newBench(t)
	b.up(homeA())
	b.apply(t, Wanted{Tunnels: []Tunnel{homeA()}})
	b.driver.calls, b.kernel.forgotten = nil, nil
	more := homeA()
	more.Own = append(more.Own, Mapping{pfx("192.168.1.0/24"), pfx("10.0.9.0/24")})
	// The driver compares what concerns it: the real one has no networks in its files.
	b.driver.tunnels["htip-bob"] = more
	r := b.apply(t, Wanted{Tunnels: []Tunnel{more}})
	if strings.Join(r.Changes, "; ") != "rules in raw, nat" || strings.Join(b.kernel.forgotten, " ") != "10.0.2.0/24" {
		t.Errorf("%q, forgotten %q", r.Changes, b.kernel.forgotten)
	}
	if strings.Join(b.driver.calls, " ") != "adopt htip-bob" {
		t.Errorf("%q", b.driver.calls)
	}
}

func TestOneFailsOthersWork(t *testing.T) {
	b := newBench(t)
	b.driver.startErr["htip-bob"] = errors.New("UDP port 17010 is already in use on this router")
	odd := homeC()
	odd.Device, odd.Protocol, odd.Peer, odd.PeerAddr = "htip-odd", "carrier-pigeon", []netip.Prefix{pfx("10.77.0.0/24")}, addr("10.77.0.1")
	r := b.apply(t, Wanted{Tunnels: []Tunnel{homeA(), homeC(), odd}})
	if err := r.Errors["htip-bob"]; err == nil || IsPermanent(err) || !strings.Contains(err.Error(), `tunnel to "bob": UDP port`) {
		t.Errorf("bob: %v", err)
	}
	if err := r.Errors["htip-odd"]; !IsPermanent(err) || !strings.Contains(err.Error(), "carrier-pigeon") {
		t.Errorf("odd: %v", err)
	}
	if b.driver.tunnels["htip-carol"].Name != "carol" || len(r.Errors) != 2 {
		t.Errorf("%v, %v", b.driver.tunnels, r.Errors)
	}
}

func TestMissingModuleIsPermanent(t *testing.T) {
	b := newBench(t)
	b.driver.lacks = []string{"kernel has no L2TP (module l2tp_ppp): install kmod-pppol2tp"}
	r := b.apply(t, Wanted{Tunnels: []Tunnel{homeA()}})
	if err := r.Errors["htip-bob"]; !IsPermanent(err) || !strings.Contains(err.Error(), "install kmod-pppol2tp") {
		t.Errorf("%v", err)
	}
	if c := b.Capabilities(context.Background()); len(c) != 1 || c[0].Possible() || c[0].Missing[0] != b.driver.lacks[0] {
		t.Errorf("%+v", c)
	}
}

func TestRulesFailNothingStarts(t *testing.T) {
	b := newBench(t)
	b.fw.fail = "iptables-restore: Couldn't load target `NETMAP':No such file or directory"
	_, err := b.Apply(context.Background(), Wanted{Tunnels: []Tunnel{homeA()}})
	if !IsPermanent(err) || !strings.Contains(err.Error(), "kmod-ipt-nat-extra") || len(b.driver.calls) != 0 {
		t.Errorf("%v, %q", err, b.driver.calls)
	}
}

// TestDoorThatTheKernelCannotKeep: without xt_limit strangers are not kept away,
// and tunnels work all the same; it is tried a few times for each crowd.
func TestDoorThatTheKernelCannotKeep(t *testing.T) {
	b := newBench(t)
	b.fw.lacks = "limit"
	w := Wanted{Tunnels: []Tunnel{homeA()}, Door: Door{Port: 4847}}
	var warnings []string
	for range 2 * doorTries {
		warnings = append(warnings, b.apply(t, w).Warnings...)
	}
	if len(warnings) != 1 || !strings.Contains(warnings[0], "crowd of strangers") || len(b.driver.tunnels) != 1 {
		t.Errorf("%q", warnings)
	}
	b.fw.execs = nil
	if r := b.apply(t, w); len(r.Warnings) != 0 || strings.Join(b.fw.execs, " ") != "save" {
		t.Errorf("once more: %+v, %q", r, b.fw.execs)
	}
	b.fw.lacks = "" // somebody has installed it
	b.apply(t, Wanted{Tunnels: w.Tunnels})
	if b.apply(t, w); !strings.Contains(b.fw.text(), "-A HTIP-DOOR-INPUT") {
		t.Error("no door for the next crowd")
	}
	// When it is something else, that is said.
	c := newBench(t)
	c.fw.lacks = "NETMAP"
	for range 2 * doorTries {
		if _, err := c.Apply(context.Background(), w); !IsPermanent(err) || !strings.Contains(err.Error(), "kmod-ipt-nat-extra") {
			t.Error(err)
		}
	}
	c.fw.lacks = ""
	if c.apply(t, w); !strings.Contains(c.fw.text(), "-A HTIP-DOOR-INPUT") {
		t.Error("no door because of something else")
	}
}

// TestDoorThatJams: what fails once, for somebody else's lock, is not the
// kernel's fault.
func TestDoorThatJams(t *testing.T) {
	b := newBench(t)
	w := Wanted{Tunnels: []Tunnel{homeA()}, Door: Door{Port: 4847}}
	for i := range 2 * doorTries {
		b.apply(t, w)
		b.fw.lacks = "limit"
		w.Door.Friends = append(w.Door.Friends, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}))
		if r := b.apply(t, w); len(r.Warnings) != 0 || len(b.driver.tunnels) != 1 || strings.Contains(b.fw.text(), "-A HTIP-DOOR-INPUT") {
			t.Fatalf("%+v\n%s", r, b.fw.text())
		}
		b.fw.lacks = ""
		if b.apply(t, w); !strings.Contains(b.fw.text(), "-A HTIP-DOOR-INPUT") {
			t.Fatal("once it failed, and is not tried any more")
		}
	}
}

// TestDoorWithoutTunnels: it closes, and opens again, where no tunnel is.
func TestDoorWithoutTunnels(t *testing.T) {
	b := newBench(t)
	before := b.fw.text()
	b.apply(t, Wanted{Door: Door{Port: 4847}})
	if !strings.Contains(b.fw.text(), "-A HTIP-DOOR-INPUT") {
		t.Error(b.fw.text())
	}
	b.apply(t, Wanted{})
	if after := b.fw.text(); strings.Contains(after, "HTIP-") {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}

func TestForwardingOff(t *testing.T) {
	b, _ := newUsersBench(t)
	if err := os.WriteFile(filepath.Join(b.o.Proc, "sys/net/ipv4/ip_forward"), []byte("0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := b.apply(t, Wanted{Tunnels: []Tunnel{homeA()}}); len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "ip_forward") {
		t.Errorf("%q", r.Warnings)
	}
	if r := b.apply(t, Wanted{Users: someUsers()}); len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "ip_forward") {
		t.Errorf("%q", r.Warnings)
	}
	if r := b.apply(t, Wanted{}); len(r.Warnings) != 0 {
		t.Errorf("nothing to forward: %q", r.Warnings)
	}
}

func TestTunnelThatDoesNotEnd(t *testing.T) {
	b := newBench(t)
	b.apply(t, Wanted{Tunnels: []Tunnel{homeA()}})
	b.driver.endErr["htip-bob"] = errors.New("process 7 does not end")
	other := homeA()
	other.MTU = 1300
	r := b.apply(t, Wanted{Tunnels: []Tunnel{other}})
	if r.Errors["htip-bob"] == nil || slices.Contains(b.driver.calls[2:], "start htip-bob") {
		t.Errorf("%v, %q", r.Errors, b.driver.calls)
	}
}

func TestCleanUpNeedsNoState(t *testing.T) {
	b := newBench(t)
	before := b.fw.text()
	b.up(homeA())
	b.apply(t, Wanted{Tunnels: []Tunnel{homeA(), homeC()}, Known: []netip.Prefix{pfx("10.5.0.0/24")}})
	b.kernel.ls = nil
	again := New(b.o)
	if err := again.CleanUp(context.Background()); err != nil {
		t.Fatal(err)
	}
	if len(b.kernel.rs) != 0 || len(b.driver.tunnels) != 0 {
		t.Errorf("left: %v, %v", b.kernel.rs, b.driver.tunnels)
	}
	if strings.Contains(b.fw.text(), "HTIP") || !strings.Contains(b.fw.text(), "MASQUERADE") {
		t.Errorf("rules before:\n%s\nafter:\n%s", before, b.fw.text())
	}
	if _, err := os.Stat(b.o.RunDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("run directory: %v", err)
	}
	if err := again.CleanUp(context.Background()); err != nil {
		t.Errorf("second time: %v", err)
	}
}

func TestStatus(t *testing.T) {
	b := newBench(t)
	if _, err := b.Status("htip-bob"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("unknown device: %v", err)
	}
	b.driver.states["htip-bob"] = driverState{running: true, reason: "calling the other gateway"}
	b.apply(t, Wanted{Tunnels: []Tunnel{homeA()}})
	if s, err := b.Status("htip-bob"); err != nil || s.State != Starting || s.Reason != "calling the other gateway" || s.MTU != DefaultMTU {
		t.Errorf("%+v, %v", s, err)
	}
	b.up(homeA())
	b.driver.states["htip-bob"] = driverState{running: true}
	s, err := b.Status("htip-bob")
	if err != nil || s.State != Up || s.In != 10 || s.Out != 20 || len(s.Warnings) != 1 {
		t.Errorf("%+v, %v", s, err)
	}
	// Another address than the one agreed on is not "up".
	b.kernel.ls[0].Peer = addr("8.8.8.8")
	if s, err := b.Status("htip-bob"); err != nil || s.State != Starting {
		t.Errorf("%+v, %v", s, err)
	}
	b.driver.states["htip-bob"] = driverState{ended: true, reason: "the other gateway fell silent"}
	if s, err := b.Status("htip-bob"); err != nil || s.State != Ended || s.Reason == "" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestWatch(t *testing.T) {
	b := newBench(t)
	b.apply(t, Wanted{Tunnels: []Tunnel{homeA()}})
	states := map[string]State{}
	if e := b.look(states, true); len(e) != 0 {
		t.Errorf("nothing happened: %v", e)
	}
	b.up(homeA())
	if e := b.look(states, true); len(e) != 1 || e[0] != (Event{Device: "htip-bob", Up: true}) {
		t.Errorf("up: %v", e)
	}
	if !slices.ContainsFunc(b.kernel.rs, func(r route) bool { return r.Device == "htip-bob" }) {
		t.Errorf("routes: %v", b.kernel.rs)
	}
	b.kernel.ls = nil
	b.kernel.rs = slices.DeleteFunc(b.kernel.rs, func(r route) bool { return r.Device != "" })
	b.driver.states["htip-bob"] = driverState{running: true, reason: "the other gateway fell silent"}
	if e := b.look(states, true); len(e) != 1 || e[0] != (Event{Device: "htip-bob", Reason: "the other gateway fell silent"}) {
		t.Errorf("down: %v", e)
	}
	b.driver.states["htip-bob"] = driverState{ended: true, reason: "the other gateway fell silent"}
	if e := b.look(states, false); len(e) != 1 || !e[0].Ended || e[0].Up {
		t.Errorf("ended: %v", e)
	}
	if e := b.look(states, false); len(e) != 0 {
		t.Errorf("ended twice: %v", e)
	}
	b.apply(t, Wanted{})
	if e := b.look(states, true); len(e) != 0 || len(states) != 0 {
		t.Errorf("after the caller's end: %v, %v", e, states)
	}

	// Whoever hears of a link finds its routes there, whatever the look was for.
	b.apply(t, Wanted{Tunnels: []Tunnel{homeA()}})
	b.up(homeA())
	if e := b.look(states, false); len(e) != 1 || !e[0].Up {
		t.Errorf("up between two rounds: %v", e)
	}
	if !slices.ContainsFunc(b.kernel.rs, func(r route) bool { return r.Device == "htip-bob" }) {
		t.Errorf("up is told before there are routes: %v", b.kernel.rs)
	}
	b.kernel.ls = nil
	b.apply(t, Wanted{})

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	b.apply(t, Wanted{Tunnels: []Tunnel{homeA()}})
	b.up(homeA())
	events := make(chan Event, 1)
	done := make(chan error, 1)
	go func() { done <- b.Watch(ctx, func(e Event) { events <- e }) }()
	if e := <-events; !e.Up {
		t.Errorf("%v", e)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func TestFake(t *testing.T) {
	var f Fake
	ctx, cancel := context.WithCancel(context.Background())
	w := Wanted{Tunnels: []Tunnel{homeA(), {Device: "bad"}}}
	r, err := f.Apply(ctx, w)
	if err != nil || len(r.Changes) != 1 || len(r.Errors) != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := f.Apply(ctx, w); err != nil || len(r.Changes) != 0 {
		t.Errorf("second time: %+v, %v", r, err)
	}
	events := make(chan Event, 2)
	done := make(chan error)
	go func() { done <- f.Watch(ctx, func(e Event) { events <- e }) }()
	for f.Watchers() == 0 {
		time.Sleep(time.Millisecond)
	}
	f.Raise(Event{Device: "htip-bob", Up: true})
	if e := <-events; !e.Up {
		t.Errorf("%v", e)
	}
	if s, err := f.Status("htip-bob"); err != nil || s.State != Up {
		t.Errorf("%+v, %v", s, err)
	}
	cancel()
	<-done
	if err := f.CleanUp(context.Background()); err != nil || f.Cleaned() != 1 {
		t.Error(err)
	}
	if _, err := f.Status("htip-bob"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if len(f.Applied()) != 2 || len(f.Wanted().Tunnels) != 0 || !f.Capabilities(ctx)[0].Possible() {
		t.Error("record")
	}
}
