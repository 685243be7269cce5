package config

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Severity tells what a Problem costs.
type Severity uint8

const (
	// Warning: something is not read, the rest is as it was meant.
	Warning Severity = iota
	// Error: an option of the main section fell back to its default, an entry of
	// a list is left out, or a peer is.
	Error
	// Fatal: running would be senseless or not what was meant. Load returns a
	// disabled Config.
	Fatal
)

// String is the severity in lower case.
func (s Severity) String() string {
	switch s {
	case Warning:
		return "warning"
	case Error:
		return "error"
	default:
		return "fatal"
	}
}

// Problem is one thing that is wrong with the file's contents.
type Problem struct {
	Severity Severity
	Section  string // "main", "peer bob", "peer @peer[1]"
	Option   string // "option port", "list network"; "" for the section as a whole
	Value    string // as it stands in the file; "" with Missing
	Missing  bool   // there is no such option
	Want     string // what would be right
	Instead  string // what happens now; "" for a peer, which is left out
}

// String is the problem on one line:
//
//	main: option port '99999': want a number from 1 to 65535; using 4847
func (p Problem) String() string {
	var b strings.Builder
	b.WriteString(p.Section)
	b.WriteString(": ")
	if p.Option != "" {
		b.WriteString(p.Option)
		if p.Missing {
			b.WriteString(" is missing: ")
		} else {
			b.WriteString(" '" + shown(p.Value) + "': ")
		}
	}
	b.WriteString(p.Want)
	if p.Instead != "" {
		b.WriteString("; " + p.Instead)
	}
	return b.String()
}

// shown makes a value fit for one line of a log or a page: control and other
// invisible characters escaped, the middle of a text left out when it is long.
func shown(v string) string {
	const limit = 80
	if len(v) > limit {
		cut := limit
		for cut > limit-utf8.UTFMax && !utf8.RuneStart(v[cut]) {
			cut--
		}
		return shown(v[:cut]) + "…"
	}
	q := strconv.Quote(v)
	return strings.ReplaceAll(q[1:len(q)-1], `\"`, `"`)
}

// Problems is everything that is wrong with a file's contents, in its order.
type Problems []Problem

// Fatal is an error that names every fatal problem, or nil.
func (ps Problems) Fatal() error {
	var errs []error
	for _, p := range ps {
		if p.Severity == Fatal {
			errs = append(errs, errors.New(p.String()))
		}
	}
	return errors.Join(errs...)
}

// Count is the number of problems of this severity or worse.
func (ps Problems) Count(at Severity) int {
	n := 0
	for _, p := range ps {
		if p.Severity >= at {
			n++
		}
	}
	return n
}

// maxProblems is how many are told; a file of nothing but mistakes must not fill
// the router's log.
const maxProblems = 100

// cut leaves the first maxProblems and one for all the others, as bad as the worst
// of them.
func (ps Problems) cut() Problems {
	if len(ps) <= maxProblems {
		return ps
	}
	rest := ps[maxProblems:]
	worst := slices.MaxFunc(rest, func(a, b Problem) int { return cmp.Compare(a.Severity, b.Severity) })
	out := slices.Clone(ps[:maxProblems])
	out.addf(worst.Severity, "file", "%d more problems", len(rest))
	return out
}

func (ps *Problems) add(p Problem) { *ps = append(*ps, p) }

func (ps *Problems) addf(s Severity, section, format string, args ...any) {
	ps.add(Problem{Severity: s, Section: section, Want: fmt.Sprintf(format, args...)})
}
