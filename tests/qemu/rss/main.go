// Command rss measures how much memory the daemon takes on routers of one or
// more architectures, with no tunnel and then with ever more, and holds it
// against the budgets of the design, which are those of MIPS.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

// Budgets of the design, kB, with budgetTunnels tunnels.
const (
	budgetTunnels  = 8
	budgetResident = 10 << 10
	budgetAnon     = 4 << 10
)

func main() {
	archs := flag.String("arch", lab.Mipsel.Name, "architectures, with commas between: mipsel, armv5, armv7, arm64, amd64")
	tunnels := flag.Int("tunnels", -1, fmt.Sprintf("how many other homes to boot (default %d on MIPS, 1 elsewhere)", budgetTunnels))
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := measureAll(ctx, strings.Split(*archs, ","), *tunnels); err != nil {
		fmt.Fprintln(os.Stderr, "rss:", err)
		os.Exit(1)
	}
}

// measureAll prints one table; what fails on one architecture leaves the others to be measured.
func measureAll(ctx context.Context, names []string, tunnels int) error {
	fmt.Println("memory of htipd on an emulated router (kB)")
	fmt.Printf("%-12s %8s %10s %10s\n", "architecture", "tunnels", "resident", "anonymous")
	var errs []error
	for _, name := range names {
		arch, err := lab.ArchByName(name)
		n := tunnels
		if n < 0 {
			n = 1
			if name == lab.Mipsel.Name {
				n = budgetTunnels
			}
		}
		if err == nil {
			err = run(ctx, arch, n)
		}
		if err != nil {
			fmt.Printf("%-12s failed: %v\n", name, err)
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	fmt.Printf("%-12s %8s %10d %10d\n", "budget", "", budgetResident, budgetAnon)
	return errors.Join(errs...)
}

type sample struct{ resident, anon int }

func run(ctx context.Context, arch lab.Arch, n int) (err error) {
	l, err := lab.New(ctx, lab.Options{Arch: arch, Logf: func(f string, a ...any) { fmt.Fprintf(os.Stderr, f+"\n", a...) }})
	if err != nil {
		return err
	}
	defer func() {
		if e := l.Close(); err == nil {
			err = e
		}
	}()
	specs := []homes.Spec{{Name: "hub", LAN: lanOf(0)}}
	for i := range n {
		specs = append(specs, homes.Spec{Name: fmt.Sprint("home", i+1), LAN: lanOf(i + 1)})
	}
	hs, err := homes.Start(ctx, l, specs...)
	if err != nil {
		return err
	}
	var samples []sample
	for i := 0; ; i++ {
		if i == n {
			time.Sleep(time.Minute) // the steady state: what setting up has left is given back by then
		}
		time.Sleep(10 * time.Second)
		s, err := measure(ctx, hs[0].Router)
		if err != nil {
			return err
		}
		fmt.Printf("%-12s %8d %10d %10d\n", arch.Name, i, s.resident, s.anon)
		samples = append(samples, s)
		if i == n {
			break
		}
		if _, err := hs[0].Connect(ctx, hs[i+1].Name); err != nil {
			return err
		}
	}
	// The first tunnel costs more than the others: what is set up once.
	last := samples[len(samples)-1]
	if rest := budgetTunnels - n; rest > 0 && n > 1 {
		last.resident += max(0, last.resident-samples[1].resident) / (n - 1) * rest
		last.anon += max(0, last.anon-samples[1].anon) / (n - 1) * rest
		fmt.Printf("%-12s %8d %10d %10d  (by the slope)\n", arch.Name, budgetTunnels, last.resident, last.anon)
	}
	if n == 1 { // neither may be above: with and without a tunnel
		last.resident, last.anon = max(last.resident, samples[0].resident), max(last.anon, samples[0].anon)
	}
	if last.resident > budgetResident || last.anon > budgetAnon {
		return fmt.Errorf("above the budget")
	}
	return nil
}

func lanOf(i int) lab.LAN {
	return lab.LAN{Router: netip.MustParsePrefix("192.168.1.1/24"), Host: netip.AddrFrom4([4]byte{192, 168, 1, byte(10 + i)})}
}

func measure(ctx context.Context, r *lab.Router) (s sample, err error) {
	out, err := r.Check(ctx, "cat /proc/$(pidof htipd)/smaps_rollup") // kB of 1,024 bytes
	if err != nil {
		return s, err
	}
	for _, line := range strings.Split(out, "\n") {
		fmt.Sscanf(line, "Rss: %d kB", &s.resident)
		fmt.Sscanf(line, "Anonymous: %d kB", &s.anon)
	}
	if s.resident == 0 {
		return s, fmt.Errorf("no Rss in %q", out)
	}
	return s, nil
}
