package datapath

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"htip/src/slog"
)

// fakeXfrm is the kernel's IPsec in memory. Like the real one it shows the
// driver nothing but what carries our mark.
type fakeXfrm struct {
	as     []espSA
	ps     []espPolicy
	calls  []string
	absent map[string]error // by algorithm
	addErr error
	policy func(call string) // told of changes of policies, if set
}

var _ xfrmKernel = (*fakeXfrm)(nil)

func (f *fakeXfrm) sas(reqid uint32) ([]espSA, error) {
	return slices.DeleteFunc(slices.Clone(f.as), func(s espSA) bool { return !espOurs(s.reqid) || reqid != 0 && s.reqid != reqid }), nil
}

func (f *fakeXfrm) policies(reqid uint32) ([]espPolicy, error) {
	return slices.DeleteFunc(slices.Clone(f.ps), func(p espPolicy) bool { return !espOurs(p.reqid) || reqid != 0 && p.reqid != reqid }), nil
}

func sameSA(a, b *espSA) bool { return a.dst == b.dst && a.spi == b.spi }

func (f *fakeXfrm) addSA(s *espSA) error {
	if err := f.absent[s.algorithm]; err != nil {
		return err
	}
	if f.addErr != nil {
		return f.addErr
	}
	if slices.ContainsFunc(f.as, func(o espSA) bool { return sameSA(&o, s) }) {
		return unix.EEXIST
	}
	if len(s.key) == 0 || s.hard <= s.soft {
		return unix.EINVAL
	}
	told := *s
	told.added = time.Now().Unix()
	f.as = append(f.as, told)
	f.calls = append(f.calls, "+sa")
	return nil
}

func (f *fakeXfrm) addPolicy(p *espPolicy) error {
	if slices.ContainsFunc(f.ps, func(o espPolicy) bool { return o.sel == p.sel && o.in == p.in }) {
		return unix.EEXIST
	}
	told := *p
	told.index = uint32(8*len(f.calls) + 1)
	f.ps = append(f.ps, told)
	f.calls = append(f.calls, "+policy")
	if f.policy != nil {
		f.policy("made")
	}
	return nil
}

func (f *fakeXfrm) removeSA(s *espSA) error {
	f.as = slices.DeleteFunc(f.as, func(o espSA) bool { return sameSA(&o, s) })
	return nil
}

func (f *fakeXfrm) removePolicy(p *espPolicy) error {
	if p.index == 0 {
		return unix.EINVAL
	}
	if f.policy != nil {
		f.policy("removed")
	}
	f.ps = slices.DeleteFunc(f.ps, func(o espPolicy) bool { return o.index == p.index })
	return nil
}

// foreign are an association and a policy of somebody else.
func foreign() *fakeXfrm {
	return &fakeXfrm{
		as: []espSA{{src: wan(1), dst: wan(2), spi: 0x1001, reqid: 1}},
		ps: []espPolicy{{reqid: 1, sel: espSelector{dport: 500}, in: true, index: 77}},
	}
}

func (f *fakeXfrm) String() string {
	var b strings.Builder
	for i := range f.as {
		fmt.Fprintf(&b, "%v>%v %08x %x %v\n", f.as[i].src, f.as[i].dst, f.as[i].spi, f.as[i].reqid, f.as[i].sel)
	}
	for i := range f.ps {
		fmt.Fprintf(&b, "%v %x\n", f.ps[i].in, f.ps[i].reqid)
	}
	return b.String()
}

// newESPBench is a driver whose xl2tpd is fakeXl2tpd and whose keeper looks only
// when it is told to.
func newESPBench(t *testing.T, mode string) (*esp, *fakeXfrm) {
	t.Helper()
	k := foreign()
	e := newESP(newL2TP(t, mode), k, func(context.Context, string) {}, time.Hour, slog.New(slog.DiscardHandler))
	e.keeping = true
	return e, k
}

func inESP(t Tunnel) Tunnel {
	t.Protocol, t.Cipher, t.Local, t.Secret = ProtocolL2TPESP, CipherChaCha, addr("198.51.100.9"), espSecret(1)
	return t
}

