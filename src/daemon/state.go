package daemon

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"time"

	"htip/src/control"
	"htip/src/datapath"
	"htip/src/htip"
	"htip/src/ubus"
)

// What a gateway keeps lies in two files. state.json, on flash, changes only
// when a home is met for the first time, has been renumbered, or somebody
// connects or disconnects it: flash wears out. tunnels.json, in RAM, is what a
// new process needs to take tunnels over.
//
// They are written and read with the JSON of package ubus, which is there
// anyway: encoding/json would add 40 kB to the packed program.
const (
	stateFile   = "state.json"
	tunnelsFile = "tunnels.json"
	maxState    = 1 << 20 // octets; 1,000 peers need a third of it
)

// homeState is what is remembered of another home.
type homeState struct {
	Key    []byte      // whose substitutes these are: a new key under an old name is another home
	Record htip.Record // substitutes of the last tunnel
	Wanted bool        // somebody here asked for the tunnel: it comes back after a reboot
	Ended  bool        // somebody here ended it: after a reboot, too, no name brings it up
	Invite []byte      // the secret of an invite that we have from it, until the tunnel is up
}

// tunnel is a line of the connection table with what its VPN programs need.
type tunnel struct {
	Entry  htip.Entry
	Key    []byte     // of the peer
	Remote netip.Addr // the peer's address on the Internet
	Local  netip.Addr // ours, as the control connection had it
	Secret []byte
	MTU    int   // bytes
	Since  int64 // when it was up, seconds after the router's start; 0: not yet

	way     int  // see lostWay
	old     bool // of a former process
	started bool // its programs run
	link    bool // its device is up
	linked  bool // and the state machine knows
}

// agreed tells whether the addresses of both homes are known: a server may
// listen before that.
func (t *tunnel) agreed() bool { return t.Entry.OwnGateway.IsValid() }

// path is the tunnel as the data path wants to know it.
func (t *tunnel) path() datapath.Tunnel {
	e := &t.Entry
	p := datapath.Tunnel{
		Name: e.Peer, Device: device(e.Peer), Protocol: e.Protocol.String(), Server: e.Role == htip.Responder,
		LocalPort: e.LocalPort, Remote: netip.AddrPortFrom(t.Remote, e.PeerPort), Secret: t.Secret, MTU: t.MTU,
		Local: t.Local, Old: t.old,
	}
	if e.Cipher != htip.NoCipher {
		p.Cipher = e.Cipher.String()
	}
	if !t.agreed() {
		return p
	}
	p.LocalAddr, p.PeerAddr, p.Peer = e.OwnGateway, e.PeerGateway, htip.Substitutes(e.Theirs)
	for _, m := range e.Own {
		p.Own = append(p.Own, datapath.Mapping(m))
	}
	return p
}

// readTable reads a file of ours; one that is not there is empty.
func readTable(path string) (ubus.Table, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxState))
	if err != nil {
		return nil, err
	}
	t, err := ubus.ParseJSON(b)
	if err != nil {
		return nil, fmt.Errorf("%s is damaged: %w", path, err)
	}
	return t, nil
}

func writeTable(path string, t ubus.Table) error {
	return control.WriteFile(path, append(ubus.AppendJSON(nil, t), '\n'))
}

// encodeState and decodeState turn what we know of other homes into a table and
// back. A home whose line is damaged is left out: it gets new substitutes.
func encodeState(homes map[string]homeState) ubus.Table {
	var t ubus.Table
	for _, name := range sorted(homes) {
		h := homes[name]
		row := ubus.T(
			"key", control.EncodeKey(h.Key), "own", mappings(h.Record.Own), "theirs", mappings(h.Record.Theirs), "wanted", h.Wanted, "ended", h.Ended,
		)
		if len(h.Invite) > 0 {
			row = append(row, ubus.F("invite", base64.StdEncoding.EncodeToString(h.Invite)))
		}
		t = append(t, ubus.F(name, row))
	}
	return t
}

func decodeState(t ubus.Table) (map[string]homeState, error) {
	homes := map[string]homeState{}
	var errs []error
	for _, f := range t {
		row, _ := f.Value.(ubus.Table)
		r := reader{t: row}
		h := homeState{Key: r.bytes("key"), Record: htip.Record{Own: r.mappings("own"), Theirs: r.mappings("theirs")}}
		h.Wanted, _ = row.GetBool("wanted")
		h.Ended, _ = row.GetBool("ended")
		if _, ok := row.Get("invite"); ok {
			h.Invite = r.bytes("invite")
		}
		if len(h.Key) != control.KeySize {
			r.fail("key", "no public key")
		}
		if r.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.Name, r.err))
			continue
		}
		homes[f.Name] = h
	}
	return homes, errors.Join(errs...)
}

