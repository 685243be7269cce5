package bridge

import (
	"cmp"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"htip/src/ubus"
	"htip/tests/openwrt/uci"
)

// uciObject is rpcd's object uci. Every session has changes of its own, which
// nobody else sees before they are committed.
func (b *Bridge) uciObject() object {
	args := func(spec string) (out []ubus.Arg) {
		types := map[byte]ubus.Type{'s': ubus.TypeString, 't': ubus.TypeTable, 'a': ubus.TypeArray, 'b': ubus.TypeBool, 'n': ubus.TypeInt32}
		for _, m := range argSpec.FindAllStringSubmatch(spec, -1) {
			out = append(out, ubus.Arg{Name: m[1], Type: types[m[2][0]]})
		}
		return append(out, ubus.Arg{Name: ubus.SessionArg, Type: ubus.TypeString})
	}
	get := method{args("config:s section:s option:s type:s match:t"), b.uciGet}
	return object{
		"configs":  {nil, b.uciConfigs},
		"get":      get,
		"state":    get, // nothing here keeps a state of its own
		"add":      {args("config:s type:s name:s values:t"), b.uciAdd},
		"set":      {args("config:s section:s type:s match:t values:t"), b.uciSet},
		"delete":   {args("config:s section:s type:s match:t option:s options:a"), b.uciDelete},
		"rename":   {args("config:s section:s option:s name:s"), b.uciRename},
		"order":    {args("config:s sections:a"), b.uciOrder},
		"changes":  {args("config:s"), b.uciChanges},
		"revert":   {args("config:s"), b.uciRevert},
		"commit":   {args("config:s"), b.uciCommit},
		"apply":    {args("rollback:b timeout:n"), b.uciApply},
		"confirm":  {args(""), b.uciConfirm},
		"rollback": {args(""), b.uciRollback},
	}
}

var (
	argSpec     = regexp.MustCompile(`(\w+):(\w)`)
	typeName    = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)
	sectionName = regexp.MustCompile(`^([A-Za-z0-9_]+|@[A-Za-z0-9_-]+\[-?[0-9]+\])$`)
)

