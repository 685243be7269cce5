package uci

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// ErrNotFound is uci's answer when there is no such section or option.
var ErrNotFound = errors.New("Entry not found")

// Command does what "uci ARGS…" does: get, set, add, add_list, del_list, delete,
// show, commit and batch, with -q, -t and -c.
func Command(args []string, stdin io.Reader, stdout io.Writer) (quiet bool, err error) {
	d := Dirs{Config: "/etc/config", Changes: "/tmp/.uci"}
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		switch {
		case args[0] == "-q":
			quiet = true
		case (args[0] == "-t" || args[0] == "-c") && len(args) > 1:
			if args[0] == "-t" {
				d.Changes = args[1]
			} else {
				d.Config = args[1]
			}
			args = args[1:]
		default:
			return quiet, fmt.Errorf("option %s is not known here", args[0])
		}
		args = args[1:]
	}
	if len(args) == 0 {
		return quiet, errors.New("want a command")
	}
	if args[0] != "batch" {
		return quiet, d.run(args, stdout)
	}
	sc := bufio.NewScanner(stdin)
	for sc.Scan() {
		w, e := words(sc.Text())
		if e == nil && len(w) > 0 {
			e = d.run(w, stdout)
		}
		if e != nil {
			err = e // uci goes on, too
		}
	}
	return quiet, err
}

func (d Dirs) run(args []string, out io.Writer) error {
	verb, rest := args[0], args[1:]
	switch {
	case verb == "commit" && len(rest) < 2:
		return d.Commit(strings.Join(rest, ""))
	case verb == "show" && len(rest) == 0:
		entries, err := os.ReadDir(d.Config)
		for _, e := range entries {
			if err == nil {
				err = d.run([]string{"show", e.Name()}, out)
			}
		}
		return err
	case verb == "add" && len(rest) == 2:
		p, err := d.Load(rest[0])
		if err != nil {
			return ErrNotFound
		}
		p.Sections = append(p.Sections, &Section{Type: rest[1]})
		fmt.Fprintf(out, "@%s[-1]\n", rest[1])
		return d.Stage(rest[0], p)
	case len(rest) != 1:
		return fmt.Errorf("%q is not understood here", args)
	}
	path, value, assigned := strings.Cut(rest[0], "=")
	ref := strings.SplitN(path, ".", 3)
	p, err := d.Load(ref[0])
	if err != nil {
		return ErrNotFound
	}
	var s *Section
	if len(ref) > 1 {
		if s = p.Find(ref[1]); s == nil && !(verb == "set" && len(ref) == 2 && assigned) {
			return ErrNotFound
		}
	}
	switch {
	case verb == "show":
		text := p.Show(ref[0], s)
		if len(ref) == 3 {
			return d.run([]string{"get", path}, out)
		}
		_, err := io.WriteString(out, text)
		return err
	case verb == "get" && len(ref) == 2:
		_, err := fmt.Fprintln(out, s.Type)
		return err
	case verb == "get" && len(ref) == 3:
		if s.Option(ref[2]) == nil {
			return ErrNotFound
		}
		_, err := fmt.Fprintln(out, s.Get(ref[2]))
		return err
	}
	if err := p.change(verb, ref, s, value); err != nil {
		return err
	}
	return d.Stage(ref[0], p)
}

func (p *Package) change(verb string, ref []string, s *Section, value string) error {
	switch {
	case verb == "set" && len(ref) == 2:
		if s == nil {
			p.Sections = append(p.Sections, &Section{Type: value, Name: ref[1]})
			return nil
		}
		s.Type = value
	case verb == "delete" && len(ref) == 2:
		p.Sections = slices.DeleteFunc(p.Sections, func(x *Section) bool { return x == s })
	case len(ref) != 3:
		return errors.New("Invalid argument")
	case verb == "delete" || verb == "set" && value == "":
		if s.Option(ref[2]) == nil && verb == "delete" {
			return ErrNotFound
		}
		s.Options = slices.DeleteFunc(s.Options, func(o *Option) bool { return o.Name == ref[2] })
	case verb == "set" || verb == "add_list" || verb == "del_list":
		o := s.Option(ref[2])
		if o == nil {
			o = &Option{Name: ref[2]}
			s.Options = append(s.Options, o)
		}
		switch verb {
		case "set":
			o.List, o.Values = false, []string{value}
		case "add_list":
			o.List, o.Values = true, append(o.Values, value)
		default:
			o.Values = slices.DeleteFunc(o.Values, func(v string) bool { return v == value })
		}
		s.Options = slices.DeleteFunc(s.Options, func(o *Option) bool { return len(o.Values) == 0 })
	default:
		return fmt.Errorf("command %q is not known here", verb)
	}
	return nil
}
