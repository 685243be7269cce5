// Command sim runs worlds of the simulator. See package sim.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"htip/tests/sim"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	debug.SetGCPercent(400)
	seed := flag.Uint64("seed", 0, "the first seed")
	seeds := flag.Int("seeds", 1, "how many seeds")
	gateways := flag.Int("gateways", 0, "gateways in each world; 0: as the seed says")
	without := flag.String("without", "", "faults left out, with commas between")
	faulty := flag.Duration("faulty", 0, "how long things go wrong; 0: as the seed says")
	trace := flag.Bool("trace", false, "print every event")
	flag.Parse()
	o := sim.Options{Gateways: *gateways, Faulty: *faulty}
	var err error
	if o.Without, err = sim.ParseFaults(*without); err != nil {
		return err
	}
	if *trace {
		o.Trace = os.Stdout
	}
	start := time.Now()
	var all sim.Stats
	failed := 0
	for i := range *seeds {
		o.Seed = *seed + uint64(i)
		w := sim.New(o)
		v := w.Run()
		all.Add(&w.Stats)
		if v != nil {
			failed++
			fmt.Printf("seed %d: %v %v\n", o.Seed, v, v.Who)
			if failed >= 20 {
				break
			}
		}
	}
	took := time.Since(start)
	fmt.Print(all.String())
	fmt.Printf("took                 %v, %.0f set-ups a second\n", took.Round(time.Millisecond), float64(all.Setups)/took.Seconds())
	if failed > 0 {
		return fmt.Errorf("%d seeds failed", failed)
	}
	return nil
}