func TestESPTunnelsThatCantBe(t *testing.T) {
	for _, c := range []struct {
		change func(*Tunnel)
		want   string
	}{
		{func(t *Tunnel) { t.Local = t.Remote.Addr() }, "needs to know"},
		{func(t *Tunnel) { t.Local = addr("::1") }, "needs to know"},
		{func(t *Tunnel) { t.LocalPort = 0 }, "needs to know"},
		{func(t *Tunnel) { t.Cipher = "" }, "cipher"},
		{func(t *Tunnel) { t.Cipher = "rot13" }, "cipher"},
		{func(t *Tunnel) { t.Secret = t.Secret[:40] }, "secret of 40 bytes"},
	} {
		tun := inESP(homeB())
		if err := tun.check(); err != nil {
			t.Fatal(err)
		}
		c.change(&tun)
		if err := tun.check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v, want %q", err, c.want)
		}
	}
	if tun := inESP(homeB()); tun.mtu() != DefaultMTU {
		t.Error(tun.mtu())
	}
	tun := inESP(homeB())
	for tun.MTU = MaxMTU; tun.MTU > minMTU; tun.MTU-- {
		// IP, ESP, IV, then UDP, L2TP and PPP, the packet and two octets padded to four, ICV.
		if total := 20 + 8 + 8 + (8+10+tun.mtu()+2+3)/4*4 + 16; total > 1500 {
			t.Fatalf("a packet of %d needs %d bytes", tun.mtu(), total)
		}
	}
}

