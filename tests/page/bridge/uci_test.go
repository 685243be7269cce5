package bridge

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// uci is a call of the object uci on the configuration htip.
func (r *router) uci(sid, method, args string) string {
	r.t.Helper()
	if args != "" {
		args = "," + args
	}
	return r.call(sid, "uci", method, `{"config":"htip"`+args+`}`)
}

func TestGet(t *testing.T) {
	r := newRouter(t)
	sid := r.login("root", "secret")
	for _, c := range []struct{ args, want string }{
		{`"section":"main"`, `[0,{"values":{".anonymous":false,".type":"htip",".name":"main","enabled":"1","domain":"alice.example.org","network":["192.168.1.0/24","10.0.0.0/8"]}}]`},
		{`"section":"main","option":"network"`, `[0,{"value":["192.168.1.0/24","10.0.0.0/8"]}]`},
		{`"section":"@rule[-1]","option":"words"`, `[0,{"value":"c"}]`},
		{`"section":"none"`, `[0]`},
		{`"section":"main","option":"none"`, `[0]`},
		{`"type":"peer"`, `[0,{"values":{"bob":{".anonymous":false,".type":"peer",".name":"bob",".index":1,"domain":"bob.example.org"}}}]`},
		{`"match":{"words":"b"}`, `[0,{"values":{"cfg0392bd":{".anonymous":true,".type":"rule",".name":"cfg0392bd",".index":2,"words":"a b"}}}]`},
		{`"match":{"words":"x"}`, `[0,{"values":{}}]`},
	} {
		if got := r.uci(sid, "get", c.args); got != c.want {
			t.Errorf("%s gives %s, want %s", c.args, got, c.want)
		}
	}
	if got := r.call(sid, "uci", "get", `{}`); got != "[2]" {
		t.Error(got)
	}
	if got := r.call(sid, "uci", "configs", `{}`); got != `[0,{"configs":["htip","luci","other"]}]` {
		t.Error(got)
	}
}

