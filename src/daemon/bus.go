package daemon

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"htip/src/config"
	"htip/src/control"
	"htip/src/datapath"
	"htip/src/dns"
	"htip/src/htip"
	"htip/src/ubus"
)

const (
	askers    = 4         // homes that are asked for their hosts at a time
	hostsSize = 800 << 10 // octets of hosts in an answer, for all homes together; a message of ubus has 1 MiB
)

// ObjectName is our object on ubus.
const ObjectName = "htip"

// ProgressNotification is what subscribers of the object get at every step of
// every tunnel.
const ProgressNotification = "progress"

// object is what others can call; docs/user-guide.md describes it for its users.
func (d *Daemon) object() *ubus.Object {
	peer := []ubus.Arg{{Name: "peer", Type: ubus.TypeString}}
	return &ubus.Object{Name: ObjectName, Methods: append([]ubus.Method{
		{Name: "status", Handler: d.busStatus},
		{Name: "peers", Handler: d.inLoop(func(*ubus.Request) (ubus.Table, error) { return d.peersTable(), nil })},
		{Name: "key", Handler: d.inLoop(func(*ubus.Request) (ubus.Table, error) { return d.keyTable(), nil })},
		{Name: "connect", Args: peer, Handler: d.inLoop(d.busConnect)},
		{Name: "disconnect", Args: peer, Handler: d.inLoop(d.busDisconnect)},
		{Name: "hosts", Args: peer, Handler: d.slow(d.busHosts)},
		{Name: "doctor", Args: []ubus.Arg{{Name: "homes", Type: ubus.TypeBool}}, Handler: d.slow(d.busDoctor)},
		{Name: "access", Args: append(slices.Clip(peer), ubus.Arg{Name: "access", Type: ubus.TypeArray}), Handler: d.inLoop(d.busAccess)},
	}, append(d.trustMethods(), d.userMethods()...)...)}
}

// inLoop serves a call where the state is.
func (d *Daemon) inLoop(f func(*ubus.Request) (ubus.Table, error)) ubus.Handler {
	return func(ctx context.Context, r *ubus.Request) (t ubus.Table, err error) {
		if !d.call(ctx, func() { t, err = f(r) }) {
			return nil, ubus.ErrTimeout
		}
		return t, err
	}
}

// busStatus looks at the devices before it answers.
func (d *Daemon) busStatus(ctx context.Context, r *ubus.Request) (ubus.Table, error) {
	var devices []string
	if !d.call(ctx, func() {
		for name := range d.tunnels {
			devices = append(devices, device(name))
		}
	}) {
		return nil, ubus.ErrTimeout
	}
	stats := d.look(devices)
	d.lookRefused(ctx)
	return d.inLoop(func(*ubus.Request) (ubus.Table, error) {
		for dev, st := range stats {
			d.stats[dev] = st
		}
		return d.statusTable(), nil
	})(ctx, r)
}

// find is the configured peer that a person means by its name or its domain.
func (d *Daemon) find(what string) *config.Peer {
	what = strings.TrimSuffix(strings.ToLower(what), ".")
	for i := range d.cfg.Peers {
		if p := &d.cfg.Peers[i]; p.Enabled && what != "" && (p.Name == what || p.Domain == what) {
			return p
		}
	}
	return nil
}

func argPeer(r *ubus.Request) (string, error) {
	s, ok := r.Args.GetString("peer")
	if !ok || s == "" {
		return "", ubus.ErrInvalidArgument
	}
	return s, nil
}

func (d *Daemon) busConnect(r *ubus.Request) (ubus.Table, error) {
	name, err := argPeer(r)
	if err != nil {
		return nil, err
	}
	p := d.find(name)
	if p == nil {
		return nil, ubus.ErrNotFound
	}
	if err := d.canConnect(p); err != nil {
		return ubus.T("peer", p.Name, "error", err.Error()), nil
	}
	d.begun(p.Name)
	if d.stateOf(p.Name).State == htip.Up {
		d.remember(p.Name, func(st *homeState) { st.Wanted = true })
		d.gw.SetAuto(p.Name, true)
	} else {
		d.asked[p.Name] = true
	}
	d.handle(p.Name, htip.Connect{})
	return ubus.T("peer", p.Name, "state", d.stateOf(p.Name).State.String()), nil
}

