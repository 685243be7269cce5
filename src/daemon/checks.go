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
)

// row is one finding of the doctor: what is so, and what to do about it.
type row struct{ id, level, text, advice string }

// Levels of a row.
const (
	levelOK   = "ok"
	levelWarn = "warn" // something does not work that not everybody needs
	levelBad  = "bad"
)

// facts are all that the checks look at.
type facts struct {
	now, built time.Time // built is when the program's file was made
	unset      bool      // nothing has set the clock since the router's start

	main      config.Main
	homeErr   error
	networks  []netip.Prefix
	shared    []string // what is wrong with the interfaces, see notShared
	netifd    error
	problems  []string // of the configuration
	users     []string // why they can't come in
	lacks     []string // see the method
	protocols []htip.Protocol
	weak      []string

	lines  []line // to the Internet, the one in use first
	own    []netip.Addr
	ownErr error

	hasFirewall bool
	firewall    config.Firewall
	firewallErr error

	hasDnsmasq      bool
	dropIn, reached error

	peers []peerFacts
}

// line is a line to the Internet.
type line struct {
	name, device string
	address      netip.Addr
}

// peerFacts are what is known of another home.
type peerFacts struct {
	name, domain string
	port         uint16
	up           bool
	reason       htip.Reason // of the last failure
	text         string
	asked        bool // what follows is known
	addrs        []netip.Addr
	lookup       error
	knock        error
}

// checks are all of them, in the order in which people read them.
var checks = []func(*facts) []row{
	checkHome, checkClock, checkProtocols, checkLine, checkName, checkFirewall, checkNames, checkPeers,
}

func examine(f *facts) (out []row) {
	for _, check := range checks {
		out = append(out, check(f)...)
	}
	return out
}

func rowsOf(id, level string, texts []string, advice string) (out []row) {
	for _, t := range texts {
		out = append(out, row{id, level, t, advice})
	}
	return out
}

func checkHome(f *facts) (out []row) {
	if f.homeErr != nil {
		out = append(out, row{"home", levelBad, f.homeErr.Error(), "as long as it is so there is nothing to share: correct it in /etc/config/htip, then /etc/init.d/htip reload"})
	} else {
		out = append(out, row{"home", levelOK, fmt.Sprintf("other homes may reach %s", texts(f.networks)), ""})
	}
	out = append(out, rowsOf("interface", levelBad, f.shared, "ifstatus with the interface's name says what it is; list interface in /etc/config/htip names those that are shared")...)
	if f.netifd != nil {
		out = append(out, row{"netifd", levelWarn, "netifd does not answer on ubus: " + f.netifd.Error(), "interfaces are known by their devices only, and changes are noticed late. ubus call network.interface dump shows whether it is there; if not, restart the router"})
	} else {
		out = append(out, row{"netifd", levelOK, "netifd answers on ubus", ""})
	}
	out = append(out, rowsOf("config", levelBad, f.problems, "correct it in /etc/config/htip, then /etc/init.d/htip reload")...)
	return append(out, rowsOf("users", levelBad, f.users, "the user guide says what each sentence means")...)
}

// checkClock can't know the time; it knows what it can't be.
func checkClock(f *facts) []row {
	const advice = "set it: /etc/init.d/sysntpd restart, and option server in /etc/config/system. A router without a battery knows no time until then"
	now := f.now.UTC().Format("2006-01-02 15:04")
	switch {
	case f.now.Unix() < htip.ClockSet, f.now.Before(f.built):
		return []row{{"clock", levelBad, "this router's clock is wrong: it says " + now + ", which is before this program was made; invites can be neither made nor accepted, or expire at the wrong time", advice}}
	case f.unset:
		return []row{{"clock", levelWarn, "nothing has set this router's clock since it started: it says " + now + " (UTC). If that is wrong, invites expire at the wrong time", advice}}
	}
	return []row{{"clock", levelOK, "the clock has been set", ""}}
}

func checkProtocols(f *facts) (out []row) {
	var names []string
	secret := false
	for _, p := range f.protocols {
		names = append(names, p.String())
		secret = secret || p.Encrypted()
	}
	const install = "install the package that is named. " + lookedOnce
	switch {
	case len(names) == 0:
		out = append(out, row{"protocol", levelBad, "this router can make no tunnel at all", "install kmod-wireguard, then /etc/init.d/htip restart"})
	case !secret:
		out = append(out, row{"protocol", levelWarn, "this router can make tunnels by " + strings.Join(names, ", ") + " only, which is not safe", "install kmod-wireguard, then /etc/init.d/htip restart"})
	default:
		out = append(out, row{"protocol", levelOK, "this router can make tunnels by " + strings.Join(names, ", "), ""})
	}
	out = append(out, rowsOf("missing", levelWarn, f.lacks, install)...)
	return append(out, rowsOf("unsafe", levelWarn, f.weak, "")...)
}

