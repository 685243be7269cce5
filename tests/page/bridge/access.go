package bridge

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// accessGroup is one group of a file in /usr/share/rpcd/acl.d: rights, by "read"
// and "write".
type accessGroup struct {
	name   string
	rights map[string][]grant
}

// grant is one right: to use a function of an object. Both may have wildcards.
// Scope is ubus, uci, or "access-group" for the groups themselves.
type grant struct{ scope, object, function string }

// baseGroups is what every router with LuCI has: what a browser may do before a
// login, and what LuCI's own core needs.
const baseGroups = `{
	"unauthenticated": {"read": {"ubus": {"session": ["access", "login"], "luci": ["getFeatures"]}}},
	"luci-base": {
		"read": {"ubus": {"uci": ["changes", "get"]}, "uci": ["luci", "system"]},
		"write": {"ubus": {"uci": ["add", "apply", "confirm", "delete", "order", "rename", "set"]}}
	}
}`

// readGroups reads the files of a pattern, and adds the base.
func readGroups(pattern string) ([]accessGroup, error) {
	names, err := filepath.Glob(pattern)
	if err != nil {
		return nil, err
	}
	groups, err := parseGroups([]byte(baseGroups))
	for _, name := range names {
		data, e := os.ReadFile(name)
		if e != nil {
			return nil, e
		}
		more, e := parseGroups(data)
		if e != nil {
			return nil, fmt.Errorf("%s: %w", name, e)
		}
		groups = append(groups, more...)
	}
	return groups, err
}

func parseGroups(data []byte) (out []accessGroup, err error) {
	var file map[string]map[string]json.RawMessage
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(file)) {
		g := accessGroup{name: name, rights: map[string][]grant{}}
		for _, kind := range []string{"read", "write"} {
			if file[name][kind] == nil {
				continue
			}
			if g.rights[kind], err = parseScopes(kind, file[name][kind]); err != nil {
				return nil, fmt.Errorf("group %s, %s: %w", name, kind, err)
			}
		}
		out = append(out, g)
	}
	return out, nil
}

// parseScopes reads the scopes of one kind. A scope is a table of objects with
// their functions, or a list of objects, for which the kind is the function.
func parseScopes(kind string, data []byte) (out []grant, err error) {
	var scopes map[string]json.RawMessage
	if err := json.Unmarshal(data, &scopes); err != nil {
		return nil, err
	}
	for _, scope := range slices.Sorted(maps.Keys(scopes)) {
		var objects []string
		if json.Unmarshal(scopes[scope], &objects) == nil {
			for _, o := range objects {
				out = append(out, grant{scope, o, kind})
			}
			continue
		}
		var table map[string][]string
		if err := json.Unmarshal(scopes[scope], &table); err != nil {
			return nil, fmt.Errorf("scope %s: %w", scope, err)
		}
		for _, o := range slices.Sorted(maps.Keys(table)) {
			for _, f := range table[o] {
				out = append(out, grant{scope, o, f})
			}
		}
	}
	return out, nil
}

// grants are the rights of a user; nil is somebody who has not logged in.
func grants(groups []accessGroup, u *User) (out []grant) {
	for _, g := range groups {
		for kind, rights := range g.rights {
			if u.permits(kind, g.name) {
				out = append(out, rights...)
				out = append(out, grant{"access-group", g.name, kind})
			}
		}
	}
	return out
}

// permits tells whether a user has the rights of a kind of a group.
func (u *User) permits(kind, group string) bool {
	if u == nil {
		return group == "unauthenticated"
	}
	is := func(pattern string) bool { return wild(pattern, group) }
	return slices.ContainsFunc(u.Write, is) || kind == "read" && slices.ContainsFunc(u.Read, is)
}

// allowed tells whether one of the rights is meant.
func allowed(rights []grant, scope, object, function string) bool {
	return slices.ContainsFunc(rights, func(g grant) bool {
		return g.scope == scope && wild(g.object, object) && wild(g.function, function)
	})
}

var wildcards = regexp.MustCompile(`\*|\?|\[[!^]?[^]]+\]|[^*?[]+|\[`)

// wild is the C library's fnmatch without any flag: a star goes across slashes.
func wild(pattern, s string) bool {
	re := wildcards.ReplaceAllStringFunc(pattern, func(part string) string {
		switch {
		case part == "*":
			return ".*"
		case part == "?":
			return "."
		case part[0] == '[' && len(part) > 1:
			return "[" + strings.Replace(part[1:], "!", "^", 1)
		}
		return regexp.QuoteMeta(part)
	})
	ok, err := regexp.MatchString("(?s)^(?:"+re+")$", s)
	return ok && err == nil
}
