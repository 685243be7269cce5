package dns

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestCacheEnds(t *testing.T) {
	c, now := newCache(), time.Unix(1000, 0)
	k := key{"bob", 1, "nas.htip."}
	if _, ok := c.get(k, now); ok {
		t.Fatal("found in an empty cache")
	}
	c.put(k, answer{ttl: 0}, now)
	if _, ok := c.get(k, now); ok {
		t.Fatal("kept without a TTL")
	}
	c.put(k, answer{ttl: 10 * time.Second}, now)
	if a, ok := c.get(k, now.Add(4*time.Second)); !ok || a.ttl != 6*time.Second {
		t.Fatal(a, ok)
	}
	if _, ok := c.get(k, now.Add(10*time.Second)); ok {
		t.Fatal("found after its end")
	}
	if _, ok := c.get(key{"bob", 2, "nas.htip."}, now); ok {
		t.Fatal("found in another generation")
	}
	c.keep(func(k key) bool { return false })
	if _, ok := c.get(k, now); ok {
		t.Fatal("found after being forgotten")
	}
}

func TestCacheBounded(t *testing.T) {
	c, now := newCache(), time.Unix(1000, 0)
	for i := range 10 * cacheSize {
		k := key{"bob", 1, fmt.Sprint(i)}
		c.put(k, answer{ttl: time.Minute}, now)
		if _, ok := c.get(k, now); !ok {
			t.Fatalf("%d is not there", i)
		}
		if len(c.entries) > cacheSize {
			t.Fatalf("%d entries", len(c.entries))
		}
	}
	later := now.Add(time.Hour)
	c.put(key{"bob", 1, "x"}, answer{ttl: time.Minute}, later)
	if len(c.entries) != 1 {
		t.Errorf("%d entries after all have ended", len(c.entries))
	}
}

func goSpawn(f func()) bool { go f(); return true }

func TestFlightsOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fs flights[string, int]
		var runs atomic.Int32
		release := make(chan struct{})
		for range 50 {
			go func() {
				v, err := fs.do(context.Background(), "k", goSpawn, func() int {
					runs.Add(1)
					<-release
					return 7
				})
				if v != 7 || err != nil {
					t.Error(v, err)
				}
			}()
		}
		synctest.Wait() // all fifty
		// Who does not want to wait goes away alone.
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if _, err := fs.do(ctx, "k", goSpawn, func() int { t.Error("ran again"); return 0 }); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		close(release)
		synctest.Wait()
		if n := runs.Load(); n != 1 {
			t.Errorf("ran %d times", n)
		}
		if len(fs.open) != 0 {
			t.Error("something is left")
		}
		if _, err := fs.do(context.Background(), "k", func(func()) bool { return false }, func() int { return 0 }); !errors.Is(err, ErrClosed) || len(fs.open) != 0 {
			t.Error(err)
		}
	})
}
