package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"htip/src/slog"
	"htip/src/ubus"
	"htip/tests/ubusd"
)

const testACL = `{
	"app": {
		"read": {"ubus": {"thing": ["look", "slow"], "w*": ["*"]}, "uci": ["htip"]},
		"write": {"ubus": {"thing": ["touch"], "uci": ["*"]}, "uci": ["htip"]}
	},
	"other": {"read": {"ubus": {"secret": ["*"]}}}
}`

const testMenu = `{
	"admin/services/app": {"title": "App", "action": {"type": "firstchild"}, "depends": {"acl": ["app"], "uci": {"htip": {"main": {"enabled": "1"}}}}},
	"admin/services/app/second": {"title": "Second", "order": 2, "action": {"type": "view", "path": "app/second"}},
	"admin/services/app/first": {"title": "First <1>", "order": 1, "action": {"type": "view", "path": "app/first"}}
}`

const testConfig = `# a comment
config htip 'main'
	option enabled '1'
	option domain 'alice.example.org'
	list network '192.168.1.0/24'
	list network '10.0.0.0/8'

config peer 'bob'
	option domain 'bob.example.org'

config rule
	option words 'a b'

config rule
	option words 'c'
`

// router is a bridge with a bus of one object, "thing", and a browser.
type router struct {
	t       *testing.T
	b       *Bridge
	dir     string
	url     string
	browser *http.Client

	mu      sync.Mutex
	changed []string
}