func TestESPLife(t *testing.T) {
	e, k := newESPBench(t, "usual")
	tun, ctx := inESP(server(t)), context.Background()
	before := k.String()
	mustBe := func(want bool, when string) {
		t.Helper()
		if ok, err := e.runs(tun); err != nil || ok != want {
			t.Errorf("%s: runs %v, %v", when, ok, err)
		}
	}
	mustBe(false, "before the start")
	if err := e.start(ctx, tun); err != nil {
		t.Fatal(err)
	}
	mustBe(true, "after the start")
	if got := strings.Join(k.calls, " "); got != "+sa +sa +sa +sa +policy +policy" {
		t.Errorf("order: %s", got)
	}
	for _, p := range k.ps[1:] {
		want := espSelector{dst: tun.Remote.Addr().As4(), sport: tun.LocalPort}
		if p.in { // from anybody
			want = espSelector{dport: tun.LocalPort}
		}
		if p.sel != want {
			t.Errorf("%+v", p)
		}
	}
	text := fmt.Sprint(l2tpFiles(tun.withoutESP(), "/x"))
	if config, err := os.ReadFile(filepath.Join(e.l2tp.dir(tun.Device), fileSecrets)); err != nil || len(config) != 4+2*espL2TPSecret+1 || !strings.Contains(text, string(config)) {
		t.Errorf("xl2tpd is told %q, %v", config, err)
	}
	for name, change := range map[string]func(*Tunnel){
		"another secret": func(x *Tunnel) { x.Secret = espSecret(2) },
		"cipher":         func(x *Tunnel) { x.Cipher = CipherAES },
		"own address":    func(x *Tunnel) { x.Local = addr("198.51.100.10") },
		"remote":         func(x *Tunnel) { x.Remote = homeA().Remote },
		"port":           func(x *Tunnel) { x.LocalPort++ },
		"role":           func(x *Tunnel) { x.Server = false },
	} {
		other := tun
		change(&other)
		if ok, err := e.runs(other); ok || err != nil {
			t.Errorf("%s: runs %v, %v", name, ok, err)
		}
	}

	// A new process finds everything without having started it.
	fresh := newESP(e.l2tp, k, e.load, time.Hour, e.log)
	fresh.keeping = true
	was := k.String()
	old := tun
	old.Old = true
	if ok, err := fresh.runs(old); !ok || err != nil {
		t.Errorf("a new process: %v, %v", ok, err)
	}
	if err := fresh.adopt(old); err != nil || k.String() != was {
		t.Errorf("adopted, with %v:\n%s", err, k)
	}
	if devices, err := fresh.held(); err != nil || !slices.Equal(devices, []string{tun.Device}) {
		t.Errorf("held %v, %v", devices, err)
	}
	// Whatever is missing or too much, it does not run.
	for i := range k.ps {
		if k.ps[i].reqid == 1 {
			continue
		}
		kept := slices.Clone(k.ps)
		k.ps = slices.Delete(k.ps, i, i+1)
		mustBe(false, "without a policy")
		k.ps = kept
	}
	kept := slices.Clone(k.as)
	k.as = append(k.as, espSA{src: wan(7), dst: tun.Local.As4(), spi: 4711, reqid: espReqID(tun.Device)})
	mustBe(false, "with an association that does not belong here")
	k.as = slices.DeleteFunc(slices.Clone(kept), func(s espSA) bool { return s.src == tun.Local.As4() })
	mustBe(false, "without one to send by")
	k.as = kept
	mustBe(true, "with all")

	if err := e.end(ctx, tun.Device); err != nil {
		t.Fatal(err)
	}
	if k.String() != before {
		t.Errorf("after the end:\n%s", k)
	}
	// The same keys never begin anew, neither here nor in another process.
	if err := e.start(ctx, tun); !IsPermanent(err) || k.String() != before {
		t.Errorf("a second start with the same secret: %v\n%s", err, k)
	}
	third := newESP(e.l2tp, k, e.load, time.Hour, e.log)
	if err := third.start(ctx, old); !IsPermanent(err) || k.String() != before {
		t.Errorf("a start with a former process's secret: %v\n%s", err, k)
	}
	if err := e.sweep(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(e.l2tp.runDir); err == nil {
		t.Error("the run directory is left")
	}
}

// TestESPOrder: as long as xl2tpd runs, both policies are there, also when it
// does not get ready, and when it can't be ended.
func TestESPOrder(t *testing.T) {
	for _, mode := range []string{"usual", "mute"} {
		e, k := newESPBench(t, mode)
		tun := inESP(server(t))
		before, calls := k.String(), map[string]int{}
		running := func() bool {
			t.Helper()
			pids, err := e.l2tp.daemons(tun.Device)
			if err != nil {
				t.Fatal(err)
			}
			return len(pids) > 0
		}
		k.policy = func(call string) {
			if calls[call]++; running() {
				t.Errorf("%s: a policy is %s while xl2tpd runs", mode, call)
			}
		}
		kill := e.l2tp.proc.kill
		e.l2tp.proc.kill = func(int, syscall.Signal) error { return unix.EPERM }
		limit := 2 * time.Second
		if mode == "usual" {
			limit = 20 * time.Second
		}
		ctx, cancel := context.WithTimeout(context.Background(), limit)
		if err := e.start(ctx, tun); (err == nil) != (mode == "usual") || !running() {
			t.Fatalf("%s: started: %v", mode, err)
		}
		cancel()
		if err := e.end(context.Background(), tun.Device); err == nil || !running() || calls["removed"] > 0 {
			t.Errorf("%s: an end that must fail: %v, %v", mode, err, calls)
		}
		e.l2tp.proc.kill = kill
		if err := e.end(context.Background(), tun.Device); err != nil || calls["made"] != 2 || calls["removed"] != 2 || k.String() != before {
			t.Errorf("%s: %v, %v\n%s", mode, err, calls, k)
		}
	}
}

// A stranger's packets don't get as far as the policies.
func TestESPHasAKnockRule(t *testing.T) {
	tun := inESP(homeB())
	var got []string
	for _, c := range chainsFor(Wanted{Tunnels: []Tunnel{tun}}) {
		if c.what != "" {
			got = append(got, c.match)
			got = append(got, c.rules...)
		}
	}
	port := fmt.Sprintf("-p udp -m udp --dport %d", tun.LocalPort)
	if want := []string{port, fmt.Sprintf("! -s %s/32 %s -j DROP", tun.Remote.Addr(), port)}; !slices.Equal(got, want) {
		t.Errorf("%q, not %q", got, want)
	}
}

func TestESPStartFails(t *testing.T) {
	ctx := context.Background()
	for _, c := range []struct {
		mode string
		make func(*fakeXfrm, Tunnel)
		want string
	}{
		{"fails", func(*fakeXfrm, Tunnel) {}, "xl2tpd"},
		{"usual", func(k *fakeXfrm, _ Tunnel) { k.addErr = unix.ENOMEM }, "cannot allocate memory"},
		{"usual", func(k *fakeXfrm, tun Tunnel) {
			keys := newESPKeys(tun.Secret, tun.Cipher, false)
			k.as = append(k.as, espSA{src: wan(7), dst: tun.Local.As4(), spi: keys.spi(2), reqid: 1})
		}, "another program"},
		{"usual", func(k *fakeXfrm, tun Tunnel) {
			k.ps = append(k.ps, espPolicy{sel: espSelector{dport: tun.LocalPort}, in: true, reqid: 1, index: 78})
		}, "another program"},
	} {
		e, k := newESPBench(t, c.mode)
		tun := inESP(server(t))
		c.make(k, tun)
		before := k.String()
		if err := e.start(ctx, tun); err == nil || !strings.Contains(err.Error(), c.want) || IsPermanent(err) {
			t.Errorf("%v, want %q", err, c.want)
		}
		if k.String() != before {
			t.Errorf("%s: something is left:\n%s", c.want, k)
		}
	}
}

// TestESPOrphans: associations and policies whose files and processes are gone
// are found by their mark and removed; those of others stay.
func TestESPOrphans(t *testing.T) {
	e, k := newESPBench(t, "usual")
	before := k.String()
	tun := inESP(homeB())
	if err := e.guard(&tun); err != nil {
		t.Fatal(err)
	}
	devices, err := e.held()
	if err != nil || len(devices) != 1 || validDevice(devices[0]) {
		t.Fatalf("%v, %v", devices, err)
	}
	if err := e.end(context.Background(), devices[0]); err != nil || k.String() != before {
		t.Errorf("%v\n%s", err, k)
	}
}

// TestESPKeeper: keys go on by the counters, and a tunnel that has ended gets
// none.
func TestESPKeeper(t *testing.T) {
	e, k := newESPBench(t, "usual")
	tun, ctx := inESP(server(t)), context.Background()
	if err := e.start(ctx, tun); err != nil {
		t.Fatal(err)
	}
	keys := newESPKeys(tun.Secret, tun.Cipher, true)
	peers := newESPKeys(tun.Secret, tun.Cipher, false)
	list := func() (out, in []uint32) {
		for i := range k.as {
			if s := &k.as[i]; s.src == tun.Local.As4() {
				n, _ := keys.generation(s.spi)
				out = append(out, n)
			} else if s.dst == tun.Local.As4() {
				n, _ := peers.generation(s.spi)
				in = append(in, n)
			}
		}
		slices.Sort(out)
		slices.Sort(in)
		return out, in
	}
	use := func(spi uint32) {
		for i := range k.as {
			if k.as[i].spi == spi {
				k.as[i].packets++
			}
		}
	}
	check := func(at time.Duration, want string) {
		t.Helper()
		e.mu.Lock()
		e.look(time.Now().Add(at))
		e.mu.Unlock()
		out, in := list()
		if got := fmt.Sprint(out, in); got != want {
			t.Errorf("after %v: %s, not %s", at, got, want)
		}
	}
	check(time.Minute, "[0] [0 1 2]")
	check(2*time.Hour, "[0] [0 1 2]") // nobody has used it
	use(keys.spi(0))
	use(peers.spi(0))
	check(2*time.Hour, "[0 1] [0 1 2]")
	check(2*time.Hour+10*time.Second, "[1] [0 1 2]")
	use(peers.spi(1)) // the other end has changed, too
	check(2*time.Hour+20*time.Second, "[1] [0 1 2 3]")
	use(peers.spi(2))
	check(2*time.Hour+30*time.Second, "[1] [1 2 3 4]")
	if !k.isRunning(e, tun) {
		t.Error("it does not run any more")
	}
	// Somebody takes the policies away: they are back at the next look.
	kept := slices.Clone(k.ps)
	k.ps = k.ps[:1]
	check(2*time.Hour+35*time.Second, "[1] [1 2 3 4]")
	if len(k.ps) != len(kept) || !k.isRunning(e, tun) {
		t.Errorf("policies: %+v", k.ps)
	}
	k.addErr = errors.New("no memory")
	use(peers.spi(3))
	check(2*time.Hour+40*time.Second, "[1] [2 3 4]")
	k.addErr = nil
	check(2*time.Hour+50*time.Second, "[1] [2 3 4 5]")
	if err := e.end(ctx, tun.Device); err != nil {
		t.Fatal(err)
	}
	check(10*time.Hour, "[] []")
}

func (f *fakeXfrm) isRunning(e *esp, tun Tunnel) bool {
	ok, err := e.runs(tun)
	return ok && err == nil
}

func TestESPMissing(t *testing.T) {
	ctx := context.Background()
	none := map[string]error{"rfc4106(gcm(aes))": unix.ENOSYS, "rfc7539esp(chacha20,poly1305)": unix.EPROTONOSUPPORT}
	for _, c := range []struct {
		absent  map[string]error
		loads   map[string]bool // modules after which everything is there
		ciphers string
		missing string
	}{
		{none, nil, "[]", "install kmod-ipsec, kmod-ipsec4, kmod-crypto-seqiv and kmod-crypto-chacha20poly1305"},
		{map[string]error{"rfc4106(gcm(aes))": unix.ENOSYS}, nil, "[chacha20-poly1305]", ""},
		{map[string]error{"rfc7539esp(chacha20,poly1305)": unix.ENOSYS}, nil, "[aes-gcm-128]", ""},
		{none, map[string]bool{"esp4": true}, "[aes-gcm-128 chacha20-poly1305]", ""},
		{nil, nil, "[aes-gcm-128 chacha20-poly1305]", ""},
	} {
		e, k := newESPBench(t, "usual")
		before := k.String()
		k.absent = c.absent
		loaded := 0
		e.load = func(_ context.Context, m string) {
			if loaded++; c.loads[m] {
				k.absent = nil
			}
		}
		missing := strings.Join(e.missing(ctx), "; ")
		if got, _ := e.find(ctx, false); fmt.Sprint(got) != c.ciphers || !strings.Contains(missing, c.missing) || c.missing == "" && missing != "" {
			t.Errorf("%v, %q", got, missing)
		}
		if c.absent == nil && loaded > 0 {
			t.Error("modules are loaded that nobody needs")
		}
		if k.String() != before {
			t.Errorf("a probe is left:\n%s", k)
		}
	}
	e, k := newESPBench(t, "usual")
	k.absent = none
	e.l2tp.xl2tpd = "/nonexistent"
	e.load = func(context.Context, string) { t.Error("modules are loaded where nobody wants them") }
	if missing := strings.Join(e.missing(ctx), "; "); !strings.Contains(missing, "xl2tpd is not installed") || !strings.Contains(missing, "kmod-ipsec4") {
		t.Error(missing)
	}
	for text, want := range map[string]bool{
		"": false,
		"system type\t\t: MIPS Malta\nASEs implemented\t: mips16 dsp\n": false,
		"Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32\n":      true,
		"Features\t: half thumb fastmult vfp edsp neon vfpv3\n":         false,
		"flags\t\t: fpu vme ssse3 aes xsave\n":                          true,
	} {
		e, _ := newESPBench(t, "usual")
		e.proc = t.TempDir()
		if err := os.WriteFile(e.proc+"/cpuinfo", []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if e.fast() != want {
			t.Errorf("%q: fast %v", text, !want)
		}
	}
}
