package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"htip/src/config"
	"htip/src/dns"
	"htip/src/htip"
	"htip/src/ubus"
)

// facts are all that the checks look at.
type facts struct {
	now, built int64 // seconds since 1970; built is when the program's file was made
	unset      bool  // nothing has set the clock since the router's start

	main      config.Main
	networks  []netip.Prefix
	troubles  ubus.Array
	homeless  bool // there is nothing to share; troubles say why
	protocols []htip.Protocol
	netifd    error

	lines  []line // to the Internet, the one in use first
	own    []netip.Addr
	ownErr error

	firewall    []*config.Section // none: it is not looked at
	firewallErr error

	dropIn, reached error

	peers []*peerFacts
}

// line is a line to the Internet.
type line struct {
	name, device string
	address      netip.Addr
}

// peerFacts are what is known of another home.
type peerFacts struct {
	home   *config.Peer
	last   *htip.Status
	asked  bool       // what follows is known
	addr   netip.Addr // where it was knocked last
	lookup error
	knock  error
}

// report is what the checks write to.
type report struct {
	id   string // of the next rows
	rows ubus.Array
}

// add adds a row. What is in text behind the end of the first line is the advice;
// each % stands for the next argument: calls with texts put together by hand
// would make the program 2 kB larger. The row has both ways of it: the page says it
// in its user's language.
func (out *report) add(level, text string, args []string) {
	var both [2]string
	n := 0
	for i, p := range strings.Split(text, "%") {
		if i > 0 {
			both[n] += args[i-1]
		}
		if first, second, ok := strings.Cut(p, "\n"); ok {
			both[n] += first
			p, n = second, 1
		}
		both[n] += p
	}
	out.rows = append(out.rows, ubus.T("id", out.id, "level", level, "text", both[0], "advice", both[1], "format", text, "args", list1(args)))
}

func (out *report) ok(text string, args ...string) { out.add("ok", text, args) }

// warn is for what does not work and not everybody needs.
func (out *report) warn(text string, args ...string) { out.add("warn", text, args) }

func (out *report) bad(text string, args ...string) { out.add("bad", text, args) }

// examine runs all checks, in the order in which people read them.
func examine(f *facts) ubus.Array {
	out := &report{}
	f.checkHome(out)
	f.checkClock(out)
	f.checkLine(out)
	f.checkName(out)
	f.checkFirewall(out)
	f.checkNames(out)
	for _, p := range f.peers {
		out.id = "peer:" + p.home.Name
		f.checkPeer(out, p)
	}
	return out.rows
}

func (f *facts) checkHome(out *report) {
	out.id = "home"
	if f.homeless {
		out.rows = f.troubles
	} else {
		out.ok("other homes may reach %", texts(f.networks))
		out.rows = append(out.rows, f.troubles...)
	}
	out.id = "netifd"
	if f.netifd != nil {
		out.warn("netifd does not answer on ubus: %\ninterfaces are known by their devices only; restart the router", f.netifd.Error())
	} else {
		out.ok("netifd answers on ubus")
	}
	out.id = "protocol"
	const install = "\ninstall kmod-wireguard, then /etc/init.d/htip restart"
	safe := false
	for _, p := range f.protocols {
		safe = safe || p.Encrypted()
	}
	switch names := texts(f.protocols); {
	case names == "":
		out.bad("this router can make no tunnel at all" + install)
	case !safe:
		out.warn("this router can make tunnels by % only, which is not safe"+install, names)
	default:
		out.ok("this router can make tunnels by %", names)
	}
}

// checkClock can't know the time; it knows what it can't be.
func (f *facts) checkClock(out *report) {
	out.id = "clock"
	const advice = "\nset it: /etc/init.d/sysntpd restart, and list server in /etc/config/system"
	now := time.Unix(f.now, 0).UTC().Format(time.DateTime)
	switch {
	case f.now < max(htip.ClockSet, f.built):
		out.bad("this router's clock is wrong: it says %, UTC, before this program was made. Invites don't work"+advice, now)
	case f.unset:
		out.warn("nothing has set this router's clock since it started: it says %, UTC. Invites may expire at the wrong time"+advice, now)
	default:
		out.ok("the clock is set")
	}
}

// translated tells of addresses that only a carrier's translation has: RFC 6598,
// and 192.0.0.0/24 of RFC 6333 and 7335.
func translated(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	b := a.As4()
	return b[0] == 100 && b[1]&0xc0 == 64 || b[0] == 192 && b[1] == 0 && b[2] == 0
}

// public tells whether others may call an address from anywhere.
func public(a netip.Addr) bool { return a.IsGlobalUnicast() && !a.IsPrivate() && !translated(a) }

const onlyCalls = ": others can't call this home, it can call them"

func (f *facts) checkLine(out *report) {
	out.id = "wan"
	if len(f.lines) == 0 {
		out.bad("there is no line to the Internet: no device with a default route has an IPv4 address\nlook at the WAN in LuCI under Network > Interfaces, and at option wan_device")
		return
	}
	l := &f.lines[0]
	a := l.address.String()
	switch {
	case translated(l.address):
		out.warn("the provider translates this home's address, % (%), for many customers (CGNAT)"+onlyCalls+"\nask the provider for a public IPv4 address, or let the other homes have one", a, l.device)
	case !public(l.address):
		out.warn("this router's address, % (%), is a private one. Unless the box before it forwards the ports"+onlyCalls+"\nin that box forward TCP port % and the UDP ports % to %, or switch it to bridge mode",
			a, l.device, onePort(f.main.Port).String(), tunnelPorts(&f.main).String(), a)
	default:
		out.ok("this home has the public address % (%)", a, l.device)
	}
}

