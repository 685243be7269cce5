package bridge

import (
	"encoding/json"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"htip/src/ubus"
	"htip/tests/openwrt/uci"
)

// cookie carries the session from page to page.
const cookie = "sysauth_http"

// confirmation is what LuCI remembers of an "apply" that is not confirmed yet: the
// browser shows the token, and may have lost its session.
type confirmation struct {
	token, sid string
	until      time.Time
}

// dispatch is LuCI's own part: pages, and what its pages ask for apart from ubus.
func (b *Bridge) dispatch(w http.ResponseWriter, r *http.Request) {
	place := strings.Trim(strings.TrimPrefix(r.URL.Path, script), "/")
	lang := b.language(w, r)
	s := b.cookieSession(r)
	if name, ok := strings.CutPrefix(place, "admin/translations/"); ok {
		b.serveTranslations(w, name)
		return
	}
	switch place {
	case "admin/menu":
		b.serveMenu(w, s)
	case "admin/ubus": // LuCI's own bridge, for routers whose uhttpd has none
		http.NotFound(w, r)
	case "admin/logout":
		if s != nil {
			b.sessionDestroy(s.id, nil)
		}
		http.SetCookie(w, &http.Cookie{Name: cookie, Path: script, MaxAge: -1})
		http.Redirect(w, r, script+"/", http.StatusFound)
	case "admin/uci/confirm":
		b.serveStatus(w, b.confirmed(r.FormValue("token")))
	case "admin/uci/apply_rollback", "admin/uci/apply_unchecked", "admin/uci/revert":
		b.serveUCI(w, r, s, place)
	default:
		b.servePage(w, r, s, place, lang)
	}
}

// cookieSession is the session of a browser, nil when it has none.
func (b *Bridge) cookieSession(r *http.Request) *session {
	c, err := r.Cookie(cookie)
	if err != nil || c.Value == nobody {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.session(c.Value)
}

func (b *Bridge) serveMenu(w http.ResponseWriter, s *session) {
	root, err := b.menu()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var rights []grant
	if s != nil {
		rights = s.rights
	}
	root.limit(rights)
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	json.NewEncoder(w).Encode(root)
}

// servePage shows a page, or the login to who has none.
func (b *Bridge) servePage(w http.ResponseWriter, r *http.Request, s *session, place, lang string) {
	if s == nil {
		b.serveLogin(w, r, lang)
		return
	}
	root, err := b.menu()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	var asked []string
	if place != "" {
		asked = strings.Split(place, "/")
	}
	n, way, groups := root, []string{}, []string(nil)
	step := func(name string) bool {
		c := n.Children[name]
		if c == nil || !c.Satisfied {
			return false
		}
		n, way = c, append(way, name)
		if c.Depends != nil {
			groups = append(groups, c.Depends.ACL...)
		}
		return true
	}
	for _, name := range asked {
		if !step(name) {
			http.Error(w, "No page is registered at '/"+place+"'.", http.StatusNotFound)
			return
		}
	}
	if n.Action != nil && n.Action.Type == "firstchild" {
		for _, name := range n.first(s.rights) {
			step(name)
		}
	}
	read, write := groupAccess(groups, s.rights)
	switch {
	case !read:
		http.Error(w, "Forbidden", http.StatusForbidden)
	case n.Action != nil && (n.Action.Type == "alias" || n.Action.Type == "rewrite"):
		b.servePage(w, r, s, n.Action.Path, lang)
	case n.Action == nil || n.Action.Type != "view":
		http.Error(w, "No page is registered at '/"+place+"'.", http.StatusNotFound)
	default:
		n.ReadOnly = !write
		if len(asked) == 0 {
			asked = way
		}
		b.serveShell(w, r, shell{Lang: lang, View: n.Action.Path, Title: n.Title, Page: strings.Join(asked, "-"), Env: b.env(r, s, n, asked, way)})
	}
}

// env is what a page knows from the start, L.env.
func (b *Bridge) env(r *http.Request, s *session, n *node, asked, way []string) map[string]any {
	number := func(option string, least, usual float64) float64 {
		v, err := strconv.ParseFloat(b.luciOption("apply", option), 64)
		if err != nil {
			v = usual
		}
		return max(v, least)
	}
	env := map[string]any{
		"media": media, "resource": resources, "scriptname": script, "pathinfo": strings.TrimPrefix(r.URL.Path, script),
		"documentroot": "/www", "requestpath": asked, "dispatchpath": way, "pollinterval": 5, "ubuspath": "/ubus/",
		"apply_rollback": number("rollback", 90, 90), "apply_holdoff": number("holdoff", 1, 4),
		"apply_timeout": number("timeout", 1, 5), "apply_display": number("display", 1, 1.5),
		"rollback_token": nil,
	}
	if s != nil {
		env["sessionid"], env["token"], env["nodespec"] = s.id, b.token(s), n
	}
	return env
}

// token is what a page shows to prove that it comes from here.
func (b *Bridge) token(s *session) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	token, _ := s.data.GetString("token")
	return token
}

