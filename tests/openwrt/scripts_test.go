package openwrt_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"htip/tests/openwrt"
	"htip/tests/ubusd"
)

// router is a directory that looks like an OpenWrt router, for scripts that run in
// it by chroot: busybox for all commands, the stand-ins, a broker and a procd. Its
// processes have numbers of their own: "killall htipd" must reach no other htipd.
type router struct {
	*testing.T
	dir  string
	init string // this machine's number of its first process
}

func newRouter(t *testing.T) *router {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: chroot")
	}
	dir := t.TempDir()
	r := &router{T: t, dir: dir}
	r.copy("/bin/busybox", "/bin/busybox", 0o755)
	owrt := filepath.Join(dir, openwrt.OwrtPath)
	build := exec.Command("go", "build", "-o", owrt, "./cmd/owrt")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	files, err := openwrt.Files()
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		mode := fs.FileMode(0o644)
		if openwrt.Executable(data) {
			mode = 0o755
		}
		r.write(name, string(data), mode)
	}
	for _, name := range openwrt.Applets {
		r.link(openwrt.OwrtPath, name)
	}
	for to, from := range map[string]string{
		"/etc/config/htip": "htip.config", "/etc/init.d/htip": "htip.init", "/etc/uci-defaults/90-htip": "htip.defaults",
		"/usr/share/htip/firewall.sh": "firewall.sh", "/usr/share/htip/firewall.include": "firewall.include",
		"/usr/share/htip/package.sh": "package.sh", "/lib/upgrade/keep.d/htip": "htip.keep",
	} {
		r.copy(filepath.Join("../../openwrt/files", from), to, 0o755)
	}
	r.write("/etc/config/network", "\nconfig interface 'lan'\n\toption device 'br-lan'\n\nconfig interface 'wan'\n\toption device 'wan'\n", 0o644)
	for _, d := range []string{"/tmp", "/var/run/ubus", "/var/log", "/var/etc", "/proc", "/dev", "/etc/rc.d", "/usr/sbin"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mknod(filepath.Join(dir, "dev/null"), syscall.S_IFCHR|0o666, 1<<8|3); err != nil {
		t.Fatal(err)
	}
	r.begin()
	r.sh("busybox --install -s /usr/bin; ln -s busybox /bin/sh")
	// A firewall that only says that it was called; fw4 is tested on routers.
	r.write("/etc/init.d/firewall", "#!/bin/sh\necho \"firewall $*\" >>/tmp/calls\n", 0o755)
	broker, err := ubusd.Listen(ubusd.Config{Socket: filepath.Join(dir, "var/run/ubus/ubus.sock")})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Close() })
	r.background("procd")
	r.until("ubus call service list '{}'")
	return r
}

// begin starts the first process, which does nothing. All others end with it.
func (r *router) begin() {
	r.Helper()
	cmd := exec.Command("/bin/busybox", "sh", "-c", "/bin/busybox mount -t proc proc /proc && : >/tmp/began; exec /bin/busybox sleep 1000000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Chroot: r.dir, Cloneflags: syscall.CLONE_NEWPID, Unshareflags: syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	cmd.Dir = "/"
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	r.init = strconv.Itoa(cmd.Process.Pid)
	r.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		if _, err := os.Stat(filepath.Join(r.dir, "tmp/began")); err == nil {
			return
		}
		if time.Since(begin) > 10*time.Second {
			r.Fatal("no first process")
		}
	}
}

func (r *router) write(name, text string, mode fs.FileMode) {
	r.Helper()
	to := filepath.Join(r.dir, name)
	err := os.MkdirAll(filepath.Dir(to), 0o755)
	if err == nil {
		os.Remove(to)
		err = errors.Join(os.WriteFile(to, []byte(text), mode), os.Chmod(to, mode))
	}
	if err != nil {
		r.Fatal(err)
	}
}

func (r *router) copy(from, to string, mode fs.FileMode) {
	r.Helper()
	data, err := os.ReadFile(from)
	if err != nil {
		r.Fatalf("%v (scripts/setup installs what is missing)", err)
	}
	r.write(to, string(data), mode)
}

func (r *router) link(target, name string) {
	r.Helper()
	to := filepath.Join(r.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.Symlink(target, to)); err != nil {
		r.Fatal(err)
	}
}

