package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"htip/src/slog"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// Dnsmasq keeps one drop-in file in a conf-dir of dnsmasq and restarts dnsmasq
// when, and only when, the content changed: SIGHUP does not make it read the
// conf-dir again. A router with several instances of dnsmasq has one Dnsmasq
// each.
type Dnsmasq struct {
	Dir  string // the conf-dir
	Name string // file name there; "htip.conf" when empty
	// Restart restarts dnsmasq.
	Restart func(ctx context.Context) error
	// Check, if given, is asked about the file before it is put in place, as by
	// "dnsmasq --test -C": a line that this dnsmasq does not take would leave
	// the home without DHCP.
	Check func(ctx context.Context, file string) error
	// Delay is how long the content must rest before it is written, Gap how
	// long dnsmasq is left alone after a restart; 1 s and 5 s when 0. A signal
	// right after a restart can kill dnsmasq.
	Delay, Gap time.Duration
	Log        *slog.Logger

	mu     sync.Mutex
	wanted []byte
	set    bool
	wake   chan struct{}
	once   sync.Once
}

func (d *Dnsmasq) init() {
	d.once.Do(func() {
		d.wake = make(chan struct{}, 1)
		if d.Name == "" {
			d.Name = "htip.conf"
		}
		if d.Delay == 0 {
			d.Delay = time.Second
		}
		if d.Gap == 0 {
			d.Gap = 5 * time.Second
		}
		if d.Log == nil {
			d.Log = slog.New(slog.DiscardHandler)
		}
	})
}

// Set makes content what the file should hold. It returns at once; Run does the
// work. Setting the same again makes Run look whether the file is still there.
func (d *Dnsmasq) Set(content []byte) {
	d.init()
	d.mu.Lock()
	d.wanted, d.set = bytes.Clone(content), true
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Run keeps the file as it is wanted until ctx ends; then it removes the file
// and restarts dnsmasq once more, for which it takes up to 10 s. What fails is
// logged and tried again; only the removal's error is returned.
func (d *Dnsmasq) Run(ctx context.Context) error {
	d.init()
	wait := d.Gap
	for {
		select {
		case <-ctx.Done():
			return d.remove(context.WithoutCancel(ctx))
		case <-d.wake:
		}
		d.rest(ctx)
		if ctx.Err() != nil {
			continue
		}
		changed, err := d.Apply(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			d.Log.Error("names: dnsmasq not told", "dir", d.Dir, "err", err, "again", wait)
			sleep(ctx, wait)
			wait = min(2*wait, time.Minute)
			d.again()
		case changed:
			d.Log.Info("names: dnsmasq restarted", "dir", d.Dir)
			wait = d.Gap
			sleep(ctx, d.Gap)
		}
	}
}

// String names the task.
func (d *Dnsmasq) String() string { return "dnsmasq drop-in in " + d.Dir }

// rest waits until nothing new was wanted for Delay, but not for ever.
func (d *Dnsmasq) rest(ctx context.Context) {
	for range 5 {
		t := time.NewTimer(d.Delay)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-d.wake:
			t.Stop()
		case <-t.C:
			return
		}
	}
}

func (d *Dnsmasq) again() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Apply brings the file to what is wanted and restarts dnsmasq if that changed
// anything. A mark beside the file, which dnsmasq skips because its name begins
// with a dot, tells after a crash that the restart is still to be done. changed
// tells whether dnsmasq was restarted.
func (d *Dnsmasq) Apply(ctx context.Context) (changed bool, err error) {
	d.init()
	d.mu.Lock()
	wanted, set := d.wanted, d.set
	d.mu.Unlock()
	if !set {
		return false, nil
	}
	have, err := os.ReadFile(d.path())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("dnsmasq drop-in: %w", err)
	}
	same := err == nil && bytes.Equal(have, wanted)
	if same && !exists(d.mark()) {
		return false, nil
	}
	if !same {
		if err := d.write(ctx, wanted); err != nil {
			return false, fmt.Errorf("dnsmasq drop-in: %w", err)
		}
	}
	return true, d.restart(ctx)
}

func (d *Dnsmasq) path() string { return filepath.Join(d.Dir, d.Name) }
func (d *Dnsmasq) mark() string { return filepath.Join(d.Dir, "."+d.Name+".pending") }

func exists(name string) bool {
	_, err := os.Lstat(name)
	return err == nil
}

// write puts content in place in one step, so that dnsmasq never reads half of
// it. The mode lets dnsmasq read it, which runs as another user.
func (d *Dnsmasq) write(ctx context.Context, content []byte) (err error) {
	f, err := os.CreateTemp(d.Dir, "."+d.Name+".tmp")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			os.Remove(f.Name())
		}
	}()
	_, err = f.Write(content)
	err = errors.Join(err, f.Chmod(0o644), f.Close())
	if err != nil {
		return err
	}
	if d.Check != nil {
		if err := d.Check(ctx, f.Name()); err != nil {
			return fmt.Errorf("dnsmasq refuses it: %w", err)
		}
	}
	if err := os.WriteFile(d.mark(), nil, 0o644); err != nil {
		return err
	}
	return os.Rename(f.Name(), d.path())
}

// InPlace tells why dnsmasq does not know yet what it should, or no longer.
func (d *Dnsmasq) InPlace() error {
	d.init()
	d.mu.Lock()
	wanted, set := d.wanted, d.set
	d.mu.Unlock()
	have, err := readSome(d.path(), maxHostsFile)
	if err == nil && (!set || !bytes.Equal(have, wanted) || exists(d.mark())) {
		err = fmt.Errorf("%s is not yet, or no longer, as it should be", d.path())
	}
	return err
}

// restart restarts dnsmasq and takes the mark away.
func (d *Dnsmasq) restart(ctx context.Context) error {
	if err := d.Restart(ctx); err != nil {
		return fmt.Errorf("restarting dnsmasq: %w", err)
	}
	if err := os.Remove(d.mark()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// remove takes the file away, with what a crash left beside it, and tells
// dnsmasq if there was anything to forget.
func (d *Dnsmasq) remove(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	left, err := filepath.Glob(filepath.Join(d.Dir, "."+d.Name+".tmp*"))
	for _, name := range left {
		err = errors.Join(err, os.Remove(name))
	}
	if !exists(d.path()) && !exists(d.mark()) {
		return err
	}
	if gone := os.WriteFile(d.mark(), nil, 0o644); gone != nil {
		return errors.Join(err, gone)
	}
	if gone := os.Remove(d.path()); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
		return errors.Join(err, gone)
	}
	return errors.Join(err, d.restart(ctx))
}

// Remove does once what Run does at its end: for cleaning up after a process
// that was killed.
func (d *Dnsmasq) Remove(ctx context.Context) error {
	d.init()
	return d.remove(ctx)
}
