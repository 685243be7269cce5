package datapath

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// fakeMark is in the environment of what a driver of PPTP starts, and in no
// other program's.
const fakeMark = "HTIP_TUNNEL"

// fakePPTP is what the test binary does when it is started as pptpd or pppd: it
// listens, or leaves its number where pppd does, and ends when it is told to. The
// word in the file "mode" beside the run directory says how else it behaves.
func fakePPTP(args []string) int {
	dir := os.Getenv(fakeMark)
	word, _ := os.ReadFile(filepath.Join(dir, "../../../mode"))
	mode := string(word)
	if mode == "fails" {
		return 1
	}
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM)
	if mode == "deaf" {
		signal.Ignore(syscall.SIGTERM)
	}
	if slices.Contains(args, filepath.Join(dir, filePPTPD)) {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: pptpPort})
		if err != nil {
			return 1
		}
		defer l.Close()
	}
	if mode == "forks" { // what it starts shows another command line
		cmd := exec.Command("sleep", "1000")
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if cmd.Start() != nil {
			return 1
		}
	}
	select {
	case <-term:
	case <-time.After(time.Minute):
	}
	return 0
}

func inPPTP(t Tunnel) Tunnel {
	t.Protocol = ProtocolPPTP
	return t
}

// newTestPPTP is a driver whose programs are fakePPTP.
func newTestPPTP(t *testing.T, mode string) *pptp {
	t.Helper()
	exe, dir := ourselves(t), t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "mode"), []byte(mode), 0o600); err != nil {
		t.Fatal(err)
	}
	p := newPPTP(Options{RunDir: filepath.Join(dir, "run"), Pppd: exe, Pptp: exe, Pptpd: exe, PPTP: exe, VarRun: dir, Proc: "/proc"}, func(string) bool { return true })
	p.alone, p.kernel = true, func(context.Context) error { return nil }
	t.Cleanup(func() {
		devices, err := p.held()
		for _, d := range devices {
			err = errors.Join(err, p.end(context.Background(), d))
		}
		if err != nil {
			t.Error(err)
		}
	})
	return p
}

// TestPPTPFiles: what pppd and pptpd get, for both kinds of pppd and both ways
// to call.
func TestPPTPFiles(t *testing.T) {
	var b strings.Builder
	for _, c := range []struct {
		name string
		t    Tunnel
		w    pptpWays
	}{
		{"client, OpenWrt", homeA(), pptpWays{}},
		{"client, the program pptp", homeA(), pptpWays{call: "/usr/sbin/pptp", stock: true}},
		{"server, OpenWrt", homeB(), pptpWays{pppd: "/usr/sbin/pppd"}},
		{"server, pppd as its authors have it", homeB(), pptpWays{pppd: "/usr/sbin/pppd", stock: true}},
	} {
		files := pptpFiles(inPPTP(c.t), "/var/run/htip/pptp/"+c.t.Device, c.w)
		for _, f := range sortedKeys(files) {
			fmt.Fprintf(&b, "==> %s: %s\n%s", c.name, f, files[f])
		}
	}
	golden(t, "pptp.txt", b.String())
}

// TestPPTPFilesHaveNoForeignLines: whatever check lets pass can't break out of
// its word, and the secret stands where it must and nowhere else.
func TestPPTPFilesHaveNoForeignLines(t *testing.T) {
	for _, tun := range []Tunnel{inPPTP(homeA()), inPPTP(homeB())} {
		plain := pptpFiles(tun, "/x", pptpWays{call: "/pptp"})
		tun.Name = "bob\nconnect \"touch /tmp/x\"\nplugin /tmp/x.so"
		for _, secret := range []string{"line\nbreak ; \" ' # more", "\x00\x01\x02\x03 \t\r\n\\\"'`$(reboot)", strings.Repeat("\n", maxSecret)} {
			tun.Secret = []byte(secret)
			if err := tun.check(); err != nil {
				t.Fatal(err)
			}
			told := 0
			for name, text := range pptpFiles(tun, "/x", pptpWays{call: "/pptp"}) {
				word := fmt.Sprintf("%x", secret)
				told += strings.Count(text, word)
				text = strings.Replace(text, word, fmt.Sprintf("%x", homeA().Secret), 1)
				if text != plain[name] {
					t.Errorf("%s:\n%s", name, text)
				}
			}
			if told != 1 {
				t.Errorf("the secret stands in %d places", told)
			}
		}
	}
}