// TestChanges: each case starts from the configuration as it is on disk.
func TestChanges(t *testing.T) {
	for _, c := range []struct{ name, method, args, want, changes string }{
		{"no section", "set", `"values":{"x":"1"}`, `[2]`, `[]`},
		{"no such section", "set", `"section":"none","values":{"x":"1"}`, `[4]`, `[]`},
		{"bad section", "set", `"section":"a-b","values":{"x":"1"}`, `[2]`, `[]`},
		{"bad option", "set", `"section":"main","values":{"a-b":"1","x":"1"}`, `[2]`, `[]`},
		{"bad value", "set", `"section":"main","values":{"x":{}}`, `[2]`, `[]`},
		{"bad type", "add", `"type":"a b"`, `[2]`, `[]`},
		{"bad name", "add", `"type":"peer","name":"a-b"`, `[2]`, `[]`},
		{"no such option", "delete", `"section":"main","option":"none"`, `[4]`, `[]`},
		{"nothing meant", "delete", ``, `[2]`, `[]`},
		{"order of nobody", "order", `"sections":["none"]`, `[4]`, `[]`},
		{"set", "set", `"section":"main","values":{"domain":"a.example","port":5000,"on":true}`, `[0]`,
			`[["set","main","domain","a.example"],["set","main","port","5000"],["set","main","on","1"]]`},
		{"the same", "set", `"section":"main","values":{"enabled":"1"}`, `[0]`, `[]`},
		{"list", "set", `"section":"main","values":{"network":["10.0.0.0/8"],"more":["a","b"]}`, `[0]`,
			`[["remove","main","network"],["list-add","main","network","10.0.0.0/8"],["list-add","main","more","a"],["list-add","main","more","b"]]`},
		{"list becomes value", "set", `"section":"main","values":{"network":"x"}`, `[0]`, `[["remove","main","network"],["set","main","network","x"]]`},
		{"empty", "set", `"section":"main","values":{"domain":""}`, `[0]`, `[["remove","main","domain"]]`},
		{"by type", "set", `"type":"rule","values":{"x":"1"}`, `[0]`, `[["set","cfg0392bd","x","1"],["set","cfg0492bd","x","1"]]`},
		{"named", "add", `"type":"peer","name":"carol","values":{"domain":"carol.example.org"}`, `[0,{"section":"carol"}]`,
			`[["set","carol","peer"],["set","carol","domain","carol.example.org"]]`},
		{"unnamed", "add", `"type":"rule","values":{"words":["d","e"]}`, `[0,{"section":"cfg0592bd"}]`,
			`[["add","cfg0592bd","rule"],["list-add","cfg0592bd","words","d"],["list-add","cfg0592bd","words","e"]]`},
		{"delete options", "delete", `"section":"main","options":["domain","none","network"]`, `[0]`, `[["remove","main","domain"],["remove","main","network"]]`},
		{"delete", "delete", `"section":"bob"`, `[0]`, `[["remove","bob"]]`},
		{"delete by value", "delete", `"type":"rule","match":{"words":"c"}`, `[0]`, `[["remove","cfg0492bd"]]`},
		{"rename", "rename", `"section":"bob","name":"bert"`, `[0]`, `[["rename","bob","bert"]]`},
		{"rename option", "rename", `"section":"bob","option":"domain","name":"host"`, `[0]`, `[["rename","bob","domain","host"]]`},
		{"order", "order", `"sections":["bob","main"]`, `[0]`, `[["order","bob",0],["order","main",1]]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRouter(t)
			sid := r.login("root", "secret")
			if got := r.uci(sid, c.method, c.args); got != c.want {
				t.Errorf("gives %s, want %s", got, c.want)
			}
			if got, want := r.uci(sid, "changes", ""), `[0,{"changes":`+c.changes+`}]`; got != want {
				t.Errorf("changes are %s, want %s", got, want)
			}
			if r.file("htip") != testConfig {
				t.Error("the file has changed before a commit")
			}
		})
	}
}

func TestChangesAreThoseOfASession(t *testing.T) {
	r := newRouter(t)
	one, two := r.login("root", "secret"), r.login("root", "secret")
	r.uci(one, "set", `"section":"main","values":{"domain":"one.example"}`)
	get := `"section":"main","option":"domain"`
	if got := r.uci(one, "get", get); got != `[0,{"value":"one.example"}]` {
		t.Error(got)
	}
	if got := r.uci(two, "get", get); got != `[0,{"value":"alice.example.org"}]` {
		t.Error(got)
	}
	if got := r.call(two, "uci", "changes", `{}`); got != `[0,{"changes":{}}]` {
		t.Error(got)
	}
	if got := r.call(one, "uci", "changes", `{}`); got != `[0,{"changes":{"htip":[["set","main","domain","one.example"]]}}]` {
		t.Error(got)
	}
	r.b.uciRevert(one, nil)
	if got := r.call(two, "uci", "apply", `{}`); got != `[5]` {
		t.Errorf("nothing to apply: %s", got)
	}
	r.b.Expire()
	if again := r.login("root", "secret"); r.call(again, "uci", "changes", `{}`) != `[0,{"changes":{}}]` {
		t.Error("changes outlive their session")
	}
}

// committed is the test's configuration after a few changes.
const committed = `
config htip 'main'
	option enabled '1'
	option domain 'one.example'
	list network '192.168.1.0/24'
	list network '10.0.0.0/8'

config rule
	option words 'a b'

config rule
	option words 'c'

config peer 'carol'
	option note 'it'\''s'
`

func (r *router) change(sid string) {
	r.t.Helper()
	for _, got := range []string{
		r.uci(sid, "set", `"section":"main","values":{"domain":"one.example"}`),
		r.uci(sid, "delete", `"section":"bob"`),
		r.uci(sid, "add", `"type":"peer","name":"carol","values":{"note":"it's"}`),
	} {
		if !strings.HasPrefix(got, "[0") {
			r.t.Fatal(got)
		}
	}
}

func (r *router) isCommitted() bool {
	st, err := os.Stat(filepath.Join(r.dir, "config/htip"))
	if err != nil || st.Mode().Perm() != 0o640 {
		r.t.Error("another mode", st.Mode(), err)
	}
	return r.file("htip") == committed
}

func TestApplyAndConfirm(t *testing.T) {
	r := newRouter(t)
	sid, other := r.login("root", "secret"), r.login("root", "secret")
	r.change(sid)
	r.change(other)
	if got := r.call(sid, "uci", "apply", `{"rollback":true,"timeout":60}`); got != "[0]" || !r.isCommitted() {
		t.Fatal(got, r.file("htip"))
	}
	r.b.mu.Lock()
	a := r.b.applying
	r.b.mu.Unlock()
	if a == nil {
		t.Fatal("there is nothing to confirm")
	}
	for _, c := range []struct{ sid, method, args, want string }{
		{other, "apply", `{"rollback":true}`, "[6]"},
		{other, "confirm", `{}`, "[6]"},
		{sid, "changes", `{}`, `[0,{"changes":{}}]`},
		{sid, "confirm", `{}`, "[0]"},
		{sid, "confirm", `{}`, "[5]"},
	} {
		if got := r.call(c.sid, "uci", c.method, c.args); got != c.want {
			t.Errorf("%s: %s, want %s", c.method, got, c.want)
		}
	}
	// As when the time is up.
	if undone := r.b.undo(a); undone != nil {
		t.Errorf("%s is undone after it was confirmed", undone)
	}
	if !r.isCommitted() || !slices.Equal(r.told(), []string{"htip"}) {
		t.Error(r.told(), r.file("htip"))
	}
	if got := r.file("other"); got != "config a 'b'\n" {
		t.Errorf("another file has changed: %s", got)
	}
}

func TestUnconfirmedIsUndone(t *testing.T) {
	r := newRouter(t)
	sid := r.login("root", "secret")
	r.change(sid)
	r.call(sid, "uci", "apply", `{"rollback":true,"timeout":5}`) // long enough to look
	if !r.isCommitted() {
		t.Fatal("not applied")
	}
	// Less than the minute after which it would be undone without a timeout of its own.
	for deadline := time.Now().Add(40 * time.Second); len(r.told()) < 2 && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
	}
	if r.file("htip") != testConfig || !slices.Equal(r.told(), []string{"htip", "htip"}) {
		t.Fatal(r.told(), r.file("htip"))
	}
	if got := r.call(sid, "uci", "confirm", `{}`); got != "[5]" {
		t.Error(got)
	}
	// The changes wait again.
	if got := r.call(sid, "uci", "apply", `{"rollback":false}`); got != "[0]" || !r.isCommitted() {
		t.Error(got, r.file("htip"))
	}
}

func TestRollbackByHand(t *testing.T) {
	r := newRouter(t)
	sid := r.login("root", "secret")
	r.change(sid)
	r.call(sid, "uci", "apply", `{"rollback":true,"timeout":60}`)
	if _, err := r.b.uciRollback(sid, nil); err != nil || r.file("htip") != testConfig {
		t.Error(err, r.file("htip"))
	}
}

func TestCommitAndRevert(t *testing.T) {
	r := newRouter(t)
	sid := r.login("root", "secret")
	r.change(sid)
	if got := r.uci(sid, "revert", ""); got != "[0]" || r.uci(sid, "changes", "") != `[0,{"changes":[]}]` {
		t.Error(got)
	}
	r.change(sid)
	if got := r.uci(sid, "commit", ""); got != "[0]" || !r.isCommitted() || !slices.Equal(r.told(), []string{"htip"}) {
		t.Error(got, r.told(), r.file("htip"))
	}
}

// TestLuCIApplies is what LuCI's button does: apply, and confirm with the token
// that it got, without a session.
func TestLuCIApplies(t *testing.T) {
	r := newRouter(t)
	r.enter("root", "secret")
	var sid string
	r.b.mu.Lock()
	for id := range r.b.sessions {
		if id != nobody {
			sid = id
		}
	}
	token, _ := r.b.sessions[sid].data.GetString("token")
	r.b.mu.Unlock()
	post := func(where string) (int, string) {
		res, err := r.browser.Post(r.url+script+where, "", nil)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body := make([]byte, 1000)
		n, _ := res.Body.Read(body)
		return res.StatusCode, string(body[:n])
	}
	if code, _ := post("/admin/uci/apply_rollback?token=wrong"); code != 403 {
		t.Errorf("with a wrong token: %d", code)
	}
	if code, _ := r.page("/admin/uci/apply_rollback?token=" + token); code != 405 {
		t.Errorf("by GET: %d", code)
	}
	if code, _ := post("/admin/uci/apply_rollback?token=" + token); code != 204 {
		t.Errorf("with nothing to apply: %d", code)
	}
	r.change(sid)
	code, body := post("/admin/uci/apply_rollback?token=" + token)
	_, confirm, ok := strings.Cut(strings.TrimSuffix(strings.TrimSpace(body), `"}`), `{"token":"`)
	if code != 200 || !ok {
		t.Fatal(code, body)
	}
	if code, _ := post("/admin/uci/confirm?token=wrong"); code != 403 {
		t.Errorf("confirmed with a wrong token: %d", code)
	}
	r.browser.Jar = nil
	if code, _ := post("/admin/uci/confirm?token=" + confirm); code != 200 {
		t.Errorf("not confirmed: %d", code)
	}
	if code, _ := post("/admin/uci/confirm?token=" + confirm); code != 204 {
		t.Errorf("confirmed twice: %d", code)
	}
	if code, _ := post("/admin/uci/revert?token=" + token); code != 403 {
		t.Errorf("without a cookie: %d", code)
	}
	if !r.isCommitted() {
		t.Error(r.file("htip"))
	}
}
