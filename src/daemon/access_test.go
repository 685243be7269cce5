package daemon

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"htip/src/config"
	"htip/src/datapath"
	"htip/src/htip"
)

func TestReach(t *testing.T) {
	own := []htip.Mapping{{Network: px("192.168.1.0/24"), Substitute: px("10.83.4.0/24")}}
	hosts := map[string][]netip.Addr{
		"nas":   {netip.MustParseAddr("192.168.1.5")},
		"two":   {netip.MustParseAddr("192.168.1.7"), netip.MustParseAddr("10.9.9.9")},
		"guest": {netip.MustParseAddr("192.168.3.5")},
	}
	for _, c := range []struct {
		list    []string
		want    string
		nowhere string
	}{
		{[]string{"none"}, "{true []}", "[]"},
		{[]string{"away"}, "{true []}", "[away]"},
		{[]string{"guest:tcp:80"}, "{true []}", "[guest:tcp:80]"},         // a network that is not shared
		{[]string{"10.83.4.5:tcp:80"}, "{true []}", "[10.83.4.5:tcp:80]"}, // the substitute is what they say, not we
		{[]string{"what?"}, "{true []}", "[]"},                            // never more than what is understood
		{nil, "{false []}", "[]"},
		{[]string{"all"}, "{false []}", "[]"},
		{[]string{"nas:tcp:445", "192.168.1.9:udp:5000-5010", "two", "router:tcp:22"},
			"{true [{192.168.1.5 false tcp 445 445} {192.168.1.9 false udp 5000 5010} {192.168.1.7 false  0 0} {invalid IP true tcp 22 22}]}", "[]"},
	} {
		a, nowhere := reach(c.list, hosts, own)
		if got := fmt.Sprint(a); got != c.want || fmt.Sprint(nowhere) != c.nowhere {
			t.Errorf("%q: %s, nowhere %v; want %s, %s", c.list, got, nowhere, c.want, c.nowhere)
		}
	}
	if got := named([]config.Peer{
		{Enabled: true, Access: []string{"nas:tcp:445", "192.168.1.9", "router:tcp:22", "tv"}}, {Enabled: true, Access: []string{"tv", "all"}}, {Access: []string{"camera"}},
	}); !slices.Equal(got, []string{"all", "nas", "tv"}) && !slices.Equal(got, []string{"nas", "tv"}) {
		t.Errorf("%q", got)
	}
}

// Whatever stands in a list, only addresses of shared networks are opened, and
// nothing but "all" alone opens everything.
func TestReachNeverTooMuch(t *testing.T) {
	own := []htip.Mapping{{Network: px("192.168.1.0/24"), Substitute: px("10.83.4.0/24")}}
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOfN(rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{"none", "nas", "nas:tcp:80", "8.8.8.8", "192.168.1.3:udp:1-9", "router:udp:53", "all"})), 1, 5).Draw(t, "list")
		var at []netip.Addr
		for range rapid.IntRange(0, 3).Draw(t, "addresses") {
			at = append(at, netip.AddrFrom4([4]byte{192, 168, byte(rapid.IntRange(0, 2).Draw(t, "net")), byte(rapid.IntRange(0, 255).Draw(t, "host"))}))
		}
		a, _ := reach(list, map[string][]netip.Addr{"nas": at}, own)
		if !a.Limited && !slices.Equal(list, []string{"all"}) {
			t.Fatalf("%q opens everything", list)
		}
		for _, x := range a.Allow {
			if !x.Router && !own[0].Network.Contains(x.Host) {
				t.Fatalf("%q opens %v", list, x)
			}
		}
	})
}

func TestRefusedTable(t *testing.T) {
	if refusedTable(datapath.Refused{}) != nil {
		t.Error("nothing is something")
	}
	if r := refusedTable(datapath.Refused{Host: 7}); r == nil {
		t.Error("something is nothing")
	} else if n, _ := r.GetInt("host"); n != 7 {
		t.Error(r)
	}
}
