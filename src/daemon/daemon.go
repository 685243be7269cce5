package daemon

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"htip/src/config"
	"htip/src/control"
	"htip/src/datapath"
	"htip/src/dns"
	"htip/src/htip"
	"htip/src/rtnl"
	"htip/src/slog"
	"htip/src/ubus"
)

// Daemon is one running gateway. Fields below the line belong to the loop.
type Daemon struct {
	opt   Options
	log   *slog.Logger
	id    *control.Identity
	path  datapath.Datapath
	names Names
	bus   *ubus.Server
	drop  *dns.Dnsmasq

	events  chan func()
	dirty   chan struct{} // wanted state of the kernel has changed
	moved   chan struct{} // lists of access have changed
	changed chan struct{} // our addresses have, or what netifd calls them
	ctx     context.Context
	tasks   sync.WaitGroup

	keys  sync.Map    // public keys of peers as strings → peer's name, for the listener
	open  atomic.Bool // strangers get through a handshake
	lobby lobby

	friends friends

	examined  shared       // of the doctor
	alone     shared       // of the doctor, without the other homes
	slowCalls atomic.Int32 // calls that take seconds

	// ---- owned by the loop
	cfg      config.Config
	problems config.Problems
	caps     []datapath.Capability
	home     htip.Home
	ifaces   []iface    // as netifd told of them last; nil: there is no netifd
	noIfaces string     // why they could not be asked for, as said last
	wans     ubus.Array // ways to the Internet
	homeErr  error
	gw       *htip.Gateway
	state    map[string]homeState
	conns    map[htip.ConnID]conn
	lastConn htip.ConnID
	timers   map[string]*time.Timer
	tunnels  map[string]*tunnel
	progress map[string][]Progress // of the last attempt, in order
	dials    map[string]*dialing
	started  time.Time
	ended    map[string]config.Key // homes whose tunnel a user at either end has ended: names don't bring it up
	rates    map[string]*rates
	users    users
	// Why they can't come in: what the data path says; another network of this
	// router; the file, until it is written anew.
	usersErr, usersClash, usersLost error
	crowd                           *time.Timer                // set while strangers crowd the port, until they are gone
	unsaved                         *time.Timer                // until what peers have changed is written
	asked                           map[string]bool            // peers that a user wants connected, until they are
	stats                           map[string]datapath.Status // of the tunnels' devices, as last looked at
	guarded                         string                     // substitutes that were guarded when last looked at
	waiters                         map[string][]chan error
	warned                          string // of what is not safe
	zoneName                        string // never changes while running
	trim                            *time.Timer

	hosts     map[string][]netip.Addr     // of this home, that lists of access name; replaced, never changed
	refused   map[string]datapath.Refused // by device, as last read
	refusedAt time.Time

	requests    htip.Requests
	requestTold time.Time // when one was last notified
	invites     htip.Invites
	guesses     htip.Guesses
	restart     bool // a change of our own can't be taken over while running
}

// Run is the daemon from start to stop. It returns when ctx is done, with
// everything of ours removed; reload is told when the configuration file may
// have changed. Errors: ErrDisabled, ErrRestart, or what made running
// senseless.
func Run(ctx context.Context, opt Options, reload <-chan os.Signal) error {
	d := &Daemon{
		opt: opt, log: opt.Log,
		events: make(chan func(), 64), dirty: make(chan struct{}, 1), moved: make(chan struct{}, 1), changed: make(chan struct{}, 1),
		conns: map[htip.ConnID]conn{}, timers: map[string]*time.Timer{}, tunnels: map[string]*tunnel{},
		progress: map[string][]Progress{}, dials: map[string]*dialing{}, started: time.Now(),
		ended: map[string]config.Key{}, asked: map[string]bool{}, stats: map[string]datapath.Status{}, waiters: map[string][]chan error{},
	}
	var err error
	if d.cfg, d.problems, err = config.Load(opt.Config); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, p := range d.problems {
		d.log.Warn("configuration", "err", p)
	}
	if i := slices.IndexFunc(d.problems, func(p config.Problem) bool { return p.Severity == config.Fatal }); i >= 0 {
		return fmt.Errorf("configuration: %v", d.problems[i])
	}
	if !d.cfg.Main.Enabled {
		return ErrDisabled
	}
	d.zoneName = d.cfg.Main.Zone
	d.setLevel()
	for _, dir := range []string{opt.RunDir, opt.StateDir} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return fmt.Errorf("making our directory: %w", err)
		}
	}
	id, made, err := control.LoadIdentity(filepath.Join(opt.StateDir, "key"))
	if err != nil {
		return err
	}
	d.id = id
	if made {
		d.log.Info("made a key for this gateway", "fingerprint", control.Fingerprint(id.Public()))
	}
	if err := d.makeParts(); err != nil {
		return err
	}
	return d.run(ctx, reload)
}

