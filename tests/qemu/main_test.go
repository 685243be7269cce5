//go:build qemu

package qemu_test

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

// pair boots alice and bob, with the given networks, candidates in the order
// of the seed's figures.
func pair(t *testing.T, lanA, lanB lab.LAN) (context.Context, *lab.Lab, *homes.Home, *homes.Home) {
	t.Helper()
	l, err := lab.New(context.Background(), lab.Options{Logf: t.Logf}) // waits for other labs
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	const main = "\toption candidates 'sequential'\n\tlist pool '10.0.0.0/8'\n\toption log_level 'debug'\n"
	hs, err := homes.Start(ctx, l, homes.Spec{Name: "alice", LAN: lanA, Main: main}, homes.Spec{Name: "bob", LAN: lanB, Main: main})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(hs[0].Log())
			t.Log(hs[1].Log())
		}
	})
	return ctx, l, hs[0], hs[1]
}

func lan(router, host, name string) lab.LAN {
	a := netip.MustParseAddr(host)
	return lab.LAN{Router: netip.MustParsePrefix(router), Host: a, Names: map[string]netip.Addr{name: a}}
}

func TestMainJob(t *testing.T) {
	ctx, _, a, b := pair(t, lan("10.0.0.1/24", "10.0.0.4", "pc"), lan("10.0.0.1/24", "10.0.0.5", "nas"))
	a.Router.MustRun(ctx, "tcpdump -n -i any -w /tmp/cap.pcap udp port 4853 >/dev/null 2>&1 </dev/null & sleep 1")
	b.Router.MustRun(ctx, "tcpdump -n -i any -w /tmp/cap.pcap udp port 4853 >/dev/null 2>&1 </dev/null & sleep 1")
	out, err := a.Connect(ctx, "bob")
	if err != nil {
		t.Log(out, a.Router.MustRun(ctx, "kill $(pidof tcpdump); sleep 1; tcpdump -n -r /tmp/cap.pcap; cat /proc/uptime; cat /sys/devices/system/clocksource/*/current_clocksource; dmesg | grep -i clock"))
		t.Log(b.Router.MustRun(ctx, "kill $(pidof tcpdump); sleep 1; tcpdump -n -r /tmp/cap.pcap; cat /proc/uptime; ss -lunp; ip route; iptables-save -c"))
		t.Fatal(err)
	}
	t.Log(out)
	t.Log(a.Router.MustRun(ctx, "htip status; htip hosts; ip route; iptables-save"))
	if err := a.Host.Ping(ctx, netip.MustParseAddr("10.0.2.5"), 56, 3); err != nil {
		t.Error(err)
	}
	if err := b.Host.Ping(ctx, netip.MustParseAddr("10.0.1.4"), 56, 3); err != nil {
		t.Error(err)
	}
	addrs, err := a.Host.Lookup(ctx, "nas.bob.internal")
	t.Log(addrs, err)
}
