package daemon

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"htip/src/slog"
	"net/netip"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"htip/src/ubus"
)

// gcPercent: by default Go's heap grows to 4 MB before it is collected, which
// is more than all that this daemon needs: 0.2 MB are in use with 3 tunnels.
// Ten percent of that are 0.4 MB. Little is allocated once tunnels are up, so
// collecting more often costs nothing that can be measured.
const gcPercent = 10

// Main runs the daemon with command line arguments (without the program's
// name) until ctx is done. SIGHUP makes it read its configuration again, and
// so does SIGWINCH, which ends no process that is not listening yet. SIGUSR1 makes it end and leave its tunnels to the next process.
func Main(ctx context.Context, args []string, version string) error {
	opt := Options{Version: version}
	var dnsListen, dnsmasq, restart, level string
	f := flag.NewFlagSet("htipd", flag.ContinueOnError)
	f.StringVar(&opt.Config, "config", "/etc/config/htip", "UCI configuration")
	f.StringVar(&opt.StateDir, "state-dir", "/etc/htip", "key and memory of other homes; survives a reboot")
	f.StringVar(&opt.RunDir, "run-dir", "/var/run/htip", "files of running tunnels")
	f.StringVar(&opt.Listen, "listen", "", "address of the control channel, all when empty")
	f.StringVar(&opt.Socket, "ubus-socket", ubus.DefaultSocket, "ubusd's socket")
	f.StringVar(&opt.Resolv, "resolv", "/tmp/resolv.conf.d/resolv.conf.auto", "the WAN's resolvers")
	f.StringVar(&dnsListen, "dns-listen", "127.0.0.1:4854", "where dnsmasq asks for names of other homes")
	f.StringVar(&dnsmasq, "dnsmasq", "127.0.0.1:53", "our own dnsmasq")
	f.StringVar(&opt.DnsmasqDir, "dnsmasq-dir", "/tmp/dnsmasq.d", "dnsmasq's conf-dir; empty leaves dnsmasq alone")
	f.StringVar(&restart, "dnsmasq-restart", "/etc/init.d/dnsmasq restart", "command that restarts dnsmasq")
	f.StringVar(&opt.Leases, "leases", "/tmp/dhcp.leases", "dnsmasq's leases")
	f.StringVar(&opt.Hosts, "hosts", "/tmp/hosts", "dnsmasq's hosts files")
	f.StringVar(&opt.Firewall, "firewall", "/etc/config/firewall", "the firewall's UCI configuration, which htip doctor reads; empty leaves it alone")
	f.DurationVar(&opt.ESPRekey, "esp-rekey", 0, "for tests: age at which l2tp-esp changes keys")
	f.StringVar(&level, "log-level", "", "debug, info, warn or error; default: option log_level")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil
		}
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	var err error
	if opt.DNSListen, err = netip.ParseAddrPort(dnsListen); err != nil {
		return fmt.Errorf("flag -dns-listen: %w", err)
	}
	if opt.Dnsmasq, err = netip.ParseAddrPort(dnsmasq); err != nil {
		return fmt.Errorf("flag -dnsmasq: %w", err)
	}
	if opt.DnsmasqRestart = strings.Fields(restart); len(opt.DnsmasqRestart) == 0 && opt.DnsmasqDir != "" {
		return errors.New("flag -dnsmasq-restart: want a command")
	}
	opt.Level = &slog.LevelVar{}
	if opt.FixedLevel = level != ""; opt.FixedLevel {
		var l slog.Level
		if err := l.UnmarshalText([]byte(level)); err != nil {
			return fmt.Errorf("flag -log-level: %w", err)
		}
		opt.Level.Set(l)
	}
	opt.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: opt.Level}))
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP, syscall.SIGWINCH)
	defer signal.Stop(reload)
	leave := make(chan os.Signal, 1)
	signal.Notify(leave, syscall.SIGUSR1)
	defer signal.Stop(leave)
	opt.Leave = leave
	for {
		switch err = Run(ctx, opt, reload); {
		case errors.Is(err, ErrLeft):
			return nil
		case !errors.Is(err, ErrRestart):
			return err
		}
		opt.Log.Info(err.Error())
	}
}
