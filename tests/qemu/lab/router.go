package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// RouterConfig describes a home router.
type RouterConfig struct {
	Name     string       // host name, at most 8 letters or digits
	WAN      netip.Prefix // address on the Internet, in InternetWAN; one is chosen unless given
	LAN      []LAN        // home networks, br-lan first, then br-lan2 …
	MemoryMB int          // 256 unless given
	Disk     bool         // its files are on a disk and stay over restarts, instead of in memory
	// SecondWAN: it has a second network card on the Internet, wan2. Nothing configures it.
	SecondWAN bool
	Files     map[string]File // more files, by absolute path; they replace the lab's own, such as /etc/firewall
}

// LAN is one home network of a router, on a network card and a bridge of its own.
type LAN struct {
	Router netip.Prefix          // the router's address in it, such as 10.0.0.1/24
	Host   netip.Addr            // the first host's address; its network card is the other end of the router's
	Names  map[string]netip.Addr // host names known to the router's dnsmasq
}

// Router is an emulated home router. Its methods may be called from several goroutines.
type Router struct {
	Name   string
	arch   Arch
	lab    *Lab
	config RouterConfig
	number int
	taps   []*os.File // WAN, then the LANs; they outlive the emulator
	lans   []*Host

	mu       sync.Mutex
	qemu     *exec.Cmd
	ended    chan struct{} // closed when the emulator has ended
	stderr   *bytes.Buffer // what the emulator wrote, to be read when it has ended
	con      *console
	bootTime time.Duration
}

// Result is what a command in a router printed and its exit code, -n for signal n.
type Result struct {
	Output string
	Code   int
}

// Start boots the router and returns when it can run commands. Its links are those of the
// time before; files written since the last boot are gone, unless it has a disk.
func (r *Router) Start(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.qemu != nil {
		select {
		case <-r.ended: // by itself, after a panic of its kernel
			r.kill()
		default:
			return fmt.Errorf("start %s: it runs already", r.Name)
		}
	}
	begin := time.Now()
	err := r.launch()
	if err == nil {
		err = r.connect(ctx)
		if err != nil {
			r.kill()
			err = fmt.Errorf("%w; emulator's words: %s; end of its boot log:\n%s", err, r.stderr.Bytes(), tail(r.BootLog(), 2000))
		}
	}
	if err != nil {
		return fmt.Errorf("start %s: %w", r.Name, err)
	}
	r.bootTime = time.Since(begin)
	return nil
}

func (r *Router) path(name string) string { return filepath.Join(r.lab.dir, r.Name+"."+name) }

// launch writes the initial file system and starts the emulator.
func (r *Router) launch() error {
	initrd, err := r.initrd()
	if err != nil {
		return err
	}
	if err := os.WriteFile(r.path("initrd"), initrd, 0o600); err != nil {
		return err
	}
	for _, sock := range []string{"agent", "serial"} {
		if err := os.Remove(r.path(sock)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	cmd := exec.Command(r.arch.QEMU, r.arguments()...)
	cmd.ExtraFiles = r.taps
	stderr := new(bytes.Buffer)
	cmd.Stderr = stderr
	// The emulator must not outlive us. The signal comes at the death of the thread that
	// started it, so that thread is kept until the emulator's end.
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	started, ended := make(chan error), make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- fmt.Errorf("%s: %w", r.arch.QEMU, err)
			return
		}
		started <- nil
		// How it ended is known: by Kill, or by a panic of its kernel. What it said is in stderr.
		_ = cmd.Wait()
		close(ended)
	}()
	if err := <-started; err != nil {
		return err
	}
	r.qemu, r.ended, r.stderr = cmd, ended, stderr
	return nil
}

// initrd is the first file system.
func (r *Router) initrd() ([]byte, error) {
	if r.config.Disk {
		if err := r.makeDisk(context.Background()); err != nil {
			return nil, err
		}
		return r.diskInitrd()
	}
	overlay, err := r.overlay(r.lab.agent)
	if err != nil {
		return nil, err
	}
	base, err := os.ReadFile(r.lab.image.Initrd)
	if err != nil {
		return nil, err
	}
	// The kernel unpacks one archive after the other; each begins at a multiple of 4 bytes.
	return append(append(base, make([]byte, -len(base)&3)...), overlay...), nil
}

