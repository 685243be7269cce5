package daemon

import (
	"fmt"
	"htip/src/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"htip/src/config"
	"htip/src/datapath"
	"htip/src/htip"
)

func at(device, cidr string) link {
	p := netip.MustParsePrefix(cidr)
	return link{device: device, prefix: p.Masked(), address: p.Addr()}
}

func via(device, prefix string) link { return link{device: device, prefix: px(prefix)} }

func TestMakeHome(t *testing.T) {
	router := []link{
		at("lo", "127.0.0.1/8"), at("br-lan", "192.168.1.1/24"), at("br-lan", "192.168.7.1/24"), at("br-guest", "192.168.2.1/24"), at("wan", "100.64.3.4/30"),
		at("htip-bob", "192.168.1.1/32"), via("htip-bob", "10.83.4.0/24"), {prefix: px("10.99.0.0/24"), ours: true},
		{device: "wan", prefix: px("0.0.0.0/0"), def: true}, via("br-lan", "192.168.1.0/24"), via("br-lan", "192.168.1.128/25"), via("br-lan", "172.20.0.0/16"),
	}
	for _, c := range []struct {
		name     string
		networks []string
		links    []link
		hosts    []netip.Addr
		want     string // networks, gateway, occupied
		err      string
	}{
		{name: "nothing there", err: "br-lan has no IPv4 address"},
		{name: "own address is in no network", networks: []string{"10.0.0.0/24"}, links: router, err: "no address in"},
		{name: "from the LAN device", links: router, want: "[192.168.1.0/24 192.168.7.0/24] 192.168.1.1 [100.64.3.4/30 172.20.0.0/16 192.168.2.0/24]"},
		{name: "as configured", networks: []string{"192.168.7.0/24"}, links: router, want: "[192.168.7.0/24] 192.168.7.1 [100.64.3.4/30 172.20.0.0/16 192.168.1.0/24 192.168.1.128/25 192.168.2.0/24]"},
		{name: "resolvers and friends beyond the WAN", networks: []string{"192.168.1.0/24"}, links: router[:3], hosts: []netip.Addr{netip.MustParseAddr("10.8.0.53"), netip.MustParseAddr("192.168.1.53")}, want: "[192.168.1.0/24] 192.168.1.1 [10.8.0.53/32 192.168.7.0/24]"},
		{name: "a static route is shared", networks: []string{"172.20.0.0/16", "192.168.1.0/24"}, links: router, want: "[172.20.0.0/16 192.168.1.0/24] 192.168.1.1 [100.64.3.4/30 192.168.2.0/24 192.168.7.0/24]"},
	} {
		m := config.Defaults().Main
		for _, n := range c.networks {
			m.Networks = append(m.Networks, px(n))
		}
		h, err := makeHome(&m, c.links, nil, c.hosts, nil, slog.New(slog.DiscardHandler))
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v", c.name, err)
			}
			continue
		}
		if got := fmt.Sprint(h.Networks, " ", h.Gateway, " ", h.Occupied); err != nil || got != c.want {
			t.Errorf("%s: %s, %v\nwant %s", c.name, got, err, c.want)
		}
		again, _ := makeHome(&m, c.links, nil, c.hosts, nil, slog.New(slog.DiscardHandler))
		if !sameHome(h, again) {
			t.Errorf("%s: another home the second time", c.name)
		}
	}
}

func TestAllowedProtocols(t *testing.T) {
	p := config.NewPeer("bob")
	if got := fmt.Sprint(allowed(p)); got != "[wireguard l2tp-esp]" {
		t.Errorf("by default %s", got)
	}
	p.Encryption = config.EncryptionOff
	if got := allowed(p); len(got) != 4 {
		t.Errorf("without encryption %v", got)
	}
	p.Protocols = []string{config.ProtocolL2TP}
	if got := allowed(p); len(got) != 1 || got[0] != htip.L2TP {
		t.Errorf("restricted %v", got)
	}
}

// Who has WireGuard is not told to install what nobody asked for.
func TestLacks(t *testing.T) {
	caps := func(wg, l2tp string) []datapath.Capability {
		out := []datapath.Capability{{Protocol: "l2tp", Warnings: []string{"forwarding is off"}}, {Protocol: "wireguard", Warnings: []string{"forwarding is off"}}}
		for i, m := range []string{l2tp, wg} {
			if m != "" {
				out[i].Missing = []string{m}
			}
		}
		return out
	}
	only := config.NewPeer("bob")
	only.Protocols = []string{"l2tp"}
	const off, noWG, noL2TP = "forwarding is off", "wireguard is not possible: W", "l2tp is not possible: L"
	for _, c := range []struct {
		name      string
		protocols []string
		peers     []config.Peer
		caps      []datapath.Capability
		want      []string
	}{
		{"neither", nil, nil, caps("W", "L"), []string{noWG, off, noL2TP}},
		{"no WireGuard", nil, nil, caps("W", ""), []string{noWG, off}},
		{"no L2TP", nil, nil, caps("", "L"), []string{off}},
		{"no L2TP, which a peer wants", nil, []config.Peer{only}, caps("", "L"), []string{off, noL2TP}},
		{"no L2TP, which is preferred", []string{"l2tp", "wireguard"}, nil, caps("", "L"), []string{noL2TP, off}},
		{"a protocol that is not there", []string{"pptp"}, nil, caps("W", "L"), nil},
	} {
		d := &Daemon{caps: c.caps}
		d.cfg = config.Defaults()
		d.cfg.Peers = c.peers
		if c.protocols != nil {
			d.cfg.Main.Protocols = c.protocols
		}
		if got := d.lacks(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