func (r *router) command(ctx context.Context, shell string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "nsenter", "-t", r.init, "-p", "-m", "-r", "-w", "/bin/busybox", "sh", "-c", shell)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}
	return cmd
}

func (r *router) try(shell string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	out, err := r.command(ctx, shell).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (r *router) sh(shell string) string {
	r.Helper()
	out, err := r.try(shell)
	if err != nil {
		r.Fatalf("%s: %v: %s", shell, err, out)
	}
	return out
}

func (r *router) background(shell string) {
	cmd := r.command(context.Background(), "exec "+shell)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		r.try("kill $(pidof " + strings.Fields(shell)[0] + ")")
		cmd.Wait()
		if r.Failed() {
			r.Logf("%s: %s", shell, out.String())
		}
	})
}

func (r *router) until(shell string) string {
	r.Helper()
	for begin := time.Now(); ; time.Sleep(50 * time.Millisecond) {
		out, err := r.try(shell)
		if err == nil {
			return out
		}
		if time.Since(begin) > 20*time.Second {
			r.Fatalf("not within 20 s: %s: %v: %s", shell, err, out)
		}
	}
}

// daemon puts the one that writes down what it is told in htipd's place.
func (r *router) daemon() { r.link(openwrt.OwrtPath, "/usr/sbin/htipd") }

// calls is what was done since it was last asked.
func (r *router) calls() string { return r.sh("cat /tmp/calls 2>/dev/null; rm -f /tmp/calls") }

// enable switches the service on, as a user does.
func (r *router) enable() { r.sh("uci set htip.main.enabled=1; uci commit htip") }

