package cli

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"htip/src/datapath"
	"htip/src/dns"
)

// TestAccess: what a peer may reach is shown, changed without a reload by hand,
// follows the host, and is what the data path is told.
func TestAccess(t *testing.T) {
	gs := makeTown(t, "alice", "bob")
	a, b := gs[0], gs[1]
	a.Names.SetOwn("nas", netip.MustParseAddr("192.168.1.20"))
	a.must("connect", "bob", "--wait")
	b.wait("alice", "up")
	now := func() string {
		for _, x := range a.Path.Wanted().Tunnels {
			return fmt.Sprint(x.Access)
		}
		return "no tunnel"
	}
	if now() != "{false []}" || !strings.Contains(a.must("access", "bob"), "everything") || strings.Contains(a.must("status"), "may reach") {
		t.Errorf("at first: %s", now())
	}
	// What can't be understood changes nothing.
	for _, bad := range [][]string{{"nas:tcp:x"}, {"all", "nas"}, {"none", "nas"}, {"nas", "8.8.8.8:sctp"}} {
		code, _, errs := a.run(append([]string{"access", "bob"}, bad...)...)
		if code != ExitFailed || !strings.Contains(errs, "want ") || now() != "{false []}" {
			t.Errorf("%q: %d %s, now %s", bad, code, errs, now())
		}
	}
	if code, _, errs := a.run("access", "carol", "none"); code != ExitUnknown {
		t.Error(code, errs)
	}

	id := a.tunnel("bob").ID
	out := a.must("access", "bob", "NAS:tcp:445", "tv", "router:tcp:22")
	if !strings.Contains(out, "nas:tcp:445, tv, router:tcp:22") || !strings.Contains(out, "tv opens nothing") {
		t.Error(out)
	}
	a.eventually("opens the nas", func() bool { return now() == "{true [{192.168.1.20 false tcp 445 445} {invalid IP true tcp 22 22}]}" })
	if text, _ := os.ReadFile(a.File()); strings.Count(string(text), "list access") != 3 {
		t.Errorf("%s", text)
	}
	if out := a.must("status"); !strings.Contains(out, "may reach      nas:tcp:445, tv, router:tcp:22") || !strings.Contains(out, "tv opens nothing") {
		t.Error(out)
	}
	a.Names.SetOwn("nas", netip.MustParseAddr("192.168.1.21")) // a new lease
	a.must("access", "bob", "nas:tcp:445")
	a.eventually("follows the host", func() bool { return now() == "{true [{192.168.1.21 false tcp 445 445}]}" })
	a.Names.SetOwn("nas", netip.MustParseAddr("10.1.1.1")) // outside what is shared
	a.must("access", "bob", "nas:tcp:446")
	a.eventually("opens nothing", func() bool { return now() == "{true []}" })
	a.must("access", "bob", "none")
	if !strings.Contains(a.must("access", "bob"), "nothing here; names are told") {
		t.Error(a.must("access", "bob"))
	}
	a.must("access", "bob", "all")
	a.eventually("opens everything", func() bool { return now() == "{false []}" })
	if got := a.tunnel("bob"); got.ID != id || got.State != "up" {
		t.Errorf("the tunnel did not stay: %+v", got)
	}

	// What was dropped is told.
	if out := a.must("status"); strings.Contains(out, "dropped") || strings.Contains(out, "refused") {
		t.Error(out)
	}
	a.Path.SetRefusals(map[string]datapath.Refused{"htip-bob": {Source: 3, Host: 12}})
	a.Names.SetStats(dns.Stats{Refused: 2})
	a.eventually("tells", func() bool {
		out := a.must("status")
		return strings.Contains(out, "dropped        packets: 3 with a forged source, 12 to hosts and ports") && strings.Contains(out, "2 answers of other homes were refused")
	})
	if out := a.must("status", "--json"); !strings.Contains(out, `"refused":{"source":3,"destination":0,"host":12,"router":0}`) {
		t.Error(out)
	}
}