// luciOption is an option of /etc/config/luci, "" when it is not there.
func (b *Bridge) luciOption(section, option string) string {
	p, err := uci.Read(b.cfg.UCI + "/luci")
	if err != nil {
		return ""
	}
	if s := p.Find(section); s != nil {
		return s.Get(option)
	}
	return ""
}

// serveLogin shows the form, or takes what was typed into it.
func (b *Bridge) serveLogin(w http.ResponseWriter, r *http.Request, lang string) {
	name, password := r.PostFormValue("luci_username"), r.PostFormValue("luci_password")
	if name != "" {
		if s, err := b.login(name, password); err == nil {
			b.mu.Lock()
			s.data.Set("token", randomID())
			b.mu.Unlock()
			http.SetCookie(w, &http.Cookie{Name: cookie, Value: s.id, Path: script, SameSite: http.SameSiteStrictMode, HttpOnly: true})
			http.Redirect(w, r, r.URL.Path, http.StatusFound)
			return
		}
	}
	w.Header().Set("X-LuCI-Login-Required", "yes")
	w.WriteHeader(http.StatusForbidden)
	b.serveShell(w, r, shell{Lang: lang, Login: true, Failed: name != "", View: "bootstrap/sysauth", Env: b.env(r, nil, nil, []string{}, []string{})})
}

// serveUCI is LuCI's own way to apply and revert changes: it takes a POST with the
// page's token.
func (b *Bridge) serveUCI(w http.ResponseWriter, r *http.Request, s *session, place string) {
	switch {
	case s == nil:
		w.Header().Set("X-LuCI-Login-Required", "yes")
		w.WriteHeader(http.StatusForbidden)
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "Method Not Allowed", http.StatusMethodNotAllowed)
	case r.FormValue("token") != b.token(s):
		http.Error(w, "Forbidden", http.StatusForbidden)
	case place == "admin/uci/apply_rollback":
		wait := 90 * time.Second
		written, err := b.apply(s.id, true, wait)
		b.tell(written...)
		if err != nil {
			b.serveStatus(w, err)
			return
		}
		token := randomID()
		b.mu.Lock()
		b.confirm = confirmation{token, s.id, time.Now().Add(wait)}
		b.mu.Unlock()
		w.Header().Set("Content-Type", "application/json; charset=UTF-8")
		json.NewEncoder(w).Encode(map[string]string{"token": token})
	default:
		b.serveStatus(w, b.each(s, place == "admin/uci/revert"))
	}
}

// each commits, or reverts, all of a session's changes.
func (b *Bridge) each(s *session, revert bool) (err error) {
	b.mu.Lock()
	var names []string
	for name := range s.staged {
		names = append(names, name)
	}
	b.mu.Unlock()
	f := b.uciCommit
	if revert {
		f = b.uciRevert
	}
	for _, name := range names {
		if _, err = f(s.id, ubus.T("config", name)); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bridge) confirmed(token string) error {
	b.mu.Lock()
	c := b.confirm
	b.mu.Unlock()
	switch {
	case c.token == "" || time.Now().After(c.until):
		return ubus.ErrNoData
	case c.token != token:
		return ubus.ErrPermissionDenied
	}
	_, err := b.uciConfirm(c.sid, nil)
	if err == nil {
		b.mu.Lock()
		b.confirm = confirmation{}
		b.mu.Unlock()
	}
	return err
}

// httpStatus is how LuCI tells a status of ubus to a browser.
var httpStatus = map[ubus.Status]int{
	ubus.StatusOK: 200, ubus.StatusInvalidCommand: 400, ubus.StatusInvalidArgument: 400, ubus.StatusMethodNotFound: 404,
	ubus.StatusNotFound: 404, ubus.StatusNoData: 204, ubus.StatusPermissionDenied: 403, ubus.StatusTimeout: 504,
}

func (b *Bridge) serveStatus(w http.ResponseWriter, err error) {
	st := ubus.StatusOf(err)
	code, ok := httpStatus[st]
	if !ok {
		code = http.StatusInternalServerError
	}
	w.Header().Set("Content-Type", "text/plain")
	w.WriteHeader(code)
	if code != http.StatusNoContent {
		w.Write([]byte(st.Error()))
	}
}

// language is the page's: what ?lang= said last, or the router's.
func (b *Bridge) language(w http.ResponseWriter, r *http.Request) string {
	if l := r.URL.Query().Get("lang"); packageName.MatchString(l) {
		http.SetCookie(w, &http.Cookie{Name: "lang", Value: url.QueryEscape(l), Path: script})
		return l
	}
	if c, err := r.Cookie("lang"); err == nil && packageName.MatchString(c.Value) {
		return c.Value
	}
	if l := b.luciOption("main", "lang"); l != "" && l != "auto" {
		return strings.ReplaceAll(l, "_", "-")
	}
	return "en"
}
