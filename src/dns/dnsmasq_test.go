package dns

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func content(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "htip.conf"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return string(b)
}

func leftover(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// The life of the file with a clock of the test's own.
func TestDnsmasqRun(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var restarts atomic.Int32
		d := &Dnsmasq{Dir: dir, Restart: func(context.Context) error { restarts.Add(1); return nil }}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		expect := func(s string, n int32) {
			t.Helper()
			synctest.Wait()
			if got := content(t, dir); got != s || restarts.Load() != n {
				t.Fatalf("file %q after %d restarts, want %q after %d", got, restarts.Load(), s, n)
			}
		}
		expect("", 0)
		d.Set([]byte("1\n"))
		time.Sleep(900 * time.Millisecond)
		expect("", 0)
		d.Set([]byte("2\n"))
		time.Sleep(900 * time.Millisecond)
		expect("", 0) // the content has to rest
		time.Sleep(200 * time.Millisecond)
		expect("2\n", 1)
		d.Set([]byte("2\n"))
		time.Sleep(time.Minute)
		expect("2\n", 1)
		d.Set([]byte("3\n"))
		time.Sleep(1100 * time.Millisecond)
		expect("3\n", 2)
		d.Set([]byte("4\n"))
		time.Sleep(4 * time.Second)
		expect("3\n", 2) // dnsmasq is left alone after a restart
		time.Sleep(3 * time.Second)
		expect("4\n", 3)
		time.Sleep(time.Minute)
		if err := os.Remove(filepath.Join(dir, "htip.conf")); err != nil { // as a restart of dnsmasq by its own script may
			t.Fatal(err)
		}
		d.Set([]byte("4\n"))
		time.Sleep(2 * time.Second)
		expect("4\n", 4)
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		expect("", 5)
	})
	if names := leftover(t, dir); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
}

func TestDnsmasqRestartFails(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		var works atomic.Bool
		var restarts atomic.Int32
		d := &Dnsmasq{Dir: dir, Restart: func(context.Context) error {
			restarts.Add(1)
			if !works.Load() {
				return errors.New("no procd here")
			}
			return nil
		}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- d.Run(ctx) }()
		d.Set([]byte("1\n"))
		time.Sleep(2 * time.Second)
		if restarts.Load() != 1 {
			t.Fatalf("%d restarts", restarts.Load())
		}
		works.Store(true)
		time.Sleep(10 * time.Second)
		if restarts.Load() != 2 {
			t.Fatalf("%d restarts; the file did not change, but dnsmasq has not read it", restarts.Load())
		}
		time.Sleep(time.Hour)
		if restarts.Load() != 2 {
			t.Fatalf("%d restarts", restarts.Load())
		}
		works.Store(false)
		cancel()
		if err := <-ended; err == nil {
			t.Error("the failure at the end is not told")
		}
	})
}

// A process killed between the file and the restart: the next one restarts.
func TestDnsmasqAfterCrash(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	killed := &Dnsmasq{Dir: dir, Restart: func(context.Context) error { return errors.New("killed") }}
	killed.Set([]byte("1\n"))
	if _, err := killed.Apply(ctx); err == nil {
		t.Fatal("restarted")
	}
	restarts := 0
	next := &Dnsmasq{Dir: dir, Restart: func(context.Context) error { restarts++; return nil }}
	next.Set([]byte("1\n"))
	for range 3 {
		if _, err := next.Apply(ctx); err != nil {
			t.Fatal(err)
		}
	}
	if restarts != 1 {
		t.Errorf("%d restarts", restarts)
	}
	// One killed while it ran well: its file is there, dnsmasq knows it.
	third := &Dnsmasq{Dir: dir, Restart: func(context.Context) error { restarts++; return nil }}
	third.Set([]byte("1\n"))
	if changed, err := third.Apply(ctx); changed || err != nil {
		t.Error(changed, err)
	}
	if err := third.Remove(ctx); err != nil || restarts != 2 {
		t.Error(err, restarts)
	}
	if err := third.Remove(ctx); err != nil || restarts != 2 {
		t.Errorf("removing what is absent: %v, %d restarts", err, restarts)
	}
	if names := leftover(t, dir); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
}

func TestDnsmasqCheck(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	d := &Dnsmasq{
		Dir:     dir,
		Restart: func(context.Context) error { t.Error("restarted"); return nil },
		Check: func(_ context.Context, file string) error {
			if b, err := os.ReadFile(file); err != nil || string(b) != "nonsense\n" {
				t.Errorf("%q, %v", b, err)
			}
			return errors.New("bad option at line 1")
		},
	}
	d.Set([]byte("nonsense\n"))
	if _, err := d.Apply(ctx); err == nil {
		t.Error("accepted")
	}
	if names := leftover(t, dir); len(names) != 0 {
		t.Errorf("left: %v", names)
	}
	gone := &Dnsmasq{Dir: filepath.Join(dir, "gone"), Restart: func(context.Context) error { return nil }}
	gone.Set([]byte("1\n"))
	if _, err := gone.Apply(ctx); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}
