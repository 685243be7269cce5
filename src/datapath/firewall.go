package datapath

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// fileTables lists tables that did not exist before we used them. iptables-nft
// leaves them behind empty; legacy tables are kernel modules and stay.
const fileTables = "tables"

// doorTries is how often in a row a [Door] must fail until it is the kernel that
// can't keep it: what fails once may be somebody else's lock, or his change.
const doorTries = 3

// savedNow reads the rules of all tables: one exec, which is all that an Apply
// without changes costs.
func (m *Manager) savedNow(ctx context.Context) (savedRules, error) {
	path, err := lookPath(m.o.IptablesSave)
	if err != nil {
		return savedRules{}, permanent("iptables is not installed (package iptables-nft or iptables-legacy): %w", err)
	}
	out, err := m.o.run(ctx, "", path, "-c")
	if err != nil {
		return savedRules{}, fmt.Errorf("read the firewall rules: %s: %w", lastLine(out), err)
	}
	m.counts.read(out)
	return parseSaved(out)
}

// applyRules makes the rules what they should be, by at most one
// iptables-restore, and forgets the flows of tunnels whose rules changed.
func (m *Manager) applyRules(ctx context.Context, w Wanted, r *Report) error {
	if w.Door.Port == 0 {
		m.noDoor = 0 // somebody may install what is missing until the next crowd
	} else if m.noDoor >= doorTries {
		w.Door = Door{}
	}
	if len(w.Tunnels) == 0 && len(w.Users.List) == 0 {
		if _, err := lookPath(m.o.IptablesSave); err != nil {
			return nil // no iptables, so no rules of ours
		}
	}
	saved, err := m.savedNow(ctx)
	if err != nil {
		return err
	}
	chains := chainsFor(w)
	text, tables := saved.plan(chains)
	if text == "" {
		return m.dropTables(ctx, saved, w)
	}
	if err := m.noteTables(saved, tables); err != nil {
		return err
	}
	path, err := lookPath(m.o.IptablesRestore)
	if err != nil {
		return permanent("iptables is not installed (package iptables-nft or iptables-legacy): %w", err)
	}
	// -w: somebody else may be changing rules; ten seconds are patience enough.
	if out, err := m.o.run(ctx, text, path, "--noflush", "-w", "10"); err != nil {
		if w.Door.Port == 0 {
			return restoreAdvice(out, err)
		}
		// Tunnels must not miss their rules because this kernel has no xt_limit.
		tries := m.noDoor + 1
		w.Door = Door{}
		if err := m.applyRules(ctx, w, r); err != nil {
			return err // it was something else
		}
		if m.noDoor = tries; tries == doorTries {
			r.Warnings = append(r.Warnings, "the firewall can't keep a crowd of strangers from the port, which makes this router slower while they come: "+lastLine(out))
		}
		return nil
	}
	if w.Door.Port != 0 {
		m.noDoor = 0
	}
	m.counts.restored(text)
	r.changed("rules in %s", strings.Join(tables, ", "))

	if err := m.forget(changedPeers(saved, chains, w), r); err != nil {
		return err
	}
	if len(chains) > 0 {
		return nil
	}
	if saved, err = m.savedNow(ctx); err != nil {
		return err
	}
	return m.dropTables(ctx, saved, w)
}

// changedPeers are the substitutes, old and new, of all peers whose tunnel's
// rules differ from before.
func changedPeers(saved savedRules, chains []chain, w Wanted) []netip.Prefix {
	before, after, known := saved.perDevice(), chainsPerDevice(chains), saved.devicePrefixes()
	var prefixes []netip.Prefix
	for _, d := range sortedKeys(before) {
		if !slices.Equal(before[d], after[d]) {
			prefixes = append(prefixes, known[d]...)
		}
	}
	for _, t := range w.Tunnels {
		if !slices.Equal(before[t.Device], after[t.Device]) {
			prefixes = append(prefixes, t.Peer...)
		}
	}
	return prefixes
}

// noteTables remembers which of the tables do not exist yet.
func (m *Manager) noteTables(saved savedRules, tables []string) error {
	path := filepath.Join(m.o.RunDir, fileTables)
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("note tables: %w", err)
	}
	noted := strings.Fields(string(old))
	n := len(noted)
	for _, t := range tables {
		if saved.tables[t] == nil && !slices.Contains(noted, t) {
			noted = append(noted, t)
		}
	}
	if len(noted) == n {
		return nil
	}
	if err := os.MkdirAll(m.o.RunDir, 0o700); err != nil {
		return fmt.Errorf("note tables: %w", err)
	}
	if err := os.WriteFile(path, []byte(strings.Join(noted, "\n")+"\n"), 0o600); err != nil {
		return fmt.Errorf("note tables: %w", err)
	}
	return nil
}

// dropTables removes the tables that iptables-nft made for us, if nobody has
// put anything into them since. Nothing depends on it; a failure is no error.
func (m *Manager) dropTables(ctx context.Context, saved savedRules, w Wanted) error {
	if len(w.Tunnels) > 0 || w.Door.Port != 0 || len(w.Users.List) > 0 || w.Users.shut {
		return nil
	}
	path := filepath.Join(m.o.RunDir, fileTables)
	noted, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("tables of ours: %w", err)
	}
	nft, err := lookPath(m.o.Nft)
	for _, t := range strings.Fields(string(noted)) {
		if err == nil && saved.nft && saved.tables[t] != nil && saved.tables[t].bare() {
			if out, err := m.o.run(ctx, "", nft, "delete", "table", "ip", t); err != nil {
				m.log.Warn("an empty table stays", "table", t, "err", err, "output", lastLine(out))
			}
		}
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("tables of ours: %w", err)
	}
	return nil
}
