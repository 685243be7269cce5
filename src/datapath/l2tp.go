package datapath

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	startTimeout = 5 * time.Second
	endPatience  = 1500 * time.Millisecond

	maxLog  = 64 << 10 // bytes; strangers can make xl2tpd write lines
	keepLog = 8 << 10
)

// l2tp runs one xl2tpd for each tunnel, with its own files in
// <run dir>/<device>/, so that tunnels start, change and die independently of
// each other and of the system's own xl2tpd. The data packets stay in the
// kernel.
type l2tp struct {
	runDir  string // absolute
	xl2tpd  string // program
	pppd    string // program; xl2tpd knows its own path, this one is looked for
	plugins string // pattern of pppd's L2TP plugin
	varRun  string // where pppd leaves <device>.pid
	proc    processes
	kernel  func(ctx context.Context) error // nil: this kernel has L2TP
	user    bool                            // user space will do

	children children

	mu    sync.Mutex
	gates map[string]context.CancelFunc
}

func (l *l2tp) dir(device string) string { return filepath.Join(l.runDir, device) }

func (l *l2tp) missing(ctx context.Context) []string {
	var missing []string
	if _, err := lookPath(l.xl2tpd); err != nil {
		missing = append(missing, "xl2tpd is not installed (package xl2tpd)")
	}
	if _, err := lookPath(l.pppd); err != nil {
		missing = append(missing, "pppd is not installed (package ppp)")
	} else if found, err := filepath.Glob(l.plugins); !l.user && (err != nil || len(found) == 0) {
		missing = append(missing, "pppd has no L2TP plugin (package ppp-mod-pppol2tp)")
	}
	if !l.user {
		if err := l.kernel(ctx); err != nil {
			missing = append(missing, fmt.Sprintf("kernel has no L2TP (module l2tp_ppp): install kmod-pppol2tp (%v)", err))
		}
	}
	return missing
}

// isDaemon and isPPP recognise the processes of a directory by the files that
// stand in their command lines.
func isDaemon(argv []string, dir string) bool {
	return hasPair(argv, "-c", filepath.Join(dir, fileConfig))
}

func isPPP(argv []string, dir string) bool {
	return hasPair(argv, "file", filepath.Join(dir, fileOptions)) || hasPair(argv, "file", filepath.Join(dir, fileCall)) ||
		hasPair(argv, "file", filepath.Join(dir, fileGate)) // of an older version
}

func (l *l2tp) daemons(device string) ([]int, error) {
	return l.proc.find(func(argv []string) bool { return isDaemon(argv, l.dir(device)) })
}

func (l *l2tp) ppps(device string) ([]int, error) {
	return l.proc.find(func(argv []string) bool { return isPPP(argv, l.dir(device)) })
}

// daemon and ppp are what the tunnel has now. Usually the pid files are right,
// which saves a walk through the process table.
func (l *l2tp) daemon(device string) ([]int, error) {
	if pid := pidFile(filepath.Join(l.dir(device), filePid)); isDaemon(l.proc.argv(pid), l.dir(device)) {
		return []int{pid}, nil
	}
	return l.daemons(device)
}

func (l *l2tp) ppp(device string) ([]int, error) {
	if pid := pidFile(filepath.Join(l.varRun, device+".pid")); isPPP(l.proc.argv(pid), l.dir(device)) {
		return []int{pid}, nil
	}
	return l.ppps(device)
}

func (l *l2tp) held() ([]string, error) {
	var devices []string
	entries, err := os.ReadDir(l.runDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list tunnels: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() && validDevice(e.Name()) {
			devices = append(devices, e.Name())
		}
	}
	// Processes whose files somebody has removed.
	_, err = l.proc.find(func(argv []string) bool {
		for _, w := range argv {
			dir, file := filepath.Split(w)
			if device := filepath.Base(dir); (file == fileConfig || file == fileOptions || file == fileCall || file == fileGate) &&
				filepath.Clean(dir) == l.dir(device) && validDevice(device) && (isDaemon(argv, l.dir(device)) || isPPP(argv, l.dir(device))) {
				devices = append(devices, device)
			}
		}
		return false
	})
	sort.Strings(devices)
	return slices.Compact(devices), err
}

func (l *l2tp) runs(t Tunnel) (bool, error) {
	dir := l.dir(t.Device)
	for name, want := range l2tpFiles(t, dir) {
		have, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			if name == fileOptions && t.Server {
				continue // it only listens until now
			}
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("compare tunnel %s: %w", t.Device, err)
		}
		if string(have) != want {
			return false, nil
		}
	}
	if t.listening() { // one whose call has its addresses already can't take them back
		if _, err := os.Stat(filepath.Join(dir, fileOptions)); !errors.Is(err, fs.ErrNotExist) {
			return false, err
		}
	}
	pids, err := l.daemon(t.Device)
	return len(pids) == 1, err
}

