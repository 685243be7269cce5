// Package town makes homes for tests: daemons with a fake kernel and fake names,
// but with a real control channel on loopback and a real bus.
package town

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"htip/src/control"
	"htip/src/daemon"
	"htip/src/datapath"
	"htip/src/slog"
	"htip/src/ubus"
	"htip/tests/ubusd"
)

// Home is one daemon and what surrounds it. What is exported may be changed
// before Start.
type Home struct {
	Name string
	Addr netip.Addr // of its control channel
	Port int
	Dir  string // holds everything else
	Key  string // as a peer's option key

	Path  *datapath.Fake
	Names *daemon.FakeNames
	Log   *Log

	// PathAs and NamesAs are what the daemon gets in the place of Path and Names, to
	// show more of them; nil is these themselves.
	PathAs  datapath.Datapath
	NamesAs daemon.Names

	Reload chan os.Signal
	Leave  chan os.Signal

	Extra    string // more configuration, behind the main section's options
	Firewall string // the firewall's UCI file, "" for none

	LinkTime time.Duration // until a link is up, 50 ms at first

	Lacking atomic.Bool  // the kernel has no L2TP
	Way     atomic.Int32 // by which device the kernel sends to everybody

	ours    net.Listener // of the first home: keeps other towns out of its network
	bus     *ubusd.Broker
	stop    context.CancelFunc
	ended   chan struct{}
	err     error // of the daemon; good once ended is closed
	stopped sync.Once
}

// Log is what a daemon has logged.
type Log struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// Write appends.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// String is all of it.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// New makes homes in dir that know each other's public names, and their buses. They
// listen on one port, any for 0; the first has an address such as 127.0.77.1, the
// next .2 …. Nothing is configured and no daemon runs yet.
func New(dir string, port int, names ...string) ([]*Home, error) {
	ours, first, err := free(port)
	if err != nil {
		return nil, err
	}
	var homes []*Home
	defer func() {
		if len(homes) == 0 {
			ours.Close()
		}
	}()
	addr := first.Addr()
	for _, n := range names {
		h := &Home{
			Name: n, Addr: addr, Port: int(first.Port()), Dir: filepath.Join(dir, n),
			Path: &datapath.Fake{}, Names: &daemon.FakeNames{}, Log: &Log{}, LinkTime: 50 * time.Millisecond,
			Reload: make(chan os.Signal, 1), Leave: make(chan os.Signal, 1),
		}
		addr = addr.Next()
		h.Path.ApplyFunc = h.applied
		if homes = append(homes, h); len(homes) == 1 {
			h.ours = ours
		}
		if err := h.prepare(); err != nil {
			Close(homes)
			return nil, fmt.Errorf("home %s: %w", n, err)
		}
	}
	for _, h := range homes {
		for _, other := range homes {
			h.Names.SetA(other.Domain(), other.Addr)
		}
	}
	return homes, nil
}

// free finds a loopback network in which no other town is, and a port of it. Other
// tests may run at the same time, and a home that is started anew wants its port
// again: as long as ours is open the network is this town's.
func free(port int) (ours net.Listener, first netip.AddrPort, err error) {
	for third := 77; third < 255; third++ {
		if ours, err = net.Listen("tcp", fmt.Sprintf("127.0.%d.254:4847", third)); err != nil {
			continue
		}
		var l net.Listener
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.%d.1:%d", third, port)); err != nil { // somebody who is no town
			ours.Close()
			continue
		}
		defer l.Close()
		return ours, netip.MustParseAddrPort(l.Addr().String()), nil
	}
	return nil, netip.AddrPort{}, fmt.Errorf("no free network on loopback: %w", err)
}

// prepare makes the home's directory, key and bus.
func (h *Home) prepare() error {
	if err := os.MkdirAll(h.ConfigDir(), 0o755); err != nil {
		return err
	}
	id, _, err := control.LoadIdentity(filepath.Join(h.StateDir(), "key"))
	if err != nil {
		return err
	}
	h.Key = control.EncodeKey(id.Public())
	h.bus, err = ubusd.Listen(ubusd.Config{Socket: h.Socket()})
	return err
}

// Close ends daemons and buses of all homes.
func Close(homes []*Home) error {
	var errs []error
	for _, h := range homes {
		errs = append(errs, h.Stop())
		if h.bus != nil {
			h.bus.Close()
		}
		if h.ours != nil {
			h.ours.Close()
		}
	}
	return errors.Join(errs...)
}