func (f *facts) isHere(a netip.Addr) bool {
	for i := range f.lines {
		if f.lines[i].address == a {
			return true
		}
	}
	return false
}

func (f *facts) checkName(out *report) {
	out.id = "name"
	const leads = "this home's name % leads to %"
	const look = "\nlook at the dynamic DNS (ddns-scripts) or at the name's A record, and at option domain"
	name, addrs, wan := f.main.Domain, texts(f.own), netip.IPv4Unspecified() // it has none
	if len(f.lines) > 0 {
		wan = f.lines[0].address
	}
	here := slices.ContainsFunc(f.own, f.isHere)
	switch {
	case name == "":
		out.warn("this home has no public name" + onlyCalls + "\nget a name with dynamic DNS (ddns-scripts), then: uci set htip.main.domain=NAME; uci commit htip; /etc/init.d/htip reload")
	case f.ownErr != nil:
		out.notFound("the name of this home, %, can't be found: %\n", f.ownErr, name)
	case here && len(f.own) == 1:
		out.ok(leads+", which is this router", name, addrs)
	case here, public(wan), !slices.ContainsFunc(f.own, public):
		out.bad(leads+", but this router's address is %"+look, name, addrs, wan.String())
	default:
		out.warn(leads+"; this router itself has %\nright if the former is the public address of the box before this router, and that forwards the ports", name, addrs, wan.String())
	}
}

// notFound says that a name can't be found: it does not exist, or nobody can be
// asked.
func (out *report) notFound(text string, err error, args ...string) {
	advice := "is it spelled right, and is the dynamic DNS of that home up to date?"
	if !errors.Is(err, dns.ErrNoName) {
		advice = "the Internet line or its name servers are down; ifstatus wan shows them"
	}
	out.bad(text+advice, append(args, err.Error())...)
}

// checkNames is about dnsmasq, which devices at home ask.
func (f *facts) checkNames(out *report) {
	out.id = "dnsmasq"
	const again = "/etc/init.d/dnsmasq restart, then /etc/init.d/htip restart"
	switch zone := f.main.Zone; {
	case f.dropIn != nil:
		out.bad("dnsmasq is not told whom to ask for names below %: %\nif htip has started just now, wait some seconds; otherwise "+again, zone, f.dropIn.Error())
	case f.reached != nil:
		out.bad("dnsmasq has no answers for names below %: %\n"+again+". Nothing in /etc/config/dhcp may name that zone", zone, f.reached.Error())
	default:
		out.ok("dnsmasq asks htip for names below %", zone)
	}
}

// checkPeer says one thing of another home: the first that is in the way.
func (f *facts) checkPeer(out *report, p *peerFacts) {
	const leads = "the name of %, %, leads to %"
	name, domain, a := p.home.Name, p.home.Domain, p.addr.String()
	switch {
	case p.last.State == htip.Up:
		out.ok("% is connected", name)
	case domain == "":
		if !said(out, p) {
			out.ok("% is not connected; only it can connect, since it has no public name", name)
		}
	case !p.asked:
		out.warn("% was not looked at: the time was over\nhtip connect % --wait shows what happens", name, name)
	case p.lookup != nil:
		out.notFound("the name of %, %, can't be found: %\n", p.lookup, name, domain)
	case f.isHere(p.addr):
		out.bad(leads+", which is this router\noption domain of % must be that home's own name", name, domain, a, name)
	case p.knock != nil && !public(p.addr):
		out.bad(leads+", which is no public address, and nothing answers: %\nits dynamic DNS must publish its address on the Internet; or let % connect", name, domain, a, p.knock.Error(), name)
	case p.knock != nil:
		out.bad("% (%) does not answer: %\nhtip doctor there says whether its port is open; or let % connect", name, domain, p.knock.Error(), name)
	case !said(out, p):
		out.ok("% answers at %; there is no tunnel now", name, a)
	}
}

// said tells of a refusal that is known, and whether there was one.
func said(out *report, p *peerFacts) bool {
	advice := "the user guide has this sentence"
	switch p.last.Reason {
	case 0, htip.ReasonUnreachable, htip.ReasonUser, htip.ReasonShutdown:
		return false
	case htip.ReasonVersion, htip.ReasonMalformed:
		advice = "the two homes have different versions of htip: update both"
	case htip.ReasonUnauthorized:
		advice = "compare the keys by telephone: htip key there, htip peers here, and the other way round"
	case htip.ReasonNoProtocol:
		advice = "one of the homes lacks a package, or does not permit what both have: htip doctor at both"
	case htip.ReasonApproval:
		advice = "somebody there has to approve this home: htip requests"
	case htip.ReasonLink:
		advice = "the UDP ports are closed at the home that is called: htip doctor there"
	}
	out.bad("%, at the last attempt: %\n"+advice, p.home.Name, sentence(p.last.Reason, p.last.Text))
	return true
}

// texts lists what has a String without spaces.
func texts(list any) string {
	return strings.ReplaceAll(strings.Trim(fmt.Sprint(list), "[]"), " ", ", ")
}
