//go:build qemu

package qemu_test

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"htip/tests/qemu/lab"
)

// twoHomes boots homes a and b that use the same network: routers 10.0.0.1, hosts 10.0.0.4 and
// 10.0.0.5, called "pc" and "nas".
func twoHomes(t *testing.T, files map[string]lab.File) (context.Context, *lab.Lab, *lab.Router, *lab.Router) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	l, err := lab.New(ctx, lab.Options{Logf: t.Logf})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	home := func(name, host, hostName string) *lab.Router {
		addr := netip.MustParseAddr(host)
		r, err := l.AddRouter(ctx, lab.RouterConfig{
			Name:  name,
			LAN:   []lab.LAN{{Router: netip.MustParsePrefix("10.0.0.1/24"), Host: addr, Names: map[string]netip.Addr{hostName: addr}}},
			Files: files,
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	a := home("a", "10.0.0.4", "pc")
	b := home("b", "10.0.0.5", "nas")
	begin := time.Now()
	if err := l.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Logf("both routers booted in %.1f s", time.Since(begin).Seconds())
	return ctx, l, a, b
}

func TestLab(t *testing.T) {
	ctx, l, a, b := twoHomes(t, nil)
	hostA, hostB := l.Host(a, 0), l.Host(b, 0)

	t.Run("commands", func(t *testing.T) {
		res, err := a.Run(ctx, "echo out; echo err >&2; exit 3")
		if err != nil || res.Code != 3 || res.Output != "out\nerr\n" {
			t.Errorf("got %+v, %v", res, err)
		}
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if res, err := a.Run(short, "echo begun; sleep 60"); err == nil || res.Output != "begun\n" {
			t.Errorf("timeout: got %+v, %v", res, err)
		}
		if out := a.MustRun(ctx, "ps | grep -c '[s]leep 60' || true"); strings.TrimSpace(out) != "0" {
			t.Errorf("the command goes on after its time is out: %s", out)
		}
		t.Log(a.MustRun(ctx, "cat /proc/uptime; date; free; uname -a; lsmod | wc -l; ps; cat /proc/interrupts"))
	})

	t.Run("internet", func(t *testing.T) {
		for _, h := range []*lab.Host{hostA, hostB} {
			if err := h.Ping(ctx, lab.InternetHost, 56, 2); err != nil {
				t.Error(err)
			}
			l.Internet().SetA("www.example.org", lab.InternetHost)
			resp, err := h.HTTP().Get("http://www.example.org/")
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK || string(body) != lab.InternetText {
				t.Errorf("got %d %q, %v", resp.StatusCode, body, err)
			}
		}
	})
}
