package ubus

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Why not encoding/json: only its scanner would be used, and with its decoder,
// encoder and what they need of package reflect it costs 40 kB of the packed
// program on mipsle, which then misses its budget (1,726,296 bytes of 1,700,000).
// FuzzJSON holds this parser against it.

// ParseJSON reads one JSON object (RFC 8259), with the types that OpenWrt's own
// tools give: true and false are bools, a number without fraction and exponent is
// an int32 when it fits and an int64 else, any other number a double, null stays
// null. Of two members of one name the last counts. Bytes in strings that are no
// UTF-8 become U+FFFD.
func ParseJSON(b []byte) (Table, error) {
	p := jsonParser{b: b}
	v, err := p.value(0)
	if err == nil {
		p.space()
		if p.i < len(b) {
			err = p.bad("something follows the object")
		}
	}
	if err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	t, ok := v.(Table)
	if !ok {
		return nil, errors.New("read JSON: want an object, as in {\"name\":\"value\"}")
	}
	return t, nil
}

type jsonParser struct {
	b []byte
	i int
}

func (p *jsonParser) bad(what string) error { return fmt.Errorf("%s at byte %d", what, p.i) }

func (p *jsonParser) space() {
	for p.i < len(p.b) && (p.b[p.i] == ' ' || p.b[p.i] == '\t' || p.b[p.i] == '\n' || p.b[p.i] == '\r') {
		p.i++
	}
}

// peek is the next byte that is no white space, 0 at the end.
func (p *jsonParser) peek() byte {
	p.space()
	if p.i == len(p.b) {
		return 0
	}
	return p.b[p.i]
}

func (p *jsonParser) word(s string, v any) (any, error) {
	if !strings.HasPrefix(string(p.b[p.i:min(len(p.b), p.i+len(s))]), s) {
		return nil, p.bad("no value")
	}
	p.i += len(s)
	return v, nil
}

func (p *jsonParser) value(depth int) (any, error) {
	c := p.peek()
	if (c == '{' || c == '[') && depth >= MaxDepth {
		return nil, fmt.Errorf("nested deeper than %d levels", MaxDepth)
	}
	switch {
	case c == '{':
		return p.object(depth + 1)
	case c == '[':
		return p.array(depth + 1)
	case c == '"':
		return p.text()
	case c == 't':
		return p.word("true", true)
	case c == 'f':
		return p.word("false", false)
	case c == 'n':
		return p.word("null", nil)
	case c == '-' || c >= '0' && c <= '9':
		return p.number()
	case c == 0 && p.i == len(p.b):
		return nil, p.bad("unexpected end")
	}
	return nil, p.bad("no value")
}

// more steps over the comma before a further item, or the closing byte.
func (p *jsonParser) more(first bool, end byte) (bool, error) {
	switch c := p.peek(); {
	case c == end:
		p.i++
		return false, nil
	case first:
		return true, nil
	case c == ',':
		p.i++
		return true, nil
	case p.i == len(p.b):
		return false, p.bad("unexpected end")
	}
	return false, p.bad("no comma")
}

func (p *jsonParser) object(depth int) (any, error) {
	p.i++
	t := Table{}
	seen := map[string]int{}
	for first := true; ; first = false {
		more, err := p.more(first, '}')
		if !more || err != nil {
			return t, err
		}
		if p.peek() != '"' {
			return nil, p.bad("no member name")
		}
		name, err := p.text()
		if err != nil {
			return nil, err
		}
		if p.peek() != ':' {
			return nil, p.bad("no colon")
		}
		p.i++
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		if at, ok := seen[name]; ok {
			t[at].Value = v
			continue
		}
		seen[name] = len(t)
		t = append(t, F(name, v))
	}
}

func (p *jsonParser) array(depth int) (any, error) {
	p.i++
	a := Array{}
	for first := true; ; first = false {
		more, err := p.more(first, ']')
		if !more || err != nil {
			return a, err
		}
		v, err := p.value(depth)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
}

// text reads a string from its opening quote.
func (p *jsonParser) text() (string, error) {
	p.i++
	var out []byte
	for p.i < len(p.b) {
		c := p.b[p.i]
		switch {
		case c == '"':
			p.i++
			return string(out), nil
		case c < 0x20:
			return "", p.bad("control character in a string")
		case c == '\\':
			r, err := p.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		default:
			r, n := utf8.DecodeRune(p.b[p.i:])
			out = utf8.AppendRune(out, r)
			p.i += n
		}
	}
	return "", p.bad("unexpected end")
}

// escape reads one escape sequence, both halves of a surrogate pair.
func (p *jsonParser) escape() (rune, error) {
	if p.i++; p.i == len(p.b) {
		return 0, p.bad("unexpected end")
	}
	c := p.b[p.i]
	p.i++
	if at := strings.IndexByte(`"\/bfnrt`, c); at >= 0 {
		return rune("\"\\/\b\f\n\r\t"[at]), nil
	}
	if c != 'u' {
		return 0, p.bad("no such escape")
	}
	r, ok := p.hex()
	if !ok {
		return 0, p.bad("no four hexadecimal digits")
	}
	if utf16.IsSurrogate(r) {
		here := p.i
		if p.i+1 < len(p.b) && p.b[p.i] == '\\' && p.b[p.i+1] == 'u' {
			p.i += 2
			if low, ok := p.hex(); ok {
				if full := utf16.DecodeRune(r, low); full != utf8.RuneError {
					return full, nil
				}
			}
		}
		p.i = here
		return utf8.RuneError, nil
	}
	return r, nil
}

func (p *jsonParser) hex() (rune, bool) {
	if p.i+4 > len(p.b) {
		return 0, false
	}
	var r rune
	for _, c := range p.b[p.i : p.i+4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	p.i += 4
	return r, true
}

func (p *jsonParser) digits() bool {
	from := p.i
	for p.i < len(p.b) && p.b[p.i] >= '0' && p.b[p.i] <= '9' {
		p.i++
	}
	return p.i > from
}

func (p *jsonParser) number() (any, error) {
	from := p.i
	if p.b[p.i] == '-' {
		p.i++
	}
	lead := p.i
	if !p.digits() || p.b[lead] == '0' && p.i > lead+1 {
		return nil, p.bad("no number")
	}
	double := false
	if p.i < len(p.b) && p.b[p.i] == '.' {
		p.i++
		if double = p.digits(); !double {
			return nil, p.bad("no number")
		}
	}
	if p.i < len(p.b) && (p.b[p.i] == 'e' || p.b[p.i] == 'E') {
		if p.i++; p.i < len(p.b) && (p.b[p.i] == '+' || p.b[p.i] == '-') {
			p.i++
		}
		if double = p.digits(); !double {
			return nil, p.bad("no number")
		}
	}
	s := string(p.b[from:p.i])
	if double {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return nil, fmt.Errorf("%s does not fit into 64 bits", s)
		}
		return f, nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s does not fit into 64 bits", s)
	}
	if n >= math.MinInt32 && n <= math.MaxInt32 {
		return int32(n), nil
	}
	return n, nil
}
