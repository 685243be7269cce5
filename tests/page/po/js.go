package po

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// jsKind is a kind of token of JavaScript.
type jsKind int

const (
	jsEnd    jsKind = iota
	jsWord          // a name, a keyword or a number
	jsString        // also a template in which nothing is filled in
	jsHoles         // a template with ${…}; what is in there comes as tokens before
	jsRegexp
	jsMark // one character of what is left
)

type jsToken struct {
	kind jsKind
	text string // of a string: its value
	line int
}

// jsScanner cuts a script into tokens, as far as is needed to find calls in it.
type jsScanner struct {
	file, src string
	at, line  int
	tokens    []jsToken
	parens    []bool // for each open one: after it comes a statement, as in if (…)
}

func (s *jsScanner) errorf(format string, args ...any) error {
	return fmt.Errorf("%s:%d: %s", s.file, s.line, fmt.Sprintf(format, args...))
}

func (s *jsScanner) add(kind jsKind, text string, line int) {
	s.tokens = append(s.tokens, jsToken{kind, text, line})
}

// take goes on by n bytes.
func (s *jsScanner) take(n int) string {
	text := s.src[s.at : s.at+n]
	s.at += n
	s.line += strings.Count(text, "\n")
	return text
}

func scanJS(file, src string) ([]jsToken, error) {
	s := &jsScanner{file: file, src: src, line: 1}
	if err := s.scan(false); err != nil {
		return nil, err
	}
	s.add(jsEnd, "", s.line)
	return s.tokens, nil
}

// scan goes on to the end, or to the brace that ends a hole of a template.
func (s *jsScanner) scan(hole bool) error {
	braces := 0
	for s.at < len(s.src) {
		rest, line := s.src[s.at:], s.line
		r, size := utf8.DecodeRuneInString(rest)
		switch {
		case unicode.IsSpace(r) || r == '\ufeff':
			s.take(size)
		case strings.HasPrefix(rest, "//"):
			n := strings.IndexByte(rest, '\n')
			if n < 0 {
				n = len(rest)
			}
			s.take(n)
		case strings.HasPrefix(rest, "/*"):
			n := strings.Index(rest, "*/")
			if n < 0 {
				return s.errorf("a comment without end")
			}
			s.take(n + 2)
		case r == '\'' || r == '"':
			if err := s.text(byte(r)); err != nil {
				return err
			}
		case r == '`':
			if err := s.template(); err != nil {
				return err
			}
		case r == '/' && s.regexpHere():
			if err := s.regexp(); err != nil {
				return err
			}
		case r == '_' || r == '$' || r == '#' || unicode.IsLetter(r) || unicode.IsDigit(r):
			n := strings.IndexFunc(rest[size:], func(r rune) bool {
				return r != '_' && r != '$' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
			})
			if n < 0 {
				n = len(rest) - size
			}
			s.add(jsWord, s.take(size+n), line)
		default:
			switch r {
			case '(':
				s.parens = append(s.parens, s.lastIs("if", "while", "for", "with"))
			case '{':
				braces++
			case '}':
				if braces--; braces < 0 && hole {
					s.take(1)
					return nil
				}
			}
			s.add(jsMark, s.take(size), line)
			if r == ')' {
				if len(s.parens) == 0 {
					return s.errorf("a ) too many")
				}
				if s.parens[len(s.parens)-1] {
					s.tokens[len(s.tokens)-1].text = ") " // a regular expression may follow
				}
				s.parens = s.parens[:len(s.parens)-1]
			}
		}
	}
	if hole {
		return s.errorf("a template without end")
	}
	return nil
}

func (s *jsScanner) lastIs(words ...string) bool {
	if len(s.tokens) == 0 {
		return false
	}
	last := s.tokens[len(s.tokens)-1]
	return last.kind == jsWord && slices.Contains(words, last.text)
}

