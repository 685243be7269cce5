package config

import (
	"bytes"
	"fmt"
)

// ParseError is a UCI file that the real uci refuses, in uci's own words. Line
// counts complete lines from 1, so uci names the line before for an error in a
// last line without line end; Byte counts from 0 within the statement's line.
type ParseError struct {
	Line, Byte int
	Reason     string
}

// Error is the text of `uci show`, without its "uci: " and in lower case.
func (e *ParseError) Error() string {
	return fmt.Sprintf("parse error (%s) at line %d, byte %d", e.Reason, e.Line, e.Byte)
}

// scanner cuts a UCI file into words by uci's rules. It takes the file in line by
// line, because where a line ends matters: outside of quotes a word never goes
// beyond it, inside of quotes and behind a backslash the next line is taken in
// and the statement's line grows.
type scanner struct {
	data  []byte
	start int // first byte of the statement's line
	pos   int // next byte to look at
	stop  int // end of what can be seen: taken, or where the line was cut short
	taken int // end of what was taken in: behind a line end, or the end of the file
	lines int // line ends taken in
	glued int // bytes of line ends that backslashes removed from this line; uci doesn't count them

	wordEnd int  // end of the last word that was not nothing, its quotes included
	sep     int  // the semicolon behind that word, or -1
	dead    bool // a semicolon cut the line short: uci doesn't read what is behind it
}

// nextLine goes to the line behind everything taken in; false at the file's end.
func (s *scanner) nextLine() bool {
	s.start, s.pos, s.stop, s.glued, s.dead = s.taken, s.taken, s.taken, 0, false
	return s.take()
}

// take takes in one more line of the file.
func (s *scanner) take() bool {
	if s.taken == len(s.data) {
		return false
	}
	if n := bytes.IndexByte(s.data[s.taken:], '\n'); n >= 0 {
		s.taken += n + 1
		s.lines++
	} else {
		s.taken = len(s.data)
	}
	s.stop = s.taken
	return true
}

// peek is the next byte, 0 where there is nothing to see; a file with a zero byte
// never comes here.
func (s *scanner) peek() byte {
	if s.pos >= s.stop {
		return 0
	}
	return s.data[s.pos]
}

func (s *scanner) errorf(reason string) error {
	return &ParseError{Line: s.lines, Byte: s.pos - s.start - s.glued, Reason: reason}
}

func isSpace(c byte) bool { return c == ' ' || '\t' <= c && c <= '\r' }

func (s *scanner) skipSpace() {
	for isSpace(s.peek()) {
		s.pos++
	}
}

// keyword is the first word of a statement and where it starts; "" at the end of
// the line. It ends at a blank only, so that a line end or a quote belongs to it
// (and makes it an unknown one). The position stays.
func (s *scanner) keyword() (word string, start int) {
	start = s.pos
	for start < s.stop && isBlank(s.data[start]) {
		start++
	}
	end := start
	for end < s.stop && !isBlank(s.data[end]) {
		end++
	}
	return string(s.data[start:end]), start
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' }

// word reads the next argument: parts in single quotes, double quotes and none,
// as long as no white space is between them. "" is an empty word or none at all.
func (s *scanner) word() (string, error) {
	s.skipSpace()
	if s.peek() == ';' {
		s.sep = s.pos
		s.pos++
		return "", nil
	}
	var out []byte
	plain := true // no quote and no backslash so far
	first := s.pos
	for c := s.peek(); c != 0 && !isSpace(c); c = s.peek() {
		if c == '#' {
			s.stop = s.pos
			break
		}
		if c == ';' {
			// uci ends a word by a zero byte in its buffer. Behind a word
			// without quotes and backslashes that byte hits the semicolon, and
			// the rest of the line is lost.
			if plain {
				s.stop, s.dead = s.pos, true
			}
			break
		}
		var err error
		switch c {
		case '\'':
			plain = false
			out, err = s.single(out)
		case '"':
			plain = false
			out, err = s.double(out)
		case '\\':
			plain = false
			if s.escape() {
				out = s.copy(out)
			}
		default:
			out = s.copy(out)
		}
		if err != nil {
			return "", err
		}
	}
	if s.pos > first {
		s.wordEnd, s.sep = s.pos, -1
	}
	if isSpace(s.peek()) {
		s.pos++
	}
	return string(out), nil
}

func (s *scanner) copy(out []byte) []byte {
	s.pos++
	return append(out, s.data[s.pos-1])
}

// single reads a part in single quotes: every byte stands for itself.
func (s *scanner) single(out []byte) ([]byte, error) {
	s.pos++
	for {
		switch s.peek() {
		case '\'':
			s.pos++
			return out, nil
		case 0:
			if !s.take() {
				return nil, s.errorf("EOF with unterminated '")
			}
		default:
			out = s.copy(out)
		}
	}
}

// double reads a part in double quotes: a backslash makes the next byte stand for
// itself.
func (s *scanner) double(out []byte) ([]byte, error) {
	s.pos++
	for {
		switch s.peek() {
		case '"':
			s.pos++
			return out, nil
		case 0:
			if !s.take() {
				return nil, s.errorf(`EOF with unterminated "`)
			}
		case '\\':
			if s.escape() {
				out = s.copy(out)
			}
		default:
			out = s.copy(out)
		}
	}
}

// escape steps over a backslash and tells whether the byte behind it is to be
// copied. A line end behind it is not: it vanishes, and the next line follows.
func (s *scanner) escape() bool {
	s.pos++
	c := s.peek()
	if c != 0 && c != '\n' && !bytes.Equal(s.data[s.pos:s.stop], []byte("\r\n")) {
		return true
	}
	s.glued += s.taken - s.pos
	s.pos = s.taken
	s.take()
	return false
}