// makeParts makes what the loop works with; nothing runs yet.
func (d *Daemon) makeParts() (err error) {
	if d.path = d.opt.Path; d.path == nil {
		d.path = datapath.New(datapath.Options{RunDir: filepath.Join(d.opt.RunDir, "tunnels"), ESPRekey: d.opt.ESPRekey, Log: d.log})
	}
	if d.opt.Links == nil {
		d.opt.Links = kernelLinks
	}
	if d.opt.Netifd == nil {
		d.opt.Netifd = func(ctx context.Context) ([]iface, error) { return askNetifd(ctx, d.ubusOptions(), d.opt.Socket) }
	}
	if d.opt.Way == nil {
		d.opt.Way = rtnl.Way
	}
	if d.names = d.opt.Names; d.names == nil {
		d.names, err = dns.New(dns.Options{
			Listen: d.opt.DNSListen, Zone: d.cfg.Main.Zone, LANDomain: d.cfg.Main.LANDomain, Dnsmasq: d.opt.Dnsmasq,
			PeerPort: namesPort, ResolvFile: d.opt.Resolv, Connect: d.connectWait, LeasesFile: d.opt.Leases, HostsFiles: []string{d.opt.Hosts}, Log: d.log,
		})
		if err != nil {
			return err
		}
	}
	if d.opt.DnsmasqDir != "" {
		d.drop = d.makeDropIn()
	}
	d.bus, err = ubus.NewServer(ubus.ServerConfig{Options: d.ubusOptions(), Socket: d.opt.Socket, Objects: []*ubus.Object{d.object()}})
	return err
}

func (d *Daemon) ubusOptions() ubus.Options { return ubus.Options{Log: d.log} }

// listen opens the control channel's port. [net.Listen] would do the same, but
// looks names up, and so would keep the library's resolver in the program.
func (d *Daemon) listen() (l control.Listener, err error) {
	var at netip.Addr
	if d.opt.Listen != "" {
		if at, err = netip.ParseAddr(d.opt.Listen); err != nil {
			return l, fmt.Errorf("the address to listen at: %w", err)
		}
	}
	return control.Listen(netip.AddrPortFrom(at, d.cfg.Main.Port))
}

func (d *Daemon) run(ctx context.Context, reload <-chan os.Signal) error {
	var cancel context.CancelCauseFunc
	d.ctx, cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	left := false
	defer func() {
		if !left { // else the tasks would clean up
			cancel(nil)
		}
	}()

	// What can fail comes before what would have to be undone.
	listener, err := d.listen()
	if err != nil {
		return fmt.Errorf("opening the control channel: %w", err)
	}
	if err := d.begin(); err != nil {
		listener.Close()
		return err
	}
	server := &control.Server{Identity: d.id, Log: d.log, Accepted: d.accepted, Known: func(key []byte) bool {
		_, ok := d.keys.Load(string(key))
		return ok
	}, Stranger: func(key []byte, _ netip.Addr) bool { return d.letIn(key) }, Met: d.met, Expected: d.friends.expected, Crowded: d.crowded}
	d.task("control channel", cancel, func(ctx context.Context) error { return server.Serve(ctx, listener) })
	d.task("names proxy", cancel, d.names.Run)
	d.task("ubus", cancel, d.bus.Run)
	d.task("data path", cancel, d.apply)
	d.task("links", cancel, func(ctx context.Context) error { return d.path.Watch(ctx, d.linkChanged) })
	if d.drop != nil {
		d.task("dnsmasq", cancel, d.drop.Run)
	}
	d.task("addresses", cancel, d.watchHome)
	d.task("recheck", cancel, d.recheck)
	d.task("access", cancel, d.followHosts)
	d.kick()
	d.post(d.connectWanted)
	d.log.Info("started", "version", d.opt.Version, "domain", d.cfg.Main.Domain, "port", d.cfg.Main.Port, "fingerprint", control.Fingerprint(d.id.Public()),
		"peers", len(d.cfg.Peers), "networks", fmt.Sprint(d.home.Networks))

	var result error
loop:
	for {
		select {
		case f := <-d.events:
			if f(); d.restart {
				result = ErrRestart
				break loop
			}
		case <-reload:
			if d.reload() {
				result = ErrRestart
				break loop
			}
		case <-d.opt.Leave:
			left = true
			d.writeUnsaved()
			d.log.Info(ErrLeft.Error())
			return ErrLeft
		case <-ctx.Done():
			break loop
		case <-d.ctx.Done():
			result = context.Cause(d.ctx)
			break loop
		}
	}
	d.stop(cancel)
	return result
}