// canConnect says in words why there is no point in trying.
func (d *Daemon) canConnect(p *config.Peer) error {
	if d.homeErr != nil {
		return d.homeErr
	}
	if p.Domain == "" && d.stateOf(p.Name).State != htip.Up {
		return fmt.Errorf("peer %s has no option domain: only %s can connect", p.Name, p.Name)
	}
	return nil
}

func (d *Daemon) busDisconnect(r *ubus.Request) (ubus.Table, error) {
	name, err := argPeer(r)
	if err != nil {
		return nil, err
	}
	p := d.find(name)
	if p == nil {
		return nil, ubus.ErrNotFound
	}
	was := d.stateOf(p.Name).State
	d.markEnded(p.Name)
	delete(d.asked, p.Name)
	d.remember(p.Name, func(st *homeState) { st.Wanted, st.Ended = false, true })
	d.forget(p.Name)
	d.handle(p.Name, htip.Disconnect{Reason: htip.ReasonUser})
	return ubus.T("peer", p.Name, "was", was.String()), nil
}

// connectWait brings a tunnel up for a name that was asked, and waits for it.
// A tunnel that a user has ended stays down.
func (d *Daemon) connectWait(ctx context.Context, peer string) error {
	done := make(chan error, 1)
	ok := d.call(ctx, func() {
		p := d.peer(peer)
		switch {
		case p == nil:
			done <- fmt.Errorf("no peer %s", peer)
			return
		case d.isEnded(peer):
			done <- errors.New("a user has ended this tunnel")
			return
		}
		if err := d.canConnect(p); err != nil {
			done <- err
			return
		}
		if d.stateOf(peer).State == htip.Up {
			done <- nil
			return
		}
		d.waiters[peer] = append(d.waiters[peer], done)
		d.handle(peer, htip.Connect{})
	})
	if !ok {
		return context.Cause(ctx)
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-d.ctx.Done():
		return errors.New("shutting down")
	}
}

// notify tells those who wait for a tunnel, and those who watch.
func (d *Daemon) notify(peer string, p Progress) {
	if p.ended() {
		var err error
		if p.Step != htip.StepUp.String() {
			err = errors.New(sentence(p.Reason, p.Text))
		}
		for _, w := range d.waiters[peer] {
			w <- err
		}
		delete(d.waiters, peer)
	}
	t := d.progressTable(peer, p)
	if err := d.bus.Notify(ObjectName, ProgressNotification, t); err != nil && !errors.Is(err, ubus.ErrConnectionFailed) {
		d.log.Debug("progress not told", "err", err)
	}
}

func (d *Daemon) progressTable(peer string, p Progress) ubus.Table {
	t := append(ubus.T("peer", peer), p.table()...)
	return append(t, ubus.T("done", p.ended() && p.Retry == 0, "up", p.Step == htip.StepUp.String(), "tunnel", d.tunnelTable(d.stateOf(peer)))...)
}

// table is what a step says of itself.
func (p Progress) table() ubus.Table {
	t := ubus.T("step", p.Step, "took_ms", p.Took.Milliseconds())
	if p.Reason != 0 || p.Text != "" {
		t = append(t, ubus.F("text", sentence(p.Reason, p.Text)))
	}
	if p.Reason != 0 {
		t = append(t, ubus.F("reason", p.Reason.String()))
	}
	if p.Retry > 0 {
		t = append(t, ubus.F("retry_ms", p.Retry.Milliseconds()))
	}
	return t
}

func sentence(r htip.Reason, text string) string {
	switch {
	case text == "":
		return r.String()
	case r == 0 || strings.Contains(text, r.String()):
		return text
	}
	return r.String() + ": " + text
}

func (d *Daemon) stateOf(peer string) htip.Status {
	for _, s := range d.gw.Status() {
		if s.Peer == peer {
			return s
		}
	}
	return htip.Status{Peer: peer}
}

