package main

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// linker is where symbols count that belong to no package: tables of functions
// and of types, and what methods are called by.
const linker = "(made by the linker)"

// span is where memory lies that starts as zeros and takes no place in the file.
type span struct{ from, to uint64 }

// zeros are the marks around such memory.
var zeros = [][2]string{{"runtime.bss", "runtime.ebss"}, {"runtime.noptrbss", "runtime.enoptrbss"}}

type symbol struct {
	name     string
	at, size uint64
}

// Packages sums what go tool nm -size lists, by package: octets of code and data
// in the file.
func Packages(nm string) (map[string]int, error) {
	var all []symbol
	marks := map[string]uint64{}
	for line := range strings.Lines(nm) {
		f := strings.Fields(line)
		if len(f) < 4 || f[0] == "U" { // not from here
			continue
		}
		at, err1 := strconv.ParseUint(f[0], 16, 64)
		size, err2 := strconv.ParseUint(f[1], 10, 63)
		if err := cmp.Or(err1, err2); err != nil {
			return nil, fmt.Errorf("no line of go tool nm -size: %q: %w", line, err)
		}
		name := strings.Join(f[3:], " ")
		marks[name] = at
		all = append(all, symbol{name, at, size})
	}
	var empty []span
	for _, z := range zeros {
		from, ok1 := marks[z[0]]
		to, ok2 := marks[z[1]]
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("no %s and %s among %d symbols: is the program stripped?", z[0], z[1], len(all))
		}
		empty = append(empty, span{from, to})
	}
	sizes := map[string]int{}
	for _, s := range all {
		if !slices.ContainsFunc(empty, func(e span) bool { return s.at >= e.from && s.at < e.to }) {
			sizes[packageOf(s.name)] += int(s.size)
		}
	}
	return sizes, nil
}

// packageOf is the import path at the start of a symbol's name. What is made of
// a generic function counts where that is, whatever its types are.
func packageOf(name string) string {
	if i := strings.IndexAny(name, "[("); i >= 0 {
		name = name[:i]
	}
	dot := strings.IndexByte(name[strings.LastIndexByte(name, '/')+1:], '.')
	if strings.HasPrefix(name, "go:") || strings.HasPrefix(name, "type:") || dot < 0 {
		return linker
	}
	path := name[:strings.LastIndexByte(name, '/')+1+dot]
	return strings.ReplaceAll(path, "%2e", ".")
}

// Dep is a package that the program is linked of.
type Dep struct {
	Path, Module string // Module is "-" in the standard library
	Imports      []string
}

// ParseDeps reads lines of path, module and imports. The last one is the program.
func ParseDeps(list string) (deps []Dep) {
	for line := range strings.Lines(list) {
		if f := strings.Fields(line); len(f) >= 2 {
			deps = append(deps, Dep{f[0], f[1], f[2:]})
		}
	}
	return deps
}

// Alone lists the packages outside a module that the program would not have
// without it.
func Alone(deps []Dep, module string) (alone []string) {
	imports := map[string]Dep{}
	for _, d := range deps {
		imports[d.Path] = d
	}
	reached := map[string]bool{}
	var reach func(path string)
	reach = func(path string) {
		d, ok := imports[path]
		if !ok { // the standard library's vendored packages are listed by where they are
			d, ok = imports["vendor/"+path]
		}
		if !ok || reached[d.Path] || d.Module == module {
			return
		}
		reached[d.Path] = true
		for _, i := range d.Imports {
			reach(i)
		}
	}
	reach("runtime") // in every program
	reach(deps[len(deps)-1].Path)
	for _, d := range deps {
		if d.Module != module && !reached[d.Path] {
			alone = append(alone, d.Path)
		}
	}
	return alone
}

// Report is what people read: the largest packages, then the modules.
func Report(sizes map[string]int, deps []Dep, modules []string, most int) string {
	var b strings.Builder
	total := 0
	for _, n := range sizes {
		total += n
	}
	percent := func(n int) float64 { return 100 * float64(n) / float64(max(total, 1)) }
	fmt.Fprintf(&b, "The largest of %d packages, by their symbols in the program for mipsle before packing:\n", len(sizes))
	names := slices.SortedFunc(maps.Keys(sizes), func(x, y string) int {
		return cmp.Or(sizes[y]-sizes[x], strings.Compare(x, y))
	})
	for _, name := range names[:min(most, len(names))] {
		fmt.Fprintf(&b, "%10d %5.1f %%  %s\n", sizes[name], percent(sizes[name]), name)
	}
	fmt.Fprintf(&b, "%10d          all; what else is in the file is the names and lines of functions, and types\n", total)

	fmt.Fprintf(&b, "\nWhat the modules of go.mod cost: the symbols of a module's packages, and of others that\nthe program has only because of it. What it makes the linker keep elsewhere is not in it.\n")
	for _, m := range modules {
		own, others, linked := 0, 0, false
		for _, d := range deps {
			if d.Module == m {
				own, linked = own+sizes[d.Path], true
			}
		}
		if !linked {
			fmt.Fprintf(&b, "%10s          %s: tests only\n", "-", m)
			continue
		}
		alone := Alone(deps, m)
		for _, p := range alone {
			others += sizes[p]
		}
		fmt.Fprintf(&b, "%10d %5.1f %%  %s", own+others, percent(own+others), m)
		if len(alone) > 0 {
			fmt.Fprintf(&b, ", of that %d in %s", others, strings.Join(alone, ", "))
		}
		b.WriteByte('\n')
	}
	return b.String()
}