// open loads the configuration that a call is about, for a session that may use
// it so.
func (b *Bridge) open(sid string, args ubus.Table, right string, f func(s *session, p *pkg) (ubus.Table, error)) (ubus.Table, error) {
	name, ok := args.GetString("config")
	if !ok {
		return nil, ubus.ErrInvalidArgument
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.session(sid)
	if s == nil || !allowed(s.rights, "uci", name, right) {
		return nil, ubus.ErrPermissionDenied
	}
	p, err := b.load(name, s)
	if err != nil {
		return nil, err
	}
	return f(s, p)
}

// edit is open for a call that changes something: what f did is kept unless it
// fails.
func (b *Bridge) edit(sid string, args ubus.Table, f func(p *pkg) (ubus.Table, error)) (ubus.Table, error) {
	return b.open(sid, args, "write", func(s *session, p *pkg) (ubus.Table, error) {
		out, err := f(p)
		if err == nil {
			s.staged[p.name] = p.changes
		}
		return out, err
	})
}

func (b *Bridge) uciConfigs(string, ubus.Table) (ubus.Table, error) {
	names := ubus.Array{}
	for _, n := range b.configs() {
		names = append(names, n)
	}
	return ubus.T("configs", names), nil
}

// configs are the names of the files.
func (b *Bridge) configs() (out []string) {
	entries, _ := os.ReadDir(b.cfg.UCI)
	for _, e := range entries {
		if e.Type().IsRegular() && packageName.MatchString(e.Name()) {
			out = append(out, e.Name())
		}
	}
	return out
}

// uciGet tells a package, a section or an option. What is not there is no error
// for rpcd: it succeeds and says nothing.
func (b *Bridge) uciGet(sid string, args ubus.Table) (ubus.Table, error) {
	return b.open(sid, args, "read", func(_ *session, p *pkg) (ubus.Table, error) {
		kind, _ := args.GetString("type")
		want, _ := args.GetTable("match")
		section, ok := args.GetString("section")
		if !ok {
			values := ubus.Table{}
			for i, s := range p.uci.Sections {
				if matches(s, kind, want) {
					values = append(values, ubus.F(s.Name, p.table(s, i)))
				}
			}
			return ubus.T("values", values), nil
		}
		s, err := p.find(section)
		if err != nil {
			return nil, nil
		}
		option, ok := args.GetString("option")
		if !ok {
			return ubus.T("values", p.table(s, -1)), nil
		}
		if o := s.Option(option); o != nil {
			return ubus.T("value", value(o)), nil
		}
		return nil, nil
	})
}

func (b *Bridge) uciAdd(sid string, args ubus.Table) (ubus.Table, error) {
	kind, ok := args.GetString("type")
	if !ok {
		return nil, ubus.ErrInvalidArgument
	}
	return b.edit(sid, args, func(p *pkg) (ubus.Table, error) {
		name, named := args.GetString("name")
		if !typeName.MatchString(kind) || named && !optionName.MatchString(name) {
			return nil, ubus.ErrInvalidArgument
		}
		if !named {
			name = p.add(kind)
		} else if s := p.uci.Find(name); s == nil || s.Type != kind {
			p.do(change{what: "set", section: name, value: kind})
		}
		s, err := p.find(name)
		values, _ := args.GetTable("values")
		for _, f := range values {
			err = cmp.Or(err, p.merge(s, f.Name, f.Value))
		}
		return ubus.T("section", name), err
	})
}

// targets are the sections that a call names, or means by type and values.
func (p *pkg) targets(args ubus.Table) ([]*uci.Section, error) {
	kind, ofKind := args.GetString("type")
	want, matching := args.GetTable("match")
	name, named := args.GetString("section")
	if named {
		if !sectionName.MatchString(name) {
			return nil, ubus.ErrInvalidArgument
		}
		s, err := p.find(name)
		return []*uci.Section{s}, err
	}
	if !ofKind && !matching {
		return nil, ubus.ErrInvalidArgument
	}
	var out []*uci.Section
	for _, s := range p.uci.Sections {
		if matches(s, kind, want) {
			out = append(out, s)
		}
	}
	if out == nil {
		return nil, ubus.ErrNotFound
	}
	return out, nil
}

func (b *Bridge) uciSet(sid string, args ubus.Table) (ubus.Table, error) {
	values, ok := args.GetTable("values")
	if !ok {
		return nil, ubus.ErrInvalidArgument
	}
	return b.edit(sid, args, func(p *pkg) (ubus.Table, error) {
		sections, err := p.targets(args)
		if err != nil {
			return nil, err
		}
		for _, s := range sections {
			for _, f := range values {
				err = cmp.Or(p.merge(s, f.Name, f.Value), err)
			}
		}
		return nil, err
	})
}

// uciDelete deletes sections, or options of them. Of several options those that
// are there are deleted; it is an error when none is.
func (b *Bridge) uciDelete(sid string, args ubus.Table) (ubus.Table, error) {
	options, some := args.GetStrings("options")
	if o, ok := args.GetString("option"); ok && !some {
		options, some = []string{o}, true
	}
	return b.edit(sid, args, func(p *pkg) (ubus.Table, error) {
		sections, err := p.targets(args)
		if err != nil {
			return nil, err
		}
		for _, s := range sections {
			if !some {
				p.do(change{what: "remove", section: s.Name})
				continue
			}
			err = ubus.ErrNotFound
			for _, name := range options {
				if s.Option(name) != nil {
					err = p.do(change{what: "remove", section: s.Name, option: name})
				}
			}
		}
		return nil, err
	})
}

func (b *Bridge) uciRename(sid string, args ubus.Table) (ubus.Table, error) {
	section, ok := args.GetString("section")
	name, ok2 := args.GetString("name")
	if !ok || !ok2 || !optionName.MatchString(name) {
		return nil, ubus.ErrInvalidArgument
	}
	return b.edit(sid, args, func(p *pkg) (ubus.Table, error) {
		s, err := p.find(section)
		if err != nil {
			return nil, err
		}
		option, _ := args.GetString("option")
		if option != "" && s.Option(option) == nil {
			return nil, ubus.ErrNotFound
		}
		return nil, p.do(change{what: "rename", section: s.Name, option: option, value: name})
	})
}

func (b *Bridge) uciOrder(sid string, args ubus.Table) (ubus.Table, error) {
	names, ok := args.GetStrings("sections")
	if !ok {
		return nil, ubus.ErrInvalidArgument
	}
	return b.edit(sid, args, func(p *pkg) (ubus.Table, error) {
		var err error
		for i, name := range names {
			err = cmp.Or(err, p.do(change{what: "order", section: name, value: strconv.Itoa(i)}))
		}
		return nil, err
	})
}

func changeTables(list []change) ubus.Array {
	out := ubus.Array{}
	for _, c := range list {
		out = append(out, c.table())
	}
	return out
}

func (b *Bridge) uciChanges(sid string, args ubus.Table) (ubus.Table, error) {
	if _, ok := args.GetString("config"); ok {
		return b.open(sid, args, "read", func(s *session, p *pkg) (ubus.Table, error) {
			return ubus.T("changes", changeTables(s.staged[p.name])), nil
		})
	}
	return b.of(sid, func(s *session) (ubus.Table, error) {
		all := ubus.Table{}
		for _, name := range b.configs() {
			if list := s.staged[name]; len(list) > 0 && allowed(s.rights, "uci", name, "read") {
				all = append(all, ubus.F(name, changeTables(list)))
			}
		}
		return ubus.T("changes", all), nil
	})
}

func (b *Bridge) uciRevert(sid string, args ubus.Table) (ubus.Table, error) {
	return b.open(sid, args, "write", func(s *session, p *pkg) (ubus.Table, error) {
		if b.applying != nil {
			return nil, ubus.ErrPermissionDenied
		}
		delete(s.staged, p.name)
		return nil, nil
	})
}

func (b *Bridge) uciCommit(sid string, args ubus.Table) (ubus.Table, error) {
	var written string
	_, err := b.open(sid, args, "write", func(s *session, p *pkg) (ubus.Table, error) {
		if b.applying != nil {
			return nil, ubus.ErrPermissionDenied
		}
		written = p.name
		return nil, s.commit(p)
	})
	if written != "" {
		b.tell(written)
	}
	return nil, err
}

func (s *session) commit(p *pkg) error {
	delete(s.staged, p.name)
	if err := p.write(); err != nil {
		return errors.Join(ubus.ErrUnknown, err)
	}
	return nil
}

// tell stands for procd's trigger config.change. The lock must not be held: what
// is told may ask the bridge again.
func (b *Bridge) tell(configs ...string) {
	if b.cfg.Changed != nil {
		for _, c := range configs {
			b.cfg.Changed(c)
		}
	}
}

// applying is what "apply" has done and can still be undone, until somebody
// confirms that the router can be reached.
type applying struct {
	sid    string
	files  map[string][]byte
	staged map[string][]change
	timer  *time.Timer
}

func (b *Bridge) uciApply(sid string, args ubus.Table) (ubus.Table, error) {
	rollback, _ := args.GetBool("rollback")
	timeout, ok := args.GetInt("timeout")
	if !ok {
		timeout = 60
	}
	written, err := b.apply(sid, rollback, time.Duration(timeout)*time.Second)
	b.tell(written...)
	return nil, err
}

// apply commits everything that a session has changed. Nothing to do is an error.
func (b *Bridge) apply(sid string, rollback bool, timeout time.Duration) (written []string, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.session(sid)
	switch {
	case b.applying != nil && rollback:
		return nil, ubus.ErrPermissionDenied
	case b.applying != nil:
		return nil, nil
	case s == nil || len(s.staged) == 0:
		return nil, ubus.ErrNoData
	}
	a := &applying{sid: sid, files: map[string][]byte{}, staged: maps.Clone(s.staged)}
	for name := range s.staged {
		if !allowed(s.rights, "uci", name, "write") {
			return nil, ubus.ErrPermissionDenied
		}
	}
	for _, name := range slices.Sorted(maps.Keys(a.staged)) {
		p, err := b.load(name, s)
		if err != nil {
			return written, err
		}
		data, err := os.ReadFile(p.file)
		if err != nil {
			return written, errors.Join(ubus.ErrUnknown, err)
		}
		a.files[name] = data
		if err := s.commit(p); err != nil {
			return written, err
		}
		written = append(written, name)
	}
	if rollback {
		b.applying = a
		a.timer = time.AfterFunc(timeout, func() { b.tell(b.undo(a)...) })
	}
	return written, nil
}

// undo puts files and changes back as they were before an "apply", unless that has
// been confirmed.
func (b *Bridge) undo(a *applying) (written []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.applying != a {
		return nil
	}
	b.applying = nil
	a.timer.Stop()
	s := b.session(a.sid)
	for _, name := range slices.Sorted(maps.Keys(a.files)) {
		if err := uci.Replace(filepath.Join(b.cfg.UCI, name), a.files[name]); err != nil {
			continue
		}
		written = append(written, name)
		if s != nil {
			s.staged[name] = a.staged[name]
		}
	}
	return written
}

// pending is the "apply" that a session may confirm or undo.
func (b *Bridge) pending(sid string) (*applying, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.applying == nil:
		return nil, ubus.ErrNoData
	case b.applying.sid != sid:
		return nil, ubus.ErrPermissionDenied
	}
	return b.applying, nil
}

func (b *Bridge) uciConfirm(sid string, _ ubus.Table) (ubus.Table, error) {
	a, err := b.pending(sid)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.applying == a {
		b.applying = nil
		a.timer.Stop()
	}
	return nil, nil
}

func (b *Bridge) uciRollback(sid string, _ ubus.Table) (ubus.Table, error) {
	a, err := b.pending(sid)
	if err == nil {
		b.tell(b.undo(a)...)
	}
	return nil, err
}
