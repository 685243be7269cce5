package bridge

import (
	"bytes"
	"html/template"
	"io/fs"
	"mime"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"sync"
	"time"

	"htip/tests/page/luci"
)

// shell is the HTML around a view, which the browser then loads and draws.
type shell struct {
	Lang, View, Title, Page string
	Env                     map[string]any
	Login, Failed           bool // the form to log in; it was tried and refused
	Pseudo                  bool // every translated string is to be marked
	Real                    bool // with LuCI's own files
	Host                    string
	Media, Resources        string
}

// pseudo is the language in which everything that went through _() stands between
// brackets; what does not was forgotten.
const pseudo = "x-pseudo"

func (b *Bridge) serveShell(w http.ResponseWriter, r *http.Request, s shell) {
	s.Host, s.Pseudo, s.Real, s.Media, s.Resources = b.cfg.Host, s.Lang == pseudo, b.cfg.LuCI != "", media, resources
	w.Header().Set("Content-Type", "text/html; charset=UTF-8")
	w.Header().Set("Cache-Control", "no-cache")
	shellTemplate.Execute(w, s)
}

// The order of scripts, the ids and the attributes are those that LuCI's own
// JavaScript, and a theme, look for.
var shellTemplate = template.Must(template.New("shell").Parse(`<!DOCTYPE html>
<html lang="{{.Lang}}">
<head>
<meta charset="utf-8">
<title>{{.Host}}{{with .Title}} | {{.}}{{end}}</title>
<script>
	(() => {
		const dark = matchMedia('(prefers-color-scheme: dark)');
		const follow = () => document.documentElement.setAttribute('data-darkmode', dark.matches);
		dark.addEventListener('change', follow);
		follow();
	})();
</script>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="stylesheet" href="{{.Media}}/cascade.css">
{{if .Real}}<link rel="stylesheet" media="only screen and (max-device-width: 854px)" href="{{.Media}}/mobile.css">{{end}}
<link rel="icon" href="data:,">
<script src="/cgi-bin/luci/admin/translations/{{.Lang}}"></script>
<script src="{{.Resources}}/cbi.js"></script>
{{if .Pseudo}}<script>
	(() => {
		const mark = f => (...args) => { const s = f(...args); return s ? '⟦' + s + '⟧' : s; };
		window._ = mark(window._);
		window.N_ = mark(window.N_);
	})();
</script>{{end}}
</head>
<body class="lang_{{.Lang}}" data-page="{{.Page}}">
{{if not .Login}}<header>
	<a class="brand" href="/">{{.Host}}</a>
	<ul class="nav" id="topmenu" style="display:none"></ul>
	<div id="indicators" class="pull-right"></div>
</header>
<div id="maincontent" class="container">
<div id="tabmenu" style="display:none"></div>
{{end}}
<script src="{{.Resources}}/luci.js"></script>
<script>
	L = new LuCI({{.Env}});
</script>
{{if .Login}}<section {{if .Real}}hidden{{end}}>
	<form method="post" class="cbi-map">
		<div class="cbi-value">
			<label class="cbi-value-title" for="luci_username">Username</label>
			<div class="cbi-value-field"><input name="luci_username" id="luci_username" type="text" autocomplete="username" value="root"></div>
		</div>
		<div class="cbi-value">
			<label class="cbi-value-title" for="luci_password">Password</label>
			<div class="cbi-value-field"><input name="luci_password" id="luci_password" type="password" autocomplete="current-password"></div>
		</div>
		{{if not .Real}}<button class="btn cbi-button-positive important">Log in</button>{{end}}
	</form>
	{{if .Failed}}<div class="alert-message error">Invalid username and/or password! Please try again.</div>{{end}}
	{{if .Real}}<button class="btn cbi-button-positive important">Log in</button>{{end}}
</section>{{end}}
{{if or .Real (not .Login)}}<div id="view">
	<div class="spinning">Loading view…</div>
	<script>
		L.require('ui').then(ui => ui.instantiateView({{.View}}));
	</script>
</div>{{end}}
{{if not .Login}}</div>
<footer><span></span><ul class="breadcrumb pull-right" id="modemenu" style="display:none"></ul></footer>
<script>L.require('menu-bootstrap')</script>{{end}}
</body>
</html>
`))

// serveLoader serves a file of LuCI's client side: of the checkout, or of the
// stand-in.
func (b *Bridge) serveLoader(w http.ResponseWriter, r *http.Request, name string) {
	if b.cfg.LuCI == "" {
		serveEmbedded(w, r, path.Base(name))
		return
	}
	for _, dir := range []string{"modules/luci-base", "themes/luci-theme-bootstrap"} {
		file := filepath.Join(b.cfg.LuCI, dir, "htdocs", resources, filepath.FromSlash(name))
		if _, err := http.Dir("/").Open(file); err == nil {
			http.ServeFile(w, r, file)
			return
		}
	}
	http.NotFound(w, r)
}

// serveMedia serves the theme.
func (b *Bridge) serveMedia(w http.ResponseWriter, r *http.Request) {
	name := path.Base(r.URL.Path)
	if b.cfg.LuCI != "" {
		http.ServeFile(w, r, filepath.Join(b.cfg.LuCI, "themes/luci-theme-bootstrap/htdocs", media, name))
		return
	}
	if name != "cascade.css" {
		http.NotFound(w, r)
		return
	}
	serveEmbedded(w, r, "theme.css")
}

// built is of when the stand-in's files are: as old as the program that has them.
var built = sync.OnceValue(func() time.Time {
	if name, err := os.Executable(); err == nil {
		if st, err := os.Stat(name); err == nil {
			return st.ModTime()
		}
	}
	return time.Time{}
})

// serveEmbedded serves a file of the stand-in. It is not packed: uhttpd packs
// nothing either, and what a page costs is measured. As uhttpd it says how old the
// file is, by which browsers know how long they may keep it.
func serveEmbedded(w http.ResponseWriter, r *http.Request, name string) {
	data, err := fs.ReadFile(luci.Files, name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	http.ServeContent(w, r, name, built(), bytes.NewReader(data))
}
