//go:build qemu

package qemu_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"htip/tests/qemu/homes"
)

// TestThreeHomes is ¶167 with everybody's own network: three homes, all
// 192.168.1.0/24, all three tunnels at once. Then one of them goes and comes
// back while the others carry pings.
func TestThreeHomes(t *testing.T) {
	ctx, l := newLab(t)
	var specs []homes.Spec
	for i, name := range []string{"alice", "bob", "carol"} {
		specs = append(specs, homes.Spec{Name: name, LAN: lan("192.168.1.1/24", fmt.Sprint("192.168.1.", 4+i), "pc")})
	}
	hs, err := homes.Start(ctx, l, specs...)
	if err != nil {
		t.Fatal(err)
	}
	showLogs(t, hs...)
	a, b, c := hs[0], hs[1], hs[2]
	for _, x := range [][2]*homes.Home{{a, b}, {b, c}, {c, a}} {
		out, err := x[0].Connect(ctx, x[1].Name)
		if err != nil {
			t.Fatal(err)
		}
		t.Log(out)
	}

	// seen[x][y] is x's host as y's host knows it.
	seen := map[string]map[string]netip.Addr{}
	for _, y := range hs {
		for _, x := range hs {
			if x == y {
				continue
			}
			addrs, err := y.Host.Lookup(ctx, "pc."+x.Name+".internal")
			if err != nil || len(addrs) != 1 {
				t.Fatalf("%s looks up %s's pc: %v, %v", y.Name, x.Name, addrs, err)
			}
			if seen[x.Name] == nil {
				seen[x.Name] = map[string]netip.Addr{}
			}
			seen[x.Name][y.Name] = addrs[0]
			if err := y.Host.Ping(ctx, addrs[0], 56, 3); err != nil {
				t.Errorf("%s to %s: %v", y.Name, x.Name, err)
			}
		}
	}
	tunnels := map[string]homes.Tunnel{}
	for _, x := range hs {
		var all []netip.Prefix // all that this home has to tell apart
		for _, y := range hs {
			if x == y {
				continue
			}
			tn, err := x.WaitState(ctx, y.Name, "up")
			if err != nil {
				t.Fatal(err)
			}
			tunnels[x.Name+y.Name] = tn
			for _, p := range all {
				if p.Overlaps(tn.Theirs[0].Substitute) {
					t.Errorf("%s knows two homes by %v and %v", x.Name, p, tn.Theirs[0].Substitute)
				}
			}
			all = append(all, tn.Theirs[0].Substitute)
		}
	}
	for x, by := range seen { // law 5: nothing here forces a home to have two faces
		var one netip.Addr
		for y, addr := range by {
			if one.IsValid() && one != addr {
				t.Errorf("%s's pc is %v for one home and %v for %s", x, one, addr, y)
			}
			one = addr
		}
	}

	// alice's tunnel to bob goes and comes back; carol's two carry on.
	type flow struct {
		from *homes.Home
		to   string
	}
	flows := []flow{{c, "alice"}, {c, "bob"}, {a, "carol"}, {b, "carol"}}
	lost, back := make(chan string, len(flows)), make(chan bool)
	for _, f := range flows {
		go func() {
			sent, missing, err := f.from.Host.PingWhile(ctx, seen[f.to][f.from.Name], func() { <-back })
			text := ""
			if err != nil || missing > 0 {
				text = fmt.Sprintf("%s to %s while another tunnel went and came back: %d of %d pings lost, %v", f.from.Name, f.to, missing, sent, err)
			}
			lost <- text
		}()
	}
	end := sync.OnceFunc(func() { close(back) })
	defer end()
	time.Sleep(time.Second)
	a.Router.MustRun(ctx, "htip disconnect bob")
	if _, err := b.WaitState(ctx, "alice", "idle"); err != nil {
		t.Fatal(err)
	}
	if err := a.Host.Ping(ctx, seen["bob"]["alice"], 56, 1); err == nil {
		t.Error("bob's host answers while the tunnel is down")
	}
	if _, err := a.Connect(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	if err := a.Host.Ping(ctx, seen["bob"]["alice"], 56, 3); err != nil {
		t.Errorf("bob's host has another address than before: %v", err)
	}
	end()
	for range flows {
		if text := <-lost; text != "" {
			t.Error(text)
		}
	}
	for _, pair := range [][2]*homes.Home{{b, c}, {c, a}} {
		tn, err := pair[0].Tunnel(ctx, pair[1].Name)
		if was := tunnels[pair[0].Name+pair[1].Name]; err != nil || tn.TunnelID != was.TunnelID || tn.Since != was.Since {
			t.Errorf("%s's tunnel to %s was %+v and is %+v (%v)", pair[0].Name, pair[1].Name, was, tn, err)
		}
	}
}
