package daemon

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"htip/src/config"
)

// TestReloadAsksNetifd: a reload may come because netifd has given names anew,
// which the kernel does not tell. The loop does not wait for the answer.
func TestReloadAsksNetifd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		renamed := atomic.Bool{}
		d := lonely(t, t.TempDir(), config.Key{1})
		d.opt.Config = filepath.Join(t.TempDir(), "htip")
		const options = "list interface lan\nlist interface guests"
		if err := os.WriteFile(d.opt.Config, []byte("config htip main\noption enabled 1\n"+options+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		two := interfaces(t, "two-lines")
		_, run := following(t, d, options, func(context.Context) ([]iface, error) {
			time.Sleep(time.Second)
			ifs := slices.Clone(two)
			if renamed.Load() {
				findIface(ifs, "guest").name = "guests"
			}
			return ifs, nil
		})
		run(time.Minute)
		if len(d.home.Networks) != 1 {
			t.Fatal(d.home.Networks)
		}
		renamed.Store(true)
		for range 3 { // nobody reads meanwhile
			if began := time.Now(); d.reload() || time.Since(began) > 0 {
				t.Fatal("the loop had to wait, or a restart is wanted")
			}
		}
		run(homeSettles + 1500*time.Millisecond)
		if len(d.home.Networks) != 2 {
			t.Error("not asked, or not taken over:", d.home.Networks)
		}
	})
}

// TestReloadPlans: what addresses are planned from counts before the loop takes the next
// request, unless netifd has to be asked first.
func TestReloadPlans(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := lonely(t, t.TempDir(), config.Key{1})
		d.opt.Config = filepath.Join(t.TempDir(), "htip")
		renamed := false
		_, run := following(t, d, "", func(context.Context) ([]iface, error) {
			ifs := interfaces(t, "two-lines")
			if renamed {
				findIface(ifs, "guest").name = "guests"
			}
			return ifs, nil
		})
		run(time.Minute)
		for _, c := range []struct {
			options string
			later   bool
			both    bool // networks are shared
		}{
			{options: "list pool 172.20.0.0/16"},
			{options: "list pool 172.20.0.0/16\noption candidates sequential"},
			{options: "list pool 172.20.0.0/16"},
			{options: "list pool 172.20.0.0/16\nlist network 192.168.3.0/24"},
			{options: "list pool 172.20.0.0/16\nlist lan_device br-guest\nlist lan_device br-lan"},
			{options: "list pool 172.20.0.0/16\nlist lan_device br-lan"},
			{options: "list interface lan\nlist interface guest", later: true, both: true},
			{options: "list pool 172.20.0.0/16\nlist interface lan\nlist interface guests", later: true, both: true},
			{options: "list interface lan\nlist interface guests", both: true},
		} {
			if err := os.WriteFile(d.opt.Config, []byte("config htip main\noption enabled 1\n"+c.options+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			renamed = strings.Contains(c.options, "guests")
			before := d.home
			if d.reload() {
				t.Fatal("a restart is wanted")
			}
			now := d.home
			run(time.Minute)
			if sameHome(before, d.home) {
				t.Errorf("%q changes nothing", c.options)
			}
			if at := !sameHome(before, now); at == c.later || at && !sameHome(now, d.home) {
				t.Errorf("%q: %+v after the reload, %+v a while later", c.options, now, d.home)
			}
			if c.both && len(d.home.Networks) != 2 {
				t.Errorf("%q: %v", c.options, d.home.Networks)
			}
		}
	})
}
