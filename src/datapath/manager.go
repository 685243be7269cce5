package datapath

import (
	"context"
	"errors"
	"fmt"
	"htip/src/slog"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Datapath is what the daemon needs of this package. [Manager] is the real one,
// [Fake] the one for tests.
type Datapath interface {
	// Apply makes the kernel what is wanted and returns what it did.
	Apply(context.Context, Wanted) (Report, error)
	// Watch reports links that come and go until the context ends.
	Watch(context.Context, func(Event)) error
	// Refusals counts packets of peers that were dropped, by device.
	Refusals(context.Context) (map[string]Refused, error)
	// Status looks at one tunnel; os.ErrNotExist if there is none.
	Status(device string) (Status, error)
	// UserStatus looks at the persons away from home.
	UserStatus() ([]UserStatus, error)
	// CleanUp removes everything that was ever ours.
	CleanUp(context.Context) error
	// Capabilities says which tunnel protocols are possible here.
	Capabilities(context.Context) []Capability
}

var _ Datapath = (*Manager)(nil)

// Options of a [Manager]. The zero value of each field is right on a router.
type Options struct {
	RunDir string // files of the tunnels; default /var/run/htip

	Xl2tpd, Pppd    string // programs, by name or path
	Pptp, Pptpd     string
	IptablesSave    string
	IptablesRestore string
	Nft             string // removes tables that iptables-nft left behind; may be absent
	Modprobe        string

	// UserSpace permits L2TP through a pseudo terminal, at a seventh of the
	// speed, where the kernel has no L2TP. Otherwise that is an error.
	UserSpace bool

	Proc    string // default /proc
	VarRun  string // where pppd leaves its pid files; default /var/run
	Plugins string // pattern of pppd's L2TP plugin
	PPTP    string // of its PPTP plugin

	// ESPRekey is the age at which a tunnel in ESP gets new keys; default 1 h.
	ESPRekey time.Duration

	Log *slog.Logger

	// Seams for tests.
	run     runner
	kernel  kernel
	users   usersKernel
	drivers map[string]driver
}

// Manager holds the kernel against what is wanted. Its methods may be called
// at the same time.
type Manager struct {
	o       Options
	log     *slog.Logger
	drivers map[string]driver

	mu      sync.Mutex
	wanted  Wanted // the valid part of the last Apply
	applied bool   // before that nothing is known of what is wanted
	counts  refusals
	noDoor  int // how often in a row strangers could not be kept from a [Door]
}

// New makes a manager. Nothing is changed before the first call.
func New(o Options) *Manager {
	def := func(p *string, v string) {
		if *p == "" {
			*p = v
		}
	}
	def(&o.RunDir, "/var/run/htip")
	def(&o.Xl2tpd, "xl2tpd")
	def(&o.Pppd, "pppd")
	def(&o.Pptp, "pptp")
	def(&o.Pptpd, "pptpd")
	def(&o.IptablesSave, "iptables-save")
	def(&o.IptablesRestore, "iptables-restore")
	def(&o.Nft, "nft")
	def(&o.Modprobe, "modprobe")
	def(&o.Proc, "/proc")
	def(&o.VarRun, "/var/run")
	def(&o.Plugins, "/usr/lib/pppd/*/pppol2tp.so")
	def(&o.PPTP, "/usr/lib/pppd/*/pptp.so")
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.run == nil {
		o.run = run
	}
	if o.kernel == nil {
		o.kernel = rtnetlink{}
	}
	m := &Manager{o: o, log: o.Log, drivers: o.drivers}
	if m.drivers == nil {
		wg := &wgNetlink{}
		m.o.users = wg
		l2tpIn := func(runDir string) *l2tp {
			return &l2tp{
				runDir:  runDir,
				xl2tpd:  o.Xl2tpd,
				pppd:    o.Pppd,
				plugins: o.Plugins,
				varRun:  o.VarRun,
				proc:    processes{proc: o.Proc, kill: syscall.Kill},
				kernel:  loaded(kernelL2TP, o.run, o.Modprobe, "l2tp_ppp"),
				user:    o.UserSpace,
				gates:   map[string]context.CancelFunc{},
			}
		}
		m.drivers = map[string]driver{
			ProtocolL2TP: l2tpIn(o.RunDir),
			ProtocolL2TPESP: newESP(l2tpIn(filepath.Join(o.RunDir, "esp")), xfrmNetlink{}, func(ctx context.Context, module string) {
				if path, err := lookPath(o.Modprobe); err == nil {
					_, _ = o.run(ctx, "", path, module) // what is missing then is said by the probe
				}
			}, o.ESPRekey, o.Log),
			ProtocolWireGuard: newWireGuard(o.Proc, o.kernel, wg, loaded(wg.present, o.run, o.Modprobe, wgKind)),
		}
		m.drivers[ProtocolPPTP] = newPPTP(o, m.moduleThere)
	}
	return m
}

// Apply makes the kernel what is wanted: users that are not wanted go; tunnels that are not wanted, or not
// like this, end; then the rules are right; then missing tunnels start; then
// routes and flows follow the links that are up. Rules come before links in
// both directions, so that no packet ever passes untranslated or unchecked.
//
// An error of one tunnel stands in the report and stops nobody else. An error
// of the whole (the rules can't be read or changed) is returned; no tunnel is
// started then.
//
// Tunnels of a server accept calls when Apply returns. Links come up later;
// their routes are set by [Manager.Watch], or by the next Apply.
func (m *Manager) Apply(ctx context.Context, w Wanted) (Report, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var r Report
	good, errs := w.check()
	for _, d := range sortedKeys(errs) {
		r.fail(d, errs[d])
	}
	for i := 0; i < len(good.Tunnels); i++ {
		t := good.Tunnels[i]
		if m.drivers[t.Protocol] == nil {
			r.fail(t.Device, forTunnel(t, permanent("tunnel protocol %q is unknown here", t.Protocol)))
			good.Tunnels = slices.Delete(good.Tunnels, i, i+1)
			i--
		}
	}
	m.wanted, m.applied = good, true

	if err := m.fewerUsers(&good.Users, &r); err != nil {
		r.fail(UsersDevice, &Error{Device: UsersDevice, Err: err})
		good.Users = Users{shut: true} // nobody who should be out may stay in, and no tunnel waits for that
	}
	running, missing, err := m.endOthers(ctx, good, &r)
	if err != nil {
		return r, err
	}
	if err := m.guard(&r); err != nil {
		return r, err
	}
	if err := m.applyRules(ctx, good, &r); err != nil {
		return r, err
	}
	for _, t := range running {
		if err := m.drivers[t.Protocol].adopt(t); err != nil {
			r.fail(t.Device, forTunnel(t, err))
		}
	}
	m.start(ctx, missing, &r)
	if err := m.moreUsers(&good.Users, &r); err != nil {
		r.fail(UsersDevice, &Error{Device: UsersDevice, Err: err})
	}
	if err := m.settle(&r); err != nil {
		return r, err
	}
	if len(good.Tunnels) == 0 {
		m.tidy(&r)
	}
	if len(good.Tunnels)+len(good.Users.List) > 0 {
		if s := m.forwarding(); s != "" {
			r.Warnings = append(r.Warnings, s)
		}
	}
	for _, c := range r.Changes {
		m.log.Info("changed", "what", c)
	}
	return r, ctx.Err()
}

// endOthers ends all tunnels but those that run as wanted, and returns these
// and the wanted ones that do not run.
func (m *Manager) endOthers(ctx context.Context, w Wanted, r *Report) (running, missing []Tunnel, err error) {
	type victim struct {
		driver driver
		device string
	}
	var victims []victim
	for _, p := range sortedKeys(m.drivers) {
		d := m.drivers[p]
		held, err := d.held()
		if err != nil {
			return nil, nil, err
		}
		for _, t := range w.Tunnels {
			if t.Protocol != p {
				continue
			}
			ok, err := d.runs(t)
			if err != nil {
				return nil, nil, err
			}
			if ok {
				running = append(running, t)
				held = slices.DeleteFunc(held, func(s string) bool { return s == t.Device })
			} else {
				missing = append(missing, t)
			}
		}
		for _, device := range held {
			victims = append(victims, victim{d, device})
		}
	}
	// Each takes up to a second: the peer is told and waited for.
	errs := make([]error, len(victims))
	var wg sync.WaitGroup
	for i, v := range victims {
		wg.Go(func() { errs[i] = v.driver.end(ctx, v.device) })
	}
	wg.Wait()
	for i, v := range victims {
		if errs[i] != nil {
			r.fail(v.device, &Error{Device: v.device, Err: errs[i]})
			missing = slices.DeleteFunc(missing, func(t Tunnel) bool { return t.Device == v.device })
			continue
		}
		r.changed("tunnel %s ended", v.device)
	}
	return running, missing, nil
}

// start starts tunnels at the same time.
func (m *Manager) start(ctx context.Context, tunnels []Tunnel, r *Report) {
	lacks := map[string][]string{}
	for _, t := range tunnels {
		if _, asked := lacks[t.Protocol]; !asked {
			lacks[t.Protocol] = m.drivers[t.Protocol].missing(ctx)
		}
	}
	errs := make([]error, len(tunnels))
	var wg sync.WaitGroup
	for i, t := range tunnels {
		if lack := lacks[t.Protocol]; len(lack) > 0 {
			errs[i] = permanent("%s", strings.Join(lack, "; "))
			continue
		}
		wg.Go(func() { errs[i] = m.drivers[t.Protocol].start(ctx, t) })
	}
	wg.Wait()
	for i, t := range tunnels {
		if errs[i] != nil {
			r.fail(t.Device, forTunnel(t, errs[i]))
			continue
		}
		r.changed("tunnel %s started", t.Device)
	}
}

// CleanUp removes everything of ours by what the kernel, the process table and
// the run directory hold, also what another version or a crash left. What is
// absent is removed already.
func (m *Manager) CleanUp(ctx context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wanted, m.applied = Wanted{}, true
	var r Report
	_, _, err := m.endOthers(ctx, Wanted{}, &r)
	err = errors.Join(err, m.fewerUsers(&Users{}, &r), m.applyRules(ctx, Wanted{}, &r), m.settle(&r))
	m.tidy(&r)
	for _, c := range r.Changes {
		m.log.Info("cleaned up", "what", c)
	}
	return errors.Join(err, r.Err())
}

// tidy removes what is left when there are no tunnels, and the run directory if
// nobody else has files there.
func (m *Manager) tidy(r *Report) {
	for _, p := range sortedKeys(m.drivers) {
		if err := m.drivers[p].sweep(); err != nil {
			r.Warnings = append(r.Warnings, fmt.Sprintf("remnants of %s stay: %v", p, err))
		}
	}
	err := os.Remove(m.o.RunDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EBUSY) {
		r.Warnings = append(r.Warnings, fmt.Sprintf("run directory stays: %v", err))
	}
}

// forwarding says what is wrong with the router's settings, in plain words.
func (m *Manager) forwarding() string {
	b, err := os.ReadFile(filepath.Join(m.o.Proc, "sys/net/ipv4/ip_forward"))
	if err != nil {
		return fmt.Sprintf("can't see whether IPv4 forwarding is on: %v", err)
	}
	if strings.TrimSpace(string(b)) != "1" {
		return "IPv4 forwarding is off (sysctl net.ipv4.ip_forward): hosts can't reach the other home through this router"
	}
	return ""
}

// find gives the wanted tunnel of a device.
func (w Wanted) find(device string) (Tunnel, bool) {
	for _, t := range w.Tunnels {
		if t.Device == device {
			return t, true
		}
	}
	return Tunnel{}, false
}

// forget flushes tracked flows, so that none goes on with an address from
// before.
func (m *Manager) forget(prefixes []netip.Prefix, r *Report) error {
	sortPrefixes(prefixes)
	prefixes = slices.Compact(prefixes)
	n, err := m.o.kernel.forget(prefixes)
	if n > 0 {
		r.changed("%d tracked flows forgotten", n)
	}
	return err
}
