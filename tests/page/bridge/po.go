package bridge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// message is one entry of a .po file.
type message struct {
	context, id string
	plural      bool
	texts       []string
}

// readPo reads a .po file. Comments, and what is not translated, are left out.
func readPo(data string) (out []message, err error) {
	var m message
	var into *string
	flush := func() {
		if m.texts != nil && (m.texts[0] != "" || len(m.texts) > 1) {
			out = append(out, m)
		}
		m, into = message{}, nil
	}
	var ignored string // msgid_plural: LuCI looks a plural up by the singular
	for n, line := range strings.Split(data, "\n") {
		line = strings.TrimSpace(line)
		word, text, _ := strings.Cut(line, " ")
		switch {
		case line == "" || line[0] == '#':
			flush()
			continue
		case line[0] == '"':
			text = line
		case word == "msgctxt":
			into = &m.context
		case word == "msgid":
			into = &m.id
		case word == "msgid_plural":
			m.plural, into = true, &ignored
		case strings.HasPrefix(word, "msgstr"):
			m.texts = append(m.texts, "")
			into = &m.texts[len(m.texts)-1]
		}
		s, err := strconv.Unquote(strings.TrimSpace(text))
		if err != nil || into == nil {
			return nil, fmt.Errorf("line %d is no line of a .po file: %q", n+1, line)
		}
		*into += s
	}
	flush()
	return out, nil
}

// catalog is what LuCI calls TR: texts by key. LuCI's keys are hashes, the
// stand-in's what is hashed. The plural rule has a key of its own.
func catalog(messages []message, hashed bool) map[string]string {
	out := map[string]string{}
	for _, m := range messages {
		if m.id == "" {
			for line := range strings.SplitSeq(m.texts[0], "\n") {
				if rule, ok := strings.CutPrefix(line, "Plural-Forms: "); ok {
					out[key("", hashed)] = rule
				}
			}
			continue
		}
		k := strings.Join(strings.Fields(m.id), " ")
		if m.context != "" {
			k = m.context + "\x01" + k
		}
		for i, text := range m.texts {
			if m.plural {
				out[key(fmt.Sprintf("%s\x02%d", k, i), hashed)] = text
			} else {
				out[key(k, hashed)] = text
			}
		}
	}
	return out
}

func key(s string, hashed bool) string {
	switch {
	case !hashed:
		return s
	case s == "":
		return "00000000"
	}
	return fmt.Sprintf("%08x", superFastHash([]byte(s)))
}

// superFastHash is Paul Hsieh's hash, in the variant by which LuCI finds texts:
// the bytes that are left over count as signed.
func superFastHash(b []byte) uint32 {
	h := uint32(len(b))
	word := func(i int) uint32 { return uint32(b[i]) | uint32(b[i+1])<<8 }
	for ; len(b) >= 4; b = b[4:] {
		h += word(0)
		h = h<<16 ^ word(2)<<11 ^ h
		h += h >> 11
	}
	switch len(b) {
	case 3:
		h += word(0)
		h ^= h << 16
		h ^= uint32(int32(int8(b[2]))) << 18
		h += h >> 11
	case 2:
		h += word(0)
		h ^= h << 11
		h += h >> 17
	case 1:
		h += uint32(int32(int8(b[0])))
		h ^= h << 10
		h += h >> 1
	}
	h ^= h << 3
	h += h >> 5
	h ^= h << 4
	h += h >> 17
	h ^= h << 25
	h += h >> 6
	return h
}

// serveTranslations is the app's texts in a language. There are none in English,
// in which the app is written, nor in the pseudo language, which marks it.
func (b *Bridge) serveTranslations(w http.ResponseWriter, lang string) {
	w.Header().Set("Content-Type", "application/javascript; charset=UTF-8")
	all := map[string]string{}
	names, _ := filepath.Glob(filepath.Join(b.cfg.App.Po, strings.ReplaceAll(lang, "-", "_"), "*.po"))
	for _, name := range names {
		data, err := os.ReadFile(name)
		var messages []message
		if err == nil {
			messages, err = readPo(string(data))
		}
		if err != nil { // a page without its texts would pass for one without translation
			http.Error(w, fmt.Sprintf("throw new Error(%q);", name+": "+err.Error()), http.StatusInternalServerError)
			return
		}
		for k, v := range catalog(messages, b.cfg.LuCI != "") {
			all[k] = v
		}
	}
	text, _ := json.Marshal(all)
	fmt.Fprintf(w, "window.TR=%s;", text)
}