func (d *Daemon) busHosts(ctx context.Context, r *ubus.Request) (ubus.Table, error) {
	var up, down []string
	var unknown bool
	what, _ := r.Args.GetString("peer")
	if !d.call(ctx, func() {
		p := d.find(what)
		unknown = what != "" && p == nil
		for _, s := range d.gw.Status() {
			switch {
			case what != "" && (p == nil || s.Peer != p.Name):
			case s.State == htip.Up:
				up = append(up, s.Peer)
			default:
				down = append(down, s.Peer)
			}
		}
	}) {
		return nil, ubus.ErrTimeout
	}
	if unknown {
		return nil, ubus.ErrNotFound
	}
	ctx, cancel := context.WithTimeout(ctx, hostsLimit)
	defer cancel()
	hosts, errs := ubus.Array{}, ubus.Array{}
	lists, failed := make([][]dns.Host, len(up)), make([]error, len(up))
	var all sync.WaitGroup
	places := make(chan bool, askers)
	for i, peer := range up {
		places <- true
		all.Go(func() {
			lists[i], failed[i] = d.names.Hosts(ctx, peer)
			<-places
		})
	}
	all.Wait()
	for i, peer := range up {
		if failed[i] != nil {
			errs = append(errs, ubus.T("peer", peer, "error", failed[i].Error()))
		}
		room := hostsSize / len(up)
		for _, h := range lists[i] {
			if room -= 2*len(h.Name) + 150; room < 0 {
				errs = append(errs, ubus.T("peer", peer, "error", "it has too many hosts: some are left out"))
				break
			}
			hosts = append(hosts, ubus.T(
				"peer", peer, "name", h.Host, "fqdn", h.Name, "address", h.Addr.String(),
			))
		}
	}
	for _, peer := range down {
		errs = append(errs, ubus.T("peer", peer, "error", "not connected"))
	}
	return ubus.T("hosts", hosts, "errors", errs), nil
}

func (d *Daemon) zone() string { return d.zoneName }

func (d *Daemon) keyTable() ubus.Table {
	return ubus.T("key", control.EncodeKey(d.id.Public()), "fingerprint", control.Fingerprint(d.id.Public()))
}

func (d *Daemon) statusTable() ubus.Table {
	var problems []string
	troubles := d.troubles()
	for _, row := range troubles {
		text, _ := row.(ubus.Table).GetString("text")
		problems = append(problems, text)
	}
	tunnels := ubus.Array{}
	for _, s := range d.gw.Status() {
		t := d.tunnelTable(s)
		if steps := stepsTable(d.progress[s.Peer]); len(steps) > 0 {
			t = append(t, ubus.F("steps", steps))
		}
		tunnels = append(tunnels, t)
	}
	gateway := ""
	if d.home.Gateway.IsValid() {
		gateway = d.home.Gateway.String()
	}
	return ubus.T(
		"name", d.cfg.Main.Name, "domain", d.cfg.Main.Domain, "fingerprint", control.Fingerprint(d.id.Public()),
		"version", d.opt.Version, "time", time.Now().Unix(), "uptime", int64(time.Since(d.started).Seconds()), "zone", d.zone(),
		"networks", prefixes(d.home.Networks), "gateway", gateway, "lan", d.lanTable(), "wan", d.wans,
		"names_refused", int64(d.names.Stats().Refused), "problems", problems, "troubles", troubles, "tunnels", tunnels,
	)
}

// troubles is what is wrong here as far as the loop knows, as rows of the doctor;
// status has their texts.
func (d *Daemon) troubles() ubus.Array {
	const edit = "\ncorrect it in /etc/config/htip, then /etc/init.d/htip reload"
	out := &report{id: "home"}
	if d.homeErr != nil {
		out.bad("%"+edit, d.homeErr.Error())
	}
	out.id = "interface"
	for _, t := range notShared(&d.cfg.Main, d.ifaces) {
		out.bad("%\nifstatus with its name says more; list interface names those that are shared", t)
	}
	out.id = "config"
	for _, p := range d.problems {
		out.bad("%"+edit, p.String())
	}
	out.id = "missing"
	lacks := d.lacks()
	if len(lacks) > 0 {
		lacks = append(lacks, lookedOnce)
	}
	for _, t := range lacks {
		out.warn("%", t)
	}
	out.id = "unsafe"
	for _, t := range d.weak() {
		out.warn("%", t)
	}
	out.id = "users"
	for _, err := range []error{d.usersErr, d.usersClash, d.usersLost} {
		if err != nil {
			out.bad("users can't come in: %\nthe user guide has this sentence", plain(err))
		}
	}
	return append(ubus.Array{}, out.rows...)
}

func prefixes(ps []netip.Prefix) []string {
	out := []string{}
	for _, p := range ps {
		out = append(out, p.String())
	}
	return out
}