func TestFirewallSections(t *testing.T) {
	r := newRouter(t)
	before := r.sh("uci show firewall")
	t.Run("without a firewall nothing is made", func(t *testing.T) {
		r.sh("mv /etc/config/firewall /tmp/fw; /usr/share/htip/firewall.sh add; [ ! -e /etc/config/firewall ]; mv /tmp/fw /etc/config/firewall")
	})
	r.sh("/usr/share/htip/firewall.sh add")
	made := r.sh("uci show firewall")
	t.Run("zone", func(t *testing.T) {
		for _, want := range []string{
			"firewall.htip=zone", "firewall.htip.device='htip-+'", "firewall.htip.mtu_fix='1'", "firewall.htip.input='REJECT'", "firewall.htip.forward='REJECT'",
			"firewall.htip_out.src='lan'", "firewall.htip_in.dest='lan'", "firewall.htip_control.src='wan'", "firewall.htip_control.dest_port='4847'",
			"firewall.htip_vpn.dest_port='17009-17073'", "firewall.htip_include.fw4_compatible='1'",
		} {
			if !strings.Contains(made+"\n", want+"\n") {
				t.Errorf("no %s in\n%s", want, made)
			}
		}
		// masq would win over our NAT in silence
		if strings.Contains(made, "firewall.htip.masq") {
			t.Error("the zone has masq")
		}
	})
	t.Run("after an interruption", func(t *testing.T) {
		now := r.sh("cp /etc/config/firewall /tmp/made; /usr/share/htip/firewall.sh remove; uci -t /var/run/htip.uci set firewall.htip=zone; /usr/share/htip/firewall.sh add; uci show firewall")
		if now != made {
			t.Errorf("%s\nwas\n%s", now, made)
		}
	})
	t.Run("again", func(t *testing.T) {
		if now := r.sh("/usr/share/htip/firewall.sh add; uci show firewall"); now != made {
			t.Errorf("%s\nwas\n%s", now, made)
		}
	})
	t.Run("what somebody has removed stays away", func(t *testing.T) {
		r.sh("uci delete firewall.htip_esp; uci commit firewall; /usr/share/htip/firewall.sh add; /usr/share/htip/firewall.sh ports 4847 17010")
		if out, err := r.try("uci get firewall.htip_esp"); err == nil {
			t.Errorf("it is back: %s", out)
		}
	})
	t.Run("changes that somebody has not committed stay so", func(t *testing.T) {
		was := r.sh("cat /etc/config/firewall; uci set firewall.@rule[0].name=Mine")
		if now := r.sh("/usr/share/htip/firewall.sh ports 5000 20000; cat /etc/config/firewall"); now != was {
			t.Errorf("%s\nwas\n%s", now, was)
		}
		r.sh("rm -rf /tmp/.uci; /usr/share/htip/firewall.sh ports 5000 20000")
		if out := r.sh("uci get firewall.htip_control.dest_port; /usr/share/htip/firewall.sh ports 4847 17010"); out != "5000" {
			t.Errorf("nor afterwards: %s", out)
		}
	})
	t.Run("ports", func(t *testing.T) {
		r.calls()
		r.sh("touch /var/run/fw4.state; /usr/share/htip/firewall.sh ports 4847 17010")
		if out := r.calls(); out != "" {
			t.Errorf("nothing has changed, but: %s", out)
		}
		r.sh("/usr/share/htip/firewall.sh ports 443 30000")
		if out := r.sh("uci get firewall.htip_control.dest_port; uci get firewall.htip_vpn.dest_port"); out != "443\n29999-30063" {
			t.Error(out)
		}
		if out := r.calls(); out != "firewall reload" {
			t.Errorf("the firewall was told %q", out)
		}
	})
	t.Run("removed, with what users made under our names", func(t *testing.T) {
		r.sh("uci set firewall.htip_ssh=rule; uci set firewall.htip_ssh.src=htip; uci set firewall.htipx=rule; uci commit firewall; /usr/share/htip/firewall.sh remove")
		if now := r.sh("uci delete firewall.htipx; uci commit firewall; uci show firewall"); now != before {
			t.Errorf("%s\nwas\n%s", now, before)
		}
		if out := r.calls(); out != "firewall reload" {
			t.Errorf("the firewall was told %q", out)
		}
		r.sh("/usr/share/htip/firewall.sh remove")
		if out := r.calls(); out != "" {
			t.Errorf("nothing to remove, but: %s", out)
		}
	})
	t.Run("zones with other names", func(t *testing.T) {
		r.sh("uci set firewall.@zone[0].name=home; uci set firewall.@zone[1].name=outside; uci commit firewall; /usr/share/htip/firewall.sh add")
		if out := r.sh("uci get firewall.htip_out.src; uci get firewall.htip_in.dest; uci get firewall.htip_vpn.src"); out != "home\nhome\noutside" {
			t.Error(out)
		}
	})
	t.Run("a word too many", func(t *testing.T) {
		if out, err := r.try("/usr/share/htip/firewall.sh nonsense"); err == nil || !strings.Contains(out, "want:") {
			t.Errorf("%q, %v", out, err)
		}
	})
}

