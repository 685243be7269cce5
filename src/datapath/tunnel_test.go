package datapath

import (
	"net/netip"
	"strings"
	"testing"
)

func pfx(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// homeA is A's end of FIG. 11: both homes use 10.0.0.0/24.
func homeA() Tunnel {
	return Tunnel{
		Name: "bob", Device: "htip-bob", Protocol: ProtocolL2TP,
		Remote:    netip.MustParseAddrPort("198.51.100.2:17010"),
		LocalAddr: addr("10.0.1.1"), PeerAddr: addr("10.0.2.1"),
		Own:    []Mapping{{pfx("10.0.0.0/24"), pfx("10.0.1.0/24")}},
		Peer:   []netip.Prefix{pfx("10.0.2.0/24")},
		Secret: []byte("0123456789abcdef"),
	}
}

// homeB is B's end of the same tunnel.
func homeB() Tunnel {
	return Tunnel{
		Name: "alice", Device: "htip-alice", Protocol: ProtocolL2TP,
		Server: true, LocalPort: 17010,
		Remote:    netip.MustParseAddrPort("198.51.100.1:0"),
		LocalAddr: addr("10.0.2.1"), PeerAddr: addr("10.0.1.1"),
		Own:    []Mapping{{pfx("10.0.0.0/24"), pfx("10.0.2.0/24")}},
		Peer:   []netip.Prefix{pfx("10.0.1.0/24")},
		Secret: []byte("0123456789abcdef"),
	}
}

// homeC is a second tunnel of A, without NAT and with two networks.
func homeC() Tunnel {
	return Tunnel{
		Name: "carol", Device: "htip-carol", Protocol: ProtocolL2TP,
		Remote:    netip.MustParseAddrPort("198.51.100.3:17010"),
		LocalAddr: addr("10.0.0.1"), PeerAddr: addr("10.9.0.1"),
		Own:    []Mapping{{pfx("10.0.0.0/24"), pfx("10.0.0.0/24")}},
		Peer:   []netip.Prefix{pfx("10.9.0.0/24"), pfx("10.8.0.0/16")},
		Secret: []byte("fedcba9876543210"),
	}
}

func TestTunnelRefused(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Tunnel)
		want  string
	}{
		"no prefix in the name":    {func(t *Tunnel) { t.Device = "bob" }, "device"},
		"name too long":            {func(t *Tunnel) { t.Device = "htip-12345678901" }, "device"},
		"name with newline":        {func(t *Tunnel) { t.Device = "htip-a\nb" }, "device"},
		"name with slash":          {func(t *Tunnel) { t.Device = "htip-../x" }, "device"},
		"name with quote":          {func(t *Tunnel) { t.Device = `htip-"` }, "device"},
		"name with space":          {func(t *Tunnel) { t.Device = "htip-a b" }, "device"},
		"name with plus":           {func(t *Tunnel) { t.Device = "htip-+" }, "device"},
		"empty name":               {func(t *Tunnel) { t.Device = "htip-" }, "device"},
		"server without port":      {func(t *Tunnel) { t.Server = true }, "local port"},
		"client without port":      {func(t *Tunnel) { t.Remote = netip.MustParseAddrPort("198.51.100.2:0") }, "want a port"},
		"IPv6 remote":              {func(t *Tunnel) { t.Remote = netip.MustParseAddrPort("[2001:db8::1]:1701") }, "IPv4"},
		"no remote":                {func(t *Tunnel) { t.Remote = netip.AddrPort{} }, "IPv4"},
		"MTU too small":            {func(t *Tunnel) { t.MTU = 500 }, "mtu 500"},
		"MTU too large":            {func(t *Tunnel) { t.MTU = 1463 }, "mtu 1463"},
		"no secret":                {func(t *Tunnel) { t.Secret = nil }, "secret of 0 bytes"},
		"long secret":              {func(t *Tunnel) { t.Secret = make([]byte, 41) }, "secret of 41 bytes"},
		"no own network":           {func(t *Tunnel) { t.Own = nil }, "at least one"},
		"no peer network":          {func(t *Tunnel) { t.Peer = nil }, "at least one"},
		"lengths differ":           {func(t *Tunnel) { t.Own[0].Substitute = pfx("10.0.0.0/16") }, "differ in length"},
		"bits behind the length":   {func(t *Tunnel) { t.Peer[0] = pfx("10.0.2.7/24") }, "should be 10.0.2.0/24"},
		"everything":               {func(t *Tunnel) { t.Peer[0] = pfx("0.0.0.0/0") }, "too large"},
		"multicast":                {func(t *Tunnel) { t.Peer[0] = pfx("224.0.0.0/24") }, "no network of hosts"},
		"IPv6 network":             {func(t *Tunnel) { t.Peer[0] = pfx("fd00::/64") }, "no IPv4 prefix"},
		"unset prefix":             {func(t *Tunnel) { t.Own[0].Substitute = netip.Prefix{} }, "no IPv4 prefix"},
		"peer is us":               {func(t *Tunnel) { t.Peer[0] = pfx("10.0.0.0/16"); t.PeerAddr = addr("10.0.2.1") }, "overlaps own"},
		"peer is our substitute":   {func(t *Tunnel) { t.Peer[0] = pfx("10.0.1.0/24"); t.PeerAddr = addr("10.0.1.2") }, "overlaps own"},
		"peer's WAN inside":        {func(t *Tunnel) { t.Peer = append(t.Peer, pfx("198.51.100.0/24")) }, "contains the peer's WAN address"},
		"local address elsewhere":  {func(t *Tunnel) { t.LocalAddr = addr("10.0.0.1") }, "local address"},
		"peer's address elsewhere": {func(t *Tunnel) { t.PeerAddr = addr("8.8.8.8") }, "peer address"},
		"two own overlap": {func(t *Tunnel) {
			t.Own = append(t.Own, Mapping{pfx("10.0.0.128/25"), pfx("10.7.0.0/25")})
		}, "overlaps"},
	} {
		t.Run(name, func(t *testing.T) {
			tun := homeA()
			c.spoil(&tun)
			err := tun.check()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v, want something with %q", err, c.want)
			}
		})
	}
	for _, good := range []Tunnel{homeA(), homeB(), homeC()} {
		if err := good.check(); err != nil {
			t.Errorf("%s: %v", good.Name, err)
		}
	}
}