func encodeTunnels(ts map[string]*tunnel) ubus.Table {
	var out ubus.Table
	for _, name := range sorted(ts) {
		x := ts[name]
		if !x.agreed() {
			continue // nothing that a new process could take over
		}
		e := &x.Entry
		var esp ubus.Table
		if e.Protocol == htip.L2TPESP {
			esp = ubus.T("cipher", e.Cipher.String(), "local", x.Local.String())
		}
		out = append(out, ubus.F(name, ubus.T(
			"domain", e.Domain, "protocol", e.Protocol.String(), "why", e.Why, "id", int64(e.TunnelID), "role", e.Role.String(),
			"own", mappings(e.Own), "theirs", mappings(e.Theirs), "gateway", e.OwnGateway.String(), "peer_gateway", e.PeerGateway.String(),
			"port", int64(e.LocalPort), "peer_port", int64(e.PeerPort), "remote", x.Remote.String(),
			"key", control.EncodeKey(x.Key), "secret", base64.StdEncoding.EncodeToString(x.Secret), "mtu", int64(x.MTU), "since", x.Since,
		)))
		row := &out[len(out)-1]
		row.Value = append(row.Value.(ubus.Table), esp...)
	}
	return out
}

func decodeTunnels(t ubus.Table) (map[string]*tunnel, error) {
	out := map[string]*tunnel{}
	var errs []error
	for _, f := range t {
		row, _ := f.Value.(ubus.Table)
		r := reader{t: row}
		x := &tunnel{Key: r.bytes("key"), Remote: r.addr("remote"), Secret: r.bytes("secret"), MTU: int(r.number("mtu", 1<<15)), Since: r.number("since", 1<<62)}
		if up := int64(uptime() / time.Second); x.Since > up { // a date, as former versions wrote it
			x.Since = max(1, up-max(0, time.Now().Unix()-x.Since))
		}
		x.Entry = htip.Entry{
			Peer: f.Name, Domain: r.text("domain"), Protocol: htip.ParseProtocol(r.text("protocol")), TunnelID: uint32(r.number("id", 1<<32-1)),
			Own: r.mappings("own"), Theirs: r.mappings("theirs"), OwnGateway: r.addr("gateway"), PeerGateway: r.addr("peer_gateway"),
			LocalPort: uint16(r.number("port", 1<<16-1)), PeerPort: uint16(r.number("peer_port", 1<<16-1)),
		}
		x.Entry.Why = r.text("why")
		if x.old = true; x.Entry.Protocol == htip.L2TPESP {
			x.Local = r.addr("local")
			if x.Entry.Cipher = htip.ParseCipher(r.text("cipher")); x.Entry.Cipher == htip.NoCipher {
				r.fail("cipher", "unknown")
			}
		}
		switch r.text("role") {
		case htip.Initiator.String():
			x.Entry.Role = htip.Initiator
		case htip.Responder.String():
			x.Entry.Role = htip.Responder
		default:
			r.fail("role", "neither client nor server")
		}
		if r.err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.Name, r.err))
			continue
		}
		out[f.Name] = x
	}
	return out, errors.Join(errs...)
}

// reader takes checked values out of a table; the first error sticks.
type reader struct {
	t   ubus.Table
	err error
}

func (r *reader) fail(name, what string) {
	if r.err == nil {
		r.err = fmt.Errorf("%s: %s", name, what)
	}
}

func (r *reader) text(name string) string {
	s, ok := r.t.GetString(name)
	if !ok {
		r.fail(name, "missing")
	}
	return s
}

func (r *reader) number(name string, most int64) int64 {
	n, ok := r.t.GetInt(name)
	if !ok || n < 0 || n > most {
		r.fail(name, "no number in its range")
		return 0
	}
	return n
}

func (r *reader) bytes(name string) []byte {
	b, err := base64.StdEncoding.DecodeString(r.text(name))
	if err != nil {
		r.fail(name, "no base64")
	}
	return b
}

func (r *reader) addr(name string) netip.Addr {
	a, err := netip.ParseAddr(r.text(name))
	if err != nil || !a.Is4() {
		r.fail(name, "no IPv4 address")
	}
	return a
}

func (r *reader) mappings(name string) (out []htip.Mapping) {
	list, ok := r.t.GetArray(name)
	if !ok {
		r.fail(name, "missing")
	}
	for _, x := range list {
		row, _ := x.(ubus.Table)
		m := reader{t: row}
		n, err1 := netip.ParsePrefix(m.text("network"))
		s, err2 := netip.ParsePrefix(m.text("substitute"))
		if err1 != nil || err2 != nil || n.Bits() != s.Bits() || n != n.Masked() || s != s.Masked() || !n.Addr().Is4() || !s.Addr().Is4() {
			r.fail(name, "no pair of prefixes of one length")
			continue
		}
		out = append(out, htip.Mapping{Network: n, Substitute: s})
	}
	return out
}
