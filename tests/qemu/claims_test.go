//go:build qemu

package qemu_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"htip/src/control"
	"htip/src/htip"
	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

// TestClaims: an approved peer claims addresses that are not its own, once as
// our daemon with a hostile configuration, and once as a program that says what
// our daemon would never say. It is told why not, and nothing changes in routes,
// rules and tunnels.
func TestClaims(t *testing.T) {
	ctx, l := newLab(t)
	var specs []homes.Spec
	for name, home := range map[string]lab.LAN{
		"alice": lan("192.168.1.1/24", "192.168.1.4", "pc"), "bob": lan("192.168.1.1/24", "192.168.1.5", "nas"), "carol": lan("10.0.0.1/8", "10.0.0.6", "tv"),
	} {
		specs = append(specs, homes.Spec{Name: name, LAN: home})
	}
	slices.SortFunc(specs, func(a, b homes.Spec) int { return strings.Compare(a.Name, b.Name) })
	hs, err := homes.Start(ctx, l, specs...)
	if err != nil {
		t.Fatal(err)
	}
	showLogs(t, hs...)
	alice, bob, carol := hs[0], hs[1], hs[2]
	if _, err := alice.Connect(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.WaitState(ctx, "bob", "up"); err != nil {
		t.Fatal(err)
	}
	stood, err := bob.WaitState(ctx, "alice", "up")
	if err != nil {
		t.Fatal(err)
	}
	friends := stood.Theirs[0].Substitute
	before := kernelState(ctx, bob.Router)
	unchanged := func(t *testing.T) {
		t.Helper()
		now := kernelState(ctx, bob.Router)
		if now != before {
			t.Fatalf("before\n%s\nafter\n%s", before, now)
		}
		if x, err := bob.Tunnel(ctx, "alice"); err != nil || x.State != "up" || x.TunnelID != stood.TunnelID {
			t.Errorf("another friend's tunnel: %+v, %v", x, err)
		}
	}

	good := carol.Config(hs...)
	for _, x := range []struct{ network, words string }{
		{"", "the networks of one home may have 1048576 addresses"},    // all of 10.0.0.0/8, and it is hers: bob refuses
		{"192.52.193.0/24", "no address in [192.52.193.0/24]"},         // bob's DNS server's: her own daemon refuses
		{"0.0.0.0/0", "'0.0.0.0/0': want an IPv4 network"},             // it does not even read this
		{"192.168.1.0/24", "this router has no address in [192.168.1"}, // bob's LAN
	} {
		t.Run("daemon/"+x.network, func(t *testing.T) {
			if x.network != "" {
				carol.Reconfigure(ctx, t, strings.Replace(good, "\toption enabled '1'\n", "\toption enabled '1'\n\tlist network '"+x.network+"'\n", 1))
			}
			res, err := carol.Router.Run(ctx, "htip connect bob --wait --timeout 60s; [ $? != 0 ]; r=$?; grep \"list network\" /var/log/htipd.log; exit $r")
			t.Log(res.Output)
			if err != nil || res.Code != 0 || !strings.Contains(res.Output, x.words) {
				t.Errorf("code %d, no %q: %v", res.Code, x.words, err)
			}
			unchanged(t)
		})
	}
	if err := carol.StopDaemon(ctx); err != nil {
		t.Fatal(err)
	}

	// From here on carol is this test, with her key.
	file := filepath.Join(t.TempDir(), "key")
	seed, err := carol.Router.Get(ctx, "/etc/htip/key")
	if err == nil {
		err = os.WriteFile(file, seed, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	id, _, err := control.LoadIdentity(file)
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString(bob.Key)
	if err != nil {
		t.Fatal(err)
	}
	say := func(b []byte) (*htip.Message, error) {
		ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		raw, err := l.Internet().DialFrom(ctx, lab.InternetHost, netip.AddrPortFrom(bob.Router.WANAddr(), 4847))
		if err != nil {
			return nil, err
		}
		c, err := control.Over(ctx, raw, id, key)
		if err != nil {
			return nil, err
		}
		defer c.Close()
		if err := c.SendRaw(b); err != nil {
			return nil, err
		}
		for {
			m, err := c.Receive()
			if err != nil || m.Type != htip.Close {
				return m, err
			}
		}
	}
	p := netip.MustParsePrefix
	for i, x := range []struct {
		name                string
		network, substitute netip.Prefix
		all                 bool // these octets become 0.0.0.0/0
		reason              htip.Reason
		words               string
	}{
		{"everything", p("10.0.0.0/8"), p("10.0.0.0/8"), true, htip.ReasonMalformed, "0.0.0.0/0"},
		{"our LAN", p("192.168.1.0/24"), p("192.168.1.0/24"), false, htip.ReasonClash, "192.168.1.0/24"},
		{"a part of our LAN", p("192.168.1.0/30"), p("192.168.1.0/30"), false, htip.ReasonClash, "192.168.1.0/30"},
		{"what holds our LAN", p("192.168.0.0/16"), p("192.168.0.0/16"), false, htip.ReasonClash, "192.168.0.0/16"},
		{"our DNS server", p("192.52.193.52/30"), p("192.52.193.52/30"), false, htip.ReasonClash, "192.52.193.52/30"},
		{"our provider's network", p("10.9.0.0/24"), netip.PrefixFrom(bob.Router.WANAddr(), 24).Masked(), false, htip.ReasonClash, "10.9.0.0/24"},
		{"another friend's substitute", p("10.9.0.0/24"), friends, false, htip.ReasonClash, "10.9.0.0/24"},
		{"another friend's substitute as its network", friends, friends, false, htip.ReasonClash, friends.String()},
		{"the space of all", p("10.0.0.0/8"), p("10.0.0.0/8"), false, htip.ReasonExhausted, "1048576 addresses"},
	} {
		t.Run("by hand/"+x.name, func(t *testing.T) {
			m := &htip.Message{Type: htip.Request, Talk: uint64(1000 + i), Protocols: []htip.Protocol{htip.WireGuard}, Gateway: x.network.Addr().Next(),
				Features: htip.FeatureThreeMessages, Offers: []htip.Offer{{Network: x.network, Candidates: []netip.Prefix{x.substitute}}}}
			b, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if x.all {
				was := b
				if b = bytes.ReplaceAll(b, []byte{8, 10, 0, 0, 0}, make([]byte, 5)); bytes.Equal(was, b) {
					t.Fatal("the network is not in the message")
				}
			}
			answer, err := say(b)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%v, %v: %q", answer.Type, answer.Reason, answer.Text)
			if answer.Type != htip.Nak || answer.Reason != x.reason || !strings.Contains(answer.Text, x.words) {
				t.Errorf("%+v", answer)
			}
			unchanged(t)
		})
	}
}

var counters = regexp.MustCompile(`(?m)^#.*\n|\[\d+:\d+\]`)

// kernelState is what a lie must not change: routes, rules, devices.
func kernelState(ctx context.Context, r *lab.Router) string {
	return counters.ReplaceAllString(r.MustRun(ctx, "ip route; ip rule; ls /sys/class/net; iptables-save"), "")
}