// regexpHere tells whether a / begins a regular expression, or divides.
func (s *jsScanner) regexpHere() bool {
	if len(s.tokens) == 0 {
		return true
	}
	switch last := s.tokens[len(s.tokens)-1]; last.kind {
	case jsWord:
		return s.lastIs("return", "typeof", "case", "in", "of", "delete", "void", "throw", "new", "do", "else", "instanceof", "yield", "await")
	case jsMark:
		return last.text != ")" && last.text != "]"
	}
	return false
}

func (s *jsScanner) regexp() error {
	class := false
	for i := s.at + 1; i < len(s.src); i++ {
		switch s.src[i] {
		case '\n':
			return s.errorf("a regular expression without end")
		case '\\':
			i++
		case '[':
			class = true
		case ']':
			class = false
		case '/':
			if !class {
				line := s.line
				s.add(jsRegexp, s.take(i+1-s.at), line)
				for s.at < len(s.src) && 'a' <= s.src[s.at] && s.src[s.at] <= 'z' {
					s.take(1)
				}
				return nil
			}
		}
	}
	return s.errorf("a regular expression without end")
}

func (s *jsScanner) text(end byte) error {
	line := s.line
	s.take(1)
	var out strings.Builder
	for s.at < len(s.src) {
		switch c := s.src[s.at]; c {
		case end:
			s.take(1)
			s.add(jsString, out.String(), line)
			return nil
		case '\n':
			return s.errorf("a string without end")
		case '\\':
			if err := s.escape(&out); err != nil {
				return err
			}
		default:
			out.WriteString(s.take(1))
		}
	}
	return s.errorf("a string without end")
}

func (s *jsScanner) template() error {
	line, kind := s.line, jsString
	s.take(1)
	var out strings.Builder
	for s.at < len(s.src) {
		switch {
		case s.src[s.at] == '`':
			s.take(1)
			s.add(kind, out.String(), line)
			return nil
		case strings.HasPrefix(s.src[s.at:], "${"):
			s.take(2)
			kind = jsHoles
			s.add(jsMark, "${", s.line)
			if err := s.scan(true); err != nil {
				return err
			}
		case s.src[s.at] == '\\':
			if err := s.escape(&out); err != nil {
				return err
			}
		default:
			out.WriteString(s.take(1))
		}
	}
	return s.errorf("a template without end")
}

func (s *jsScanner) escape(out *strings.Builder) error {
	s.take(1)
	r, size := utf8.DecodeRuneInString(s.src[s.at:])
	s.take(size)
	digits := 0
	switch r {
	case '\n': // the string goes on in the next line
	case 'n':
		out.WriteByte('\n')
	case 't':
		out.WriteByte('\t')
	case 'r':
		out.WriteByte('\r')
	case 'b', 'f', 'v', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		out.WriteByte(' ') // in no text for people
	case 'x':
		digits = 2
	case 'u':
		digits = 4
		if n := strings.IndexByte(s.src[s.at:], '}'); strings.HasPrefix(s.src[s.at:], "{") && n > 0 {
			s.take(1)
			digits = n - 1
			defer s.take(1)
		}
	default:
		out.WriteRune(r)
	}
	if digits > 0 {
		if s.at+digits > len(s.src) {
			return s.errorf("a string without end")
		}
		hex := s.take(digits)
		n, err := strconv.ParseUint(hex, 16, 21)
		if err != nil {
			return s.errorf("%q is no character", hex)
		}
		out.WriteRune(rune(n))
	}
	return nil
}

// jsCalls are the functions of LuCI that translate: where among their arguments the texts
// are. A further one is the context.
var jsCalls = map[string]int{"_": 0, "N_": 1}