var (
	carriers = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598
	dsLite   = netip.MustParsePrefix("192.0.0.0/24")  // RFC 6333, RFC 7335: our end of a carrier's translation
)

func translated(a netip.Addr) bool { return carriers.Contains(a) || dsLite.Contains(a) }

// public tells whether others may call an address from anywhere.
func public(a netip.Addr) bool {
	return a.IsGlobalUnicast() && !a.IsPrivate() && !translated(a)
}

const onlyCalls = "; others can't call this home, it can call them"

func checkLine(f *facts) []row {
	if len(f.lines) == 0 {
		return []row{{"wan", levelBad, "there is no line to the Internet: no device with a default route has an IPv4 address", "look at the WAN in LuCI under Network > Interfaces. option wan_device, if it is set, must be the right device"}}
	}
	l := f.lines[0]
	at := l.address.String() + " (" + l.device + ")"
	switch ports := fmt.Sprintf("TCP port %d and the UDP ports %v", f.main.Port, tunnelPorts(&f.main)); {
	case translated(l.address):
		return []row{{"wan", levelWarn, "this home's address on the Internet, " + at + ", is shared by many: the provider translates it (CGNAT)" + onlyCalls, "ask the provider for a public IPv4 address, or let the other homes have one"}}
	case l.address.IsPrivate():
		return []row{{"wan", levelWarn, "this router's address, " + at + ", is a private one: a box stands before it, and unless that forwards to it others can't call this home. This home can call them", "in the box before it, forward " + ports + " to " + l.address.String() + ", or switch it to bridge mode"}}
	case !public(l.address):
		return []row{{"wan", levelWarn, "this router's address, " + at + ", is none of the Internet" + onlyCalls, "look at the WAN in LuCI under Network > Interfaces"}}
	}
	return []row{{"wan", levelOK, "this home has the public address " + at, ""}}
}

const dynamicDNS = "look at the dynamic DNS (ddns-scripts) or at the name's A record, and at option domain"

func checkName(f *facts) []row {
	name := f.main.Domain
	if name == "" {
		return []row{{"name", levelWarn, "this home has no public name (option domain)" + onlyCalls, "get a name with dynamic DNS (ddns-scripts), then: uci set htip.main.domain=NAME; uci commit htip; /etc/init.d/htip reload"}}
	}
	if f.ownErr != nil {
		return []row{notFound("name", "this home's name "+name, f.ownErr, dynamicDNS)}
	}
	leads := "this home's name " + name + " leads to " + texts(f.own)
	for _, a := range f.own {
		if slices.ContainsFunc(f.lines, func(l line) bool { return l.address == a }) {
			if len(f.own) > 1 {
				return []row{{"name", levelWarn, leads + ", and not all of these are this router's", "leave one address, this router's. " + dynamicDNS}}
			}
			return []row{{"name", levelOK, leads + ", which is this router", ""}}
		}
	}
	switch {
	case !slices.ContainsFunc(f.own, public):
		return []row{{"name", levelBad, leads + ", where nobody on the Internet can call", dynamicDNS}}
	case len(f.lines) == 0:
		return []row{{"name", levelWarn, leads + ", and this router has no address on the Internet now", "see above"}}
	case public(f.lines[0].address):
		return []row{{"name", levelBad, leads + ", but this router's address is " + f.lines[0].address.String(), dynamicDNS}}
	}
	return []row{{"name", levelWarn, leads + "; this router itself has " + f.lines[0].address.String(), "right if the former is the public address of the box before this router, and that forwards the ports. What the box has is shown on its own page"}}
}

// notFound says that a name can't be found: it does not exist, or nobody can be
// asked.
func notFound(id, what string, err error, advice string) row {
	if !errors.Is(err, dns.ErrNoName) {
		advice = "the Internet line or its name servers are down; ifstatus wan shows them"
	}
	return row{id, levelBad, what + " can't be found: " + err.Error(), advice}
}