func newRouter(t *testing.T) *router {
	t.Helper()
	r := &router{t: t, dir: t.TempDir()}
	for name, text := range map[string]string{
		"root/usr/share/rpcd/acl.d/app.json": testACL, "root/usr/share/luci/menu.d/app.json": testMenu,
		"config/htip": testConfig, "config/luci": "config core 'main'\n", "config/other": "config a 'b'\n",
		"htdocs/luci-static/resources/view/app/first.js": "'use strict';", "po/de/app.po": testPo,
	} {
		name = filepath.Join(r.dir, name)
		os.MkdirAll(filepath.Dir(name), 0o755)
		if err := os.WriteFile(name, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	socket := filepath.Join(r.dir, "ubus.sock")
	broker, err := ubusd.Listen(ubusd.Config{Socket: socket})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { broker.Close() })
	server, err := ubus.NewServer(ubus.ServerConfig{Socket: socket, Options: ubus.Options{Log: slog.New(slog.NewTextHandler(io.Discard, nil))}, Objects: []*ubus.Object{{Name: "thing", Methods: []ubus.Method{
		{Name: "look", Args: []ubus.Arg{{Name: "at", Type: ubus.TypeString}}, Handler: func(_ context.Context, q *ubus.Request) (ubus.Table, error) {
			at, _ := q.Args.GetString("at")
			return ubus.T("seen", at), nil
		}},
		{Name: "touch", Handler: func(context.Context, *ubus.Request) (ubus.Table, error) { return nil, ubus.ErrNotFound }},
		{Name: "slow", Handler: func(ctx context.Context, _ *ubus.Request) (ubus.Table, error) {
			<-ctx.Done()
			return nil, nil
		}},
	}}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- server.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	<-server.Ready()
	r.b, err = New(Config{
		Socket: socket, UCI: filepath.Join(r.dir, "config"), App: AppIn(r.dir),
		Users: []User{Root("secret"), Guest("guest")},
		Changed: func(config string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.changed = append(r.changed, config)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	web := httptest.NewServer(r.b)
	t.Cleanup(web.Close)
	jar, _ := cookiejar.New(nil)
	r.url, r.browser = web.URL, &http.Client{Jar: jar}
	return r
}

// post sends a body to /ubus/ and returns what comes.
func (r *router) post(body string) string {
	r.t.Helper()
	res, err := r.browser.Post(r.url+"/ubus/", "application/json", strings.NewReader(body))
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	out, _ := io.ReadAll(res.Body)
	return string(out)
}

// call is what a call gives: the result, or the error's code.
func (r *router) call(sid, object, method, args string) string {
	r.t.Helper()
	var reply struct {
		Result json.RawMessage
		Error  struct{ Code int }
	}
	text := r.post(fmt.Sprintf(`{"jsonrpc":"2.0","id":1,"method":"call","params":[%q,%q,%q,%s]}`, sid, object, method, args))
	if err := json.Unmarshal([]byte(text), &reply); err != nil {
		r.t.Fatalf("%s: %v", text, err)
	}
	if reply.Error.Code != 0 {
		return fmt.Sprint(reply.Error.Code)
	}
	return string(reply.Result)
}

func (r *router) login(name, password string) string {
	r.t.Helper()
	s, err := r.b.login(name, password)
	if err != nil {
		r.t.Fatal(err)
	}
	return s.id
}

func (r *router) file(name string) string {
	r.t.Helper()
	data, err := os.ReadFile(filepath.Join(r.dir, "config", name))
	if err != nil {
		r.t.Fatal(err)
	}
	return string(data)
}

func TestRequests(t *testing.T) {
	r := newRouter(t)
	sid := r.login("root", "secret")
	call := `{"jsonrpc":"2.0","id":7,"method":"call","params":["` + sid + `","thing","look",{"at":"x"}]}`
	for _, c := range []struct{ body, want string }{
		{``, `"id":null,"error":{"code":-32700,"message":"Parse error"}`},
		{`5`, `"error":{"code":-32700,`},
		{`{`, `"error":{"code":-32700,`},
		{`{"jsonrpc":"1.0","id":1,"method":"call","params":[]}`, `"id":1,"error":{"code":-32700,`},
		{`{"jsonrpc":"2.0","id":1,"method":"call"}`, `"error":{"code":-32700,`},
		{`{"jsonrpc":"2.0","id":1,"method":"call","params":["a","b","c"]}`, `"error":{"code":-32700,`},
		{`{"jsonrpc":"2.0","id":"a","method":"dance"}`, `"id":"a","error":{"code":-32601,"message":"Method not found"}`},
		{strings.Replace(call, `"at":"x"`, `"ubus_rpc_session":"x"`, 1), `"error":{"code":-32602,`},
		{strings.Replace(call, "x", strings.Repeat("x", maxPost), 1), `"error":{"code":-32700,`},
		{call, `{"jsonrpc":"2.0","id":7,"result":[0,{"seen":"x"}]}`},
		{`[` + call + `,{"jsonrpc":"2.0","id":8,"method":"dance"}]`, `[{"jsonrpc":"2.0","id":7,"result":[0,{"seen":"x"}]},{"jsonrpc":"2.0","id":8,"error":{"code":-32601,"message":"Method not found"}}]`},
		{`[]`, `[]`},
		{`{"jsonrpc":"2.0","id":1,"method":"list","params":["thing","sess*"]}`, `"thing":{"look":{"at":"string"},"touch":{},"slow":{}}`},
		{`{"jsonrpc":"2.0","id":1,"method":"list"}`, `"result":["luci","session","uci","thing"]`},
	} {
		if got := r.post(c.body); !strings.Contains(got, c.want) {
			t.Errorf("%.100s gives %s, want %s", c.body, got, c.want)
		}
	}
}

func TestAccess(t *testing.T) {
	r := newRouter(t)
	root, guest := r.login("root", "secret"), r.login("guest", "guest")
	for _, c := range []struct{ sid, object, method, args, want string }{
		{root, "nothing", "look", `{}`, "-32000"}, // before anybody asks for rights
		{"0123", "thing", "look", `{}`, "-32002"},
		{nobody, "thing", "look", `{}`, "-32002"},
		{nobody, "luci", "getFeatures", `{}`, `[0,{"firewall4":true,"opkg":true,"ipv6":true,"sysntpd":true}]`},
		{nobody, "session", "login", `{"username":"root","password":"wrong"}`, "[6]"},
		{nobody, "session", "login", `{"username":"root"}`, "[2]"},
		{guest, "thing", "touch", `{}`, "-32002"},
		{guest, "uci", "set", `{"config":"htip","section":"main","values":{"x":"1"}}`, "-32002"},
		{guest, "uci", "get", `{"config":"htip","section":"bob","option":"domain"}`, `[0,{"value":"bob.example.org"}]`},
		{guest, "uci", "get", `{"config":"other"}`, "[6]"},
		{guest, "thing", "look", `{"at":"y"}`, `[0,{"seen":"y"}]`},
		{root, "thing", "touch", `{}`, "[4]"}, // the method's own answer
		{root, "thing", "dance", `{}`, "-32002"},
		{root, "thing", "look", `{"bad":1}`, "[2]"},
		{root, "uci", "dance", `{}`, "[3]"},
		{root, "uci", "set", `{"config":"other","section":"b","values":{"x":"1"}}`, "[6]"},
		{root, "session", "access", `{"scope":"uci","object":"htip","function":"write"}`, `[0,{"access":true}]`},
		{guest, "session", "access", `{"scope":"uci","object":"htip","function":"write"}`, `[0,{"access":false}]`},
		{guest, "session", "access", `{"scope":"access-group","object":"app","function":"read"}`, `[0,{"access":true}]`},
	} {
		if got := r.call(c.sid, c.object, c.method, c.args); got != c.want {
			t.Errorf("%s %s %s gives %s, want %s", c.object, c.method, c.args, got, c.want)
		}
	}
	rights := r.call(guest, "session", "access", `{}`)
	for _, want := range []string{`"w*":["*"]`, `"access-group":{"app":["read"],"luci-base":["read"],"other":["read"],"unauthenticated":["read"]}`, `"uci":{"htip":["read"],`} {
		if !strings.Contains(rights, want) {
			t.Errorf("no %s in %s", want, rights)
		}
	}
}

func TestCallTakesTooLong(t *testing.T) {
	r := newRouter(t)
	r.b.cfg.CallTimeout = 50 * time.Millisecond
	if got := r.call(r.login("root", "secret"), "thing", "slow", `{}`); got != "-32003" {
		t.Error(got)
	}
}

func TestSessionsEnd(t *testing.T) {
	r := newRouter(t)
	var reply []json.RawMessage
	var login struct {
		SID string `json:"ubus_rpc_session"`
	}
	json.Unmarshal([]byte(r.call(nobody, "session", "login", `{"username":"root","password":"secret","timeout":60}`)), &reply)
	if len(reply) != 2 || json.Unmarshal(reply[1], &login) != nil || len(login.SID) != 32 {
		t.Fatalf("login gives %s", reply)
	}
	// expires makes it end in a while, and returns when it did so before.
	expires := func(in time.Duration) time.Time {
		r.b.mu.Lock()
		defer r.b.mu.Unlock()
		s := r.b.sessions[login.SID]
		old := s.expires
		s.expires = time.Now().Add(in)
		return old
	}
	expires(30 * time.Second)
	if got := r.call(login.SID, "thing", "look", `{"at":"x"}`); got != `[0,{"seen":"x"}]` {
		t.Fatal(got)
	}
	if left := time.Until(expires(-time.Second)); left <= 30*time.Second || left > time.Minute {
		t.Errorf("use makes it last for %v more", left)
	}
	if got := r.call(login.SID, "thing", "look", `{"at":"x"}`); got != "-32002" {
		t.Error(got)
	}
	sid := r.login("root", "secret")
	r.b.sessionSet(sid, ubus.T("values", ubus.T("token", "abc")))
	if v, err := r.b.sessionGet(sid, ubus.T("keys", ubus.Array{"token"})); err != nil || string(ubus.AppendJSON(nil, v)) != `{"values":{"token":"abc"}}` {
		t.Error(v, err)
	}
	r.b.sessionDestroy(sid, nil)
	if got := r.call(sid, "thing", "look", `{}`); got != "-32002" {
		t.Error(got)
	}
	if _, err := r.b.sessionDestroy(nobody, nil); err != ubus.ErrPermissionDenied {
		t.Error(err)
	}
}

func TestWildcards(t *testing.T) {
	for _, c := range []struct {
		pattern, s string
		want       bool
	}{
		{"a", "b", false}, {"a", "ab", false}, {"a?", "a", false}, {"[!a]", "a", false}, {"a.c", "abc", false}, {"[", "a", false},
		{"a", "a", true}, {"*", "", true}, {"a*c", "a/b/c", true}, {"a?c", "abc", true}, {"[!a]", "b", true}, {"[a-c]x", "bx", true}, {"a.b", "a.b", true}, {"[", "[", true},
	} {
		if got := wild(c.pattern, c.s); got != c.want {
			t.Errorf("%s matches %s: %v", c.pattern, c.s, got)
		}
	}
}

// page fetches a page.
func (r *router) page(where string) (int, string) {
	r.t.Helper()
	res, err := r.browser.Get(r.url + script + where)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

func (r *router) enter(name, password string) {
	r.t.Helper()
	res, err := r.browser.PostForm(r.url+script+"/admin/services/app", url.Values{"luci_username": {name}, "luci_password": {password}})
	if err != nil {
		r.t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != 200 {
		r.t.Fatalf("login: %s", res.Status)
	}
}

func TestPages(t *testing.T) {
	r := newRouter(t)
	if code, body := r.page("/admin/services/app"); code != 403 || !strings.Contains(body, `name="luci_password"`) || strings.Contains(body, "sessionid") {
		t.Error(code, body)
	}
	res, _ := r.browser.PostForm(r.url+script+"/", url.Values{"luci_username": {"root"}, "luci_password": {"wrong"}})
	if res.StatusCode != 403 || res.Header.Get("X-LuCI-Login-Required") != "yes" {
		t.Error(res.Status)
	}
	r.enter("root", "secret")
	for _, c := range []struct {
		where string
		code  int
		want  []string
	}{
		{"/admin/services/nothing", 404, []string{"No page"}},
		{"/admin/services/app/first/more", 404, nil},
		{"/admin/services/app", 200, []string{`instantiateView("app/first")`, `"dispatchpath":["admin","services","app","first"]`, `data-page="admin-services-app"`, `OpenWrt | First &lt;1&gt;`}},
		{"/admin/services/app/second", 200, []string{`instantiateView("app/second")`}},
		{"/", 200, []string{`instantiateView("app/first")`}},
		{"/admin/menu", 200, []string{`"title":"First \u003c1\u003e"`}},
	} {
		code, body := r.page(c.where)
		if code != c.code {
			t.Errorf("%s: %d", c.where, code)
		}
		for _, w := range c.want {
			if !strings.Contains(body, w) {
				t.Errorf("%s: no %s in %s", c.where, w, body)
			}
		}
		if strings.Contains(body, `"readonly":true`) {
			t.Errorf("%s: root may only look", c.where)
		}
	}
	os.WriteFile(filepath.Join(r.dir, "config/htip"), []byte("config htip 'main'\n\toption enabled '0'\n"), 0o600)
	if code, _ := r.page("/admin/services/app"); code != 404 {
		t.Error("a page is there whose configuration is not")
	}
}

func TestGuestMayLook(t *testing.T) {
	r := newRouter(t)
	r.enter("guest", "guest")
	if code, body := r.page("/admin/services/app/first"); code != 200 || !strings.Contains(body, `"readonly":true`) {
		t.Error(code, body)
	}
	if code, body := r.page("/admin/menu"); code != 200 || !strings.Contains(body, `"readonly":true`) {
		t.Error(code, body)
	}
	if code, _ := r.page("/admin/logout"); code != 403 {
		t.Errorf("after the logout: %d", code)
	}
}

func TestLanguages(t *testing.T) {
	r := newRouter(t)
	r.enter("root", "secret")
	if _, body := r.page("/admin/services/app?lang=x-pseudo"); !strings.Contains(body, `<html lang="x-pseudo">`) || !strings.Contains(body, "⟦") {
		t.Error(body)
	}
	if _, body := r.page("/admin/services/app?lang=de"); strings.Contains(body, "⟦") {
		t.Error(body)
	}
	if _, body := r.page("/admin/services/app"); !strings.Contains(body, `<html lang="de">`) {
		t.Error("forgotten")
	}
	_, body := r.page("/admin/translations/de")
	var tr map[string]string
	if err := json.Unmarshal([]byte(strings.TrimSuffix(strings.TrimPrefix(body, "window.TR="), ";")), &tr); err != nil {
		t.Fatal(body, err)
	}
	for k, want := range map[string]string{
		"": "nplurals=2; plural=(n != 1);", "Yes": "Ja", "long text": "langer\nText", "menu\x01Open": "Öffnen", "%d home\x020": "%d Heim", "%d home\x021": "%d Heime",
	} {
		if tr[k] != want {
			t.Errorf("%q is %q, want %q", k, tr[k], want)
		}
	}
	if len(tr) != 6 {
		t.Error(tr)
	}
	os.WriteFile(filepath.Join(r.dir, "po/de/app.po"), []byte("msgid \"a\"\nnonsense\n"), 0o600)
	if code, _ := r.page("/admin/translations/de"); code != 500 {
		t.Error("a bad file passes for a good one")
	}
}

const testPo = `# comment
msgid ""
msgstr ""
"Language: de\n"
"Plural-Forms: nplurals=2; plural=(n != 1);\n"

msgid "Yes"
msgstr "Ja"

msgid ""
"long "
"text"
msgstr "langer\nText"

msgctxt "menu"
msgid "Open"
msgstr "Öffnen"

msgid "not translated"
msgstr ""

msgid "%d home"
msgid_plural "%d homes"
msgstr[0] "%d Heim"
msgstr[1] "%d Heime"
`

func TestResources(t *testing.T) {
	r := newRouter(t)
	for name, want := range map[string]int{
		"/luci-static/resources/view/app/first.js": 200, "/luci-static/resources/luci.js": 200, "/luci-static/bootstrap/cascade.css": 200,
		"/luci-static/resources/view/app/none.js": 404, "/luci-static/resources/luci.go": 404, "/luci-static/resources/../../../config/htip": 404, "/luci-static/bootstrap/none.css": 404,
	} {
		req, _ := http.NewRequest("GET", r.url+name, nil)
		req.Header.Set("Accept-Encoding", "gzip")
		res, err := r.browser.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != want || res.Header.Get("Content-Encoding") != "" {
			t.Errorf("%s: %s %s", name, res.Status, res.Header)
		}
	}
}

func TestBadFilesAreTold(t *testing.T) {
	for _, name := range []string{"usr/share/rpcd/acl.d/a.json", "usr/share/luci/menu.d/a.json"} {
		dir := t.TempDir()
		file := filepath.Join(dir, "root", name)
		os.MkdirAll(filepath.Dir(file), 0o755)
		os.WriteFile(file, []byte(`{"a": 5}`), 0o600)
		if _, err := New(Config{App: AppIn(dir)}); err == nil || !strings.Contains(err.Error(), file) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func (r *router) told() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.changed)
}