// extractJS finds what a script translates. variable names what _() may be given that is
// no text, as it is written there: those texts are found elsewhere.
func extractJS(file, src string, variable map[string]bool) ([]*Entry, []error) {
	tokens, err := scanJS(file, src)
	if err != nil {
		return nil, []error{err}
	}
	var out []*Entry
	var errs []error
	for i := 0; i+1 < len(tokens); i++ {
		t := tokens[i]
		first, ok := jsCalls[t.text]
		if t.kind != jsWord || !ok || tokens[i+1].text != "(" || tokens[i+1].kind != jsMark {
			continue
		}
		if i > 0 && (tokens[i-1].text == "." || tokens[i-1].text == "function") {
			continue
		}
		args, ok := jsArguments(tokens[i+2:])
		if !ok {
			errs = append(errs, fmt.Errorf("%s:%d: %s( is not closed", file, t.line, t.text))
			break
		}
		if first == 0 && len(args) == 1 && variable[jsSource(args[0])] {
			continue
		}
		texts, wanted := []string{}, 1+first
		bad := len(args) < first+wanted || len(args) > first+wanted+1
		for _, a := range args[min(first, len(args)):] {
			text, ok := jsConstant(a)
			bad = bad || !ok || text == ""
			texts = append(texts, text)
		}
		if bad {
			errs = append(errs, fmt.Errorf("%s:%d: %s() has something else than constant texts, or not as many as it takes", file, t.line, t.text))
			continue
		}
		e := &Entry{Places: []Place{{file, t.line}}, ID: texts[0]}
		if first == 1 {
			e.Plural = texts[1]
		}
		if len(texts) > wanted {
			e.Context = texts[wanted]
		}
		out = append(out, e)
	}
	return out, errs
}

// jsArguments are those of a call, from behind its parenthesis on.
func jsArguments(tokens []jsToken) (args [][]jsToken, closed bool) {
	depth, from := 0, 0
	for i, t := range tokens {
		if t.kind != jsMark {
			continue
		}
		switch t.text {
		case "(", "[", "{":
			depth++
		case ")", ") ", "]", "}":
			if depth--; depth < 0 {
				if i > from {
					args = append(args, tokens[from:i])
				}
				return args, true
			}
		case ",":
			if depth == 0 {
				args = append(args, tokens[from:i])
				from = i + 1
			}
		}
	}
	return nil, false
}

// jsConstant is the value of strings that are added together.
func jsConstant(tokens []jsToken) (string, bool) {
	out := ""
	for i, t := range tokens {
		if i%2 == 1 && t.kind == jsMark && t.text == "+" && i+1 < len(tokens) {
			continue
		}
		if i%2 == 1 || t.kind != jsString {
			return "", false
		}
		out += t.text
	}
	return out, len(tokens) > 0
}

// jsSource is what tokens look like without blanks.
func jsSource(tokens []jsToken) string {
	var out strings.Builder
	for _, t := range tokens {
		out.WriteString(strings.TrimSpace(t.text))
	}
	return out.String()
}

// jsTable is an object "const name = { 'key': 'text', … }": for each key the text, which may
// stand in a call.
func jsTable(file, src, name string) (map[string]jsToken, error) {
	tokens, err := scanJS(file, src)
	if err != nil {
		return nil, err
	}
	is := func(t jsToken, text string) bool { return t.kind != jsString && strings.TrimSpace(t.text) == text }
	out := map[string]jsToken{}
	in := false
	for i := 0; i+3 < len(tokens); i++ {
		switch t := tokens[i]; {
		case !in:
			in = is(t, "const") && is(tokens[i+1], name) && is(tokens[i+2], "=") && is(tokens[i+3], "{")
		case is(t, "}"):
			return out, nil
		case t.kind == jsString && is(tokens[i+1], ":"):
			v := tokens[i+2]
			for j := i + 2; v.kind != jsString && !is(v, ",") && !is(v, "}") && j+1 < len(tokens); j++ {
				v = tokens[j+1]
			}
			if v.kind != jsString {
				return nil, fmt.Errorf("%s:%d: %s of %s is no text", file, t.line, t.text, name)
			}
			out[t.text] = v
		}
	}
	return nil, fmt.Errorf("%s: no table %s", file, name)
}