// applied is the fake kernel: a tunnel that is wanted comes up a moment later,
// unless the kernel lacks L2TP.
func (h *Home) applied(w datapath.Wanted) (r datapath.Report, err error) {
	path := h.Path
	for _, x := range w.Tunnels {
		if h.Lacking.Load() {
			r.Errors = map[string]error{x.Device: &datapath.Error{Tunnel: x.Name, Permanent: true, Err: errors.New("the kernel has no L2TP: install kmod-pppol2tp")}}
			continue
		}
		time.AfterFunc(h.LinkTime, func() { path.Raise(datapath.Event{Device: x.Device, Up: true}) })
	}
	return r, nil
}

// Domain is the home's public name.
func (h *Home) Domain() string { return h.Name + ".example.org" }

// Socket is the bus's.
func (h *Home) Socket() string { return filepath.Join(h.Dir, "ubus.sock") }

// ConfigDir stands for /etc/config.
func (h *Home) ConfigDir() string { return filepath.Join(h.Dir, "config") }

// File is the daemon's configuration.
func (h *Home) File() string { return filepath.Join(h.ConfigDir(), "htip") }

// StateDir is what survives a reboot.
func (h *Home) StateDir() string { return filepath.Join(h.Dir, "state") }

// RunDir is what does not.
func (h *Home) RunDir() string { return filepath.Join(h.Dir, "run") }

// Configure writes the configuration: the home itself, and peers.
func (h *Home) Configure(peers ...*Home) error {
	s := fmt.Sprintf("config htip 'main'\n\toption enabled '1'\n\toption domain '%s'\n\toption port '%d'\n%s\n", h.Domain(), h.Port, h.Extra)
	for _, p := range peers {
		if p != h {
			s += fmt.Sprintf("config peer '%s'\n\toption domain '%s'\n\toption port '%d'\n\toption key '%s'\n\toption encryption 'off'\n\n", p.Name, p.Domain(), p.Port, p.Key)
		}
	}
	return os.WriteFile(h.File(), []byte(s), 0o600)
}

// Start runs the daemon and waits until it answers. A daemon that wants to start
// afresh, because of its configuration, is started anew.
func (h *Home) Start() error {
	ctx, cancel := context.WithCancel(context.Background())
	h.stop, h.ended, h.err, h.stopped = cancel, make(chan struct{}), nil, sync.Once{}
	path, names := h.PathAs, h.NamesAs
	if path == nil {
		path = h.Path
	}
	if names == nil {
		names = h.Names
	}
	opt := daemon.Options{
		Config: h.File(), StateDir: h.StateDir(), RunDir: h.RunDir(), Listen: h.Addr.String(), Socket: h.Socket(),
		Path: path, Names: names, Log: slog.New(slog.NewTextHandler(h.Log, nil)), Links: daemon.FakeLinks("192.168.1.1/24"),
		Version: "test", Leave: h.Leave, Firewall: h.Firewall,
		Way: func(netip.Addr, netip.Addr) int { return int(h.Way.Load()) },
	}
	go func() {
		defer close(h.ended)
		for h.err = daemon.ErrRestart; errors.Is(h.err, daemon.ErrRestart); {
			h.err = daemon.Run(ctx, opt, h.Reload)
		}
	}()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		err := h.answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-h.ended:
			return fmt.Errorf("home %s ends with %w", h.Name, h.err)
		default:
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("home %s does not start: %w\n%s", h.Name, err, h.Log)
		}
	}
}

// answers asks once. A call that ubusd gives to a daemon that is about to end is
// not always answered, so it must not wait for long.
func (h *Home) answers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := ubus.Dial(ctx, h.Socket())
	if err != nil {
		return err
	}
	defer c.Close()
	_, err = c.Call(ctx, daemon.ObjectName, "status", nil)
	return err
}

// Stop ends the daemon, which cleans up, and says what was wrong with it. A daemon
// that was told to leave, or disabled, has done nothing wrong.
func (h *Home) Stop() error {
	if h.stop == nil {
		return nil
	}
	h.stop()
	<-h.ended
	var err error
	h.stopped.Do(func() {
		if h.err != nil && !errors.Is(h.err, daemon.ErrLeft) && !errors.Is(h.err, daemon.ErrDisabled) {
			err = fmt.Errorf("home %s ends with %w", h.Name, h.err)
		}
	})
	return err
}

// Changed is what OpenWrt does with a daemon whose configuration was written: one
// that runs reads it, one that does not is started. A configuration that disables
// the daemon ends it.
func (h *Home) Changed() error {
	select {
	case <-h.ended:
		if err := h.Start(); !errors.Is(err, daemon.ErrDisabled) {
			return err
		}
	default:
		select {
		case h.Reload <- syscall.SIGHUP:
		default: // it has been told already
		}
	}
	return nil
}