func mappings(ms []htip.Mapping) ubus.Array {
	out := ubus.Array{}
	for _, m := range ms {
		out = append(out, ubus.T("network", m.Network.String(), "substitute", m.Substitute.String()))
	}
	return out
}

// uptime is the time since the router's start. Unlike the date nobody sets it, and unlike
// a process's own clock the next process goes on with it.
func uptime() time.Duration {
	var t unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_BOOTTIME, &t) // every Linux since 2.6.39 has it
	return max(time.Second, time.Duration(t.Nano()))
}

// date is when something happened, in seconds since 1970, or 0 for what has not: then is
// that time in seconds and up the present one after the router's start. The second is the
// same whenever it is asked.
func date(then int64, up time.Duration, now time.Time) int64 {
	if then == 0 {
		return 0
	}
	return then + (now.UnixNano()-int64(up))/int64(time.Second)
}

// tunnelTable is a line of the connection table (¶124) for people.
func (d *Daemon) tunnelTable(s htip.Status) ubus.Table {
	t := ubus.T("peer", s.Peer, "domain", s.Domain, "state", s.State.String())
	if e := &s.Entry; s.State >= htip.Connecting {
		t = append(t,
			ubus.T("role", e.Role.String(), "protocol", e.Protocol.String(), "encrypted", e.Protocol.Encrypted(), "protocol_reason", e.Why,
				"tunnel_id", fmt.Sprintf("%08x", e.TunnelID), "own", mappings(e.Own), "theirs", mappings(e.Theirs),
				"gateway", e.OwnGateway.String(), "peer_gateway", e.PeerGateway.String(),
			)...)
		if e.Cipher != htip.NoCipher {
			t = append(t, ubus.F("cipher", e.Cipher.String()))
		}
	} else if len(s.Before.Theirs) > 0 {
		t = append(t, ubus.T("own", mappings(s.Before.Own), "theirs", mappings(s.Before.Theirs))...)
	}
	if x := d.tunnels[s.Peer]; x != nil {
		t = append(t, ubus.T("device", device(s.Peer), "since", date(x.Since, uptime(), time.Now()))...)
		if st := d.stats[device(s.Peer)]; st.State == datapath.Up {
			t = append(t, ubus.T("kernel", st.Kernel, "rx_bytes", int64(st.In), "tx_bytes", int64(st.Out))...)
		}
	}
	if p := d.peer(s.Peer); p != nil && len(p.Access) > 0 {
		t = append(t, d.accessTable(p)[1:]...)
	}
	if r := refusedTable(d.refused[device(s.Peer)]); r != nil {
		t = append(t, ubus.F("refused", r))
	}
	if s.State < htip.Up {
		if s.Reason != 0 {
			t = append(t, ubus.T("reason", s.Reason.String(), "error", sentence(s.Reason, s.Text))...)
		}
		if all := d.progress[s.Peer]; len(all) > 0 {
			t = append(t, ubus.F("step", all[len(all)-1].Step))
		}
	}
	return t
}

// stepsTable is how an attempt goes, or went if that is not long ago: who asks every few
// seconds misses no step.
func stepsTable(all []Progress) ubus.Array {
	out := ubus.Array{}
	if n := len(all); n == 0 || all[n-1].ended() && time.Since(all[n-1].Time) > showSteps {
		return out
	}
	for _, p := range all {
		out = append(out, p.table())
	}
	return out
}

func (d *Daemon) peersTable() ubus.Table {
	out := ubus.Array{}
	for _, p := range d.cfg.Peers {
		var names []string
		for _, x := range d.allowed(p) {
			if slices.Contains(d.protocols(), x) {
				names = append(names, x.String())
			}
		}
		out = append(out, ubus.T(
			"peer", p.Name, "domain", p.Domain, "port", int64(p.Port), "enabled", p.Enabled, "auto", p.Auto || d.wanted(p.Name),
			"key", control.EncodeKey(p.Key[:]), "fingerprint", control.Fingerprint(p.Key[:]),
			"encryption", encryptionWord(p), "protocols", names, "state", d.stateOf(p.Name).State.String(),
		))
	}
	return ubus.T("peers", out)
}

func encryptionWord(p config.Peer) string {
	if p.Encryption == config.EncryptionOff {
		return "off"
	}
	return "required"
}