func TestInitScript(t *testing.T) {
	r := newRouter(t)
	r.daemon()
	t.Run("bad options", func(t *testing.T) {
		for _, bad := range []string{"port=0x1", "port=0", "port=70000", "l2tp_port=80", "l2tp_port=65535", "enabled=perhaps"} {
			r.enable()
			out, _ := r.try("uci set htip.main." + bad + "; uci commit htip; /etc/init.d/htip start")
			if !strings.Contains(out, "want") {
				t.Errorf("%s: %q", bad, out)
			}
			if calls := r.calls(); calls != "" {
				t.Errorf("%s: %s", bad, calls)
			}
			r.sh("uci delete htip.main." + strings.Split(bad, "=")[0] + "; uci commit htip")
		}
	})
	t.Run("switched off", func(t *testing.T) {
		r.sh("uci set htip.main.enabled=0; uci commit htip")
		if out := r.sh("/etc/init.d/htip start 2>&1"); !strings.Contains(out, "uci set htip.main.enabled=1") {
			t.Error(out)
		}
		if calls := r.calls(); calls != "" {
			t.Error(calls)
		}
	})
	start := func(t *testing.T) string {
		t.Helper()
		r.sh("/etc/init.d/htip start")
		r.until("grep -q ready /tmp/calls")
		return strings.Split(r.calls(), "\n")[0]
	}
	stop := func() {
		r.sh("/etc/init.d/htip stop")
		r.until("! pidof htipd")
		r.calls()
	}
	// As OpenWrt's, without a dnsmasq: only what ubus says of it.
	dnsmasq := func(conf map[string]string) {
		var lines strings.Builder
		for name, text := range conf {
			r.write(name, text, 0o644)
			lines.WriteString("I " + strings.ReplaceAll(filepath.Base(name), ".", "_") + "\nP command\nA /usr/bin/sleep\nA 1000\nA -C\nA " + name + "\nA -k\n")
		}
		r.write("/tmp/lines", lines.String(), 0o644)
		r.sh("owrt service-set dnsmasq /etc/init.d/dnsmasq </tmp/lines")
	}
	r.enable()
	t.Run("no dnsmasq", func(t *testing.T) {
		if got := start(t); got != "start -dnsmasq-dir  -leases /tmp/dhcp.leases limit=10MiB" {
			t.Error(got)
		}
		stop()
	})
	t.Run("dnsmasq of 23.05", func(t *testing.T) {
		dnsmasq(map[string]string{"/var/etc/dnsmasq.conf.cfg01411c": "conf-file=/etc/dnsmasq.conf\ndhcp-leasefile=/tmp/dhcp.leases\nconf-dir=/tmp/dnsmasq.d\n"})
		if got := start(t); got != "start -dnsmasq-dir /tmp/dnsmasq.d -leases /tmp/dhcp.leases limit=10MiB" {
			t.Error(got)
		}
		stop()
	})
	t.Run("three instances, one at another port, one for guests", func(t *testing.T) {
		dnsmasq(map[string]string{
			"/var/etc/dnsmasq.conf.a":      "port=5353\nconf-dir=/tmp/dnsmasq.a.d\n",
			"/var/etc/dnsmasq.conf.aguest": "interface=br-guest\nconf-dir=/tmp/dnsmasq.guest.d\n",
			"/var/etc/dnsmasq.conf.b":      "port=53\ninterface=br-lan\ndhcp-leasefile=/mnt/leases\nconf-dir=/tmp/dnsmasq.b.d,*.conf\nconf-dir=/other\n",
		})
		if got := start(t); got != "start -dnsmasq-dir /tmp/dnsmasq.b.d -leases /mnt/leases limit=10MiB" {
			t.Error(got)
		}
	})
	t.Run("reload", func(t *testing.T) {
		pid := r.sh("pidof htipd")
		r.sh("/etc/init.d/htip reload")
		r.until("grep -q reload /tmp/calls")
		if now := r.sh("pidof htipd"); now != pid {
			t.Errorf("another process: %s, was %s", now, pid)
		}
		r.calls()
	})
	t.Run("the firewall's include", func(t *testing.T) {
		r.sh(". /usr/share/htip/firewall.include")
		r.until("grep -q reload /tmp/calls")
		r.calls()
	})
	t.Run("a change of the configuration", func(t *testing.T) {
		r.sh("reload_config htip")
		r.until("grep -q reload /tmp/calls")
		r.calls()
	})
	t.Run("another conf-dir restarts", func(t *testing.T) {
		dnsmasq(map[string]string{"/var/etc/dnsmasq.conf.b": "conf-dir=/tmp/new.d\n"})
		r.sh("reload_config dhcp")
		r.until("grep -q ready /tmp/calls")
		if got := r.calls(); !strings.HasPrefix(got, "TERM\nstart -dnsmasq-dir /tmp/new.d") {
			t.Error(got)
		}
	})
	t.Run("a dnsmasq that is away for a moment", func(t *testing.T) {
		pid := r.sh("pidof htipd")
		r.sh(`ubus call service delete '{"name":"dnsmasq"}'; /etc/init.d/htip reload`)
		r.until("grep -q reload /tmp/calls")
		if now := r.sh("pidof htipd"); now != pid {
			t.Errorf("the daemon was restarted: %s", r.calls())
		}
		dnsmasq(map[string]string{"/var/etc/dnsmasq.conf.b": "conf-dir=/tmp/new.d\n"})
		r.calls()
	})
	t.Run("an interface that comes up", func(t *testing.T) {
		r.sh(`ubus call service event '{"type":"interface.update","data":{"interface":"wan"}}'`)
		r.until("grep -q reload /tmp/calls")
		r.calls()
	})
	t.Run("a mistake in the file while it runs", func(t *testing.T) {
		pid := r.sh("pidof htipd")
		was := r.sh("cat /etc/config/htip; echo")
		for _, bad := range []string{"uci set htip.main.port=none; uci commit htip", "printf \"config htip 'main\\n\" >/etc/config/htip", "rm /etc/config/htip"} {
			r.sh(bad)
			if out, err := r.try("/etc/init.d/htip reload"); err == nil || !strings.Contains(out, "want") {
				t.Errorf("%s: %v, %q", bad, err, out)
			}
			if now, _ := r.try("pidof htipd"); now != pid {
				t.Errorf("%s: the daemon was %s and is %s", bad, pid, now)
			}
			r.write("/etc/config/htip", was+"\n", 0o600)
		}
		r.sh("/etc/init.d/htip start")
		r.until("pidof htipd")
		r.calls()
	})
	t.Run("a crash", func(t *testing.T) {
		r.sh("kill -9 $(pidof htipd)")
		r.until("grep -q ready /tmp/calls")
		r.calls()
	})
	t.Run("handover", func(t *testing.T) {
		r.sh("/etc/init.d/htip handover")
		if got := r.calls(); got != "USR1" {
			t.Error(got)
		}
		r.sh("/etc/init.d/htip stop; /etc/init.d/htip handover")
	})
	t.Run("switched off while it runs", func(t *testing.T) {
		start(t)
		r.sh("uci set htip.main.enabled=0; uci commit htip; reload_config htip")
		r.until("! pidof htipd")
		if got := r.calls(); !strings.Contains(got, "TERM") {
			t.Error(got)
		}
	})
}