// checkNames is about dnsmasq, which devices at home ask.
func checkNames(f *facts) []row {
	const advice = "/etc/init.d/dnsmasq restart, then /etc/init.d/htip restart"
	zone := "names below " + f.main.Zone
	switch {
	case !f.hasDnsmasq:
		return []row{{"dnsmasq", levelBad, "no dnsmasq was found: devices at home can't look up " + zone, "dnsmasq must run at port 53 of the LAN, with a conf-dir; then /etc/init.d/htip restart"}}
	case f.dropIn != nil:
		return []row{{"dnsmasq", levelBad, "dnsmasq is not told where to ask for " + zone + ": " + f.dropIn.Error(), "if htip has started just now, wait some seconds; otherwise " + advice}}
	case f.reached != nil:
		return []row{{"dnsmasq", levelBad, "dnsmasq does not give answers for " + zone + ": " + f.reached.Error(), advice + ". Options such as local, server or address in /etc/config/dhcp must not name that zone"}}
	}
	return []row{{"dnsmasq", levelOK, "dnsmasq asks htip for " + zone, ""}}
}

func checkPeers(f *facts) (out []row) {
	for i := range f.peers {
		out = append(out, checkPeer(f, &f.peers[i]))
	}
	return out
}

// checkPeer says one thing of another home: the first that is in the way.
func checkPeer(f *facts, p *peerFacts) row {
	id := "peer:" + p.name
	at := netip.AddrPort{}
	if len(p.addrs) > 0 {
		at = netip.AddrPortFrom(p.addrs[0], p.port)
	}
	said := p.reason != 0 && p.reason != htip.ReasonUnreachable && p.reason != htip.ReasonUser && p.reason != htip.ReasonShutdown
	switch {
	case p.up:
		return row{id, levelOK, p.name + " is connected", ""}
	case p.domain != "" && !p.asked:
		return row{id, levelWarn, p.name + " was not looked at: the time was over", "htip doctor once more, or htip connect " + p.name + " --wait"}
	case p.domain != "" && p.lookup != nil:
		return notFound(id, p.name+"'s name "+p.domain, p.lookup, "is it spelled right, and is the other home's dynamic DNS up to date?")
	case p.domain != "" && slices.ContainsFunc(f.lines, func(l line) bool { return l.address == at.Addr() }):
		return row{id, levelBad, p.name + "'s name " + p.domain + " leads to " + at.Addr().String() + ", which is this router", "option domain in the section of " + p.name + " must be that home's own name"}
	case p.domain != "" && p.knock != nil && !public(at.Addr()):
		return row{id, levelBad, p.name + "'s name " + p.domain + " leads to " + at.Addr().String() + ", which is no public address, and nothing answers there: " + p.knock.Error(), "the other home's dynamic DNS must publish its address on the Internet; or let " + p.name + " connect to this home"}
	case p.domain != "" && p.knock != nil:
		return row{id, levelBad, p.name + " (" + p.domain + ") does not answer at " + at.String() + ": " + p.knock.Error(), fmt.Sprintf("does htip run there, does its firewall let TCP port %d in, and does a box before it forward it? htip doctor there says so. Or let %s connect to this home", p.port, p.name)}
	case said:
		return row{id, levelBad, p.name + ": the last attempt failed: " + sentence(p.reason, p.text), adviceFor(p)}
	case p.domain == "":
		return row{id, levelOK, p.name + " is not connected; it has no option domain, so only it can connect", ""}
	}
	return row{id, levelOK, p.name + " answers at " + at.String() + "; it is not connected: htip connect " + p.name, ""}
}

func adviceFor(p *peerFacts) string {
	switch p.reason {
	case htip.ReasonVersion, htip.ReasonMalformed:
		return "the two homes have different versions of htip: update both"
	case htip.ReasonUnauthorized:
		return "compare the keys by telephone: htip key there, htip peers here, and the other way round"
	case htip.ReasonNoProtocol:
		return "one of the homes lacks a package, or does not permit what both have; htip doctor at both"
	case htip.ReasonApproval:
		return "somebody there has to approve this home: htip requests"
	case htip.ReasonLink:
		return "the UDP ports of tunnels are closed at the home that is called; htip doctor there"
	}
	return "the user guide says what each sentence means; htip connect " + p.name + " --wait tries again"
}

func texts[T fmt.Stringer](list []T) string {
	var out []string
	for _, x := range list {
		out = append(out, x.String())
	}
	return strings.Join(out, ", ")
}
