//go:build qemu

package qemu_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

// wgQuick brings WireGuard up on a machine as wg-quick does, from the text that
// htip user add has printed and from nothing else.
func wgQuick(ctx context.Context, t *testing.T, r *lab.Router, text string) (gateway string) {
	t.Helper()
	var conf, after strings.Builder
	for _, line := range strings.Split(text, "\n") {
		key, value, _ := strings.Cut(line, " = ")
		switch key {
		case "Address":
			fmt.Fprintf(&after, "ip addr add %s dev wg0\n", value)
		case "DNS":
			gateway = value
		default:
			conf.WriteString(line + "\n")
		}
		if key == "AllowedIPs" {
			for _, p := range strings.Split(value, ", ") {
				fmt.Fprintf(&after, "ip route add %s dev wg0\n", p)
			}
		}
	}
	r.MustRun(ctx, "ip link del wg0 2>/dev/null; ip link add wg0 mtu 1420 type wireguard; ip link set wg0 up")
	if err := r.Put(ctx, "/tmp/wg0.conf", []byte(conf.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	r.MustRun(ctx, "wg setconf wg0 /tmp/wg0.conf\n"+after.String())
	return gateway
}

// TestUsers: a phone on the Internet reaches the home that it is a user of, and
// the other home only when it may.
func TestUsers(t *testing.T) {
	ctx, l := newLabMIPS(t)
	phone, err := l.AddRouter(ctx, lab.RouterConfig{Name: "phone", LAN: []lab.LAN{lan("172.20.7.1/24", "172.20.7.2", "nobody")}})
	if err != nil {
		t.Fatal(err)
	}
	hs, err := homes.Boot(ctx, l,
		homes.Spec{Name: "alice", LAN: lan("192.168.1.1/24", "192.168.1.4", "pc")},
		homes.Spec{Name: "bob", LAN: lan("192.168.1.1/24", "192.168.1.5", "nas")})
	if err != nil {
		t.Fatal(err)
	}
	showLogs(t, hs...)
	alice, bob := hs[0], hs[1]
	kept := regexp.MustCompile(`(?m)^/etc/htip/.*\n`)
	pristine := kept.ReplaceAllString(leavings(ctx, t, alice), "")
	for _, h := range hs {
		if err := h.StartDaemon(ctx); err != nil {
			t.Fatal(err)
		}
		stop, err := h.Host.Serve(h.Host.Addr().String()+":80", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "this is %s, you are %s\n", h.Name, r.RemoteAddr)
		}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stop() })
	}
	if _, err := alice.Connect(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	if _, err := alice.WaitState(ctx, "bob", "up"); err != nil {
		t.Fatal(err)
	}
	works := func(command string) bool {
		res, err := phone.Run(ctx, command+" >/tmp/out 2>&1")
		return err == nil && res.Code == 0
	}
	eventually := func(what, command string) {
		t.Helper()
		for end := time.Now().Add(30 * time.Second); !works(command); {
			if time.Now().After(end) {
				out, _ := phone.Run(ctx, "cat /tmp/out; wg show wg0 | grep -v key; ip route")
				t.Fatalf("%s: %s\n%s", what, command, out.Output)
			}
			time.Sleep(200 * time.Millisecond)
		}
	}
	never := func(what, command string) {
		t.Helper()
		if works(command) {
			out, _ := phone.Run(ctx, "cat /tmp/out")
			t.Errorf("%s: %s\n%s", what, command, out.Output)
		}
	}
	const pc, router = "192.168.1.4", "192.168.1.1"
	add := func(args string) string { return alice.Router.MustRun(ctx, "htip user add "+args+" 2>/dev/null") }

	text := add("phone")
	private := regexp.MustCompile(`PrivateKey = (\S+)`).FindStringSubmatch(text)[1]
	if out := alice.Router.MustRun(ctx, "grep -rlF '"+private+"' /etc /var /tmp /run 2>/dev/null; grep -rlF phone /etc/htip"); out != "/etc/htip/users.json\n" {
		t.Errorf("the phone's private key is on the router: %s", out) // the second one shows that this looks at all
	}
	began := time.Now()
	gateway := wgQuick(ctx, t, phone, text)
	eventually("the home", "ping -c 1 -W 1 "+pc)
	t.Logf("the first answer %.1f s after the configuration was there", time.Since(began).Seconds())
	eventually("a page at home", "wget -q -O - http://"+pc+" | grep 'this is alice'")
	eventually("the router", "ping -c 1 -W 1 "+gateway)
	eventually("a name of the home", "nslookup pc.lan "+gateway+" | grep "+pc)
	found, err := alice.Host.Lookup(ctx, "nas.bob.internal")
	if err != nil {
		t.Fatal(err)
	}
	nas := found[0].String() // of one of the private networks
	eventually("a name of the other home", "nslookup nas.bob.internal "+gateway+" | grep -qwF '"+nas+"'")

	// What is not his. The way there is opened at the phone's end.
	wan := bob.Router.WANAddr().String()
	phone.MustRun(ctx, fmt.Sprintf("wg set wg0 peer $(wg show wg0 peers) allowed-ips +%s/32,+%s/32; ip route add %[1]s dev wg0; ip route add %[2]s dev wg0", wan, nas))
	never("the other home without leave", "ping -c 1 -W 2 "+nas)
	never("the Internet through the home", "ping -c 1 -W 2 "+wan)
	for _, a := range []string{router, gateway} {
		never("a service of the router", "nc -w 2 "+a+" 4847 </dev/null")
	}
	// He is where his WireGuard key says, and nowhere else.
	phone.MustRun(ctx, "ip addr add 192.168.1.77/32 dev wg0")
	never("a source in the LAN", "ping -c 1 -W 2 -I 192.168.1.77 "+pc)

	// A second run changes nothing; what is wrong is said.
	if out, _ := alice.Router.Run(ctx, "htip user add phone"); out.Code != 1 || !strings.Contains(out.Output, "there is a user phone already") {
		t.Errorf("%+v", out)
	}
	if out, _ := alice.Router.Run(ctx, "htip user add tv --home dave"); out.Code != 1 || !strings.Contains(out.Output, `no peer "dave"`) {
		t.Errorf("%+v", out)
	}
	if out := alice.Router.MustRun(ctx, "htip users"); !regexp.MustCompile("seen (just now|1 min ago) at " + regexp.QuoteMeta(phone.WANAddr().String())).MatchString(out) {
		t.Error(out)
	}

	// With leave for the other home, whose hosts see this home's gateway.
	alice.Router.MustRun(ctx, "htip user remove phone")
	eventually("removal ends it", "! ping -c 1 -W 1 "+pc)
	gateway = wgQuick(ctx, t, phone, add("phone --home bob"))
	eventually("the other home's page, by name", "nslookup nas.bob.internal "+gateway+" | grep -qwF '"+nas+"' && wget -q -O - http://"+nas+" | grep 'this is bob'")
	out := phone.MustRun(ctx, "cat /tmp/out")
	t.Log(strings.TrimSpace(out))
	tunnel, err := bob.Tunnel(ctx, "alice")
	if err != nil {
		t.Fatal(err)
	}
	if sub := tunnel.Theirs[0].Substitute; !strings.Contains(out, "you are "+sub.Addr().Next().String()) {
		t.Errorf("%s: bob's host does not see alice's gateway in %v", out, sub)
	}

	// The daemon dies and comes back: nobody notices.
	phone.MustRun(ctx, "setsid ping -i 0.5 -c 31 "+nas+" >/tmp/ping 2>&1 &") // the last one may be given up
	alice.Router.MustRun(ctx, "kill -9 $(pidof htipd)")
	if err := alice.StartDaemon(ctx); err != nil {
		t.Fatal(err)
	}
	eventually("pings while the daemon died", "grep -q 'packets transmitted' /tmp/ping")
	if out := phone.MustRun(ctx, "cat /tmp/ping"); answered(out, 30) != 30 {
		t.Error(out)
	}
	var users struct {
		Users []struct {
			Name    string
			Address string
			Homes   []string
			RxBytes int64 `json:"rx_bytes"`
		}
	}
	if err := json.Unmarshal([]byte(alice.Router.MustRun(ctx, "htip users --json")), &users); err != nil || len(users.Users) != 1 || users.Users[0].Homes[0] != "bob" || users.Users[0].RxBytes == 0 {
		t.Errorf("%v, %+v", err, users)
	}

	// A flow that runs ends with the removal.
	phone.MustRun(ctx, "setsid ping -i 0.5 "+nas+" >/tmp/ping 2>&1 &")
	alice.Router.MustRun(ctx, "htip user remove phone; sleep 1; htip users | grep 'no users'")
	n := phone.MustRun(ctx, "sleep 1; grep -c 'bytes from' /tmp/ping || true")
	if m := phone.MustRun(ctx, "sleep 3; grep -c 'bytes from' /tmp/ping || true"); m != n {
		t.Errorf("pings of a user that was removed: %s, then %s", n, m)
	}
	if out := alice.Router.MustRun(ctx, "ip link; iptables-save -t mangle"); strings.Contains(out, "_users") {
		t.Error(out)
	}
	add("phone")
	if err := alice.StopDaemon(ctx); err != nil {
		t.Fatal(err)
	}
	sameLeavings(t, "after the stop", pristine, kept.ReplaceAllString(leavings(ctx, t, alice), ""))
	if out := alice.Router.MustRun(ctx, "ls -l /etc/htip/users.json"); !strings.HasPrefix(out, "-rw-------") {
		t.Error(out)
	}
}

// answered counts the first requests, up to most, that the program ping had answers to.
func answered(out string, most int) (n int) {
	for i := range most {
		if strings.Contains(out, fmt.Sprintf(" seq=%d ttl", i)) {
			n++
		}
	}
	return n
}
