package config

import "bytes"

// statement is one command of a UCI file and where it stands.
type statement struct {
	verb       byte // c(onfig), o(ption), l(ist)
	section    int  // index of the section it opens or belongs to
	name       string
	start, end int  // its bytes, from the keyword to the end of the last word
	sep        int  // the semicolon behind it, when another statement may follow; else -1
	dead       bool // behind it stands text that uci doesn't read, from a semicolon on
}

// parse reads a UCI file as `uci show` does, errors included. each, when not nil,
// is told every statement in order.
//
// One difference is on purpose: a zero byte is an error here. The C program stops
// at it, drops what its buffer holds behind it and goes on; that answer depends on
// its buffer size, and half a file (after a power cut) must not pass for a whole.
func parse(data []byte, each func(statement)) (document, error) {
	if i := bytes.IndexByte(data, 0); i >= 0 {
		line := bytes.LastIndexByte(data[:i], '\n') + 1
		return document{}, &ParseError{Line: 1 + bytes.Count(data[:i], []byte("\n")), Byte: i - line, Reason: "zero byte"}
	}
	p := parser{scanner: scanner{data: data}, builder: newBuilder(), current: -1, each: each}
	for p.nextLine() {
		if err := p.line(); err != nil {
			return document{}, err
		}
	}
	return p.doc, nil
}

type parser struct {
	scanner
	*builder
	current int // the section that options belong to, -1 before the first
	each    func(statement)
}

// line reads one line's statements; semicolons are between them.
func (p *parser) line() error {
	p.skipSpace()
	for {
		word, start := p.keyword()
		if word == "" || word[0] == '#' {
			return nil
		}
		st := statement{verb: word[0], start: start}
		p.sep, p.wordEnd = -1, start
		var err error
		switch word {
		case "p", "package":
			err = p.packageLine(start + len(word))
		case "c", "config":
			err = p.configLine(start+len(word), &st)
		case "o", "option", "l", "list":
			err = p.optionLine(start+len(word), &st)
		default:
			err = p.errorf("invalid command")
		}
		if err != nil {
			return err
		}
		if p.each != nil && st.verb != 'p' {
			st.end, st.sep, st.dead = p.wordEnd, p.sep, p.dead
			p.each(st)
		}
	}
}

// behind goes behind the keyword and the blank that follows it.
func (p *parser) behind(end int, reason string) error {
	if end == p.stop {
		return p.errorf(reason)
	}
	p.pos = end + 1
	return nil
}

// packageLine checks a "package" line. What it says has no effect: the file's own
// name counts.
func (p *parser) packageLine(end int) error {
	if err := p.behind(end, "package without name"); err != nil {
		return err
	}
	name, err := p.required()
	if err != nil {
		return err
	}
	if !validName(string(bytes.ReplaceAll([]byte(name), []byte("-"), []byte("_")))) {
		return p.errorf("invalid character in name field")
	}
	return p.eol()
}

func (p *parser) configLine(end int, st *statement) error {
	if err := p.behind(end, "config without name"); err != nil {
		return err
	}
	kind, err := p.required()
	if err != nil {
		return err
	}
	if !validKind(kind) {
		return p.errorf("invalid character in type field")
	}
	name, err := p.word()
	if err != nil {
		return err
	}
	if name != "" && !validName(name) {
		return p.errorf("invalid character in name field")
	}
	if err := p.eol(); err != nil {
		return err
	}
	i, ok := p.open(kind, name)
	if !ok {
		return p.errorf("section of different type overwrites prior section with same name")
	}
	p.current, st.section, st.name = i, i, name
	return nil
}

func (p *parser) optionLine(end int, st *statement) error {
	if p.current < 0 {
		return p.errorf("option/list command found before the first section")
	}
	if err := p.behind(end, "option without name"); err != nil {
		return err
	}
	name, err := p.required()
	if err != nil {
		return err
	}
	if !validName(name) {
		return p.errorf("invalid character in name field")
	}
	value, err := p.word()
	if err != nil {
		return err
	}
	if err := p.eol(); err != nil {
		return err
	}
	if st.verb == 'l' {
		p.add(p.current, name, value)
	} else {
		p.set(p.current, name, value)
	}
	st.section, st.name = p.current, name
	return nil
}

func (p *parser) required() (string, error) {
	w, err := p.word()
	if err == nil && w == "" {
		err = p.errorf("insufficient arguments")
	}
	return w, err
}

// eol ends a statement: nothing but a semicolon or the line's end may follow.
func (p *parser) eol() error {
	w, err := p.word()
	if err == nil && w != "" {
		err = p.errorf("too many arguments")
	}
	return err
}

// validName is uci's rule for names of sections and options.
func validName(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_') {
			return false
		}
	}
	return s != ""
}

// validKind is uci's rule for types of sections: printable ASCII without blanks.
func validKind(s string) bool {
	for i := range len(s) {
		if s[i] < 33 || s[i] > 126 {
			return false
		}
	}
	return s != ""
}
