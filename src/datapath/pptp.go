package datapath

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// pptp makes tunnels by PPTP (RFC 2637). A client is a pppd that calls by its
// plugin pptp.so, with the data in the kernel, or by the program pptp; a server
// is a pptpd that starts a pppd for the call. The files are in
// <run dir>/<device>/, and pppd is looked after as L2TP's is.
//
// pppd has some paths built in: where it looks for the secret of somebody who
// calls, and for options that are the system's. The pppds of a tunnel run in a
// mount namespace in which a directory of the tunnel lies over /etc/ppp. So the
// system's files are neither used nor touched, and the secret is in no other
// file. Such a namespace goes with its processes.
//
// The programs start others, some of which overwrite their command lines.
// Therefore all of a tunnel carry its directory in their environment.
type pptp struct {
	*l2tp
	call, pptpd string                          // programs
	etc         string                          // "/etc/ppp"
	kernel      func(ctx context.Context) error // nil: this kernel has PPTP
	module      func(name string) bool          // this kernel has it
	alone       bool                            // no mount namespace, for tests

	mu   sync.Mutex
	ways *pptpWays // as last looked at
}

func newPPTP(o Options, module func(string) bool) *pptp {
	return &pptp{
		l2tp: &l2tp{
			runDir: filepath.Join(o.RunDir, ProtocolPPTP), pppd: o.Pppd, plugins: o.PPTP, varRun: o.VarRun,
			proc: processes{proc: o.Proc, kill: syscall.Kill},
		},
		call: o.Pptp, pptpd: o.Pptpd, etc: "/etc/ppp",
		kernel: loaded(kernelPPTP, o.run, o.Modprobe, "pptp"), module: module,
	}
}

// PX_PROTO_PPTP of linux/if_pppox.h.
const pxProtoPPTP = 2

// kernelPPTP asks the kernel for the socket that pppd's plugin uses.
func kernelPPTP() error {
	fd, err := unix.Socket(unix.AF_PPPOX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, pxProtoPPTP)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

// missing loads nothing unless the programs are there: PPTP is for the few who
// ask for it.
func (p *pptp) missing(ctx context.Context) []string {
	var missing []string
	w := p.look()
	if w.pppd == "" {
		missing = append(missing, "pppd is not installed (package ppp)")
	} else if plugin, _ := filepath.Glob(p.plugins); w.call == "" && len(plugin) == 0 {
		missing = append(missing, "pppd has no PPTP plugin (package ppp-mod-pptp), and there is no program pptp")
	}
	if !w.served {
		missing = append(missing, "pptpd is not installed (package pptpd)")
	}
	if len(missing) > 0 {
		return missing
	}
	if w.call == "" {
		if err := p.kernel(ctx); err != nil {
			missing = append(missing, fmt.Sprintf("kernel has no PPTP (module pptp): install kmod-pptp (%v)", err))
		}
	}
	if !p.module("ppp_mppe") {
		missing = append(missing, "kernel has no MPPE (module ppp_mppe): install kmod-mppe")
	}
	return missing
}

// look finds out how this router's programs are used.
func (p *pptp) look() pptpWays {
	var w pptpWays
	w.pppd, _ = lookPath(p.pppd)
	if program, err := os.ReadFile(w.pppd); err == nil {
		w.stock = bytes.Contains(program, []byte("require-mppe-128"))
	}
	if plugin, err := filepath.Glob(p.plugins); err != nil || len(plugin) == 0 {
		w.call, _ = lookPath(p.call)
	}
	_, err := lookPath(p.pptpd)
	w.served = err == nil
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ways = &w
	return w
}

func (p *pptp) files(t Tunnel) map[string]string {
	p.mu.Lock()
	w := p.ways
	p.mu.Unlock()
	if w == nil {
		now := p.look()
		w = &now
	}
	return pptpFiles(t, p.dir(t.Device), *w)
}

// markVar names the tunnel's directory in the environment of its programs, which
// has little else in it.
const markVar = "HTIP_TUNNEL="

// marked are the processes of a tunnel.
func (p *pptp) marked(device string) ([]int, error) {
	mark := markVar + p.dir(device)
	return p.proc.with("environ", func(env []string) bool { return slices.Contains(env, mark) })
}

func (p *pptp) held() ([]string, error) {
	devices, err := p.l2tp.held()
	if err != nil {
		return nil, err
	}
	// Processes whose files somebody has removed.
	_, err = p.proc.with("environ", func(env []string) bool {
		for _, e := range env {
			if d, ok := strings.CutPrefix(e, markVar+p.runDir+"/"); ok && validDevice(d) && !slices.Contains(devices, d) {
				devices = append(devices, d)
			}
		}
		return false
	})
	return devices, err
}

// program is what the tunnel lives by: pppd, or the pptpd that waits for the
// call that starts it.
func (p *pptp) program(t Tunnel) ([]int, error) {
	if pids, err := p.ppp(t.Device); len(pids) > 0 || err != nil || !t.Server {
		return pids, err
	}
	conf := filepath.Join(p.dir(t.Device), filePPTPD)
	is := func(argv []string) bool { return hasPair(argv, "-c", conf) }
	if pid := pidFile(filepath.Join(p.dir(t.Device), filePid)); is(p.proc.argv(pid)) {
		return []int{pid}, nil
	}
	return p.proc.find(is)
}

func (p *pptp) runs(t Tunnel) (bool, error) {
	dir := p.dir(t.Device)
	for name, want := range p.files(t) {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return false, fmt.Errorf("compare tunnel %s: %w", t.Device, err)
		}
		if string(have) != want {
			return false, nil
		}
	}
	pids, err := p.program(t)
	return len(pids) > 0, err
}

