// Dptool drives package datapath on a router of the lab, in the place of the
// daemon. It reads a wanted state as JSON from standard input, does one thing
// and writes what happened as JSON:
//
//	dptool apply          make it so and, with -wait, wait for the links
//	dptool cleanup        remove everything
//	dptool capabilities   what is possible here
//	dptool refusals       what the guard has dropped
//
// Each run is a new process that knows nothing of the one before: what a
// restarted daemon is.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"htip/src/slog"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"htip/src/datapath"
)

// result is what dptool writes. The tests have a type with the same fields.
type result struct {
	Changes, Warnings []string
	Errors            map[string]string // by device
	Permanent         map[string]bool   // those of the errors
	Error             string            // of the whole
	Events            []event
	Status            map[string]datapath.Status
	Capabilities      []datapath.Capability
	Refusals          map[string]datapath.Refused

	ApplySeconds float64 // wall clock of Apply
	UpSeconds    float64 // from the start of Apply until all links were up; 0 if they were not

	// Of further calls of Apply in the same process, each.
	AgainSeconds, AgainCPUSeconds []float64 // wall clock; processor time of us and our children
	AgainForks                    []int     // processes and threads that the machine started
	AgainChanges                  []string
}

type event struct {
	datapath.Event
	Seconds float64 // since the start of Apply
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "dptool:", err)
		os.Exit(1)
	}
}

func run() error {
	var o datapath.Options
	wait := flag.Duration("wait", 0, "wait so long for all links to come up or end")
	stay := flag.Bool("stay", false, "watch until killed")
	ended := flag.Bool("until-ended", false, "wait for all links to end, not to come up")
	again := flag.Int("again", 0, "apply the same so often again, and measure")
	verbose := flag.Bool("v", false, "log to standard error")
	flag.StringVar(&o.RunDir, "run", "", "run directory")
	flag.StringVar(&o.Xl2tpd, "xl2tpd", "", "program")
	flag.BoolVar(&o.UserSpace, "userspace", false, "user space will do")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *verbose {
		o.Log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	m := datapath.New(o)
	var res result
	var err error
	switch flag.Arg(0) {
	case "apply":
		var w datapath.Wanted
		in, readErr := io.ReadAll(os.Stdin)
		if readErr != nil {
			return readErr
		}
		if err := json.Unmarshal(in, &w); err != nil {
			return fmt.Errorf("wanted state: %w", err)
		}
		res, err = apply(ctx, m, w, *wait, *stay, *ended, *again)
	case "cleanup":
		err = m.CleanUp(ctx)
	case "capabilities":
		res.Capabilities = m.Capabilities(ctx)
	case "refusals":
		res.Refusals, err = m.Refusals(ctx)
	default:
		flag.Usage()
		return fmt.Errorf("unknown command %q", flag.Arg(0))
	}
	if err != nil {
		res.Error = err.Error()
	}
	out, err := json.Marshal(res)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(append(out, '\n'))
	return err
}

func apply(ctx context.Context, m *datapath.Manager, w datapath.Wanted, wait time.Duration, stay, ended bool, again int) (result, error) {
	var res result
	begin := time.Now()
	report, err := m.Apply(ctx, w)
	res.ApplySeconds = time.Since(begin).Seconds()
	res.Changes, res.Warnings = report.Changes, report.Warnings
	res.Errors, res.Permanent = map[string]string{}, map[string]bool{}
	for d, e := range report.Errors {
		res.Errors[d], res.Permanent[d] = e.Error(), datapath.IsPermanent(e)
	}
	if err == nil && (wait > 0 || stay) {
		res.Events, err = watch(ctx, m, len(w.Tunnels)-len(report.Errors), begin, wait, stay, ended)
		up := 0
		for _, e := range res.Events {
			if e.Up {
				up++
				res.UpSeconds = e.Seconds
			}
		}
		if up < len(w.Tunnels) {
			res.UpSeconds = 0
		}
	}
	for range again {
		forks, cpu, begin := forked(), cpuSeconds(), time.Now()
		report, err := m.Apply(ctx, w)
		if err := errors.Join(err, report.Err()); err != nil {
			return res, err
		}
		res.AgainSeconds = append(res.AgainSeconds, time.Since(begin).Seconds())
		res.AgainCPUSeconds = append(res.AgainCPUSeconds, cpuSeconds()-cpu)
		res.AgainForks = append(res.AgainForks, forked()-forks)
		res.AgainChanges = append(res.AgainChanges, report.Changes...)
	}
	res.Status = map[string]datapath.Status{}
	for _, t := range w.Tunnels {
		if s, err := m.Status(t.Device); err == nil {
			res.Status[t.Device] = s
		}
	}
	return res, err
}

// watch collects events until each of n links has come up (unless only its end
// counts) or ended, or longer.
func watch(ctx context.Context, m *datapath.Manager, n int, begin time.Time, wait time.Duration, stay, ended bool) ([]event, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !stay {
		ctx, cancel = context.WithTimeout(ctx, wait)
		defer cancel()
	}
	var events []event
	settled := map[string]bool{}
	err := m.Watch(ctx, func(e datapath.Event) {
		events = append(events, event{e, time.Since(begin).Seconds()})
		if settled[e.Device] = e.Up && !ended || e.Ended; !stay && len(settled) >= n {
			all := true
			for _, s := range settled {
				all = all && s
			}
			if all {
				cancel()
			}
		}
	})
	if ctx.Err() != nil {
		err = nil
	}
	return events, err
}

// cpuSeconds are user and system time of this process and its ended children.
func cpuSeconds() float64 {
	var sum float64
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
		}
	}
	return sum
}

// forked is the kernel's count of processes and threads since boot.
func forked() int {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0
	}
	n := 0
	for line := range strings.Lines(string(b)) {
		if _, err := fmt.Sscanf(line, "processes %d", &n); err == nil {
			return n
		}
	}
	return 0
}
