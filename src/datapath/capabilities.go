package datapath

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Capability says whether this router can make tunnels of one protocol.
type Capability struct {
	Protocol string
	// Missing says in plain words what stands in the way, one thing an entry.
	Missing []string
	// Warnings are things that are wrong but not in the way.
	Warnings []string
	// Ciphers are those of ESP that the kernel has; FastAES: the processor has
	// instructions for AES.
	Ciphers []string
	FastAES bool
}

// Possible tells whether nothing is missing.
func (c Capability) Possible() bool { return len(c.Missing) == 0 }

// Capabilities looks at programs, plugins and kernel modules, loading those of
// the tunnel protocols. It changes nothing else.
func (m *Manager) Capabilities(ctx context.Context) []Capability {
	common := m.missingCommon()
	var warnings []string
	if s := m.forwarding(); s != "" {
		warnings = append(warnings, s)
	}
	var all []Capability
	for _, p := range sortedKeys(m.drivers) {
		c := Capability{
			Protocol: p,
			Missing:  slices.Concat(m.drivers[p].missing(ctx), common),
			Warnings: warnings,
		}
		if e, ok := m.drivers[p].(*esp); ok {
			c.Ciphers, _ = e.find(ctx, false)
			c.FastAES = e.fast()
		}
		all = append(all, c)
	}
	return all
}

// missingCommon is what NAT and guard need, whatever the protocol.
func (m *Manager) missingCommon() []string {
	var missing []string
	for _, p := range []string{m.o.IptablesSave, m.o.IptablesRestore} {
		if _, err := lookPath(p); err != nil {
			return []string{"iptables is not installed (package iptables-nft)"}
		}
	}
	for _, x := range []struct{ target, module, install string }{
		{"NETMAP", "xt_NETMAP", "kmod-ipt-nat-extra and iptables-mod-nat-extra"},
		{"TCPMSS", "xt_TCPMSS", "kmod-ipt-core"},
	} {
		if !m.targetThere(x.target, x.module) {
			missing = append(missing, "kernel has no "+x.target+" (module "+x.module+"): install "+x.install)
		}
	}
	return missing
}

// targetThere looks for an iptables target of the kernel: registered already
// (the only trace of one that is built in), loaded, or a file that can be
// loaded. Where nothing of this can be seen it counts as there; iptables will
// say.
func (m *Manager) targetThere(target, module string) bool {
	b, err := os.ReadFile(filepath.Join(m.o.Proc, "net/ip_tables_targets"))
	if err == nil && slices.Contains(strings.Fields(string(b)), target) {
		return true
	}
	b, err = os.ReadFile(filepath.Join(m.o.Proc, "modules"))
	if err == nil && strings.Contains("\n"+string(b), "\n"+module+" ") {
		return true
	}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return true
	}
	root := filepath.Join("/lib/modules", unix.ByteSliceToString(u.Release[:]))
	if _, err := os.Stat(root); err != nil {
		return true
	}
	return moduleFile(root, module)
}

// moduleFile looks for a module below a directory of modules, or in its list
// of those that are built in.
func moduleFile(root, module string) bool {
	if b, err := os.ReadFile(filepath.Join(root, "modules.builtin")); err == nil && strings.Contains(string(b), "/"+module+".ko\n") {
		return true
	}
	found := errors.New("found")
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // unreadable: not there for us
		}
		if base, _, _ := strings.Cut(d.Name(), ".ko"); base == module && d.Name() != module {
			return found
		}
		return nil
	})
	return errors.Is(err, found)
}
