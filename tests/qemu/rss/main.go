// Command rss measures how much memory the daemon takes on routers of one or
// more architectures, with no tunnel, with ever more of them, and with more
// homes configured, and holds it against the budgets of the design, which are
// those of MIPS.
package main

import (
	"context"
	"encoding/base64"
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

	// For each further home in the configuration, measured with that many.
	budgetPeer   = 25
	furtherPeers = 100
)

// rest is how long a router is left alone before it is measured: what setting
// up has left behind is given back by then.
const rest = 70 * time.Second

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
	l, err := lab.New(ctx, lab.Options{Arch: arch, Alone: true, Logf: func(f string, a ...any) { fmt.Fprintf(os.Stderr, f+"\n", a...) }})
	if err != nil {
		return err
	}
	defer func() {
		if e := l.Close(); err == nil {
			err = e
		}
	}()
	specs := []homes.Spec{{Name: "hub", LAN: lanOf(0), L2TP: true}}
	for i := range n {
		specs = append(specs, homes.Spec{Name: fmt.Sprint("home", i+1), LAN: lanOf(i + 1), L2TP: true})
	}
	hs, err := homes.Start(ctx, l, specs...)
	if err != nil {
		return err
	}
	var samples []sample
	for i := 0; ; i++ {
		if n == budgetTunnels && (i <= 1 || i == n) {
			time.Sleep(rest)
		} else {
			time.Sleep(15 * time.Second)
		}
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
	last := samples[len(samples)-1]
	if n == 1 { // neither may be above: with and without a tunnel
		last.resident, last.anon = max(last.resident, samples[0].resident), max(last.anon, samples[0].anon)
	}
	above := last.resident > budgetResident || last.anon > budgetAnon
	if n == budgetTunnels {
		// The first tunnel costs more than the others: what is set up once.
		fmt.Printf("%-12s each tunnel after the first: %d kB anonymous\n", arch.Name, (last.anon-samples[1].anon)/(n-1))
		further, err := measurePeers(ctx, hs, last)
		if err != nil {
			return err
		}
		fmt.Printf("%-12s each further home configured: %.1f kB anonymous, %.1f kB resident (budget %d)\n", arch.Name, further.anon, further.resident, budgetPeer)
		above = above || further.anon > budgetPeer // mapped pages of the program come and go
	}
	if above {
		return fmt.Errorf("above the budget")
	}
	return nil
}

// measurePeers gives the first home many more peers and tells what each costs,
// in kB.
func measurePeers(ctx context.Context, hs []*homes.Home, before sample) (each struct{ resident, anon float64 }, err error) {
	var b strings.Builder
	b.WriteString(hs[0].Config(hs...))
	for i := range furtherPeers {
		var key [32]byte
		key[0], key[1] = 1, byte(i)
		fmt.Fprintf(&b, "config peer 'friend%d'\n\toption domain 'friend%d.example.net'\n\toption key '%s'\n\n", i, i, base64.StdEncoding.EncodeToString(key[:]))
	}
	if err := hs[0].Configure(ctx, b.String()); err != nil {
		return each, err
	}
	time.Sleep(rest)
	after, err := measure(ctx, hs[0].Router)
	each.resident = float64(after.resident-before.resident) / furtherPeers
	each.anon = float64(after.anon-before.anon) / furtherPeers
	return each, err
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
