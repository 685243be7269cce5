package daemon

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"htip/src/config"
	"htip/src/control"
	"htip/src/htip"
	"htip/src/qr"
	"htip/src/ubus"
)

const (
	inviteLabel   = "invite" // of the TLS exporter
	inviteDefault = 24 * time.Hour
)

// invited takes a REQUEST with the proof of an invite. Three writes, each on
// flash before the next: the invite is this home's, the home is a peer, the
// invite is used up. After a power cut in between no other home can use the
// invite, and this one comes again and goes on.
func (d *Daemon) invited(c *control.Conn, m *htip.Message) {
	now, from, key := time.Now(), c.Remote().Addr(), c.Key()
	exporter, err := c.Export(inviteLabel, nil, htip.ExporterSize)
	if err != nil {
		d.turn(c, m, htip.ReasonServer, "the invite can't be checked")
		return
	}
	i, r, text := d.invites.Judge(now, m.Invite, exporter, key)
	if i == nil {
		switch { // who has an invite is none of those who guess from his network
		case r != htip.ReasonInvite:
		case d.guesses.Allowed(from, now):
			d.guesses.Wrong(from, now)
		default:
			r, text = htip.ReasonBusy, "too many wrong invites from your network; wait ten minutes"
		}
		d.turn(c, m, r, text)
		return
	}
	unsaved := func(err error) {
		d.log.Error("pairing by invite failed", "invite", i.Number, "err", err)
		d.turn(c, m, htip.ReasonServer, "the other home could not store the pairing; its log says why")
	}
	before := *i
	i.Claim(key)
	if err := d.saveStrangers(); err != nil {
		*i = before
		unsaved(err)
		return
	}
	p := config.NewPeer("")
	p.Key, p.Access = config.Key(key), i.Access
	cfg, _, err := config.Load(d.opt.Config)
	if _, taken := cfg.Like(i.Name); err == nil && i.Name != "" && !taken {
		p.Name = i.Name
	}
	name, _, err := d.addPeer(p, m.Domain) // its reload settles the invite
	if err != nil {
		unsaved(err)
		return
	}
	if d.requests.Pardon(key) {
		d.settleRejected()
	}
	d.log.Info("paired by invite", "invite", before.Number, "peer", name, "fingerprint", control.Fingerprint(key))
	if d.peer(name) == nil { // starting afresh; it comes again
		c.Close()
		return
	}
	d.goOn(name, c, m)
	d.confirm(name, m.Domain)
}

// showInvite puts the proof of a peer's invite into a REQUEST to it.
func (d *Daemon) showInvite(c conn, m *htip.Message) error {
	secret := d.known(c.peer).Invite
	if len(secret) != htip.SecretSize {
		return nil
	}
	exporter, err := c.Export(inviteLabel, nil, htip.ExporterSize)
	if err != nil {
		return fmt.Errorf("proving the invite: %w", err)
	}
	m.Invite = htip.Secret(secret).Prove(exporter, d.id.Public())
	return nil
}

func (d *Daemon) busInvite(r *ubus.Request) (ubus.Table, error) {
	p, err := newPeer(r)
	if err != nil {
		return sorry(err), nil
	}
	seconds, ok := r.Args.GetInt("expires")
	if !ok {
		seconds = int64(inviteDefault / time.Second)
	}
	s, number, expires, err := d.invite(p.Name, p.Access, seconds)
	if err != nil {
		return sorry(err), nil
	}
	return withCode(r, ubus.T(
		"number", int64(number), "invite", s, "expires", expires, "fingerprint", control.Fingerprint(d.id.Public()),
	), strings.ToUpper(s)), nil
}

// withCode adds the QR code of a text if the caller wants it, and the text is short
// enough: for pages, which need no program for that.
func withCode(r *ubus.Request, t ubus.Table, text string) ubus.Table {
	if want, _ := r.Args.GetBool("qr"); want {
		if c, err := qr.New(text); err == nil {
			t = append(t, ubus.F("qr", c.Rows()))
		}
	}
	return t
}

func sorry(err error) ubus.Table { return ubus.T("error", err.Error()) }

