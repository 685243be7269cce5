package bridge

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"htip/tests/openwrt/uci"
)

// node is a page, or a place in the menu. The JSON names are LuCI's, since its
// menu is drawn in the browser.
type node struct {
	Title     string           `json:"title,omitempty"`
	Order     int              `json:"order,omitempty"`
	Action    *action          `json:"action,omitempty"`
	Depends   *depends         `json:"depends,omitempty"`
	Auth      *auth            `json:"auth,omitempty"`
	Skipped   bool             `json:"firstchild_ineligible,omitempty"`
	Satisfied bool             `json:"satisfied"`
	ReadOnly  bool             `json:"readonly,omitempty"`
	Children  map[string]*node `json:"children,omitempty"`
}

type action struct {
	Type string `json:"type"`
	Path string `json:"path,omitempty"`
}

type depends struct {
	ACL []string        `json:"acl,omitempty"`
	UCI json.RawMessage `json:"uci,omitempty"`
}

type auth struct {
	Methods []string `json:"methods,omitempty"`
	Login   bool     `json:"login,omitempty"`
}

// baseMenu is where apps hang their pages. The status page stands for what is
// there on every router: one can leave the app for it.
const baseMenu = `{
	"admin": {"title": "Administration", "order": 10, "action": {"type": "firstchild"},
		"auth": {"methods": ["cookie:sysauth_http"], "login": true}},
	"admin/status": {"title": "Status", "order": 10, "action": {"type": "firstchild"}},
	"admin/services": {"title": "Services", "order": 30, "action": {"type": "firstchild"}},
	"admin/vpn": {"title": "VPN", "order": 50, "action": {"type": "firstchild"}},
	"admin/network": {"title": "Network", "order": 60, "action": {"type": "firstchild"}},
	"admin/logout": {"title": "Log out", "order": 999, "action": {"type": "function"},
		"depends": {"acl": ["luci-base"]}, "firstchild_ineligible": true}
}`

// menu is the tree of all pages, before it is known who asks.
func (b *Bridge) menu() (*node, error) {
	root := &node{Satisfied: true, Action: &action{Type: "firstchild"}}
	names, err := filepath.Glob(filepath.Join(b.cfg.App.Root, "usr/share/luci/menu.d/*.json"))
	if err != nil {
		return nil, err
	}
	if err := b.graft(root, []byte(baseMenu)); err != nil {
		return nil, err
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err == nil {
			err = b.graft(root, data)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return root, nil
}

// graft adds the pages of one file.
func (b *Bridge) graft(root *node, data []byte) error {
	var file map[string]node
	if err := json.Unmarshal(data, &file); err != nil {
		return err
	}
	for _, where := range slices.Sorted(maps.Keys(file)) {
		at := root
		for step := range strings.SplitSeq(where, "/") {
			if at.Children == nil {
				at.Children = map[string]*node{}
			}
			if at.Children[step] == nil {
				at.Children[step] = &node{Satisfied: true}
			}
			at = at.Children[step]
		}
		children := at.Children
		*at = file[where]
		at.Children = children
		at.Satisfied = at.Depends == nil || b.configured(at.Depends.UCI)
	}
	return nil
}

// configured tells whether the files are as a page depends on: one condition, or a
// list of which one must hold. A condition is a table by configuration: true wants
// any section, a table by section (or @type) wants options.
func (b *Bridge) configured(want json.RawMessage) bool {
	if want == nil {
		return true
	}
	var alternatives []map[string]json.RawMessage
	if json.Unmarshal(want, &alternatives) != nil {
		var one map[string]json.RawMessage
		if json.Unmarshal(want, &one) != nil {
			return true
		}
		alternatives = append(alternatives, one)
	}
	return slices.ContainsFunc(alternatives, func(all map[string]json.RawMessage) bool {
		for name, cond := range all {
			p, err := uci.Read(filepath.Join(b.cfg.UCI, name))
			if err != nil || !holds(p, cond) {
				return false
			}
		}
		return true
	})
}

func holds(p *uci.Package, cond json.RawMessage) bool {
	var sections map[string]json.RawMessage
	if json.Unmarshal(cond, &sections) != nil {
		return len(p.Sections) > 0
	}
	for ref, options := range sections {
		among := p.Of(strings.TrimPrefix(ref, "@"))
		if !strings.HasPrefix(ref, "@") {
			among = nil
			if s := p.Find(ref); s != nil {
				among = []*uci.Section{s}
			}
		}
		if !slices.ContainsFunc(among, func(s *uci.Section) bool { return hasOptions(s, options) }) {
			return false
		}
	}
	return true
}

func hasOptions(s *uci.Section, cond json.RawMessage) bool {
	var kind string
	if json.Unmarshal(cond, &kind) == nil {
		return s.Type == kind
	}
	var options map[string]any
	if json.Unmarshal(cond, &options) != nil {
		return len(s.Options) > 0
	}
	for name, want := range options {
		if o := s.Option(name); o == nil || want != true && !slices.Contains(o.Values, fmt.Sprint(want)) {
			return false
		}
	}
	return true
}

// groupAccess tells what a session may do with pages that depend on groups: all of
// them must be readable, and one of them writable for the page to be more than
// readable.
func groupAccess(groups []string, rights []grant) (read, write bool) {
	if len(groups) == 0 {
		return true, true
	}
	for _, g := range groups {
		w := allowed(rights, "access-group", g, "write")
		if !w && !allowed(rights, "access-group", g, "read") {
			return false, false
		}
		write = write || w
	}
	return true, write
}

// limit marks what a session may not see, and what it may not change.
func (n *node) limit(rights []grant) {
	for _, c := range n.Children {
		c.limit(rights)
	}
	if n.Depends == nil {
		return
	}
	read, write := groupAccess(n.Depends.ACL, rights)
	n.Satisfied = n.Satisfied && read
	n.ReadOnly = read && !write
}

// first is where "firstchild" leads: to the page that comes first of those that
// the session may see. nil when there is none.
func (n *node) first(rights []grant) (way []string) {
	best := ""
	var below []string
	for _, name := range slices.Sorted(maps.Keys(n.Children)) {
		c := n.Children[name]
		if !c.Satisfied || c.Title == "" || c.Action == nil || c.Skipped {
			continue
		}
		if c.Depends != nil {
			if read, _ := groupAccess(c.Depends.ACL, rights); !read {
				continue
			}
		}
		var rest []string
		if c.Action.Type == "firstchild" {
			if rest = c.first(rights); rest == nil {
				continue
			}
		}
		if best == "" || cmp.Or(c.Order, 9999) < cmp.Or(n.Children[best].Order, 9999) {
			best, below = name, rest
		}
	}
	if best == "" {
		return nil
	}
	return append([]string{best}, below...)
}
