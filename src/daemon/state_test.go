package daemon

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"htip/src/htip"
	"htip/src/ubus"
)

func px(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func sample() map[string]*tunnel {
	return map[string]*tunnel{"bob": {
		Entry: htip.Entry{
			Peer: "bob", Domain: "bob.example.org", Protocol: htip.L2TP, TunnelID: 0xffffffff, Role: htip.Responder,
			Own:        []htip.Mapping{{Network: px("192.168.1.0/24"), Substitute: px("10.83.4.0/24")}},
			Theirs:     []htip.Mapping{{Network: px("192.168.1.0/24"), Substitute: px("10.1.2.0/24")}, {Network: px("192.168.7.0/24"), Substitute: px("192.168.7.0/24")}},
			OwnGateway: netip.MustParseAddr("10.83.4.1"), PeerGateway: netip.MustParseAddr("10.1.2.1"), LocalPort: 17010,
		},
		Key: make([]byte, 32), Remote: netip.MustParseAddr("192.0.2.7"), Secret: []byte("0123456789abcdef"), MTU: 1410, Since: 1,
		old: true, // as of everything that comes from the file
	}}
}

// inESP is a tunnel that has more to remember.
func inESP() *tunnel {
	x := sample()["bob"]
	x.Entry.Peer, x.Entry.Protocol, x.Entry.Cipher, x.Local = "carol", htip.L2TPESP, htip.ChaCha, netip.MustParseAddr("192.0.2.1")
	x.Entry.Why = "bob can't use wireguard (no module)"
	return x
}

// through writes a table to a file and reads it back.
func through(t *testing.T, in ubus.Table) ubus.Table {
	t.Helper()
	path := filepath.Join(t.TempDir(), "f")
	if err := writeTable(path, in); err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", st.Mode(), err)
	}
	out, err := readTable(path)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestTunnelsSurvive(t *testing.T) {
	want := sample()
	want["carol"] = inESP()
	got, err := decodeTunnels(through(t, encodeTunnels(want)))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got["bob"], err)
	}
}

// A server that only listens is nothing that a new process could take over.
func TestUnagreedTunnelsAreNotSaved(t *testing.T) {
	ts := sample()
	ts["carol"] = &tunnel{Entry: htip.Entry{Peer: "carol", Protocol: htip.WireGuard, TunnelID: 7, Role: htip.Responder, LocalPort: 17011}, Key: make([]byte, 32)}
	got, err := decodeTunnels(through(t, encodeTunnels(ts)))
	if err != nil || len(got) != 1 || got["bob"] == nil {
		t.Errorf("%v, %v", got, err)
	}
}

func TestStateSurvives(t *testing.T) {
	want := map[string]homeState{
		"bob":   {Key: make([]byte, 32), Record: htip.Record{Own: sample()["bob"].Entry.Own, Theirs: sample()["bob"].Entry.Theirs}, Wanted: true, Ended: true},
		"carol": {Key: []byte(strings.Repeat("k", 32))},
	}
	got, err := decodeState(through(t, encodeState(want)))
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v, %v", got, err)
	}
}

// TestDamagedLinesAreLeftOut: what is wrong is named, what is right is kept.
func TestDamagedLinesAreLeftOut(t *testing.T) {
	carol := map[string]*tunnel{"bob": inESP()}
	for _, field := range encodeTunnels(carol)[0].Value.(ubus.Table) {
		for _, bad := range []any{nil, "", "?", -1, int64(1) << 62, ubus.Array{"x"}, ubus.Table{}} {
			in := encodeTunnels(map[string]*tunnel{"bob": inESP(), "good": sample()["bob"]})
			row := in[0].Value.(ubus.Table)
			row.Set(field.Name, bad)
			got, err := decodeTunnels(in)
			if got["good"] == nil {
				t.Fatalf("%s = %v: the good line is lost: %v", field.Name, bad, err)
			}
			if got["bob"] != nil && err == nil && field.Name != "domain" && field.Name != "why" && !((field.Name == "secret" || field.Name == "key") && bad == "") && field.Name != "protocol" && field.Name != "since" {
				t.Errorf("%s = %v was taken: %+v", field.Name, bad, got["bob"])
			}
		}
	}
	if got, err := decodeState(ubus.Table{ubus.F("bob", "no table"), ubus.F("carol", ubus.Table{ubus.F("key", "AAAA")})}); len(got) != 0 || err == nil {
		t.Errorf("%v, %v", got, err)
	}
	path := filepath.Join(t.TempDir(), "f")
	if table, err := readTable(path); table != nil || err != nil {
		t.Errorf("no file: %v, %v", table, err)
	}
	os.WriteFile(path, []byte("{"), 0o600)
	if _, err := readTable(path); err == nil || !strings.Contains(err.Error(), "damaged") {
		t.Error(err)
	}
}

func FuzzDecodeTunnels(f *testing.F) {
	f.Add(ubus.AppendJSON(nil, encodeTunnels(sample())))
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := ubus.ParseJSON(b)
		if err != nil {
			return
		}
		ts, _ := decodeTunnels(table)
		again, err := decodeTunnels(encodeTunnels(ts))
		if err != nil || !reflect.DeepEqual(ts, again) {
			t.Fatalf("%v became %v, %v", ts, again, err)
		}
		decodeState(table)
	})
}

func TestDeviceNames(t *testing.T) {
	for name, want := range map[string]string{"bob": "htip-bob", "grandma123": "htip-grandma123", "grandmother": ""} {
		got := device(name)
		if len(got) > 15 || want != "" && got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	seen := map[string]string{}
	for i := range 2000 {
		name := fmt.Sprintf("grandmother%d", i)
		if other, ok := seen[device(name)]; ok {
			t.Logf("%s and %s share %s", name, other, device(name))
		}
		seen[device(name)] = name
	}
	if len(seen) < 1990 {
		t.Errorf("2,000 long names share %d devices", len(seen))
	}
}

// A clock that is set while a tunnel stands changes what date it began, not how long ago.
func TestDate(t *testing.T) {
	for _, c := range []struct{ then, up, now, want int64 }{
		{0, 100, 5000, 0},
		{40, 100, 5000, 4940},
		{40, 100, 1_800_000_000, 1_799_999_940}, // NTP has answered
	} {
		for later := time.Duration(0); later < 3*time.Second; later += 99 * time.Millisecond {
			up, now := time.Duration(c.up)*time.Second+later+700*time.Millisecond, time.Unix(c.now, 750e6).Add(later)
			if got := date(c.then, up, now); got != c.want {
				t.Errorf("%+v, %v later: %d", c, later, got)
			}
		}
	}
	if a, b := uptime(), uptime(); a < time.Second || b < a || b > a+5*time.Second {
		t.Errorf("%d, %d", a, b)
	}
	// A process of a former version has left a date.
	x := sample()
	x["bob"].Since = time.Now().Unix() - 1
	got, err := decodeTunnels(encodeTunnels(x))
	if up := int64(uptime() / time.Second); err != nil || got["bob"].Since > up || got["bob"].Since < up-3 {
		t.Errorf("%v, %v at %d", got["bob"], err, up)
	}
}