// TestDeaf: a reload between the start and the moment when the daemon listens does
// not end it, as a HUP would.
func TestDeaf(t *testing.T) {
	r := newRouter(t)
	r.daemon()
	r.sh("touch /tmp/slow")
	r.enable()
	r.sh("/etc/init.d/htip start")
	r.until("grep -q start /tmp/calls")
	r.sh("/etc/init.d/htip reload")
	r.until("grep -q ready /tmp/calls")
	if out := r.sh("grep -c start /tmp/calls"); out != "1" {
		t.Errorf("it was started %s times", out)
	}
}

// TestPackageScripts: in which order package managers call what.
func TestPackageScripts(t *testing.T) {
	r := newRouter(t)
	r.daemon()
	r.sh("/usr/share/htip/firewall.sh add; touch /var/run/fw4.state")
	r.enable()
	running := func() {
		r.sh("/etc/init.d/htip start")
		r.until("grep -q ready /tmp/calls")
		r.calls()
	}
	running()
	t.Run("opkg upgrades", func(t *testing.T) {
		r.sh("/usr/share/htip/package.sh remove upgrade 0.6.0-r1; /etc/init.d/htip stop")
		if got := r.calls(); got != "USR1" {
			t.Error(got)
		}
		r.sh("PKG_UPGRADE=1 /usr/share/htip/package.sh installed configure; /etc/init.d/htip start")
		r.until("grep -q ready /tmp/calls")
		if got := r.calls(); !strings.HasPrefix(got, "firewall reload\nstart") {
			t.Error(got)
		}
	})
	t.Run("apk upgrades", func(t *testing.T) {
		// start comes first, and finds nothing to do but a reload
		r.sh("/etc/init.d/htip start; PKG_UPGRADE=1 /usr/share/htip/package.sh installed")
		r.until("grep -q ready /tmp/calls")
		if got := r.calls(); !strings.Contains(got, "USR1\nstart") || strings.Contains(got, "TERM") {
			t.Error(got)
		}
	})
	t.Run("removal", func(t *testing.T) {
		r.sh("touch /tmp/slow; mkdir -p /var/run/htip; /usr/share/htip/package.sh remove remove")
		if out, err := r.try("pidof htipd"); err == nil {
			t.Errorf("it went on before the daemon %s had ended", out)
		}
		if got := r.sh("uci show firewall | grep htip || true; ls -d /var/run/htip 2>/dev/null || true"); got != "" {
			t.Errorf("left: %s", got)
		}
		if got := r.calls(); !strings.Contains(got, "TERM") || !strings.Contains(got, "firewall reload") {
			t.Error(got)
		}
	})
	t.Run("a word too many", func(t *testing.T) {
		if out, err := r.try("/usr/share/htip/package.sh nonsense"); err == nil || !strings.Contains(out, "want:") {
			t.Errorf("%q, %v", out, err)
		}
	})
}