// adopt opens the gate of a server whose addresses are known; until then its
// pppd waits there.
func (l *l2tp) adopt(t Tunnel) error {
	if !t.Server || t.listening() {
		return nil
	}
	dir := l.dir(t.Device)
	options := filepath.Join(dir, fileOptions)
	if _, err := os.Stat(options); errors.Is(err, fs.ErrNotExist) {
		if err := writeWhole(options, pppOptions(t, dir)); err != nil {
			return fmt.Errorf("write tunnel file: %w", err)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gates[t.Device] != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.gates[t.Device] = cancel
	go serveGate(ctx, filepath.Join(dir, fileGate))
	return nil
}

// writeWhole writes a file by rename: a crash must not leave half of it, which
// would be taken for another tunnel's.
func writeWhole(path, content string) error {
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(content), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

func (l *l2tp) closeGate(device string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cancel := l.gates[device]; cancel != nil {
		cancel()
		delete(l.gates, device)
	}
}

func (l *l2tp) start(ctx context.Context, t Tunnel) error {
	dir := l.dir(t.Device)
	if len(filepath.Join(dir, fileConfig)) > maxPath {
		return permanent("run directory %s: name too long for xl2tpd", l.runDir)
	}
	if strings.ContainsAny(dir, " \t\n\"'\\;#") {
		return permanent("run directory %q: character that can't stand in a configuration file", l.runDir)
	}
	if err := l.end(ctx, t.Device); err != nil {
		return err
	}
	if t.LocalPort != 0 {
		if taken, err := l.portTaken(t.LocalPort); err != nil {
			return err
		} else if taken {
			// xl2tpd itself would share the port silently (SO_REUSEADDR).
			return fmt.Errorf("UDP port %d is already in use on this router", t.LocalPort)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make tunnel directory: %w", err)
	}
	if err := l.noteDatabase(); err != nil {
		return fmt.Errorf("note pppd's database: %w", err)
	}
	for name, content := range l2tpFiles(t, dir) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			return fmt.Errorf("write tunnel file: %w", err)
		}
	}
	if t.Server {
		if err := syscall.Mkfifo(filepath.Join(dir, fileGate), 0o600); err != nil {
			return fmt.Errorf("make gate of %s: %w", t.Device, err)
		}
		if err := l.adopt(t); err != nil {
			return err
		}
	}

	xl2tpd, err := lookPath(l.xl2tpd)
	if err != nil {
		return permanent("xl2tpd is not installed (package xl2tpd): %w", err)
	}
	pid, err := l.children.start(xl2tpd, []string{
		"-D",
		"-c", filepath.Join(dir, fileConfig),
		"-s", filepath.Join(dir, fileSecrets),
		"-p", filepath.Join(dir, filePid),
		"-C", filepath.Join(dir, fileControl),
	}, filepath.Join(dir, fileLog))
	if err != nil {
		return fmt.Errorf("start xl2tpd: %w", err)
	}
	if err := l.awaitReady(ctx, t, pid); err != nil {
		return errors.Join(err, l.end(context.WithoutCancel(ctx), t.Device))
	}
	return nil
}

// awaitReady returns when xl2tpd reads its control pipe, which it opens after
// it has bound its UDP port, and the port is there.
func (l *l2tp) awaitReady(ctx context.Context, t Tunnel, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		answer, err := askControl(ctx, l.dir(t.Device))
		if err == nil && !strings.HasPrefix(answer, "00") {
			err = fmt.Errorf("xl2tpd answers %q", printable(answer))
		}
		if err == nil && t.Server {
			var listens bool
			if listens, err = l.portTaken(t.LocalPort); err == nil && !listens {
				err = fmt.Errorf("xl2tpd does not listen on UDP port %d", t.LocalPort)
			}
		}
		if err == nil {
			return nil
		}
		if l.children.reap(pid) {
			return fmt.Errorf("xl2tpd ended at once: %s", l.lastWords(t))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("xl2tpd is not ready after %s: %w (%s)", startTimeout, err, l.lastWords(t))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// lastWords explains by the log.
func (l *l2tp) lastWords(t Tunnel) string {
	text, err := l.readLog(t.Device)
	if err != nil {
		return err.Error()
	}
	if book := readLog(text, t.Server); book.sentence != "" {
		return book.sentence
	}
	if last := printable(lastLine(text)); last != "" {
		return last
	}
	return "it left no word in its log"
}

func (l *l2tp) readLog(device string) (string, error) {
	b, err := os.ReadFile(filepath.Join(l.dir(device), fileLog))
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return string(b), err
}

// end asks pppd first: the peer's then ends in the same tenth of a second, and
// xl2tpd tells the rest. Killing xl2tpd first would leave pppd behind.
func (l *l2tp) end(ctx context.Context, device string) error {
	defer l.children.reap(0)
	l.closeGate(device)
	if _, err := l.proc.stop(ctx, endPatience, func() ([]int, error) { return l.ppps(device) }); err != nil {
		return fmt.Errorf("end pppd of %s: %w", device, err)
	}
	if _, err := l.proc.stop(ctx, endPatience, func() ([]int, error) { return l.daemons(device) }); err != nil {
		return fmt.Errorf("end xl2tpd of %s: %w", device, err)
	}
	// A call may have come in between the two.
	if _, err := l.proc.stop(ctx, endPatience, func() ([]int, error) { return l.ppps(device) }); err != nil {
		return fmt.Errorf("end pppd of %s: %w", device, err)
	}
	// pppd removes its pid file, unless it was killed.
	if err := os.Remove(filepath.Join(l.varRun, device+".pid")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("end tunnel %s: %w", device, err)
	}
	if err := os.RemoveAll(l.dir(device)); err != nil {
		return fmt.Errorf("end tunnel %s: %w", device, err)
	}
	return nil
}

// A pppd with multilink makes a database for all pppds when the first one
// starts, and leaves it behind. If it was our pppd that made it, it goes with
// our last one, unless somebody else's runs by then.
const (
	fileDatabase = "pppd2.tdb"
	fileOurs     = "pppd-database" // in the run directory: it was not there before us
)

func (l *l2tp) noteDatabase() error {
	if _, err := os.Stat(filepath.Join(l.varRun, fileDatabase)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return os.WriteFile(filepath.Join(l.runDir, fileOurs), nil, 0o600)
}

func (l *l2tp) sweep() error {
	mark := filepath.Join(l.runDir, fileOurs)
	if _, err := os.Stat(mark); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	users, err := l.proc.find(func(argv []string) bool { return filepath.Base(argv[0]) == "pppd" })
	if err != nil {
		return err
	}
	if len(users) == 0 {
		if err := os.Remove(filepath.Join(l.varRun, fileDatabase)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return os.Remove(mark)
}

func (l *l2tp) state(t Tunnel) (driverState, error) {
	l.children.reap(0)
	daemons, err := l.daemon(t.Device)
	if err != nil {
		return driverState{}, err
	}
	s, err := l.observe(t, len(daemons) > 0, "xl2tpd")
	if err != nil {
		return s, err
	}
	sessions, err := os.ReadFile(filepath.Join(l.proc.proc, "net", "pppol2tp"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, fmt.Errorf("tunnel %s: %w", t.Device, err)
	}
	s.kernel, s.slow = inKernel(string(sessions), t.Device), " (install kmod-pppol2tp)"
	return s, nil
}

// observe is what log and pppd tell of a tunnel whose program runs or not.
func (l *l2tp) observe(t Tunnel, running bool, program string) (s driverState, err error) {
	ppps, err := l.ppp(t.Device)
	if err != nil {
		return s, err
	}
	text, err := l.readLog(t.Device)
	if err != nil {
		return s, fmt.Errorf("tunnel %s: %w", t.Device, err)
	}
	book := readLog(text, t.Server)
	s.running = running
	s.ended = !s.running || book.phase == phaseEnded && len(ppps) == 0
	s.reason, s.line = book.sentence, book.line
	if !s.running && book.phase != phaseEnded {
		s.reason = program + " is gone"
	}
	if len(ppps) > 0 {
		if s.since, err = l.proc.started(ppps[0]); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return s, fmt.Errorf("tunnel %s: %w", t.Device, err)
		}
	}
	return s, nil
}

// inKernel looks for the link in /proc/net/pppol2tp, which names it under its
// session. A link that is not there is fed through a pseudo terminal.
func inKernel(sessions, device string) bool {
	for line := range strings.Lines(sessions) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == "interface" && f[1] == device {
			return true
		}
	}
	return false
}

// housekeep keeps the log short. xl2tpd appends, so the file may be cut while
// it is open there.
func (l *l2tp) housekeep(device string) error {
	path := filepath.Join(l.dir(device), fileLog)
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil || info.Size() <= maxLog {
		return err
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b = b[len(b)-keepLog:]
	b = b[slices.Index(b, '\n')+1:]
	if err := os.Truncate(path, 0); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	return errors.Join(err, f.Close())
}
