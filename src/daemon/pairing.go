package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"htip/src/config"
	"htip/src/control"
	"htip/src/htip"
	"htip/src/ubus"
)

// lookupLimit is for name, connection and handshake of a home that is no peer. Who asks
// over LuCI gives up after 20 s, and would not get the sentence that says why.
const lookupLimit = 15 * time.Second

// trustMethods are those by which people decide who becomes a peer.
func (d *Daemon) trustMethods() []ubus.Method {
	str, num, list := ubus.TypeString, ubus.TypeInt32, ubus.TypeArray
	return []ubus.Method{
		{Name: "requests", Handler: d.inLoop(d.busRequests)},
		{Name: "approve", Args: []ubus.Arg{{Name: "request", Type: str}, {Name: "claims", Type: str}, {Name: "name", Type: str}, {Name: "access", Type: list}, {Name: "encryption", Type: str}, {Name: "port", Type: num}}, Handler: d.inLoop(d.busApprove)},
		{Name: "reject", Args: []ubus.Arg{{Name: "request", Type: str}}, Handler: d.inLoop(d.busReject)},
		{Name: "lookup", Args: []ubus.Arg{{Name: "domain", Type: str}, {Name: "port", Type: num}}, Handler: d.slow(d.busLookup)},
		{Name: "request", Args: []ubus.Arg{{Name: "domain", Type: str}, {Name: "key", Type: str}, {Name: "name", Type: str}, {Name: "access", Type: list}, {Name: "port", Type: num}}, Handler: d.inLoop(d.busRequest)},
		{Name: "invite", Args: []ubus.Arg{{Name: "name", Type: str}, {Name: "access", Type: list}, {Name: "expires", Type: num}, {Name: "qr", Type: ubus.TypeBool}}, Handler: d.inLoop(d.busInvite)},
		{Name: "invites", Handler: d.inLoop(d.busInvites)},
		{Name: "cancel_invite", Args: []ubus.Arg{{Name: "number", Type: num}}, Handler: d.inLoop(d.busCancelInvite)},
		{Name: "read_invite", Args: []ubus.Arg{{Name: "invite", Type: str}}, Handler: d.inLoop(d.busReadInvite)},
		{Name: "accept", Args: []ubus.Arg{{Name: "invite", Type: str}, {Name: "name", Type: str}, {Name: "access", Type: list}}, Handler: d.slow(d.busAccept)},
	}
}

func (d *Daemon) requestTable(p *htip.Pending, now time.Time) ubus.Table {
	var protocols []string
	for _, x := range p.Protocols {
		protocols = append(protocols, x.String())
	}
	ago := func(t time.Time) int64 { return int64(now.Sub(t) / time.Second) }
	like := "" // the peer that it says it is: another router, since it has another key
	for i := range d.cfg.Peers {
		if q := &d.cfg.Peers[i]; p.Domain != "" && q.Domain == p.Domain {
			like = q.Name
		}
	}
	return ubus.T(
		"number", int64(p.Number), "key", control.EncodeKey(p.Key), "fingerprint", control.Fingerprint(p.Key),
		"claims", claimed(p.Domain), "like", like, "name", d.cfg.FreeName(p.Domain), "networks", prefixes(p.Networks),
		"protocols", list1(protocols), "address", p.From.String(),
		"first_ago", ago(p.First), "last_ago", ago(p.Last), "count", int64(p.Count),
	)
}

func (d *Daemon) busRequests(*ubus.Request) (ubus.Table, error) {
	now, list, rejected := time.Now(), ubus.Array{}, []string{}
	for k := range d.requests.List {
		list = append(list, d.requestTable(&d.requests.List[k], now))
	}
	for _, k := range d.requests.Rejected {
		rejected = append(rejected, control.Fingerprint(k))
	}
	return ubus.T("accept", d.cfg.Main.Accept, "requests", list, "rejected", rejected), nil
}

