package cli

import (
	"testing"
	"time"

	"htip/src/ubus"
)

func TestPattern(t *testing.T) {
	for in, want := range map[string]string{
		"192.168.1.0/24": "192.168.1.x", "10.0.0.0/16": "10.0.x.x", "10.0.0.0/8": "10.x.x.x", "10.0.0.0/20": "10.0.0.0/20",
		"0.0.0.0/0": "0.0.0.0/0", "": "", "it's none": "it's none", "fe80::/64": "fe80::/64",
	} {
		if got := pattern(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestBytesText(t *testing.T) {
	for in, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1.0 kB", 1234567: "1.2 MB", 5e15: "5000.0 TB"} {
		if got := bytesText(in); got != want {
			t.Errorf("%d: %s, want %s", in, got, want)
		}
	}
}

// TestStatusText is the whole page, as somebody reads it.
func TestStatusText(t *testing.T) {
	both := func(n, s string) ubus.Array {
		return ubus.Array{ubus.Table{ubus.F("network", n), ubus.F("substitute", s)}}
	}
	in := ubus.Table{
		ubus.F("name", "alice"), ubus.F("domain", "alice.example.org"), ubus.F("fingerprint", "ABCD-EFGH-IJKL-MNOP"), ubus.F("networks", ubus.Array{"192.168.1.0/24", "192.168.3.0/24"}), ubus.F("lan", ubus.Array{ubus.T("network", "192.168.1.0/24", "interface", "lan"), ubus.T("network", "192.168.3.0/24", "interface", "guest")}),
		ubus.F("wan", ubus.Array{ubus.T("interface", "wan", "device", "pppoe-wan", "address", "198.51.100.20"), ubus.T("interface", "", "device", "usb0", "address", "192.168.42.9")}),
		ubus.F("problems", ubus.Array{"peer mallory: option key 'abc': want 44 characters"}),
		ubus.F("tunnels", ubus.Array{
			ubus.Table{
				ubus.F("peer", "bob"), ubus.F("domain", "bob.example.org"), ubus.F("state", "up"), ubus.F("role", "client"), ubus.F("protocol", "l2tp"), ubus.F("encrypted", false),
				ubus.F("tunnel_id", "01bd061a"), ubus.F("own", both("192.168.1.0/24", "10.1.2.0/24")), ubus.F("theirs", both("192.168.1.0/24", "10.83.4.0/24")),
				ubus.F("gateway", "10.1.2.1"), ubus.F("peer_gateway", "10.83.4.1"), ubus.F("device", "htip-bob"), ubus.F("since", int64(1000)), ubus.F("kernel", false),
				ubus.F("rx_bytes", int64(1500)), ubus.F("tx_bytes", int64(12)),
			},
			ubus.Table{ubus.F("peer", "carol"), ubus.F("domain", "carol.example.org"), ubus.F("state", "idle"), ubus.F("error", "peer can't be reached: no such name"), ubus.F("theirs", both("10.9.0.0/24", "10.9.0.0/24"))},
			ubus.Table{
				ubus.F("peer", "dave"), ubus.F("domain", "dave.example.org"), ubus.F("state", "proving"), ubus.F("role", "server"), ubus.F("protocol", "l2tp-esp"), ubus.F("encrypted", true),
				ubus.F("cipher", "chacha20-poly1305"), ubus.F("tunnel_id", "01bd061b"), ubus.F("device", "htip-dave"),
				ubus.F("protocol_reason", "dave can't use wireguard (no kmod-wireguard)"),
			},
			ubus.Table{
				ubus.F("peer", "eve"), ubus.F("domain", "eve.example.org"), ubus.F("state", "proving"), ubus.F("role", "server"), ubus.F("protocol", "pptp"), ubus.F("encrypted", false),
				ubus.F("tunnel_id", "01bd061c"), ubus.F("device", "htip-eve"),
			},
		}),
	}
	const want = `alice (alice.example.org), fingerprint ABCD-EFGH-IJKL-MNOP, networks 192.168.1.0/24, 192.168.3.0/24
lan            192.168.1.0/24 lan, 192.168.3.0/24 guest
wan            wan pppoe-wan 198.51.100.20, usb0 192.168.42.9
problem: peer mallory: option key 'abc': want 44 characters

bob (bob.example.org): up for 1m5s
  tunnel         l2tp (client), NOT encrypted, ID 01bd061a, device htip-bob, not in the kernel: slow
  our  192.168.1.0/24     is known there as 10.1.2.0/24
  their 192.168.1.0/24    is known here as 10.83.4.0/24
  gateways       10.1.2.1 here, 10.83.4.1 there
  traffic        1.5 kB received, 12 B sent

carol (carol.example.org): idle
  last error     peer can't be reached: no such name
  their 10.9.0.0/24       keeps its addresses

dave (dave.example.org): proving
  tunnel         l2tp-esp (chacha20-poly1305) (server), encrypted, ID 01bd061b, device htip-dave
  because        dave can't use wireguard (no kmod-wireguard)

eve (eve.example.org): proving
  tunnel         pptp (server), NOT safe: its encryption is broken, ID 01bd061c, device htip-eve
`
	if got := statusText(in, time.Unix(1065, 0)); got != want {
		t.Errorf("got\n%s", got)
	}
	if got := statusText(ubus.Table{}, time.Now()); got == "" {
		t.Error("nothing for an empty status")
	}
}

func TestStepText(t *testing.T) {
	for _, c := range []struct {
		in    ubus.Table
		named bool
		want  string
	}{
		{ubus.Table{ubus.F("step", "connecting")}, false, ""},
		{ubus.Table{ubus.F("step", "request"), ubus.F("took_ms", int64(1234))}, false, "   1.2 s  REQUEST      tunnel and addresses asked for\n"},
		{ubus.Table{ubus.F("step", "failed"), ubus.F("took_ms", int64(0)), ubus.F("text", "busy"), ubus.F("retry_ms", int64(5000)), ubus.F("peer", "bob")}, true, "bob           0.0 s  failed       busy; trying again in 5s\n"},
		{ubus.Table{ubus.F("step", "news")}, false, "   0.0 s  news\n"},
	} {
		if got := stepText(c.in, c.named); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}