func TestPPTPLife(t *testing.T) {
	for _, mode := range []string{"usual", "deaf", "forks"} {
		for _, tun := range []Tunnel{inPPTP(homeB()), inPPTP(homeA())} {
			t.Run(fmt.Sprint(mode, ", server ", tun.Server), func(t *testing.T) { testPPTPLife(t, mode, tun) })
		}
	}
}

func testPPTPLife(t *testing.T, mode string, tun Tunnel) {
	p, ctx := newTestPPTP(t, mode), context.Background()
	if ok, err := p.runs(tun); ok || err != nil {
		t.Fatalf("runs before the start: %t, %v", ok, err)
	}
	if err := p.start(ctx, tun); err != nil {
		t.Fatal(err)
	}
	leavePid(t, p, tun)
	if mode == "usual" { // a second start ends what was there
		before, err := p.program(tun)
		if err == nil {
			err = p.start(ctx, tun)
		}
		if err != nil {
			t.Fatal(err)
		}
		leavePid(t, p, tun)
		if after, err := p.marked(tun.Device); err != nil || len(before) != 1 || len(after) != 1 || before[0] == after[0] {
			t.Errorf("after a second start %v run, before %v, %v", after, before, err)
		}
	}
	if p.listens() != tun.Server {
		t.Errorf("port %d: %t", pptpPort, p.listens())
	}
	// Others may read nothing.
	err := filepath.WalkDir(p.runDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		want := fs.FileMode(0o600)
		if d.IsDir() {
			want = 0o700
		}
		if st, err := d.Info(); err != nil || st.Mode().Perm() != want {
			t.Errorf("%s: %v, %v", path, st.Mode(), err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	// A new life after kill -9 finds it, and finds a difference.
	again := newTestPPTP(t, mode)
	again.l2tp.runDir, again.l2tp.varRun = p.runDir, p.varRun
	if ok, err := again.runs(tun); !ok || err != nil {
		t.Errorf("a new life: %t, %v", ok, err)
	}
	for what, change := range map[string]func(*Tunnel){
		"MTU": func(t *Tunnel) { t.MTU = 1300 }, "secret": func(t *Tunnel) { t.Secret = []byte("fedcba9876543210") }, "addresses": func(t *Tunnel) { t.PeerAddr = addr("10.0.2.9") },
	} {
		other := tun
		change(&other)
		if ok, err := again.runs(other); ok || err != nil {
			t.Errorf("another %s: %t, %v", what, ok, err)
		}
	}
	if s, err := again.state(tun); err != nil || !s.running || s.ended {
		t.Errorf("%+v, %v", s, err)
	}
	// Even with its files gone, what runs is found: it is marked.
	if mode == "forks" {
		if err := os.RemoveAll(p.dir(tun.Device)); err != nil {
			t.Fatal(err)
		}
	}
	if held, err := again.held(); err != nil || !slices.Equal(held, []string{tun.Device}) {
		t.Errorf("held: %v, %v", held, err)
	}
	if err := again.end(ctx, tun.Device); err != nil {
		t.Fatal(err)
	}
	if pids, err := p.marked(tun.Device); err != nil || len(pids) != 0 {
		t.Errorf("still running: %v, %v", pids, err)
	}
	if s, err := p.state(tun); err != nil || s.running || !s.ended || s.reason == "" {
		t.Errorf("after the end: %+v, %v", s, err)
	}
	if held, err := p.held(); err != nil || len(held) != 0 {
		t.Errorf("held after the end: %v, %v", held, err)
	}
	if err := again.end(ctx, tun.Device); err != nil {
		t.Errorf("end of nothing: %v", err)
	}
	if err := p.sweep(); err != nil {
		t.Error(err)
	}
	for _, left := range []string{p.runDir, filepath.Join(p.varRun, "pptp"), filepath.Join(p.varRun, tun.Device+".pid")} {
		if _, err := os.Stat(left); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("left: %s, %v", left, err)
		}
	}
}

// leavePid does for a client what pppd does.
func leavePid(t *testing.T, p *pptp, tun Tunnel) {
	t.Helper()
	if tun.Server {
		return
	}
	// The kernel tells of a program's start before it shows the environment.
	pids, err := p.marked(tun.Device)
	for i := 0; i < 200 && err == nil && len(pids) == 0; i++ {
		time.Sleep(5 * time.Millisecond)
		pids, err = p.marked(tun.Device)
	}
	if err != nil || len(pids) == 0 {
		t.Fatalf("nothing has started: %v", err)
	}
	if err := os.WriteFile(filepath.Join(p.varRun, tun.Device+".pid"), fmt.Appendln(nil, pids[0]), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestPPTPStartFails(t *testing.T) {
	ctx, tun := context.Background(), inPPTP(homeB())
	check := func(name string, err error, permanent bool, want string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), want) || IsPermanent(err) != permanent {
			t.Errorf("%s: %v, permanent %t", name, err, IsPermanent(err))
		}
		if err != nil && strings.Contains(err.Error(), fmt.Sprintf("%x", tun.Secret)) {
			t.Errorf("%s: the error tells the secret: %v", name, err)
		}
	}
	p := newTestPPTP(t, "fails")
	check("ends at once", p.start(ctx, tun), false, "does not listen on TCP port 1723")
	if held, err := p.held(); err != nil || len(held) != 0 {
		t.Errorf("left: %v, %v", held, err)
	}

	// Somebody else's server is left alone, and said what to do about.
	l, err := net.ListenTCP("tcp", &net.TCPAddr{Port: pptpPort})
	if err != nil {
		t.Fatal(err)
	}
	p = newTestPPTP(t, "usual")
	check("another server", p.start(ctx, tun), false, "belongs to another PPTP server on this router: end that one (/etc/init.d/pptpd stop), or take pptp out of list protocol")
	if held, err := p.held(); err != nil || len(held) != 0 {
		t.Errorf("left: %v, %v", held, err)
	}
	if err := p.start(ctx, inPPTP(homeA())); err != nil {
		t.Errorf("that is nothing to a client: %v", err)
	}
	l.Close()
	if err := p.start(ctx, tun); err != nil {
		t.Errorf("the other server has ended: %v", err)
	}
	if err := p.end(ctx, tun.Device); err != nil {
		t.Error(err)
	}

	p.pptpd = "/no/such/pptpd"
	check("no program", p.start(ctx, tun), true, "not installed")
	early := tun
	early.LocalAddr, early.PeerAddr, early.Own, early.Peer = netip.Addr{}, netip.Addr{}, nil, nil
	check("no addresses", p.start(ctx, early), true, "can't wait for its addresses")
	p.l2tp.runDir = "/tmp/a b"
	check("odd name", p.start(ctx, tun), true, "can't stand")
	p.l2tp.runDir = "/tmp/a\"b"
	check("odd name", p.start(ctx, tun), true, "can't stand")
}

// TestPPTPMissing: who wants PPTP is told what to install.
func TestPPTPMissing(t *testing.T) {
	no, yes := func(context.Context) error { return errors.New("protocol not supported") }, func(context.Context) error { return nil }
	for _, c := range []struct {
		name          string
		pppd, call    bool
		plugin, pptpd bool
		kernel        func(context.Context) error
		mppe          bool
		want          []string
	}{
		{"nothing", false, false, false, false, no, false, []string{"package ppp)", "package pptpd"}},
		{"only pppd", true, false, false, false, no, false, []string{"ppp-mod-pptp", "package pptpd"}},
		{"no modules", true, false, true, true, no, false, []string{"kmod-pptp", "kmod-mppe"}},
		{"no MPPE", true, false, true, true, yes, false, []string{"kmod-mppe"}},
		{"the program needs no module", true, true, false, true, no, true, nil},
		{"the plugin does", true, true, true, true, no, true, []string{"kmod-pptp"}},
		{"everything", true, true, true, true, yes, true, nil},
	} {
		p := newTestPPTP(t, "")
		p.kernel, p.module = c.kernel, func(name string) bool { return name == "ppp_mppe" && c.mppe }
		for there, path := range map[*string]bool{&p.l2tp.pppd: c.pppd, &p.call: c.call, &p.l2tp.plugins: c.plugin, &p.pptpd: c.pptpd} {
			if !path {
				*there = "/no/such/program"
			}
		}
		got := p.missing(context.Background())
		if len(got) != len(c.want) {
			t.Errorf("%s: %q", c.name, got)
			continue
		}
		for i, w := range c.want {
			if !strings.Contains(got[i], w) {
				t.Errorf("%s: %q, want %q", c.name, got[i], w)
			}
		}
	}
}

// TestPPTPKnock: nobody but the peer's address calls.
func TestPPTPKnock(t *testing.T) {
	if c := pptpKnock([]Tunnel{homeB(), inPPTP(homeA())}); len(c.rules) != 0 {
		t.Errorf("without a server: %v", c.rules)
	}
	c := pptpKnock([]Tunnel{homeA(), inPPTP(homeB())})
	if want := []string{"! -s 198.51.100.1/32 -p tcp -m tcp --dport 1723 -j DROP"}; !slices.Equal(c.rules, want) || c.table != "mangle" || c.hook != "INPUT" {
		t.Errorf("%+v", c)
	}
	var none savedRules
	if text, _ := none.plan(chainsFor(Wanted{Tunnels: []Tunnel{inPPTP(homeB())}})); !strings.Contains(text, c.rules[0]) {
		t.Errorf("not among the rules:\n%s", text)
	}
}

// TestOnePPTPServer: port 1723 and the numbers of calls are one home's.
func TestOnePPTPServer(t *testing.T) {
	b, c := inPPTP(homeB()), inPPTP(homeC())
	c.Server, c.LocalPort, c.Own[0].Substitute, c.LocalAddr = true, 17011, pfx("10.7.0.0/24"), addr("10.7.0.1")
	good, errs := Wanted{Tunnels: []Tunnel{b, c}}.check()
	if len(good.Tunnels) != 1 || errs[c.Device] == nil || !strings.Contains(errs[c.Device].Error(), "only one home at a time can call here by PPTP, and alice does") {
		t.Errorf("%d, %v", len(good.Tunnels), errs)
	}
	c.Server = false
	if good, errs := (Wanted{Tunnels: []Tunnel{b, c}}).check(); len(good.Tunnels) != 2 {
		t.Errorf("a call out: %v", errs)
	}
}

func TestListening(t *testing.T) {
	const head = "  sl  local_address rem_address   st tx_queue\n"
	for line, want := range map[string]bool{
		"   0: 00000000:06BB 00000000:0000 0A 00000000:00000000\n":                                                 true,
		"   0: 00000000000000000000000000000000:06BB 00000000000000000000000000000000:0000 0A 00000000:00000000\n": true,
		"   0: 0100007F:06BB 0100007F:9C40 01 00000000:00000000\n":                                                 false, // somebody's call
		"   0: 00000000:06BC 00000000:0000 0A 00000000:00000000\n":                                                 false,
		"   0: 0100007F:9C40 0100007F:06BB 0A 00000000:00000000\n":                                                 false,
		"": false, "0A\n": false,
	} {
		if got := listening(head+line, pptpPort); got != want {
			t.Errorf("%q: %t", line, got)
		}
	}
}

// TestApart: what is laid over is seen by the program and by nobody else, and
// goes with it.
func TestApart(t *testing.T) {
	startsPrograms(t)
	dir := t.TempDir()
	for name, text := range map[string]string{"tunnels/chap-secrets": "ours", "system/chap-secrets": "the system's"} {
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, filepath.Dir(name)), 0o700), os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	// Mounts spread from here, as they do on many systems.
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		t.Skip("needs root")
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	if err := unix.Mount("none", dir, "", unix.MS_SHARED, ""); err != nil {
		t.Fatal(err)
	}
	at := filepath.Join(dir, "system/chap-secrets")
	see := func(over ...[2]string) string {
		var out []byte
		err := apart(over, func() (err error) {
			out, err = exec.Command("cat", at).CombinedOutput()
			return err
		})
		return fmt.Sprint(string(out), err)
	}
	over := [2]string{filepath.Join(dir, "tunnels"), filepath.Join(dir, "system")}
	for range 20 { // on whatever thread
		if got := see(over); got != "ours<nil>" {
			t.Fatalf("with it %q", got)
		}
		if got := see(); got != "the system's<nil>" {
			t.Fatalf("without it %q", got)
		}
		if b, err := os.ReadFile(at); string(b) != "the system's" {
			t.Fatalf("we ourselves %q, %v", b, err)
		}
	}
	if got := see([2]string{filepath.Join(dir, "none"), over[1]}); !strings.Contains(got, "lay ") {
		t.Errorf("nothing to lay over: %q", got)
	}
	if b, err := os.ReadFile("/proc/self/mountinfo"); err != nil || strings.Contains(string(b), over[1]+" ") {
		t.Errorf("a mount stays: %v", err)
	}
}
