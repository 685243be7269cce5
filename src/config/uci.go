package config

import (
	"fmt"
	"slices"
	"strings"
)

// document is one UCI file as libuci holds it: sections in the order in which
// they first appear, each with its options in that order.
type document struct {
	sections []*section
}

// section is one UCI section.
type section struct {
	kind    string // uci's "type": htip, peer
	name    string // "" for an unnamed section
	options []*option
}

// option is one UCI option or list. An option has exactly one value, and that is
// never empty; a list has at least one, and any of them may be empty.
type option struct {
	name   string
	list   bool
	values []string
}

func (s *section) option(name string) *option {
	for _, o := range s.options {
		if o.name == name {
			return o
		}
	}
	return nil
}

// builder fills a document, statement by statement, in time linear in the file.
type builder struct {
	doc  document
	ids  map[string]int // section names, given or generated
	opts map[optionKey]int
}

type optionKey struct {
	section int
	name    string
}

func newBuilder() *builder {
	return &builder{ids: map[string]int{}, opts: map[optionKey]int{}}
}

// open starts a section, or goes on with one that is there already, and returns
// its index. It fails when the name belongs to a section of another type.
func (b *builder) open(kind, name string) (int, bool) {
	if i, ok := b.ids[name]; ok && name != "" {
		return i, b.doc.sections[i].kind == kind
	}
	b.doc.sections = append(b.doc.sections, &section{kind: kind, name: name})
	if name == "" {
		name = generatedName(kind, len(b.doc.sections))
		if _, taken := b.ids[name]; taken {
			// uci finds the first of two sections with one name.
			return len(b.doc.sections) - 1, true
		}
	}
	b.ids[name] = len(b.doc.sections) - 1
	return len(b.doc.sections) - 1, true
}

// generatedName is the name that uci gives to the nth section when it has none:
// a count and Bernstein's hash of the type. LuCI and ubus show it, and a section
// of that name further down in the file continues the unnamed one.
func generatedName(kind string, n int) string {
	hash := uint32(5381)
	for i := range len(kind) {
		hash = hash*33 + uint32(kind[i])
	}
	return fmt.Sprintf("cfg%02x%04x", n, hash&0x7fffffff%0x10000)
}

// set does what an "option" line does: the value replaces what was there, list
// or not, in its place. An empty value does nothing at all.
func (b *builder) set(sec int, name, value string) {
	if value == "" {
		return
	}
	o := b.at(sec, name)
	o.list, o.values = false, []string{value}
}

// add does what a "list" line does: the value, empty or not, comes behind what
// was there; an option becomes a list.
func (b *builder) add(sec int, name, value string) {
	o := b.at(sec, name)
	o.list, o.values = true, append(o.values, value)
}

func (b *builder) at(sec int, name string) *option {
	s := b.doc.sections[sec]
	i, ok := b.opts[optionKey{sec, name}]
	if !ok {
		i = len(s.options)
		s.options = append(s.options, &option{name: name})
		b.opts[optionKey{sec, name}] = i
	}
	return s.options[i]
}

// quote writes a value as uci exports it. Inside single quotes every byte stands
// for itself, line ends included, so only the apostrophe has to leave them.
func quote(v string) string {
	return "'" + strings.ReplaceAll(v, "'", `'\''`) + "'"
}

// statements is a section as UCI text, one line each, first the "config" line.
func (s *section) statements() []string {
	head := "config " + s.kind
	if !validName(s.kind) {
		head = "config " + quote(s.kind)
	}
	if s.name != "" {
		head += " " + quote(s.name)
	}
	out := []string{head}
	for _, o := range s.options {
		out = append(out, o.statements()...)
	}
	return out
}

// statements is an option as UCI text: one line, or one for each value of a list.
func (o *option) statements() []string {
	verb := "option "
	if o.list {
		verb = "list "
	}
	out := make([]string, len(o.values))
	for i, v := range o.values {
		out[i] = verb + o.name + " " + quote(v)
	}
	return out
}

func (s *section) equal(t *section) bool {
	return s.kind == t.kind && s.name == t.name && slices.EqualFunc(s.options, t.options, (*option).equal)
}

func (o *option) equal(p *option) bool {
	return o.name == p.name && o.list == p.list && slices.Equal(o.values, p.values)
}

// labels are the sections' names as `uci show` prints them: an unnamed one is
// @type[n], n counting every section of its type.
func (d document) labels() []string {
	count := map[string]int{}
	out := make([]string, len(d.sections))
	for i, s := range d.sections {
		out[i] = s.name
		if s.name == "" {
			out[i] = fmt.Sprintf("@%s[%d]", s.kind, count[s.kind])
		}
		count[s.kind]++
	}
	return out
}
