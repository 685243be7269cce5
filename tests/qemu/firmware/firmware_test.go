//go:build qemu

// Package firmware_test installs the package on emulated routers that look like
// OpenWrt, as its users do: opkg, uci and init scripts, a firewall that drops by
// default, busybox for a shell, rebind protection on, 64 MB of memory.
package firmware_test

import (
	"context"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

func TestMipsel(t *testing.T) { testFirmware(t, lab.Mipsel, 64) }
func TestArmv5(t *testing.T)  { testFirmware(t, lab.Armv5, 128) }
func TestArm64(t *testing.T)  { testFirmware(t, lab.Arm64, 128) }

const (
	release = "7" // of the first version; the newer one is 8
	newer   = "8"

	// How long something may take that has to come. How long it took is in the log; that
	// is a fraction, and says as much about the machine as about us. Soon is before
	// the daemon looks by itself.
	soon = 20 * time.Second
	late = 5 * time.Minute
	// Back is until hosts reach each other after a change. What helps regularly, whatever
	// was missed, comes once a minute.
	back = 90 * time.Second
)

// page are the packages of the page: there is no LuCI here, so they only come and go.
var page = []string{"luci-app-htip", "luci-i18n-htip-de"}

// firm is what the parts of a test share.
type firm struct {
	*testing.T
	ctx  context.Context
	lab  *lab.Lab
	a, b *homes.Home
}

func testFirmware(t *testing.T, arch lab.Arch, memory int) {
	l, err := lab.New(context.Background(), lab.Options{Arch: arch, Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Minute)
	t.Cleanup(cancel)
	packages := map[string][]byte{}
	for _, r := range []string{release, newer} {
		made, err := homes.Packages(ctx, arch, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range append([]string{"htip"}, page...) {
			if packages[name+"-"+r+".ipk"] = made[name]; made[name] == nil {
				t.Fatalf("no package %s", name)
			}
		}
	}
	home := func(name, host, hostName string) homes.Spec {
		a := netip.MustParseAddr(host)
		var guests []lab.LAN
		if name == "alice" {
			guests = append(guests, lab.LAN{Router: netip.MustParsePrefix("192.168.20.1/24"), Host: netip.MustParseAddr("192.168.20.9")})
		}
		return homes.Spec{Name: name, MemoryMB: memory, SecondWAN: name == "alice", MoreLANs: guests,
			LAN: lab.LAN{Router: netip.MustParsePrefix("192.168.1.1/24"), Host: a, Names: map[string]netip.Addr{hostName: a}}}
	}
	hs, err := homes.BootOpenWrt(ctx, l, packages, home("alice", "192.168.1.4", "pc"), home("bob", "192.168.1.5", "nas"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, h := range hs {
			if t.Failed() {
				t.Log(h.Log())
				t.Log(h.Router.Run(context.Background(), "cat /var/log/procd.log /var/log/boot.log; dmesg | tail -5"))
			}
		}
	})
	f := &firm{t, ctx, l, hs[0], hs[1]}
	t.Logf("booted in %.1f and %.1f s with %d MB", f.a.Router.BootTime().Seconds(), f.b.Router.BootTime().Seconds(), memory)
	before := f.traces(f.a)
	f.part("install", f.install)
	f.part("connect", f.connect)
	f.part("memory", f.memory)
	f.part("doctor", f.doctor)
	f.part("firewall", f.firewall)
	f.part("dnsmasq", f.dnsmasq)
	f.part("guests", f.guests)
	f.part("network", f.network)
	f.part("second WAN", f.secondWAN)
	f.part("power cut", f.powerCut)
	f.part("upgrade", f.upgrade)
	f.part("sysupgrade", f.sysupgrade)
	f.part("uninstall", func() { f.uninstall(before) })
}

// part runs a step; later ones stand on it.
func (f *firm) part(name string, run func()) {
	f.Helper()
	begin := time.Now()
	t := f.T
	if !t.Run(name, func(t *testing.T) { f.T = t; run() }) {
		t.FailNow()
	}
	f.T = t
	t.Logf("%s: %.1f s", name, time.Since(begin).Seconds())
}

func (f *firm) sh(h *homes.Home, command string) string {
	f.Helper()
	out, err := h.Router.Check(f.ctx, command)
	if err != nil {
		f.Fatalf("%v\n%s", err, h.Log())
	}
	return strings.TrimSpace(out)
}

// until runs a command until it succeeds, and returns how long that took.
func (f *firm) until(h *homes.Home, limit time.Duration, command string) time.Duration {
	f.Helper()
	begin := time.Now()
	for {
		look := time.Now()
		res, err := h.Router.Run(f.ctx, command)
		if err == nil && res.Code == 0 {
			return time.Since(begin)
		}
		if time.Since(begin) > limit {
			f.Fatalf("%s: not within %v: %s: %s (%v)\n%s", h.Name, limit, command, res.Output, err, h.Log())
		}
		homes.Pause(time.Since(look))
	}
}

// reachable waits until alice's pc reaches bob's nas by name, and returns how long
// that took.
func (f *firm) reachable(limit time.Duration) time.Duration {
	f.Helper()
	begin := time.Now()
	for {
		addrs, err := f.a.Host.Lookup(f.ctx, "nas.bob.internal")
		if err == nil && len(addrs) == 1 {
			if err = f.a.Host.Ping(f.ctx, addrs[0], 56, 1); err == nil {
				return time.Since(begin)
			}
		}
		if time.Since(begin) > limit {
			f.Log(f.state(f.a), f.state(f.b))
			f.Fatalf("nas.bob.internal is not reached within %v: %v, %v", limit, addrs, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// state is what somebody needs who asks why.
func (f *firm) state(h *homes.Home) string {
	return h.Name + "\n" + f.sh(h, "iptables-save -c; nft list table inet fw4; ip addr; ip route; conntrack -L; htip status; ss -lunt; wg") + "\n"
}

// pinging pings bob's nas five times a second while during runs, and returns how
// many answers were missing.
func (f *firm) pinging(during func()) (lost int) {
	f.Helper()
	addrs, err := f.a.Host.Lookup(f.ctx, "nas.bob.internal")
	if err != nil || len(addrs) != 1 {
		f.Fatalf("nas.bob.internal: %v, %v", addrs, err)
	}
	_, lost, err = f.a.Host.PingWhile(f.ctx, addrs[0], func() {
		time.Sleep(time.Second)
		during()
		time.Sleep(time.Second)
	})
	if err != nil {
		f.Fatal(err)
	}
	return lost
}

// traces is what a router looks like, but for what changes by itself.
func (f *firm) traces(h *homes.Home) string {
	return f.sh(h, `find / -xdev \( -type f -o -type l \) ! -path '/proc/*' ! -path '/sys/*' ! -path '/dev/*' ! -path '/root/*' ! -path '/tmp/*' ! -path '/lib/modules/*' | sort
echo; uci show | grep -v '^htip\.'; echo; nft list table inet fw4; iptables-save | grep -v "^[#:]\|^\*\|^COMMIT"; /bin/ip rule; /bin/ip route show table all | grep -v fe80; /bin/ip -br link | awk '{print $1, $2}'; ls /tmp/dnsmasq*.d`)
}

func (f *firm) install() {
	for _, h := range []*homes.Home{f.a, f.b} {
		f.sh(h, "opkg install /root/htip-"+release+".ipk")
		f.installPage(h, release)
		if out := f.sh(h, "pidof htipd || true; ls -l /etc/rc.d/S95htip; uci show firewall; nft list ruleset"); !strings.Contains(out, `iifname "htip-*"`) || regexp.MustCompile(`(?m)^\d+$`).MatchString(out) {
			f.Errorf("%s: after installation: %s", h.Name, out)
		}
		// again: nothing changes
		was := f.sh(h, "uci show firewall")
		if now := f.sh(h, "/usr/share/htip/firewall.sh add; uci show firewall"); now != was {
			f.Errorf("%s: added twice:\n%s\nbefore\n%s", h.Name, now, was)
		}
		// a start says what is missing
		if out := f.sh(h, "/etc/init.d/htip start 2>&1"); !strings.Contains(out, "uci set htip.main.enabled=1") {
			f.Errorf("%s: start of what is switched off says %q", h.Name, out)
		}
	}
}

// installPage installs the page and looks for what LuCI and rpcd look for.
func (f *firm) installPage(h *homes.Home, release string) {
	f.Helper()
	for _, name := range page {
		if out := f.sh(h, "opkg install /root/"+name+"-"+release+".ipk"); out != "" {
			f.Errorf("%s: %s says %q", h.Name, name, out)
		}
	}
	out := f.sh(h, `ls /www/luci-static/resources/view/htip/overview.js /usr/lib/lua/luci/i18n/htip.de.lmo
jsonfilter -e '@.luci-app-htip.read.ubus.htip[0]' </usr/share/rpcd/acl.d/luci-app-htip.json
grep -o '"title": "Home-to-Home"' /usr/share/luci/menu.d/luci-app-htip.json`)
	if want := "/usr/lib/lua/luci/i18n/htip.de.lmo\n/www/luci-static/resources/view/htip/overview.js\nstatus\n\"title\": \"Home-to-Home\""; out != want {
		f.Errorf("%s: %s\nwant %s", h.Name, out, want)
	}
}

// removePage takes the page away, the languages first as opkg wants it.
func (f *firm) removePage() {
	f.Helper()
	for _, name := range slices.Backward(page) {
		f.sh(f.a, "opkg remove "+name)
	}
	if out := f.sh(f.a, "find / -xdev ! -path '/proc/*' ! -path '/root/*' -name '*htip*' | grep 'luci\\|/www\\|acl.d' || true"); out != "" {
		f.Errorf("left of the page: %s", out)
	}
}

// connect configures both homes by uci alone, and connects them.
func (f *firm) connect() {
	keys := map[string]string{}
	for _, h := range []*homes.Home{f.a, f.b} {
		keys[h.Name] = f.sh(h, "htip key --json | jsonfilter -e @.key")
	}
	for _, x := range [][2]*homes.Home{{f.a, f.b}, {f.b, f.a}} {
		h, p := x[0], x[1]
		f.sh(h, fmt.Sprintf(`uci set htip.main.enabled=1; uci set htip.main.domain=%s
uci set htip.%s=peer; uci set htip.%[2]s.domain=%s; uci set htip.%[2]s.key=%[4]s; uci commit htip; reload_config htip`, h.Domain, p.Name, p.Domain, keys[p.Name]))
		if err := h.WaitAnswer(f.ctx, late); err != nil {
			f.Fatal(err)
		}
	}
	begin := time.Now()
	out, err := f.a.Connect(f.ctx, "bob")
	if err != nil {
		f.Fatal(err)
	}
	f.Logf("%s", out)
	f.reachable(back)
	f.Logf("reached by name %.1f s after the click", time.Since(begin).Seconds())
	tn, err := f.a.Tunnel(f.ctx, "bob")
	if err != nil || tn.Protocol != "wireguard" || !tn.Encrypted {
		f.Errorf("%+v, %v", tn, err)
	}
	// the other way, too
	addrs, err := f.b.Host.Lookup(f.ctx, "pc.alice.internal")
	if err != nil || len(addrs) != 1 {
		f.Fatalf("pc.alice.internal: %v, %v", addrs, err)
	}
	if err := f.b.Host.Ping(f.ctx, addrs[0], 56, 2); err != nil {
		f.Error(err)
	}
}

func (f *firm) memory() {
	for _, h := range []*homes.Home{f.a, f.b} {
		f.Logf("%s: %s", h.Name, f.sh(h, "grep -E 'MemTotal|MemAvailable' /proc/meminfo | tr -s ' \n' ' '; grep -E 'VmRSS|RssAnon' /proc/$(pidof htipd)/status | tr -s '\t \n' ' '"))
	}
}

// doctor finds nothing wrong with a router on which everything works, and finds a
// firewall that keeps other homes out.
func (f *firm) doctor() {
	for _, h := range []*homes.Home{f.a, f.b} {
		if out := f.sh(h, "htip doctor --json"); strings.Contains(out, `"bad"`) || !strings.Contains(out, `"ok"`) {
			f.Errorf("%s: %s", h.Name, out)
		}
	}
	f.sh(f.a, "uci set firewall.htip_control.enabled=0; uci commit firewall")
	out := f.sh(f.a, "htip doctor --json")
	f.Log(f.sh(f.a, "htip doctor"))
	if !strings.Contains(out, `"bad"`) || !strings.Contains(out, "htip_control is disabled") {
		f.Errorf("with a closed port: %s", out)
	}
	f.sh(f.a, "uci delete firewall.htip_control.enabled; uci commit firewall")
}

// firewall: what fw4 does to rules, and that ours and the tunnel survive it.
func (f *firm) firewall() {
	lost := f.pinging(func() { f.sh(f.a, "/etc/init.d/firewall reload; /etc/init.d/firewall restart") })
	f.Logf("reload and restart: %d pings lost", lost)
	if lost > 10 {
		f.Errorf("reload and restart of the firewall lost %d pings", lost)
	}
	f.sh(f.a, "/etc/init.d/firewall stop; /etc/init.d/firewall start")
	back := f.until(f.a, soon, "iptables-save | grep -q HTIP-")
	f.Logf("a flush and a start: our rules are back after %.1f s, reached again after %.1f s more", back.Seconds(), f.reachable(soon).Seconds())
}

func (f *firm) dnsmasq() {
	f.sh(f.a, "/etc/init.d/dnsmasq restart")
	f.Logf("restart: names are back after %.1f s", f.reachable(soon).Seconds())
	// another conf-dir
	f.sh(f.a, "uci set dhcp.@dnsmasq[0].confdir=/tmp/elsewhere.d; uci commit dhcp; reload_config dhcp")
	f.until(f.a, late, "grep -q internal /tmp/elsewhere.d/htip.conf")
	f.Logf("with another conf-dir: names are back after %.1f s", f.reachable(back).Seconds())
}

// guests: a second network of alice is shared with bob, by the names that netifd has
// for them, and taken back.
func (f *firm) guests() {
	was := f.sh(f.a, "cat /etc/config/firewall")
	f.sh(f.a, `uci -q batch <<END
set firewall.guest=zone
set firewall.guest.name=guest
add_list firewall.guest.network=guest
set firewall.guest.input=ACCEPT
set firewall.guest.forward=REJECT
set firewall.guest_in=forwarding
set firewall.guest_in.src=htip
set firewall.guest_in.dest=guest
set firewall.guest_out=forwarding
set firewall.guest_out.src=guest
set firewall.guest_out.dest=htip
END
uci commit firewall; /etc/init.d/firewall reload
uci add_list htip.main.interface=lan; uci add_list htip.main.interface=guest; uci commit htip; reload_config htip`)
	var guest netip.Prefix
	for begin := time.Now(); !guest.IsValid(); {
		look := time.Now()
		tn, err := f.b.Tunnel(f.ctx, "alice")
		if err == nil && tn.State == "up" {
			for _, m := range tn.Theirs {
				if m.Network == netip.MustParsePrefix("192.168.20.0/24") {
					guest = m.Substitute
				}
			}
		}
		if time.Since(begin) > late {
			f.Fatalf("bob does not learn of the guests: %+v, %v\n%s", tn, err, f.a.Log())
		}
		homes.Pause(time.Since(look))
	}
	at := guest.Addr().As4()
	at[3] = 9
	if err := f.b.Host.PingUntil(f.ctx, netip.AddrFrom4(at)); err != nil {
		f.Errorf("bob's nas does not reach a guest of alice at %v: %v", netip.AddrFrom4(at), err)
	}
	f.sh(f.a, "uci delete htip.main.interface; uci commit htip; reload_config htip")
	if err := f.a.Router.Put(f.ctx, "/etc/config/firewall", []byte(was+"\n"), 0o600); err != nil {
		f.Fatal(err)
	}
	f.sh(f.a, "/etc/init.d/firewall reload")
	f.until(f.b, late, "htip status --json | jsonfilter -e '@.tunnels[0].state' | grep -q up && ! htip status --json | grep -q 192.168.20.0")
	f.Logf("reached again %.1f s after it was taken back", f.reachable(back).Seconds())
}

// network: a reload without a change is nothing, a new public address and another
// LAN are taken over.
func (f *firm) network() {
	if lost := f.pinging(func() { f.sh(f.a, "/etc/init.d/network reload") }); lost > 1 {
		f.Errorf("a reload that changes nothing lost %d pings", lost)
	}
	// bob renumbers his LAN; his nas moves with it
	f.sh(f.b, "uci delete network.lan.ipaddr; uci add_list network.lan.ipaddr=172.30.9.1/24; uci commit network; printf '172.30.9.5 nas\n' >/tmp/hosts/lan; cp /tmp/hosts/lan /etc/hosts.lan; killall -HUP dnsmasq")
	for _, args := range []string{"addr flush dev eth0 scope global", "addr add 172.30.9.5/24 dev eth0", "route add default via 172.30.9.1"} {
		if _, err := f.b.Host.Run(f.ctx, "ip", strings.Fields(args)...); err != nil {
			f.Fatal(err)
		}
	}
	f.sh(f.b, "/etc/init.d/network reload")
	f.Logf("renumbered LAN of bob: reached again after %.1f s", f.reachable(back).Seconds())

	next := netip.PrefixFrom(f.b.Router.WANAddr(), 24).Masked().Addr().As4()
	next[3] = 77
	f.sh(f.b, fmt.Sprintf("uci delete network.wan.ipaddr; uci add_list network.wan.ipaddr=%s/24; uci commit network", netip.AddrFrom4(next)))
	f.lab.Internet().SetA(f.b.Domain, netip.AddrFrom4(next))
	f.sh(f.b, "/etc/init.d/network reload")
	f.Logf("new public address of bob: reached again after %.1f s", f.reachable(back).Seconds())
}

// secondWAN: alice's first line is lost, the second takes over, and back.
func (f *firm) secondWAN() {
	f.sh(f.a, "uci set network.wan.disabled=1; uci commit network; /etc/init.d/network reload")
	f.Logf("by the second line after %.1f s", f.reachable(back).Seconds())
	if out := f.sh(f.b, "wg show all endpoints"); !strings.Contains(out, f.a.Router.SecondWAN().Addr().String()) {
		f.Errorf("bob's end of the tunnel goes to %s", out)
	}
	f.sh(f.a, "uci delete network.wan.disabled; uci commit network; /etc/init.d/network reload")
	f.Logf("by the first again after %.1f s", f.reachable(back).Seconds())
	f.until(f.b, late, "wg show all endpoints | grep -q "+f.a.Router.WANAddr().String())
}

// powerCut: both routers lose power; without a click everything is back.
func (f *firm) powerCut() {
	f.a.Router.Kill()
	f.b.Router.Kill()
	begin := time.Now()
	if err := f.lab.Start(f.ctx); err != nil {
		f.Fatal(err)
	}
	for _, h := range []*homes.Home{f.a, f.b} {
		if err := h.WaitBooted(f.ctx); err != nil {
			f.Fatal(err)
		}
	}
	f.reachable(late)
	f.Logf("reached again %.1f s after the power came back, %.1f s of them the router's start", time.Since(begin).Seconds(), f.a.Router.BootTime().Seconds())
}

func (f *firm) upgrade() {
	was, err := f.a.Tunnel(f.ctx, "bob")
	if err != nil {
		f.Fatal(err)
	}
	lost := f.pinging(func() {
		f.sh(f.a, "opkg install /root/htip-"+newer+".ipk")
		f.installPage(f.a, newer)
	})
	if err := f.a.WaitAnswer(f.ctx, late); err != nil {
		f.Fatal(err)
	}
	if out := f.sh(f.a, "htip status --json"); !strings.Contains(out, "-r"+newer) {
		f.Errorf("after the upgrade: %s", out)
	}
	now, err := f.a.WaitState(f.ctx, "bob", "up")
	if err != nil {
		f.Fatal(err)
	}
	f.Logf("upgrade: %d pings of five a second lost; tunnel %s, before %s", lost, now.TunnelID, was.TunnelID)
	if lost > 25 {
		f.Errorf("the upgrade lost %d pings", lost)
	}
	if now.TunnelID != was.TunnelID {
		f.Errorf("the tunnel is another one: %s, was %s", now.TunnelID, was.TunnelID)
	}
}

// sysupgrade: what keep.d and the conffiles name is all that a new image gets.
func (f *firm) sysupgrade() {
	key := f.sh(f.a, "htip key")
	f.removePage()
	f.sh(f.a, `tar cf /root/kept.tar $(cat /lib/upgrade/keep.d/htip /usr/lib/opkg/info/htip.conffiles) /etc/config/network /etc/config/dhcp
opkg remove htip; rm -rf /etc/htip /etc/config/htip
tar xf /root/kept.tar -C /; opkg install /root/htip-`+newer+`.ipk`)
	f.installPage(f.a, newer)
	if err := f.a.WaitAnswer(f.ctx, late); err != nil {
		f.Fatal(err)
	}
	if now := f.sh(f.a, "htip key"); now != key {
		f.Errorf("the key was %q and is %q", key, now)
	}
	f.Logf("new image with what was kept: reached after %.1f s", f.reachable(late).Seconds())
	if out := f.sh(f.a, "ls -ld /etc/htip/key"); !strings.HasPrefix(out, "-rw-------") {
		f.Error(out)
	}
}

func (f *firm) uninstall(before string) {
	f.sh(f.a, "uci delete dhcp.@dnsmasq[0].confdir; uci commit dhcp; reload_config dhcp")
	f.until(f.a, late, "grep -q internal /tmp/dnsmasq.*.d/htip.conf") // htip was reloaded, too, and does not start again
	f.removePage()
	f.sh(f.a, "opkg remove htip")
	f.until(f.a, late, "! pidof htipd")
	f.sh(f.a, "/etc/init.d/firewall reload; rm -rf /tmp/elsewhere.d")
	// what stays on purpose
	kept := f.sh(f.a, "ls /etc/htip /etc/config/htip")
	f.Logf("kept: %s", strings.Join(strings.Fields(kept), " "))
	f.sh(f.a, "rm -rf /etc/htip /etc/config/htip /etc/config/htip-opkg") // the last one lies beside a changed file, by opkg
	after := f.traces(f.a)
	count := map[string]int{} // without their order: routes of IPv6 have none
	for _, line := range strings.Split(before, "\n") {
		count[line]--
	}
	for _, line := range strings.Split(after, "\n") {
		count[line]++
	}
	for line, n := range count {
		if n != 0 {
			f.Errorf("%+d: %s", n, line)
		}
	}
}
