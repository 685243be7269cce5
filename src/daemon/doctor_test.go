package daemon

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"htip/src/config"
	"htip/src/dns"
	"htip/src/htip"
	"htip/src/ubus"
)

// goodFirewall is what openwrt/files/firewall.sh makes, with the two usual zones.
const goodFirewall = `
config defaults
	option forward 'REJECT'
config zone
	option name 'lan'
	list network 'lan'
	option input 'ACCEPT'
config zone
	option name 'wan'
	list network 'wan'
	option masq '1'
	option input 'REJECT'
config zone 'htip'
	option name 'htip'
	list device 'htip-+'
	option input 'REJECT'
config forwarding 'htip_out'
	option src 'lan'
	option dest 'htip'
config forwarding 'htip_in'
	option src 'htip'
	option dest 'lan'
config rule 'htip_names'
	option src 'htip'
	option proto 'tcp udp'
	option dest_port '53 4853'
	option target 'ACCEPT'
config rule 'htip_control'
	option src 'wan'
	option family 'ipv4'
	option proto 'tcp'
	option dest_port '4847'
	option target 'ACCEPT'
config rule 'htip_vpn'
	option src 'wan'
	option proto 'udp'
	option dest_port '17009-17073'
	option target 'ACCEPT'
`

func sections(t *testing.T, text string) []*config.Section {
	t.Helper()
	path := filepath.Join(t.TempDir(), "firewall")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := config.LoadSections(path)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// healthy is a home with nothing wrong, and bob, who answers.
func healthy(t *testing.T) *facts {
	f := &facts{
		now: time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC).Unix(), main: config.Defaults().Main, networks: []netip.Prefix{netip.MustParsePrefix("192.168.1.0/24")},
		protocols: []htip.Protocol{htip.WireGuard}, lines: []line{{"wan", "eth1", netip.MustParseAddr("203.0.113.9")}}, own: []netip.Addr{netip.MustParseAddr("203.0.113.9")},
		firewall: sections(t, goodFirewall),
	}
	f.main.Domain = "alice.example.org"
	f.peers = []*peerFacts{{home: &config.Peer{Name: "bob", Domain: "bob.example.org", Port: 4847}, last: &htip.Status{}, asked: true, addr: netip.MustParseAddr("198.51.100.2")}}
	return f
}

func rowTexts(rows ubus.Array) (out []string) {
	for _, x := range rows {
		s := ""
		for _, name := range []string{"level", "id", "text", "advice"} {
			v, _ := x.(ubus.Table).GetString(name)
			s += v + "|"
		}
		out = append(out, s)
	}
	return out
}

func TestDoctorFindsNothing(t *testing.T) {
	got := rowTexts(examine(healthy(t)))
	for _, r := range got {
		if !strings.HasPrefix(r, "ok|") {
			t.Error(r)
		}
		if strings.Contains(r, "%") {
			t.Errorf("an argument is missing: %s", r)
		}
	}
	if len(got) != 12 {
		t.Errorf("%d rows: %q", len(got), got)
	}
}

