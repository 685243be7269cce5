package sim

import (
	"hash/fnv"
	"strings"
	"testing"
)

// TestWorlds lives through some hundred worlds; make sim does so with as many
// as one has time for.
func TestWorlds(t *testing.T) {
	n := 400
	if testing.Short() {
		n = 60
	}
	stats := Run(Options{}, 1, n, 1, func(f Failure) bool {
		f = f.Minimise()
		t.Errorf("%v %v\n%s%s", f.Violation, f.Violation.Who, f.Tail(30), f.Command())
		return false
	})
	t.Logf("\n%v", stats)
	if !t.Failed() && stats.Setups < 50*n {
		t.Errorf("only %d set-ups: the worlds do too little", stats.Setups)
	}
	if !t.Failed() && (stats.First == 0 || stats.Again == 0 || stats.Fair == 0 || stats.Adopted == 0 || stats.Naks == 0 || stats.Lost == 0) {
		t.Errorf("something never happens: %+v", *stats)
	}
}

// TestSameSeedSameTrace: what can't be seen again can't be mended.
func TestSameSeedSameTrace(t *testing.T) {
	trace := func(seed uint64) (uint64, int) {
		h := fnv.New64a()
		c := &counter{}
		w := New(Options{Seed: seed, Trace: both{h, c}})
		w.Run()
		return h.Sum64(), c.n
	}
	for seed := uint64(1); seed <= 12; seed++ {
		a, n := trace(seed)
		b, m := trace(seed)
		if a != b || n != m || n == 0 {
			t.Errorf("seed %d: traces of %d and %d octets differ", seed, n, m)
		}
	}
}

type counter struct{ n int }

func (c *counter) Write(b []byte) (int, error) { c.n += len(b); return len(b), nil }

type both [2]interface{ Write([]byte) (int, error) }

func (w both) Write(b []byte) (int, error) {
	w[0].Write(b)
	return w[1].Write(b)
}

func TestScale(t *testing.T) {
	var b strings.Builder
	if err := Scale(&b, 300, 8, 50); err != nil {
		t.Fatal(err)
	}
	if s := b.String(); !strings.Contains(s, "1200 tunnels, no clash") || !strings.Contains(s, "messages a set-up 4.0000, at most 4") || !strings.Contains(s, "300 homes are the same to all their friends") {
		t.Error(s)
	}
}

func TestFaultNames(t *testing.T) {
	for _, s := range []string{"cut", "cuts,", "junk,nothing"} {
		if f, err := ParseFaults(s); err == nil && f.String() != strings.TrimSuffix(s, ",") {
			t.Errorf("%q is %v", s, f)
		}
	}
	if f, err := ParseFaults(AllFaults.String()); err != nil || f != AllFaults {
		t.Errorf("%v, %v", f, err)
	}
}
