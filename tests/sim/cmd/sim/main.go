// Command sim lives through many simulated worlds of gateways and prints a
// summary, or shows what happened in one of them. See package sim.
package main

import (
	"bufio"
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
	debug.SetGCPercent(400) // the worlds are small, what they drop is not
	first := flag.Uint64("seed", 1, "the first seed")
	seeds := flag.Int("seeds", 1, "how many seeds")
	workers := flag.Int("workers", 1, "worlds at one time")
	gateways := flag.Int("gateways", 0, "gateways in each world; 0: as the seed says")
	without := flag.String("without", "", "kinds of faults left out, with commas between")
	faulty := flag.Duration("faulty", 0, "how long things go wrong; 0: as the seed says")
	trace := flag.Bool("trace", false, "print what happened in the world of the first seed, between the gateways that a violation is about")
	all := flag.Bool("all", false, "with -trace: between all gateways")
	most := flag.Int("most", 5, "give up after so many failing seeds")
	quick := flag.Bool("quick", false, "don't look for smaller worlds that fail, print no traces")
	scale := flag.Bool("scale", false, "10,000 homes with 8 friends each, and 1,000 tunnels of one gateway")
	flag.Parse()
	if *scale {
		return sim.Scale(os.Stdout, 10000, 8, 1000)
	}
	o := sim.Options{Seed: *first, Gateways: *gateways, Faulty: *faulty}
	var err error
	if o.Without, err = sim.ParseFaults(*without); err != nil {
		return err
	}
	if *trace {
		f := sim.Failure{Options: o, Violation: sim.New(o).Run()}
		out := bufio.NewWriter(os.Stdout)
		f.Trace(out, *all)
		out.Flush()
		if f.Violation != nil {
			return f.Violation
		}
		return nil
	}
	start := time.Now()
	failed := 0
	stats := sim.Run(o, *first, *seeds, *workers, func(f sim.Failure) bool {
		failed++
		fmt.Printf("seed %d: %v %v\n", f.Options.Seed, f.Violation, f.Violation.Who)
		if !*quick {
			f = f.Minimise()
			fmt.Printf("%s    smaller: %v %v\n    %s\n", f.Tail(40), f.Violation, f.Violation.Who, f.Command())
		}
		return failed < *most
	})
	took := time.Since(start)
	fmt.Print(stats)
	fmt.Printf("took                 %v, %.0f set-ups a second\n", took.Round(time.Millisecond), float64(stats.Setups)/took.Seconds())
	if failed > 0 {
		return fmt.Errorf("%d seeds violate a law", failed)
	}
	return nil
}
