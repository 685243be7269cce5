package bridge

import (
	"errors"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"htip/src/ubus"
	"htip/tests/openwrt/uci"
)

// change is one step of what a session has changed and not committed. The words
// are those in which "uci changes" tells it.
type change struct {
	what    string // add, set, remove, rename, list-add, order
	section string
	option  string // "" when it is about the section
	value   string // "" when there is none
}

func (c change) table() ubus.Array {
	out := ubus.Array{c.what, c.section}
	if c.option != "" {
		out = append(out, c.option)
	}
	if n, err := strconv.Atoi(c.value); err == nil && c.what == "order" {
		return append(out, int32(n))
	}
	if c.value != "" {
		out = append(out, c.value)
	}
	return out
}

// pkg is a file of /etc/config with a session's changes made to it, as libuci
// holds it: sections without a name have one of uci's making.
type pkg struct {
	name    string
	file    string
	uci     *uci.Package
	unnamed map[*uci.Section]bool
	changes []change // all, those before this call included
	count   int      // of sections that ever were
}

var packageName = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

// load reads a file and makes a session's changes to it; s may be nil. A change
// that has become impossible is left out, as by libuci. The lock must be held.
func (b *Bridge) load(name string, s *session) (*pkg, error) {
	if !packageName.MatchString(name) {
		return nil, ubus.ErrInvalidArgument
	}
	p := &pkg{name: name, file: filepath.Join(b.cfg.UCI, name), unnamed: map[*uci.Section]bool{}}
	var err error
	if p.uci, err = uci.Read(p.file); errors.Is(err, fs.ErrNotExist) {
		return nil, ubus.ErrNotFound
	} else if err != nil {
		return nil, ubus.ErrUnknown
	}
	for _, sec := range p.uci.Sections {
		p.count++
		p.christen(sec)
	}
	if s != nil {
		for _, c := range s.staged[name] {
			_ = p.do(c)
		}
	}
	return p, nil
}

// christen gives a section a name that has none.
func (p *pkg) christen(s *uci.Section) {
	if s.Name == "" {
		s.Name = uci.GeneratedName(s.Type, p.count)
		p.unnamed[s] = true
	}
}

// write puts the package in the place of the file.
func (p *pkg) write() error {
	for s := range p.unnamed {
		s.Name = ""
	}
	return p.uci.Write(p.file)
}

// find is a section by its name, or in the form @type[n].
func (p *pkg) find(name string) (*uci.Section, error) {
	if s := p.uci.Find(name); s != nil {
		return s, nil
	}
	return nil, ubus.ErrNotFound
}

// add makes a section without a name, and returns the name that uci gives it.
func (p *pkg) add(kind string) string {
	name := uci.GeneratedName(kind, p.count+1)
	_ = p.do(change{what: "add", section: name, value: kind}) // never fails
	return name
}

// do makes one change and keeps it.
func (p *pkg) do(c change) error {
	if err := p.carryOut(c); err != nil {
		return err
	}
	p.changes = append(p.changes, c)
	return nil
}

func (p *pkg) carryOut(c change) error {
	s := p.uci.Find(c.section)
	if s == nil && (c.what == "add" || c.what == "set" && c.option == "") {
		p.count++
		s = &uci.Section{Type: c.value, Name: c.section}
		if c.what == "add" {
			p.unnamed[s] = true
		}
		p.uci.Sections = append(p.uci.Sections, s)
		return nil
	}
	if s == nil {
		return ubus.ErrNotFound
	}
	switch c.what {
	case "set":
		if c.option == "" {
			s.Type = c.value
			return nil
		}
		set(s, c.option, false, c.value)
	case "list-add":
		if o := s.Option(c.option); o != nil {
			o.List, o.Values = true, append(o.Values, c.value)
			return nil
		}
		set(s, c.option, true, c.value)
	case "remove":
		if c.option == "" {
			p.uci.Sections = slices.DeleteFunc(p.uci.Sections, func(x *uci.Section) bool { return x == s })
			delete(p.unnamed, s)
			return nil
		}
		s.Options = slices.DeleteFunc(s.Options, func(o *uci.Option) bool { return o.Name == c.option })
	case "rename":
		if c.option == "" {
			s.Name = c.value
			delete(p.unnamed, s)
			return nil
		}
		if o := s.Option(c.option); o != nil {
			o.Name = c.value
		}
	case "order":
		n, _ := strconv.Atoi(c.value)
		p.uci.Sections = slices.DeleteFunc(p.uci.Sections, func(x *uci.Section) bool { return x == s })
		p.uci.Sections = slices.Insert(p.uci.Sections, min(n, len(p.uci.Sections)), s)
	}
	return nil
}

func set(s *uci.Section, name string, list bool, value string) {
	if o := s.Option(name); o != nil {
		o.List, o.Values = list, []string{value}
		return
	}
	s.Options = append(s.Options, &uci.Option{Name: name, List: list, Values: []string{value}})
}

// merge makes an option what a caller wants: a list for an array, else a value. A
// value that is there already is no change.
func (p *pkg) merge(s *uci.Section, name string, v any) error {
	if !optionName.MatchString(name) {
		return ubus.ErrInvalidArgument
	}
	old := s.Option(name)
	remove := change{what: "remove", section: s.Name, option: name}
	if list, ok := v.(ubus.Array); ok {
		if old != nil {
			p.do(remove)
		}
		err := ubus.ErrInvalidArgument
		for _, x := range list {
			if text, ok := uciText(x); ok {
				err = p.do(change{what: "list-add", section: s.Name, option: name, value: text})
			}
		}
		return err
	}
	text, ok := uciText(v)
	switch {
	case !ok:
		return ubus.ErrInvalidArgument
	case old != nil && !old.List && old.Values[0] == text:
		return nil
	case old != nil && (old.List || text == ""):
		p.do(remove)
	}
	if text == "" {
		return nil
	}
	return p.do(change{what: "set", section: s.Name, option: name, value: text})
}

var optionName = regexp.MustCompile(`^[A-Za-z0-9_]+$`)

// uciText is a value of JSON as UCI keeps it.
func uciText(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case bool:
		if v {
			return "1", true
		}
		return "0", true
	case int16, int32, int64:
		return string(ubus.AppendJSON(nil, v)), true
	}
	return "", false
}

// value is an option as "uci get" tells it.
func value(o *uci.Option) any {
	if !o.List {
		return o.Values[0]
	}
	out := ubus.Array{}
	for _, v := range o.Values {
		out = append(out, v)
	}
	return out
}

// table is a section as "uci get" tells it; index < 0 leaves its place out.
func (p *pkg) table(s *uci.Section, index int) ubus.Table {
	out := ubus.T(".anonymous", p.unnamed[s], ".type", s.Type, ".name", s.Name)
	if index >= 0 {
		out.Set(".index", index)
	}
	for _, o := range s.Options {
		out.Set(o.Name, value(o))
	}
	return out
}

// matches tells whether a section is of a type and has the values: an option has a
// value also when that is one of its words or items. "" and nil mean any.
func matches(s *uci.Section, kind string, want ubus.Table) bool {
	if kind != "" && s.Type != kind {
		return false
	}
	some := false
	for _, f := range want {
		text, ok := uciText(f.Value)
		o := s.Option(f.Name)
		if !ok || o == nil {
			continue
		}
		items := o.Values
		if !o.List {
			items = strings.Fields(o.Values[0])
		}
		if !slices.Contains(items, text) {
			return false
		}
		some = true
	}
	return some || len(want) == 0
}