// FIG. 13: A has 10.0.0.0/24, B has 10.0.0.0/16.
func TestTunnelOfUnequalLengths(t *testing.T) {
	a, b := homeA(), homeB()
	a.Own, a.Peer = []Mapping{{pfx("10.0.0.0/24"), pfx("10.2.0.0/24")}}, []netip.Prefix{pfx("10.1.0.0/16")}
	a.LocalAddr, a.PeerAddr = addr("10.2.0.1"), addr("10.1.0.1")
	b.Own, b.Peer = []Mapping{{pfx("10.0.0.0/16"), pfx("10.1.0.0/16")}}, []netip.Prefix{pfx("10.2.0.0/24")}
	b.LocalAddr, b.PeerAddr = addr("10.1.0.1"), addr("10.2.0.1")
	for _, tun := range []Tunnel{a, b} {
		if err := tun.check(); err != nil {
			t.Errorf("%s: %v", tun.Name, err)
		}
	}
}

func TestBadTunnelLeavesOthersAlone(t *testing.T) {
	twin := homeA()
	twin.Name = "twin"
	greedy := homeC()
	greedy.Device, greedy.Name = "htip-greedy", "greedy"
	greedy.Peer = append(greedy.Peer, pfx("10.0.2.128/25"))
	over := homeC()
	over.Device, over.Name = "htip-over", "over"
	over.Own[0] = Mapping{pfx("10.0.2.0/24"), pfx("10.0.0.0/24")}

	good, errs := Wanted{
		Tunnels: []Tunnel{homeA(), twin, greedy, homeC(), over},
		Known:   []netip.Prefix{pfx("10.7.0.0/24"), pfx("0.0.0.0/0")},
	}.check()
	if len(good.Tunnels) != 2 || good.Tunnels[0].Name != "bob" || good.Tunnels[1].Name != "carol" || len(good.Known) != 1 {
		t.Errorf("kept %v", good)
	}
	for device, want := range map[string]string{
		"htip-bob":    "wanted twice",
		"htip-greedy": "overlaps 10.0.2.0/24 of htip-bob",
		"htip-over":   "own network 10.0.2.0/24 overlaps 10.0.2.0/24 of htip-bob",
		"0.0.0.0/0":   "too large",
	} {
		err := errs[device]
		if err == nil || !strings.Contains(err.Error(), want) || !IsPermanent(err) {
			t.Errorf("%s: got %v, want %q, permanent", device, err, want)
		}
	}
	if len(errs) != 4 {
		t.Errorf("%d errors: %v", len(errs), errs)
	}
}

// Through a server that only listens nothing passes, and nobody but its peer
// can knock at it.
func TestRulesOfListeningServer(t *testing.T) {
	tun := homeB()
	tun.LocalAddr, tun.PeerAddr, tun.Own, tun.Peer = netip.Addr{}, netip.Addr{}, nil, nil
	good, errs := Wanted{Tunnels: []Tunnel{tun}}.check()
	if len(errs) != 0 || len(good.Tunnels) != 1 {
		t.Fatal(errs)
	}
	var guard, knock bool
	for _, c := range chainsFor(good) {
		for _, r := range c.rules {
			if strings.Contains(r, "NETMAP") || strings.Contains(r, "RETURN") && c.table == "raw" {
				t.Errorf("%s: %s", c.name(), r)
			}
			guard = guard || r == "-i "+tun.Device+" -j DROP"
			knock = knock || strings.Contains(r, "! -s "+tun.Remote.Addr().String()+"/32")
		}
	}
	if !guard || !knock {
		t.Errorf("guard %t, knock %t", guard, knock)
	}
}
