package config

import (
	"fmt"
	"strconv"
	"strings"
)

// Section is a section of another program's UCI file, such as the firewall's.
type Section struct {
	s     *section
	Label string // as `uci show` prints it
}

// LoadSections reads such a file; errors are those of Load.
func LoadSections(path string) (out []*Section, err error) {
	data, err := readFile(path)
	if err != nil {
		return nil, err
	}
	d, err := parse(data, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i, label := range d.labels() {
		out = append(out, &Section{d.sections[i], label})
	}
	return out, nil
}

// Kind tells whether the section is of a type, Is whether it is and not switched
// off.
func (s *Section) Kind(kind string) bool { return s.s.kind == kind }

// Is: see Kind.
func (s *Section) Is(kind string) bool { return s.Kind(kind) && s.Truth("enabled", true) }

// Words are the values of an option or list, each split at white space, as fw4
// does.
func (s *Section) Words(name string) (out []string) {
	if o := s.s.option(name); o != nil {
		for _, v := range o.values {
			out = append(out, strings.Fields(v)...)
		}
	}
	return out
}

// Any tells whether one of an option's Words is one of these.
func (s *Section) Any(name, words string) bool {
	for _, w := range s.Words(name) {
		if Among(words, w) {
			return true
		}
	}
	return false
}

// Text is the value of an option, "" without one.
func (s *Section) Text(name string) string {
	if o := s.s.option(name); o != nil {
		return o.values[0]
	}
	return ""
}

// Word is Text in lower case.
func (s *Section) Word(name string) string { return lower(s.Text(name)) }

// Truth is an option that is a truth value; otherwise, when it is none.
func (s *Section) Truth(name string, otherwise bool) bool {
	switch w := s.Word(name); {
	case Among("1 on true yes enabled", w):
		return true
	case Among("0 off false no disabled", w):
		return false
	}
	return otherwise
}

// Only tells whether all options of the section are among these.
func (s *Section) Only(names string) bool {
	for _, o := range s.s.options {
		if !Among(names, o.name) {
			return false
		}
	}
	return true
}

// Among tells whether a word is one of several.
func Among(words, w string) bool {
	return w != "" && !strings.Contains(w, " ") && strings.Contains(" "+words+" ", " "+w+" ")
}

// Ports are ports from one to another.
type Ports struct{ Low, High uint16 }

func (p Ports) String() string {
	if p.Low == p.High {
		return strconv.Itoa(int(p.Low))
	}
	return fmt.Sprintf("%d-%d", p.Low, p.High)
}

// ParsePorts reads "80" or "80-90".
func ParsePorts(s string) (Ports, bool) {
	low, high, isRange := strings.Cut(s, "-")
	if !isRange {
		high = low
	}
	l, err1 := strconv.ParseUint(low, 10, 16)
	h, err2 := strconv.ParseUint(high, 10, 16)
	return Ports{uint16(l), uint16(h)}, err1 == nil && err2 == nil && l > 0 && l <= h
}