func (d *Daemon) setLevel() {
	var l slog.Level
	if d.opt.Level != nil && !d.opt.FixedLevel && l.UnmarshalText([]byte(d.cfg.Main.LogLevel)) == nil {
		d.opt.Level.Set(l)
	}
}

// task runs a part beside the loop; a part that ends by itself ends the daemon.
func (d *Daemon) task(name string, cancel context.CancelCauseFunc, run func(context.Context) error) {
	d.tasks.Go(func() {
		err := run(d.ctx)
		if d.ctx.Err() == nil {
			cancel(fmt.Errorf("%s ended: %w", name, cmpErr(err)))
		}
	})
}

func cmpErr(err error) error {
	if err == nil {
		return errors.New("no reason given")
	}
	return err
}

// post hands the loop something to do. It gives up, and says so, when the daemon
// ends.
func (d *Daemon) post(f func()) bool {
	select {
	case d.events <- f:
		return true
	case <-d.ctx.Done():
		return false
	}
}

// call runs f in the loop and waits for it; false when the daemon is ending.
func (d *Daemon) call(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	select {
	case d.events <- func() { f(); close(done) }:
	case <-d.ctx.Done():
		return false
	case <-ctx.Done():
		return false
	}
	select {
	case <-done:
		return true
	case <-d.ctx.Done():
	}
	select {
	case <-done: // it was f that ends the daemon
		return true
	default:
		return false
	}
}

// begin sets the protocol up and takes over what a former process has left.
func (d *Daemon) begin() error {
	ctx, cancel := context.WithTimeout(d.ctx, applyLimit)
	defer cancel()
	d.caps = d.path.Capabilities(ctx)
	for _, text := range d.lacks() {
		d.log.Warn("not everything is possible on this router", "why", text)
	}
	d.loadUsers()
	ifs, err := d.opt.Netifd(ctx) // tunnels that stand fit what is shared, and it only
	d.netifdSaid(ifs, err)
	ls, err := d.links()
	if err != nil {
		return err
	}
	d.wans = wans(&d.cfg.Main, ls, d.ifaces)
	d.home, d.homeErr = makeHome(&d.cfg.Main, ls, d.ifaces, d.elsewhere(), d.id.Public(), d.log)
	if d.homeErr != nil {
		d.log.Error("no home network yet", "err", d.homeErr) // it may appear later: interfaces come up in any order
	}
	t, err := readTable(filepath.Join(d.opt.StateDir, stateFile))
	if err == nil {
		d.state, err = decodeState(t)
	}
	if err != nil {
		d.log.Error("something we knew of other homes is lost; their addresses here may change", "err", err)
	}
	if d.state == nil {
		d.state = map[string]homeState{}
	}
	d.gw = htip.NewGateway(htip.Config{
		Key: d.id.Public(), Domain: d.cfg.Main.Domain, Protocols: d.protocols(), PortBase: d.cfg.Main.L2TPPort, Ports: vpnPorts, Random: random,
		MaxSpace: maxSpace, ThreeMessages: true, EarlyServers: []htip.Protocol{htip.WireGuard, htip.L2TPESP, htip.L2TP}, ESP: d.esp(),
	}, d.home)
	d.loadStrangers()
	d.setPeers()
	d.adopt(ctx)
	return nil
}

