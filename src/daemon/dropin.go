package daemon

import (
	"context"
	"fmt"
	"os/exec"
	"strings"

	"htip/src/dns"
	"htip/src/htip"
)

// makeDropIn prepares what tells dnsmasq about our zones.
func (d *Daemon) makeDropIn() *dns.Dnsmasq {
	return &dns.Dnsmasq{Dir: d.opt.DnsmasqDir, Log: d.log, Restart: func(ctx context.Context) error {
		cmd := exec.CommandContext(ctx, d.opt.DnsmasqRestart[0], d.opt.DnsmasqRestart[1:]...)
		cmd.Env = append(cmd.Environ(), "LC_ALL=C")
		out, err := cmd.CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", strings.Join(d.opt.DnsmasqRestart, " "), err, strings.TrimSpace(string(out)))
		}
		return nil
	}}
}

// setDropIn tells dnsmasq which names to ask us for. It restarts only when a
// peer's public name came or went.
func (d *Daemon) setDropIn() {
	if d.drop == nil {
		return
	}
	var domains []string
	for _, p := range d.cfg.Peers {
		if p.Enabled && p.Domain != "" {
			domains = append(domains, p.Domain)
		}
	}
	text, err := dns.DropIn(d.cfg.Main.Zone, d.cfg.Main.LANDomain, domains, htip.Private, d.opt.DNSListen)
	if err != nil {
		d.log.Warn("names of some homes can't be served by dnsmasq", "err", err)
	}
	if text != nil {
		d.drop.Set(text)
	}
}