// invite issues an invite that is good for so many seconds.
func (d *Daemon) invite(name string, access []string, seconds int64) (s string, number int, expires int64, err error) {
	main, now := &d.cfg.Main, time.Now()
	switch {
	case main.Accept == config.AcceptNone:
		return "", 0, 0, errors.New("this home takes no requests: let others ask first (option accept: 'ask' or 'known')")
	case main.Domain == "":
		return "", 0, 0, errors.New("this home has no public name by which the other one could find it: give it one first (option domain)")
	}
	if name != "" {
		if name, err = d.newName(d.cfg, name); err != nil {
			return "", 0, 0, err
		}
	}
	seconds = max(0, min(seconds, 1<<31))
	v := htip.Invite{Domain: main.Domain, Port: main.Port, Key: d.id.Public(), Expires: now.Unix() + seconds}
	rand.Read(v.Secret[:])
	if s, err = v.Encode(); err != nil {
		return "", 0, 0, err
	}
	old := d.invites
	if number, err = d.invites.Add(now, htip.Issued{ID: v.Secret.ID(), Key: v.Secret.Key(), Name: name, Access: access, Expires: v.Expires}); err != nil {
		return "", 0, 0, err
	}
	if err := d.saveStrangers(); err != nil {
		d.invites = old
		return "", 0, 0, fmt.Errorf("the invite can't be stored: %w", err)
	}
	d.setOpen()
	d.log.Info("invite issued", "invite", number, "expires", v.Expires)
	return s, number, v.Expires, nil
}

func (d *Daemon) busInvites(*ubus.Request) (ubus.Table, error) {
	now, list := time.Now(), ubus.Array{}
	for k := range d.invites {
		i := &d.invites[k]
		state := i.State.String()
		if i.State == htip.InviteOpen && !i.Open(now) {
			state = "expired"
		}
		t := ubus.T("number", int64(i.Number), "state", state, "name", i.Name, "access", list1(i.Access),
			"expires", i.Expires, "expires_in", i.Expires-now.Unix())
		if len(i.By) > 0 {
			t = append(t, ubus.F("by", control.Fingerprint(i.By)))
		}
		list = append(list, t)
	}
	return ubus.T("invites", list), nil
}

// list1 is a list that is never null.
func list1(s []string) []string { return append([]string{}, s...) }

func (d *Daemon) busCancelInvite(r *ubus.Request) (ubus.Table, error) {
	n, ok := r.Args.GetInt("number")
	if !ok {
		return nil, ubus.ErrInvalidArgument
	}
	if !d.invites.Cancel(n) {
		return sorry(fmt.Errorf("there is no invite %d that can be cancelled: htip invites lists them", n)), nil
	}
	if err := d.saveStrangers(); err != nil {
		return sorry(fmt.Errorf("not stored, so it will be good again after a restart: %w", err)), nil
	}
	d.setOpen()
	return ubus.T("number", n), nil
}

// encodeStrangers and decodeStrangers turn invites and rejected keys into a
// table and back. An invite is a line of words: number, ID and key, expiry,
// state, who used it, the peer's name, what it may reach; "-" for nothing. A
// damaged line is left out.
func encodeStrangers(invites htip.Invites, rejected [][]byte) ubus.Table {
	var lines, keys []string
	for k := range invites {
		i := &invites[k]
		words := []string{
			strconv.Itoa(i.Number), control.EncodeKey(append(i.ID[:], i.Key[:]...)), strconv.FormatInt(i.Expires, 10), i.State.String(),
			dash(control.EncodeKey(i.By)), dash(i.Name),
		}
		lines = append(lines, strings.Join(append(words, i.Access...), " "))
	}
	for _, k := range rejected {
		keys = append(keys, control.EncodeKey(k))
	}
	return ubus.T("invites", lines, "rejected", keys)
}

// dash stands for a word that is empty, and undash takes it away.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func undash(s string) string {
	if s == "-" {
		return ""
	}
	return s
}

func decodeStrangers(t ubus.Table) (invites htip.Invites, rejected [][]byte, err error) {
	bad := 0
	lines, _ := t.GetStrings("invites")
	for _, line := range lines {
		if i, ok := decodeInvite(strings.Fields(line)); ok {
			invites = append(invites, i)
		} else {
			bad++
		}
	}
	keys, _ := t.GetStrings("rejected")
	for _, s := range keys {
		if k, err := base64.StdEncoding.DecodeString(s); err == nil && len(k) == control.KeySize {
			rejected = append(rejected, k)
		} else {
			bad++
		}
	}
	if bad > 0 {
		err = fmt.Errorf("%d lines of %s are damaged", bad, strangersFile)
	}
	return invites, rejected, err
}

func decodeInvite(words []string) (i htip.Issued, ok bool) {
	if len(words) < 6 {
		return i, false
	}
	var err [4]error
	i.Number, err[0] = strconv.Atoi(words[0])
	secret, e := base64.StdEncoding.DecodeString(words[1])
	i.Expires, err[1] = strconv.ParseInt(words[2], 10, 64)
	i.State, ok = htip.ParseInviteState(words[3])
	i.By, err[2] = base64.StdEncoding.DecodeString(undash(words[4]))
	i.Name, i.Access = undash(words[5]), words[6:]
	err[3] = config.CheckAccess(i.Access)
	if !ok || e != nil || err != [4]error{} || len(secret) != len(i.ID)+len(i.Key) || len(i.By) != 0 && len(i.By) != control.KeySize {
		return i, false
	}
	i.Key = htip.ProofKey(secret[copy(i.ID[:], secret):])
	return i, true
}