// TestPageScripts: LuCI looks anew for its pages and rpcd for rights; where they are not, and
// where a language is known already, nothing happens.
func TestPageScripts(t *testing.T) {
	feed, err := openwrt.Feed()
	if err != nil {
		t.Fatal(err)
	}
	r := newRouter(t)
	for _, name := range []string{"luci-app-htip", "luci-i18n-htip-de", "luci-i18n-htip-ko"} {
		found, err := filepath.Glob(filepath.Join(feed, name+"_*.ipk"))
		if err != nil || len(found) != 1 {
			t.Fatal(found, err)
		}
		r.copy(found[0], "/root/"+name+".ipk", 0o644)
	}
	files := func() string {
		return r.sh("find / -xdev ! -path '/proc/*' ! -path '/tmp/*' ! -path '/var/*' | grep -i 'luci\\|rpcd\\|/www' | sort")
	}
	quiet := func(command string) {
		t.Helper()
		if out := r.sh(command + " 2>&1"); out != "" {
			t.Errorf("%s says %q", command, out)
		}
	}
	t.Run("without LuCI", func(t *testing.T) {
		before := files()
		for _, name := range []string{"luci-app-htip", "luci-i18n-htip-de"} {
			quiet("opkg install /root/" + name + ".ipk")
		}
		if now := files(); !strings.Contains(now, "/www/luci-static/resources/view/htip/overview.js") || !strings.Contains(now, "/htip.de.lmo") || strings.Contains(now, "/etc/uci-defaults/luci") {
			t.Error(now)
		}
		quiet("opkg remove luci-i18n-htip-de; opkg remove luci-app-htip")
		if now := files(); now != before {
			t.Errorf("left: %s\nbefore: %s", now, before)
		}
	})
	r.write("/etc/config/luci", "config internal 'languages'\n\toption ko 'as somebody calls it'\n", 0o644)
	r.write("/etc/init.d/rpcd", "#!/bin/sh\necho \"rpcd $*\" >>/tmp/calls; echo what procd says\n", 0o755)
	caches := func() {
		r.sh("mkdir -p /tmp/luci-modulecache; touch /tmp/luci-indexcache /tmp/luci-indexcache.abc.json /tmp/luci-modulecache/x")
	}
	renewed := func(t *testing.T) {
		t.Helper()
		if out := r.sh("ls -d /tmp/luci-* 2>/dev/null || true"); out != "" {
			t.Errorf("caches: %s", out)
		}
		if got := r.calls(); got != "rpcd reload" {
			t.Errorf("rpcd was told %q", got)
		}
	}
	for _, name := range []string{"luci-app-htip", "luci-i18n-htip-de", "luci-i18n-htip-ko"} {
		t.Run(name, func(t *testing.T) {
			caches()
			quiet("opkg install /root/" + name + ".ipk")
			renewed(t)
		})
	}
	t.Run("languages", func(t *testing.T) {
		if out := r.sh("uci get luci.languages.de; uci get luci.languages.ko; ls /etc/uci-defaults; [ ! -s /tmp/.uci/luci ]"); out != "Deutsch (German)\nas somebody calls it\n90-htip" {
			t.Error(out)
		}
	})
	t.Run("removal", func(t *testing.T) {
		caches()
		quiet("opkg remove luci-app-htip")
		renewed(t)
		if now := files(); strings.Contains(now, "/www") || strings.Contains(now, "acl.d") {
			t.Error(now)
		}
	})
	t.Run("an image is only filled", func(t *testing.T) {
		caches()
		for _, script := range []string{"ipk.luci-postinst", "ipk.luci-postrm"} {
			r.copy("../../openwrt/files/"+script, "/tmp/script", 0o755)
			quiet("IPKG_INSTROOT=/image /tmp/script configure")
		}
		if out := r.calls() + r.sh("ls /tmp/luci-modulecache"); out != "x" {
			t.Error(out)
		}
	})
}
