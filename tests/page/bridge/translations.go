package bridge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"htip/tests/page/po"
)

// catalog is what LuCI calls TR: texts by key. LuCI's keys are hashes, the
// stand-in's what is hashed. The plural rule has the key of nothing.
func catalog(f *po.File, hashed bool) map[string]string {
	out := map[string]string{}
	add := func(key, text string) {
		if hashed {
			key = fmt.Sprintf("%08x", po.Hash(key))
		}
		if text != "" {
			out[key] = text
		}
	}
	add("", f.Field("Plural-Forms"))
	for _, e := range f.Entries {
		key := strings.Join(strings.Fields(e.ID), " ")
		if e.Context != "" {
			key = e.Context + "\x01" + key
		}
		for i, text := range e.Str {
			if e.Plural != "" {
				add(fmt.Sprintf("%s\x02%d", key, i), text)
			} else {
				add(key, text)
			}
		}
	}
	return out
}

// serveTranslations is the app's texts in a language. There are none in English,
// in which the app is written, nor in the pseudo language, which marks it.
func (b *Bridge) serveTranslations(w http.ResponseWriter, lang string) {
	w.Header().Set("Content-Type", "application/javascript; charset=UTF-8")
	all := map[string]string{}
	names, _ := filepath.Glob(filepath.Join(b.cfg.App.Po, strings.ReplaceAll(lang, "-", "_"), "*.po"))
	for _, name := range names {
		data, err := os.ReadFile(name)
		var f *po.File
		if err == nil {
			f, err = po.Parse(name, string(data))
		}
		if err != nil { // a page without its texts would pass for one without translation
			http.Error(w, fmt.Sprintf("throw new Error(%q);", err.Error()), http.StatusInternalServerError)
			return
		}
		for k, v := range catalog(f, b.cfg.LuCI != "") {
			all[k] = v
		}
	}
	text, _ := json.Marshal(all)
	fmt.Fprintf(w, "window.TR=%s;", text)
}