// adopt has nothing to restore.
func (p *pptp) adopt(Tunnel) error { return nil }

func (p *pptp) start(ctx context.Context, t Tunnel) error {
	dir := p.dir(t.Device)
	if strings.ContainsAny(dir, " \t\n\"'\\;#") {
		return permanent("run directory %q: character that can't stand in a configuration file", p.runDir)
	}
	if t.listening() {
		return permanent("a PPTP server can't wait for its addresses")
	}
	if err := p.end(ctx, t.Device); err != nil {
		return err
	}
	if t.Server && p.listens() {
		return fmt.Errorf("TCP port %d belongs to another PPTP server on this router: end that one (/etc/init.d/pptpd stop), or take pptp out of list protocol", pptpPort)
	}
	sockets := filepath.Join(p.varRun, "pptp")
	for _, d := range []string{filepath.Join(dir, dirEtc), filepath.Join(dir, dirRun), sockets} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("make tunnel directory: %w", err)
		}
	}
	if err := p.noteDatabase(); err != nil {
		return fmt.Errorf("note pppd's database: %w", err)
	}
	for name, content := range p.files(t) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("write tunnel file: %w", err)
		}
	}
	name, args := p.pppd, []string{"file", filepath.Join(dir, fileOptions)}
	if t.Server {
		// A call that says nothing holds the others up for -t seconds.
		name, args = p.pptpd, []string{"-f", "-c", filepath.Join(dir, filePPTPD), "-p", filepath.Join(dir, filePid), "-t", "3"}
	}
	program, err := lookPath(name)
	if err != nil {
		return permanent("%s is not installed: %w", name, err)
	}
	var over [][2]string
	if !p.alone {
		over = [][2]string{{filepath.Join(dir, dirEtc), p.etc}, {filepath.Join(dir, dirRun), sockets}}
	}
	pid := 0
	if err := apart(over, func() (err error) {
		pid, err = p.children.start(program, args, filepath.Join(dir, fileLog), markVar+dir, "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C")
		return err
	}); err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", name, err), p.end(context.WithoutCancel(ctx), t.Device))
	}
	if !t.Server {
		return nil
	}
	deadline := time.Now().Add(startTimeout)
	for !p.listens() {
		ended := p.children.reap(pid)
		if ended || time.Now().After(deadline) || !pause(ctx, 20*time.Millisecond) {
			err := fmt.Errorf("pptpd does not listen on TCP port %d (the system's log says why)", pptpPort)
			return errors.Join(err, p.end(context.WithoutCancel(ctx), t.Device))
		}
	}
	return nil
}

// listens tells whether somebody waits for PPTP calls.
func (p *pptp) listens() bool {
	for _, name := range []string{"tcp", "tcp6"} {
		b, _ := os.ReadFile(filepath.Join(p.proc.proc, "net", name))
		if listening(string(b), pptpPort) {
			return true
		}
	}
	return false
}

// listening looks for a port with somebody who listens in /proc/net/tcp.
func listening(table string, port uint16) bool {
	for line := range strings.Lines(table) {
		if f := strings.Fields(line); len(f) > 3 && f[3] == "0A" && boundPort(line, port) {
			return true
		}
	}
	return false
}

// end asks pppd first, which tells the peer's; the rest then ends by itself, or
// is ended.
func (p *pptp) end(ctx context.Context, device string) error {
	defer p.children.reap(0)
	if _, err := p.proc.stop(ctx, endPatience, func() ([]int, error) { return p.ppps(device) }); err != nil {
		return fmt.Errorf("end pppd of %s: %w", device, err)
	}
	if _, err := p.proc.stop(ctx, endPatience, func() ([]int, error) { return p.marked(device) }); err != nil {
		return fmt.Errorf("end PPTP of %s: %w", device, err)
	}
	return p.l2tp.end(ctx, device) // files, and what nobody has marked
}

// sweep removes the directories, if they are empty.
func (p *pptp) sweep() error {
	err := p.l2tp.sweep()
	_ = os.Remove(p.runDir)
	_ = os.Remove(filepath.Join(p.varRun, "pptp"))
	return err
}

func (p *pptp) state(t Tunnel) (driverState, error) {
	p.children.reap(0)
	pids, err := p.program(t)
	if err != nil {
		return driverState{}, err
	}
	name := "pppd"
	if t.Server {
		name = "pptpd"
	}
	s, err := p.observe(t, len(pids) > 0, name)
	s.kernel = strings.Contains(p.files(t)[fileOptions], "\nplugin ")
	return s, err
}