func (r *Router) arguments() []string {
	args := append([]string{}, r.arch.Machine...)
	args = append(args,
		"-nodefaults", "-display", "none", "-no-reboot", "-m", strconv.Itoa(r.config.MemoryMB),
		"-kernel", r.lab.image.Kernel, "-initrd", r.path("initrd"),
		// The kernel's tests of its ciphers would take a second of each boot. The emulator keeps what
		// it has translated by virtual address: a program that lies elsewhere each time is translated
		// each time, which is two thirds of what an iptables costs, or more.
		"-append", "console="+r.arch.Console+" panic=-1 quiet cryptomgr.notests audit=0 lsm= norandmaps "+r.arch.Kernel,
		"-chardev", "socket,id=serial,server=on,wait=off,path="+r.path("serial")+",logfile="+r.path("boot.log"),
		"-serial", "chardev:serial",
		"-chardev", "socket,id=agent,server=on,wait=off,path="+r.path("agent"),
		"-device", "virtio-serial-pci"+r.slot(0, 0), "-device", "virtserialport,chardev=agent,name=htip.lab",
		"-device", "virtio-rng-pci"+r.slot(0, 1))
	if r.config.Disk {
		args = append(args, "-drive", "file="+r.path("disk")+",if=none,id=disk,format=raw,cache=writeback", "-device", "virtio-blk-pci,drive=disk"+r.slot(0, 2))
	}
	for i := range r.taps {
		// Without offloads every packet on a tap has its checksum and its size on the wire.
		args = append(args, "-netdev", fmt.Sprintf("tap,id=net%d,fd=%d", i, 3+i),
			"-device", fmt.Sprintf("virtio-net-pci,netdev=net%d,mac=02:00:00:00:%02x:%s,romfile=,csum=off,gso=off,"+
				"guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,guest_ufo=off,"+
				"host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off%s", i, r.number, r.card(i), r.slot(1+i%3, i/3)))
	}
	return args
}

// connect waits for the agent.
func (r *Router) connect(ctx context.Context) error {
	for {
		conn, err := net.Dial("unix", r.path("agent"))
		if err == nil {
			r.con = newConsole(conn)
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no connection to the emulator: %w", context.Cause(ctx))
		case <-r.ended:
			return errors.New("the emulator has ended")
		case <-time.After(20 * time.Millisecond):
		}
	}
	select {
	case <-r.con.ready:
		return nil
	case <-r.con.closed:
		return errors.New("the emulator has ended")
	case <-ctx.Done():
		return fmt.Errorf("the agent does not answer: %w", context.Cause(ctx))
	}
}

// Kill takes the router's power away. Its links stay. A router that is off stays off.
func (r *Router) Kill() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kill()
}

func (r *Router) kill() {
	if r.qemu == nil {
		return
	}
	_ = r.qemu.Process.Kill() // fails if it has ended by itself
	<-r.ended
	if r.con != nil {
		r.con.conn.Close()
		<-r.con.closed
	}
	r.qemu, r.con = nil, nil
}

// BootTime is the time from the emulator's start to the router's first command.
func (r *Router) BootTime() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.bootTime
}