const (
	vpnPorts  = config.L2TPPorts
	maxSpace  = 1 << 20 // a sixteenth of 10.0.0.0/8: several networks like the /16 of the seed's FIG. 13
	namesPort = datapath.NamesPort
)

func random() uint64 {
	var b [8]byte
	rand.Read(b[:])
	return binary.BigEndian.Uint64(b[:])
}

// reload takes a changed configuration over; true means that it can't be done
// while running. A file that can't be read changes nothing.
func (d *Daemon) reload() bool {
	cfg, problems, err := config.Load(d.opt.Config)
	if err != nil {
		d.log.Error("configuration not taken over", "err", err)
		return false
	}
	for _, p := range problems {
		d.log.Warn("configuration", "err", p)
	}
	if err := problems.Fatal(); err != nil {
		d.log.Error("configuration not taken over", "err", err)
		return false
	}
	if needsRestart(&d.cfg.Main, &cfg.Main) {
		return true
	}
	was := d.cfg.Main
	d.cfg, d.problems = cfg, problems
	d.setLevel()
	d.log.Info("configuration taken over", "peers", len(cfg.Peers))
	if plansAnew(&was, &cfg.Main) {
		d.homeChanged() // at once: nobody else has to be asked
	}
	d.lookAtHome() // netifd may have other names for what the kernel has had all the time
	d.setPeers()
	d.connectWanted()
	d.kick() // the firewall has started again, perhaps
	return false
}

// recheck looks at the kernel now and then: somebody may have flushed our rules.
func (d *Daemon) recheck(ctx context.Context) error {
	t := time.NewTicker(recheckEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
			d.kick()
			d.post(d.trimSoon)
		}
	}
}

// elsewhere are the private addresses beyond our WAN that no tunnel may take
// over: a friend behind the same carrier's NAT, the carrier's resolvers.
func (d *Daemon) elsewhere() []netip.Addr {
	out := d.names.Resolvers()
	for _, t := range d.tunnels {
		out = append(out, t.Remote)
	}
	for _, c := range d.conns {
		out = append(out, c.Remote().Addr())
	}
	return slices.DeleteFunc(out, func(a netip.Addr) bool { return !a.IsPrivate() })
}

// homeChanged looks at our own addresses again.
func (d *Daemon) homeChanged() {
	ls, err := d.links()
	if err != nil {
		d.log.Error("our addresses can't be read", "err", err)
		return
	}
	d.linesChanged(ls)
	h, err := makeHome(&d.cfg.Main, ls, d.ifaces, d.elsewhere(), d.id.Public(), d.log)
	if d.homeErr = err; err != nil {
		d.log.Warn("no home network now; tunnels are left as they are", "err", err)
		return
	}
	if sameHome(h, d.home) {
		return
	}
	d.log.Info("our addresses have changed", "networks", fmt.Sprint(h.Networks), "occupied", fmt.Sprint(h.Occupied))
	d.home = h
	d.act(d.gw.SetHome(h))
	d.kick()
}

// stop ends everything and leaves nothing of ours behind.
func (d *Daemon) stop(cancel context.CancelCauseFunc) {
	for _, s := range d.gw.Status() {
		d.handle(s.Peer, htip.Disconnect{Reason: htip.ReasonShutdown})
	}
	for c, conn := range d.conns {
		conn.Close()
		delete(d.conns, c)
	}
	cancel(nil)
	d.tasks.Wait()
	ctx, done := context.WithTimeout(context.Background(), applyLimit)
	defer done()
	if err := d.path.CleanUp(ctx); err != nil {
		d.log.Error("cleaning up", "err", err)
	}
	d.writeUnsaved()
	d.tunnels = nil
	if err := d.saveTunnels(); err != nil {
		d.log.Error("cleaning up", "err", err)
	}
	d.log.Info("stopped")
}
