package sim

import (
	"bytes"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
)

// Failure is a seed that violates a law.
type Failure struct {
	Options   Options // the smallest found that still does
	Violation *Violation
}

// Run lives through worlds of n seeds from first on, with some workers, and
// calls failed for those that violate a law. It ends early when failed says
// so.
func Run(o Options, first uint64, n, workers int, failed func(Failure) (goOn bool)) *Stats {
	var all Stats
	var mu sync.Mutex
	var next atomic.Uint64
	var stop atomic.Bool
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for !stop.Load() {
				i := next.Add(1) - 1
				if i >= uint64(n) {
					return
				}
				o := o
				o.Seed = first + i
				w := New(o)
				v := w.Run()
				mu.Lock()
				all.Add(&w.Stats)
				if v != nil && !stop.Load() && !failed(Failure{o, v}) {
					stop.Store(true)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return &all
}

// Minimise leaves out kinds of faults and gateways as long as the same law is
// violated.
func (f Failure) Minimise() Failure {
	try := func(o Options) bool {
		if v := New(o).Run(); v != nil && v.Law == f.Violation.Law {
			f = Failure{o, v}
			return true
		}
		return false
	}
	for again := true; again; {
		again = false
		for _, n := range []int{2, 3, 4, 6, 10} {
			o := f.Options
			if o.Gateways = n; n < o.scenario().gateways || f.Options.Gateways == 0 && n < f.Options.scenario().gateways {
				if try(o) {
					again = true
					break
				}
			}
		}
		for i := range faultNames {
			o := f.Options
			if o.Without |= 1 << i; f.Options.scenario().faults&(1<<i) != 0 && try(o) {
				again = true
			}
		}
	}
	return f
}

// Command is how to see the run again.
func (f Failure) Command() string {
	s := fmt.Sprintf("go run ./tests/sim/cmd/sim -seed %d", f.Options.Seed)
	if f.Options.Gateways != 0 {
		s += fmt.Sprintf(" -gateways %d", f.Options.Gateways)
	}
	if f.Options.Without != 0 {
		s += " -without " + f.Options.Without.String()
	}
	return s + " -trace"
}

// Trace writes what happened between the gateways concerned; all: between all
// of them.
func (f Failure) Trace(to io.Writer, all bool) {
	o := f.Options
	o.Trace = to
	if !all && f.Violation != nil {
		o.Only = f.Violation.Who
	}
	New(o).Run()
}

// Tail is the end of the trace.
func (f Failure) Tail(lines int) string {
	var b bytes.Buffer
	f.Trace(&b, false)
	all := bytes.SplitAfter(b.Bytes(), []byte("\n"))
	return string(bytes.Join(all[max(0, len(all)-lines):], nil))
}
