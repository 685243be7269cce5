// Package uci is a stand-in for OpenWrt's uci: enough of its files and of its
// command for the package's scripts to be tested on machines without OpenWrt.
// What it answers was compared with the real one for what the scripts use.
package uci

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Option is an option or a list of a section.
type Option struct {
	Name   string
	List   bool
	Values []string
}

// Section is a section; Name is empty when it has none.
type Section struct {
	Type, Name string
	Options    []*Option
}

// Package is one file of /etc/config.
type Package struct{ Sections []*Section }

// Get is the value of an option, lists joined by spaces; "" when there is none.
func (s *Section) Get(name string) string { return strings.Join(s.List(name), " ") }

// List is the values of an option.
func (s *Section) List(name string) []string {
	if o := s.Option(name); o != nil {
		return o.Values
	}
	return nil
}

// Option is the option or list of a name, nil when there is none.
func (s *Section) Option(name string) *Option {
	i := slices.IndexFunc(s.Options, func(o *Option) bool { return o.Name == name })
	if i < 0 {
		return nil
	}
	return s.Options[i]
}

// Of are the sections of a type.
func (p *Package) Of(kind string) (out []*Section) {
	for _, s := range p.Sections {
		if s.Type == kind {
			out = append(out, s)
		}
	}
	return out
}

var indexed = regexp.MustCompile(`^@([a-zA-Z0-9_-]+)\[(-?[0-9]+)\]$`)

// Find is the section of a name, or of the form @type[n].
func (p *Package) Find(ref string) *Section {
	if m := indexed.FindStringSubmatch(ref); m != nil {
		all := p.Of(m[1])
		n, err := strconv.Atoi(m[2])
		if n < 0 {
			n += len(all)
		}
		if err != nil || n < 0 || n >= len(all) {
			return nil
		}
		return all[n]
	}
	for _, s := range p.Sections {
		if s.Name == ref && ref != "" {
			return s
		}
	}
	return nil
}

// ref is how "uci show" calls a section.
func (p *Package) ref(s *Section) string {
	if s.Name != "" {
		return s.Name
	}
	return fmt.Sprintf("@%s[%d]", s.Type, slices.Index(p.Of(s.Type), s))
}

// Read reads a file.
func Read(name string) (*Package, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	p := &Package{}
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		w, err := words(sc.Text())
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", name, n, err)
		}
		switch {
		case len(w) == 0:
		case w[0] == "config" && (len(w) == 2 || len(w) == 3):
			s := &Section{Type: w[1]}
			if len(w) == 3 {
				s.Name = w[2]
			}
			p.Sections = append(p.Sections, s)
		case (w[0] == "option" || w[0] == "list") && len(w) == 3 && len(p.Sections) > 0:
			s := p.Sections[len(p.Sections)-1]
			o := s.Option(w[1])
			if o == nil {
				o = &Option{Name: w[1]}
				s.Options = append(s.Options, o)
			}
			if o.List = w[0] == "list"; !o.List {
				o.Values = nil
			}
			o.Values = append(o.Values, w[2])
		default:
			return nil, fmt.Errorf("%s:%d: not understood: %q", name, n, sc.Text())
		}
	}
	return p, sc.Err()
}

// words splits a line as a shell would.
func words(line string) (out []string, err error) {
	var b strings.Builder
	in, quote := false, byte(0)
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case quote != 0 && c == quote:
			quote = 0
		case quote != '\'' && c == '\\' && i+1 < len(line):
			i++
			b.WriteByte(line[i])
			in = true
		case quote != 0:
			b.WriteByte(c)
		case c == '\'' || c == '"':
			quote, in = c, true
		case c == ' ' || c == '\t':
			if in {
				out = append(out, b.String())
				b.Reset()
				in = false
			}
		case c == '#' && !in:
			return out, nil
		default:
			b.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("no end of %c", quote)
	}
	if in {
		out = append(out, b.String())
	}
	return out, nil
}

// GeneratedName is how uci calls the nth section of a file, counted from 1, when
// it has no name.
func GeneratedName(kind string, n int) string {
	hash := uint32(5381)
	for i := range len(kind) {
		hash = hash*33 + uint32(kind[i])
	}
	return fmt.Sprintf("cfg%02x%04x", n, hash&0x7fffffff%0x10000)
}

// Write puts the package in the place of a file, which keeps its mode.
func (p *Package) Write(name string) error { return Replace(name, []byte(p.String())) }

// Replace puts data in the place of a file, which keeps its mode.
func Replace(name string, data []byte) error {
	mode := os.FileMode(0o600)
	if st, err := os.Stat(name); err == nil {
		mode = st.Mode().Perm()
	}
	tmp := filepath.Join(filepath.Dir(name), "."+filepath.Base(name)+".new")
	err := os.WriteFile(tmp, data, mode)
	if err == nil {
		err = os.Chmod(tmp, mode) // whatever the umask
	}
	if err == nil {
		err = os.Rename(tmp, name)
	}
	return err
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// String is the file's text.
func (p *Package) String() string {
	var b strings.Builder
	for _, s := range p.Sections {
		b.WriteString("\nconfig " + s.Type)
		if s.Name != "" {
			b.WriteString(" " + quote(s.Name))
		}
		b.WriteByte('\n')
		for _, o := range s.Options {
			word := "option"
			if o.List {
				word = "list"
			}
			for _, v := range o.Values {
				fmt.Fprintf(&b, "\t%s %s %s\n", word, o.Name, quote(v))
			}
		}
	}
	return b.String()
}

// Show is what "uci show" prints of a package or of one section.
func (p *Package) Show(name string, only *Section) string {
	var b strings.Builder
	for _, s := range p.Sections {
		if only != nil && s != only {
			continue
		}
		fmt.Fprintf(&b, "%s.%s=%s\n", name, p.ref(s), s.Type)
		for _, o := range s.Options {
			var vs []string
			for _, v := range o.Values {
				vs = append(vs, quote(v))
			}
			fmt.Fprintf(&b, "%s.%s.%s=%s\n", name, p.ref(s), o.Name, strings.Join(vs, " "))
		}
	}
	return b.String()
}

// Dirs are where files are and where changes wait for "commit".
type Dirs struct{ Config, Changes string }

func (d Dirs) file(name string) string   { return filepath.Join(d.Config, name) }
func (d Dirs) staged(name string) string { return filepath.Join(d.Changes, name) }

// Load is a package with the changes that wait.
func (d Dirs) Load(name string) (*Package, error) {
	if _, err := os.Stat(d.file(name)); err != nil {
		return nil, err // uci has nothing to change then
	}
	if p, err := Read(d.staged(name)); err == nil {
		return p, nil
	}
	return Read(d.file(name))
}

// Stage keeps a changed package until it is committed.
func (d Dirs) Stage(name string, p *Package) error {
	if err := os.MkdirAll(d.Changes, 0o700); err != nil {
		return err
	}
	return os.WriteFile(d.staged(name), []byte(p.String()), 0o600)
}

// Commit puts waiting changes of a package, of all when name is empty, in place.
func (d Dirs) Commit(name string) error {
	names := []string{name}
	if name == "" {
		names = nil
		entries, _ := os.ReadDir(d.Changes)
		for _, e := range entries {
			names = append(names, e.Name())
		}
	}
	for _, n := range names {
		data, err := os.ReadFile(d.staged(n))
		if os.IsNotExist(err) {
			continue
		}
		if err == nil {
			err = Replace(d.file(n), data)
		}
		if err == nil {
			err = os.Remove(d.staged(n))
		}
		if err != nil {
			return err
		}
	}
	return nil
}