// TestDoctor: one thing is wrong, and just that is said, with what to do.
func TestDoctor(t *testing.T) {
	addr := netip.MustParseAddr
	firewall := func(old, new string) func(*facts) {
		return func(f *facts) {
			if !strings.Contains(goodFirewall, old) {
				t.Fatalf("no %q", old)
			}
			f.firewall = sections(t, strings.Replace(goodFirewall, old, new, 1))
		}
	}
	peer := func(change func(p *peerFacts)) func(*facts) { return func(f *facts) { change(f.peers[0]) } }
	cases := []struct {
		name   string
		change func(*facts)
		want   string // beginning of the row, and parts of it behind "…"
	}{
		{"no home", func(f *facts) {
			f.homeless, f.troubles = true, ubus.Array{ubus.T("id", "home", "level", "bad", "text", "br-lan has no IPv4 address")}
		}, "bad|home|br-lan has no"},
		{"interface is down", func(f *facts) {
			f.troubles = ubus.Array{ubus.T("id", "interface", "level", "bad", "text", "interface x is down: 100%", "advice", "x")}
		}, "bad|interface|interface x is down: 100%|x"},
		{"netifd is silent", func(f *facts) { f.netifd = errors.New("no answer") }, "warn|netifd|…no answer"},
		{"no protocol", func(f *facts) { f.protocols = nil }, "bad|protocol|…no tunnel at all…kmod-wireguard"},
		{"no safe protocol", func(f *facts) { f.protocols = []htip.Protocol{htip.L2TP} }, "warn|protocol|…l2tp only"},
		{"no battery", func(f *facts) { f.now = 1000 }, "bad|clock|…1970-01-01 00:16:40…sysntpd"},
		{"older than the program", func(f *facts) { f.built = f.now + 1 }, "bad|clock|"},
		{"nobody has set the clock", func(f *facts) { f.unset = true }, "warn|clock|nothing has set"},
		{"no line", func(f *facts) { f.lines = nil }, "bad|wan|there is no line"},
		{"carrier's translation", func(f *facts) { f.lines[0].address = addr("100.64.0.1") }, "warn|wan|…100.64.0.1 (eth1)…CGNAT"},
		{"end of it", func(f *facts) { f.lines[0].address = addr("100.127.255.255") }, "warn|wan|…CGNAT"},
		{"DS-Lite", func(f *facts) { f.lines[0].address = addr("192.0.0.2") }, "warn|wan|…CGNAT"},
		{"private WAN", func(f *facts) { f.lines[0].address = addr("192.168.178.2") }, "warn|wan|…192.168.178.2…TCP port 4847 and the UDP ports 17009-17073 to 192.168.178.2"},
		{"link-local WAN", func(f *facts) { f.lines[0].address = addr("169.254.1.1") }, "warn|wan|…169.254.1.1"},
		{"just not the carrier's", func(f *facts) { f.lines[0].address = addr("100.128.0.1"); f.own[0] = addr("100.128.0.1") }, ""},
		{"no name", func(f *facts) { f.main.Domain = "" }, "warn|name|…no public name"},
		{"name not found", func(f *facts) { f.ownErr = dns.ErrNoName }, "bad|name|the name of this home, alice.example.org, can't be found…dynamic DNS"},
		{"no resolver", func(f *facts) { f.ownErr = errors.New("no answer in time") }, "bad|name|…no answer in time…Internet line"},
		{"name leads elsewhere", func(f *facts) { f.own[0] = addr("203.0.113.10") }, "bad|name|…203.0.113.10, but…203.0.113.9"},
		{"name leads to the LAN", func(f *facts) { f.own[0] = addr("192.168.1.1") }, "bad|name|…192.168.1.1, but"},
		{"name leads to others, too", func(f *facts) { f.own = append(f.own, addr("203.0.113.10")) }, "bad|name|…203.0.113.9, 203.0.113.10, but"},
		{"unreadable firewall", func(f *facts) { f.firewall, f.firewallErr = nil, errors.New("line 3") }, "warn|firewall|…line 3"},
		{"no firewall", func(f *facts) { f.firewall = nil }, ""},
		{"no zone", firewall("htip-+", "htip-bob"), "bad|firewall|no zone…firewall.sh add"},
		{"zone is off", firewall("list device 'htip-+'", "list device 'htip-+'\noption enabled 0"), "bad|firewall|"},
		{"masquerading", firewall("list device 'htip-+'", "list device 'htip-+'\noption masq 1"), "bad|firewall|the firewall's zone htip masquerades"},
		{"not out", firewall("option dest 'htip'", "option dest 'wan'"), "bad|firewall|…from zone lan to htip"},
		{"not in", firewall("option src 'htip'\n\toption dest 'lan'", "option src htip\noption dest lan\noption enabled 0"), "bad|firewall|…from zone htip to lan"},
		{"everything is forwarded", firewall("option forward 'REJECT'", "option forward ACCEPT"), ""},
		{"other TCP port", func(f *facts) { f.main.Port = 4848 }, "bad|firewall-tcp|…TCP 4848 in from zone wan: rule htip_control has 4847, not those of option port…htip restart"},
		{"other UDP ports", func(f *facts) { f.main.L2TPPort = 17011 }, "bad|firewall-udp|…UDP 17010-17074…rule htip_vpn has 17009-17073"},
		{"no names", firewall("config rule 'htip_names'", "config rule 'htip_names'\noption enabled 0"), "bad|firewall-names|…UDP 4853 in from zone htip: rule htip_names is disabled; tunnels don't come up, and names"},
		{"no names' port", firewall("53 4853", "53"), "bad|firewall-names|…UDP 4853 in from zone htip; tunnels don't come up, and names…firewall.sh add"},
		{"no lists", firewall("option proto 'tcp udp'", "option proto udp"), "bad|firewall-names|…TCP 4853 in from zone htip; the other homes' lists of devices…"},
		{"rule is off", firewall("option dest_port '4847'", "option dest_port 4847\noption enabled 0"), "bad|firewall-tcp|…rule htip_control is disabled"},
		{"rule for some", firewall("option dest_port '4847'", "option dest_port 4847\noption src_ip 192.0.2.1"), "bad|firewall-tcp|…conditions only"},
		{"rule for IPv6", firewall("option family 'ipv4'", "option family ipv6"), "bad|firewall-tcp|"},
		{"rule for another zone", firewall("option src 'wan'\n\toption proto 'udp'", "option src lan\noption proto udp"), "bad|firewall-udp|"},
		{"another protocol", firewall("option proto 'udp'", "option proto 'udplite'"), "bad|firewall-udp|"},
		{"no such ports", firewall("17009-17073", "17073-17009"), "bad|firewall-udp|"},
		{"turned away before", firewall("config rule 'htip_control'", "config rule\noption src '*'\noption proto tcp\noption target DROP\nconfig rule 'htip_control'"), "bad|firewall-tcp|…rule @rule[1] turns it away"},
		{"some are turned away", firewall("config rule 'htip_control'", "config rule\noption src '*'\noption src_mac 'x'\noption target DROP\nconfig rule 'htip_control'"), ""},
		{"rule in other words", firewall("option proto 'tcp'\n\toption dest_port '4847'", "list proto all\noption dest_port '22 4800:4900'"), ""},
		{"zone lets everything in", func(f *facts) {
			f.main.Port = 5000
			firewall("option input 'REJECT'", "option input ACCEPT")(f)
		}, ""},
		{"defaults let everything in", func(f *facts) {
			f.main.Port = 5000
			f.firewall = sections(t, strings.Replace(strings.Replace(goodFirewall, "option input 'REJECT'", "", 1), "config defaults", "config defaults\noption input ACCEPT", 1))
		}, ""},
		{"no dnsmasq", func(f *facts) { f.dropIn = errNoDnsmasq }, "bad|dnsmasq|…no dnsmasq was found"},
		{"no drop-in", func(f *facts) { f.dropIn = errors.New("gone") }, "bad|dnsmasq|…gone"},
		{"dnsmasq asks others", func(f *facts) { f.reached = errors.New("it answers itself") }, "bad|dnsmasq|…internal: it answers itself"},
		{"no time for bob", peer(func(p *peerFacts) { p.asked = false }), "warn|peer:bob|"},
		{"bob not found", peer(func(p *peerFacts) { p.lookup = dns.ErrNoName }), "bad|peer:bob|the name of bob, bob.example.org"},
		{"bob is us", peer(func(p *peerFacts) { p.addr = addr("203.0.113.9") }), "bad|peer:bob|…203.0.113.9, which is this router"},
		{"bob is private", peer(func(p *peerFacts) { p.addr, p.knock = addr("10.1.1.1"), errors.New("timeout") }), "bad|peer:bob|…10.1.1.1, which is no public address"},
		{"bob is private and answers", peer(func(p *peerFacts) { p.addr = addr("10.1.1.1") }), ""},
		{"bob is closed", peer(func(p *peerFacts) { p.knock = errors.New("timeout") }), "bad|peer:bob|bob (bob.example.org) does not answer: timeout"},
		{"bob is old", peer(func(p *peerFacts) { p.last.Reason, p.last.Text = htip.ReasonVersion, "version 9" }), "bad|peer:bob|…version 9…update both"},
		{"bob has another key", peer(func(p *peerFacts) { p.last.Reason = htip.ReasonUnauthorized }), "bad|peer:bob|…wrong key…htip key"},
		{"bob can nothing", peer(func(p *peerFacts) { p.last.Reason, p.last.Text = htip.ReasonNoProtocol, "100% no" }), "bad|peer:bob|…100% no"},
		{"bob was out, and is back", peer(func(p *peerFacts) { p.last.Reason = htip.ReasonUnreachable }), ""},
		{"bob has no name", peer(func(p *peerFacts) { p.home.Domain, p.asked = "", false }), ""},
		{"bob is connected", peer(func(p *peerFacts) { p.asked, p.last.State = false, htip.Up }), ""},
	}
	for _, c := range cases {
		f := healthy(t)
		c.change(f)
		var wrong []string
		for _, r := range rowTexts(examine(f)) {
			if !strings.HasPrefix(r, "ok|") && !strings.HasPrefix(r, "warn|name|this home's name alice.example.org leads to 203.0.113.9; this router itself has ") {
				wrong = append(wrong, r)
			}
		}
		good := len(wrong) == 1
		if c.want == "" {
			good = len(wrong) == 0
		}
		if good && c.want != "" {
			rest := wrong[0]
			for i, part := range strings.Split(c.want, "…") {
				at := strings.Index(rest, part)
				if good = good && at >= 0 && (i > 0 || at == 0); good {
					rest = rest[at+len(part):]
				}
			}
		}
		if !good {
			t.Errorf("%s: want %q, got %q", c.name, c.want, wrong)
		}
	}
}