// BootLog is what the serial console has shown since the last start.
func (r *Router) BootLog() string {
	b, err := os.ReadFile(r.path("boot.log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (r *Router) start(ctx context.Context, shell string, stdin []byte) (*process, error) {
	r.mu.Lock()
	con := r.con
	r.mu.Unlock()
	if con == nil {
		return nil, fmt.Errorf("%s is off", r.Name)
	}
	return con.start(ctx, shell, stdin)
}

// Run runs a command in the router's shell and waits for its end, or for that of ctx, which
// kills it. Processes that the command leaves in the background go on. Many commands may run
// at a time. An exit code other than 0 is no error.
func (r *Router) Run(ctx context.Context, shell string) (Result, error) {
	return r.runInput(ctx, shell, nil)
}

func (r *Router) runInput(ctx context.Context, shell string, stdin []byte) (Result, error) {
	p, err := r.start(ctx, shell, stdin)
	if err != nil {
		return Result{}, fmt.Errorf("%s: %s: %w", r.Name, shell, err)
	}
	out, err := io.ReadAll(p)
	if err != nil {
		return Result{Output: string(out), Code: -1}, fmt.Errorf("%s: %s: %w; output so far: %s", r.Name, shell, err, tail(string(out), 2000))
	}
	code, _ := p.wait()
	return Result{Output: string(out), Code: code}, nil
}

// Check runs a command and returns its output; an exit code other than 0 is an error.
func (r *Router) Check(ctx context.Context, shell string) (string, error) {
	return r.check(ctx, shell, nil)
}

func (r *Router) check(ctx context.Context, shell string, stdin []byte) (string, error) {
	res, err := r.runInput(ctx, shell, stdin)
	if err == nil && res.Code != 0 {
		err = fmt.Errorf("%s: %s: exit code %d: %s", r.Name, shell, res.Code, tail(res.Output, 2000))
	}
	return res.Output, err
}

// MustRun is Check for tests: a failure panics, which the test's log shows with the reason.
func (r *Router) MustRun(ctx context.Context, shell string) string {
	out, err := r.Check(ctx, shell)
	if err != nil {
		panic(err)
	}
	return out
}

// Put writes a file in the router, by rename. Programs known before the start are better
// given as RouterConfig.Files.
func (r *Router) Put(ctx context.Context, name string, data []byte, mode fs.FileMode) error {
	tmp := quote(name + ".lab-put")
	_, err := r.check(ctx, fmt.Sprintf("mkdir -p %s && cat >%s && chmod %o %s && mv %s %s",
		quote(filepath.Dir(name)), tmp, mode.Perm(), tmp, tmp, quote(name)), data)
	return err
}

// Get reads a file of the router.
func (r *Router) Get(ctx context.Context, name string) ([]byte, error) {
	out, err := r.Check(ctx, "cat "+quote(name))
	return []byte(out), err
}

// Uptime is the guest's clock, the one to measure durations inside it: under load it differs
// from this machine's.
func (r *Router) Uptime(ctx context.Context) (time.Duration, error) {
	out, err := r.Check(ctx, "cat /proc/uptime")
	if err != nil {
		return 0, err
	}
	first, _, _ := strings.Cut(out, " ")
	d, err := time.ParseDuration(first + "s")
	if err != nil {
		return 0, fmt.Errorf("%s: uptime %q: %w", r.Name, out, err)
	}
	return d, nil
}

// slot puts a device of a router with a disk, which has one more than malta's four slots have
// interrupts for, beside others in a slot: the kernel reads the interrupt of a fifth slot from
// behind its table.
func (r *Router) slot(slot, function int) string {
	if !r.config.Disk {
		return ""
	}
	text := fmt.Sprintf(",addr=0x%x.%d", 0x12+slot, function)
	if function == 0 {
		text += ",multifunction=on"
	}
	return text
}

// card is the last byte of the address of the card at this tap: by it init knows what it is.
func (r *Router) card(tap int) string {
	if r.config.SecondWAN && tap == len(r.taps)-1 {
		return "fe"
	}
	return fmt.Sprintf("%02x", tap)
}

// SecondWAN is the address that is meant for its card wan2, in another prefix than that of wan.
func (r *Router) SecondWAN() netip.Prefix {
	a := InternetWAN2.Addr().As4()
	a[3] = r.config.WAN.Addr().As4()[3]
	return netip.PrefixFrom(netip.AddrFrom4(a), InternetWAN2.Bits())
}

// WANAddr is the router's address on the Internet.
func (r *Router) WANAddr() netip.Addr { return r.config.WAN.Addr() }

// LAN describes the router's home network of this index.
func (r *Router) LAN(index int) LAN { return r.config.LAN[index] }

// quote makes one word of the shell of any text.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// tail is the end of a text.
func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}
