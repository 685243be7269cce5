package bridge

import (
	"slices"
	"strings"
	"time"

	"htip/src/ubus"
)

// nobody is the session of everybody who has not logged in.
const nobody = "00000000000000000000000000000000"

// session is what rpcd remembers of a login.
type session struct {
	id      string
	user    string
	rights  []grant
	timeout time.Duration // 0: it does not end by itself
	expires time.Time
	data    ubus.Table
	staged  map[string][]change // what is not committed yet, by configuration
}

func (b *Bridge) newSession(id string, u *User, timeout time.Duration) *session {
	return &session{id: id, rights: grants(b.groups, u), timeout: timeout, expires: time.Now().Add(timeout), staged: map[string][]change{}}
}

// session finds a session that has not ended, and lets it last on. The lock must
// be held.
func (b *Bridge) session(id string) *session {
	s := b.sessions[id]
	switch {
	case s == nil:
		return nil
	case s.timeout > 0 && time.Now().After(s.expires):
		delete(b.sessions, id)
		return nil
	}
	s.expires = time.Now().Add(s.timeout)
	return s
}

// access tells whether a session has a right.
func (b *Bridge) access(sid, scope, object, function string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.session(sid)
	return s != nil && allowed(s.rights, scope, object, function)
}

// login makes a session.
func (b *Bridge) login(name, password string) (*session, error) {
	i := slices.IndexFunc(b.cfg.Users, func(u User) bool { return u.Name == name && u.Password == password })
	if i < 0 {
		return nil, ubus.ErrPermissionDenied
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.newSession(randomID(), &b.cfg.Users[i], b.cfg.SessionTimeout)
	s.user = name
	s.data.Set("username", name)
	b.sessions[s.id] = s
	return s, nil
}

// Expire ends all sessions, as if nobody had done anything for too long.
func (b *Bridge) Expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id := range b.sessions {
		if id != nobody {
			delete(b.sessions, id)
		}
	}
}

// sessionObject is rpcd's object of that name, as far as a browser needs it.
func (b *Bridge) sessionObject() object {
	str := func(names ...string) (args []ubus.Arg) {
		for _, n := range append([]string{ubus.SessionArg}, names...) {
			args = append(args, ubus.Arg{Name: n, Type: ubus.TypeString})
		}
		return args
	}
	return object{
		"login":   {append(str("username", "password")[1:], ubus.Arg{Name: "timeout", Type: ubus.TypeInt32}), b.sessionLogin},
		"access":  {str("scope", "object", "function"), b.sessionAccess},
		"get":     {append(str(), ubus.Arg{Name: "keys", Type: ubus.TypeArray}), b.sessionGet},
		"set":     {append(str(), ubus.Arg{Name: "values", Type: ubus.TypeTable}), b.sessionSet},
		"destroy": {str(), b.sessionDestroy},
	}
}

func (b *Bridge) sessionLogin(_ string, args ubus.Table) (ubus.Table, error) {
	name, ok := args.GetString("username")
	password, ok2 := args.GetString("password")
	if !ok || !ok2 {
		return nil, ubus.ErrInvalidArgument
	}
	s, err := b.login(name, password)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if n, ok := args.GetInt("timeout"); ok {
		s.timeout = time.Duration(n) * time.Second
		s.expires = time.Now().Add(s.timeout)
	}
	seconds := int64(s.timeout / time.Second)
	return ubus.T(ubus.SessionArg, s.id, "timeout", seconds, "expires", seconds, "acls", rightsTable(s.rights), "data", s.data), nil
}

// of finds the session that a call is about: the caller's own.
func (b *Bridge) of(sid string, f func(s *session) (ubus.Table, error)) (ubus.Table, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	s := b.session(sid)
	if s == nil {
		return nil, ubus.ErrNotFound
	}
	return f(s)
}

func (b *Bridge) sessionAccess(sid string, args ubus.Table) (ubus.Table, error) {
	return b.of(sid, func(s *session) (ubus.Table, error) {
		o, ok := args.GetString("object")
		f, ok2 := args.GetString("function")
		if !ok || !ok2 {
			return rightsTable(s.rights), nil
		}
		scope, ok := args.GetString("scope")
		if !ok {
			scope = "ubus"
		}
		return ubus.T("access", allowed(s.rights, scope, o, f)), nil
	})
}

func (b *Bridge) sessionGet(sid string, args ubus.Table) (ubus.Table, error) {
	return b.of(sid, func(s *session) (ubus.Table, error) {
		keys, some := args.GetStrings("keys")
		values := ubus.Table{}
		for _, f := range s.data {
			if !some || slices.Contains(keys, f.Name) {
				values = append(values, f)
			}
		}
		return ubus.T("values", values), nil
	})
}

func (b *Bridge) sessionSet(sid string, args ubus.Table) (ubus.Table, error) {
	values, ok := args.GetTable("values")
	if !ok {
		return nil, ubus.ErrInvalidArgument
	}
	return b.of(sid, func(s *session) (ubus.Table, error) {
		for _, f := range values {
			s.data.Set(f.Name, f.Value)
		}
		return nil, nil
	})
}

func (b *Bridge) sessionDestroy(sid string, _ ubus.Table) (ubus.Table, error) {
	if sid == nobody {
		return nil, ubus.ErrPermissionDenied
	}
	return b.of(sid, func(s *session) (ubus.Table, error) {
		delete(b.sessions, s.id)
		return nil, nil
	})
}

// rightsTable is rights as "session access" tells all of them: functions by
// objects by scopes.
func rightsTable(rights []grant) ubus.Table {
	sorted := slices.Clone(rights)
	slices.SortStableFunc(sorted, func(x, y grant) int {
		if c := strings.Compare(x.scope, y.scope); c != 0 {
			return c
		}
		return strings.Compare(x.object, y.object)
	})
	out := ubus.Table{}
	for _, g := range sorted {
		scope, _ := out.GetTable(g.scope)
		functions, _ := scope.GetArray(g.object)
		scope.Set(g.object, append(functions, any(g.function)))
		out.Set(g.scope, scope)
	}
	return out
}