// pick finds the key that a person means: by the number of a pending request,
// by the beginning of a fingerprint (4 characters at least), or whole.
func pick(what string, pending []htip.Pending, others [][]byte) ([]byte, error) {
	what = strings.TrimSpace(what)
	if n, err := strconv.Atoi(what); err == nil && len(what) < 4 {
		for _, p := range pending {
			if p.Number == n {
				return p.Key, nil
			}
		}
		return nil, fmt.Errorf("there is no request %d: htip requests lists them", n)
	}
	plain := func(s string) string { return strings.ReplaceAll(strings.ToUpper(s), "-", "") }
	prefix := plain(what)
	var found [][]byte
	for _, p := range pending {
		others = append(slices.Clip(others), p.Key)
	}
	for _, k := range others {
		if control.EncodeKey(k) == what {
			return k, nil
		}
		if len(prefix) >= 4 && strings.HasPrefix(plain(control.Fingerprint(k)), prefix) && !slices.ContainsFunc(found, func(f []byte) bool { return bytes.Equal(f, k) }) {
			found = append(found, k)
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, fmt.Errorf("%d homes have fingerprints that begin with %s: give more of it", len(found), what)
	case len(prefix) < 4:
		return nil, errors.New("give the number of the request or the fingerprint, of that at least 4 characters")
	}
	return nil, fmt.Errorf("no home with the fingerprint %s has asked: htip requests lists them", what)
}

// meant is the key that the argument "request" means.
func (d *Daemon) meant(r *ubus.Request) ([]byte, error) {
	what, ok := r.Args.GetString("request")
	if !ok || what == "" {
		return nil, errors.New("say which request: its number or its fingerprint")
	}
	others := slices.Clone(d.requests.Rejected)
	for i := range d.cfg.Peers {
		others = append(others, d.cfg.Peers[i].Key[:])
	}
	return pick(what, d.requests.List, others)
}

// newPeer is a peer with what the arguments of a call say about it.
func newPeer(r *ubus.Request) (config.Peer, error) {
	name, _ := r.Args.GetString("name")
	p := config.NewPeer(name)
	if n, ok := r.Args.GetInt("port"); ok && n != 0 {
		if n < 1 || n > 65535 {
			return p, errors.New("a port is a number from 1 to 65535")
		}
		p.Port = uint16(n)
	}
	if s, ok := r.Args.GetString("encryption"); ok && s != "" {
		p.Encryption = s // checked when it is written
	}
	if _, ok := r.Args.Get("access"); ok {
		list, ok := r.Args.GetStrings("access")
		if !ok {
			return p, errors.New("access is a list of words")
		}
		if p.Access = list; len(list) == 0 { // in a configuration that would be everything
			p.Access = []string{config.AccessNone}
		}
	}
	return p, config.CheckAccess(p.Access)
}

func (d *Daemon) busApprove(r *ubus.Request) (ubus.Table, error) {
	key, err := d.meant(r)
	if err != nil {
		return sorry(err), nil
	}
	p, err := newPeer(r)
	if err != nil {
		return sorry(err), nil
	}
	p.Key = config.Key(key)
	claim := ""
	for _, x := range d.requests.List {
		if bytes.Equal(x.Key, key) {
			claim = x.Domain
		}
	}
	// Who approves once more, because an answer was lost, finds no request any more.
	if s, ok := r.Args.GetString("claims"); ok && s != claimed(claim) && !d.isPeer(p.Key) {
		return sorry(errors.New("it says that it is another home now: look at its request again")), nil
	}
	name, added, err := d.addPeer(p, claim)
	if err != nil {
		return sorry(err), nil
	}
	if q := d.peer(name); !added && q != nil && len(p.Access) > 0 && !slices.Equal(p.Access, q.Access) {
		return sorry(fmt.Errorf("%s is a peer already, and may reach here: %s. Nothing was changed: htip access changes it", name, reached(q.Access))), nil
	}
	if d.requests.Pardon(key) {
		d.settleRejected()
	}
	if added {
		d.confirm(name, claim)
	}
	return d.paired(name, key, added), nil
}

// isPeer tells whether a key is a peer's in the configuration, which may have changed since
// it was taken over.
func (d *Daemon) isPeer(key config.Key) bool {
	cfg, _, err := config.Load(d.opt.Config)
	return err == nil && slices.ContainsFunc(cfg.Peers, func(q config.Peer) bool { return q.Key == key && q.Enabled })
}

// reached is what a peer may reach here, in words.
func reached(access []string) string {
	if len(access) == 0 {
		return config.AccessAll
	}
	return strings.Join(access, ", ")
}

// paired is the answer to who made a home a peer.
func (d *Daemon) paired(name string, key []byte, added bool) ubus.Table {
	return ubus.T("peer", name, "fingerprint", control.Fingerprint(key), "added", added, "state", d.stateOf(name).State.String())
}

func (d *Daemon) settleRejected() {
	if err := d.saveStrangers(); err != nil {
		d.log.Error("rejections not saved", "err", err)
	}
}

func (d *Daemon) busReject(r *ubus.Request) (ubus.Table, error) {
	key, err := d.meant(r)
	if err != nil {
		return sorry(err), nil
	}
	if name, ok := d.keys.Load(string(key)); ok {
		return sorry(fmt.Errorf("that is peer %s: to keep it out, set option enabled '0' in its section", name)), nil
	}
	if !d.requests.IsRejected(key) {
		d.requests.Reject(key)
		if err := d.saveStrangers(); err != nil {
			return sorry(fmt.Errorf("rejected, but only until the next restart: %w", err)), nil
		}
	}
	return ubus.T("fingerprint", control.Fingerprint(key)), nil
}

// busLookup asks a home that need not be a peer for its key.
func (d *Daemon) busLookup(ctx context.Context, r *ubus.Request) (ubus.Table, error) {
	s, _ := r.Args.GetString("domain")
	domain, ok := config.PublicName(s)
	if !ok {
		return sorry(fmt.Errorf("%q is no name in the public DNS, such as bob.example.org", s)), nil
	}
	p, err := newPeer(r)
	if err != nil {
		return sorry(err), nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookupLimit)
	defer cancel()
	var key []byte
	addrs, err := d.names.Resolve(ctx, domain)
	if err != nil {
		err = &resolveError{err}
	}
	for _, a := range addrs {
		if key, err = control.Learn(ctx, d.id, netip.AddrPortFrom(a, p.Port)); err == nil {
			break
		}
	}
	switch {
	case err != nil:
		return sorry(errors.New(failed(domain, err).Text)), nil
	case bytes.Equal(key, d.id.Public()):
		return sorry(fmt.Errorf("%s is this home itself", domain)), nil
	}
	name, _ := d.keys.Load(string(key))
	peer, _ := name.(string)
	return ubus.T(
		"domain", domain, "port", int64(p.Port), "key", control.EncodeKey(key), "fingerprint", control.Fingerprint(key), "peer", peer,
	), nil
}

func (d *Daemon) busRequest(r *ubus.Request) (ubus.Table, error) {
	p, err := newPeer(r)
	if err != nil {
		return sorry(err), nil
	}
	s, _ := r.Args.GetString("domain")
	k, _ := r.Args.GetString("key")
	var ok, good bool
	p.Domain, ok = config.PublicName(s)
	p.Key, good = config.ParseKey(k)
	if !ok || !good {
		return nil, ubus.ErrInvalidArgument
	}
	return d.ask(p, nil), nil
}

// ask makes a home a peer and connects to it, now and until it comes up or
// somebody says otherwise. secret is that of its invite, if there is one.
func (d *Daemon) ask(p config.Peer, secret []byte) ubus.Table {
	if bytes.Equal(p.Key[:], d.id.Public()) {
		return sorry(errors.New("this is the key of this home itself"))
	}
	name, added, err := d.addPeer(p, p.Domain)
	if err != nil {
		return sorry(err)
	}
	if q := d.peer(name); q == nil { // starting afresh
		return d.paired(name, p.Key[:], added)
	} else if err := d.canConnect(q); err != nil {
		return sorry(err)
	}
	d.begun(name)
	up := d.stateOf(name).State == htip.Up
	d.remember(name, func(st *homeState) {
		st.Wanted, st.Invite = true, secret
		if up {
			st.Invite = nil
		}
	})
	d.gw.SetAuto(name, true)
	d.handle(name, htip.Connect{})
	return d.paired(name, p.Key[:], added)
}

// busReadInvite says whose an invite is. Nobody is asked, and nothing is changed.
func (d *Daemon) busReadInvite(r *ubus.Request) (ubus.Table, error) {
	s, _ := r.Args.GetString("invite")
	v, err := htip.ParseInvite(s)
	if err != nil {
		return sorry(err), nil
	}
	name, _ := d.keys.Load(string(v.Key))
	peer, _ := name.(string)
	return ubus.T("domain", v.Domain, "fingerprint", control.Fingerprint(v.Key), "expires", v.Expires, "peer", peer), nil
}

// busAccept takes an invite. Nothing is written before the gateway that issued
// it has been found and has shown its key.
func (d *Daemon) busAccept(ctx context.Context, r *ubus.Request) (ubus.Table, error) {
	p, err := newPeer(r)
	if err != nil {
		return sorry(err), nil
	}
	s, _ := r.Args.GetString("invite")
	v, err := htip.ParseInvite(s)
	if err != nil {
		return sorry(err), nil
	}
	var ok, good bool
	p.Domain, ok = config.PublicName(v.Domain)
	p.Key, good = config.KeyOf(v.Key)
	p.Port = v.Port
	switch {
	case !ok || !good:
		return sorry(htip.ErrDamagedInvite), nil
	case bytes.Equal(v.Key, d.id.Public()):
		return sorry(errors.New("this invite was issued by this home itself: it is for the other one")), nil
	}
	var have *config.Peer
	var up bool
	if !d.call(ctx, func() {
		if name, ok := d.keys.Load(string(v.Key)); ok {
			have = d.peer(name.(string))
			up = have != nil && d.stateOf(have.Name).State == htip.Up
		}
	}) {
		return nil, ubus.ErrTimeout
	}
	if !up {
		limit, cancel := context.WithTimeout(ctx, lookupLimit)
		defer cancel()
		c, err := d.connect(limit, p.Domain, p.Port, v.Key, func(string) {})
		if err != nil {
			return sorry(inviteFailed(p.Domain, v.Key, err)), nil
		}
		c.Close()
	}
	return d.inLoop(func(*ubus.Request) (ubus.Table, error) { return d.ask(p, v.Secret[:]), nil })(ctx, r)
}

// inviteFailed says why an invite leads nowhere.
func inviteFailed(domain string, key []byte, err error) error {
	var wrong *control.WrongKeyError
	if errors.As(err, &wrong) {
		return fmt.Errorf("DANGER: the gateway at %s is not the one that issued this invite. The invite says fingerprint %s, that gateway has %s. Either somebody has put himself in between, or the other router was replaced since. Nothing was changed and the invite was not shown to it. Ask the other home, by telephone, which fingerprint is theirs, and for a new invite",
			domain, control.Fingerprint(key), control.Fingerprint(wrong.Got))
	}
	return errors.New(failed(domain, err).Text)
}
