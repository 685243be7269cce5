// Package slog is the part of the standard library's log/slog that this project
// uses, with the same names and the same text.
//
// Why not the standard one: from its init function it reaches its JSON handler
// and thereby encoding/json with most of reflect, which costs 45 kB of the
// packed program on mipsle, and the budget is 1,700,000 bytes. TestLikeTheStandard holds the
// text of the two against each other.
package slog

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"unicode"
	"unicode/utf8"
)

// Level is how important a line is.
type Level int

// The levels, as in log/slog.
const (
	LevelDebug Level = -4
	LevelInfo  Level = 0
	LevelWarn  Level = 4
	LevelError Level = 8
)

var levels = map[Level]string{LevelDebug: "DEBUG", LevelInfo: "INFO", LevelWarn: "WARN", LevelError: "ERROR"}

// String is DEBUG, INFO, WARN or ERROR.
func (l Level) String() string { return levels[l] }

// UnmarshalText reads debug, info, warn or error, in whatever case.
func (l *Level) UnmarshalText(b []byte) error {
	for level, name := range levels {
		if len(b) == len(name) && equalFold(b, name) {
			*l = level
			return nil
		}
	}
	return fmt.Errorf("log level %q: want debug, info, warn or error", b)
}

func equalFold(b []byte, upper string) bool {
	for i := range b {
		if b[i]&^0x20 != upper[i] {
			return false
		}
	}
	return true
}

// LevelVar is a level that can be changed while it is in use. The zero value is
// LevelInfo.
type LevelVar struct{ v atomic.Int64 }

// Set changes the level.
func (v *LevelVar) Set(l Level) { v.v.Store(int64(l)) }

// Level is the level.
func (v *LevelVar) Level() Level { return Level(v.v.Load()) }

// Handler is where a Logger's lines go: TextHandler or DiscardHandler.
type Handler interface {
	handle(level Level, msg string, args []any)
}

// DiscardHandler drops every line.
var DiscardHandler Handler = discard{}

type discard struct{}

func (discard) handle(Level, string, []any) {}

// HandlerOptions are the options of a TextHandler.
type HandlerOptions struct {
	Level *LevelVar // lines below it are dropped; nil is LevelInfo
}

// TextHandler writes one line an entry: level=INFO msg="…" key=value …, and no
// time, which procd adds.
type TextHandler struct {
	mu    sync.Mutex
	w     io.Writer
	level *LevelVar
}

// NewTextHandler writes to w, one call of Write a line.
func NewTextHandler(w io.Writer, o *HandlerOptions) *TextHandler {
	h := &TextHandler{w: w, level: &LevelVar{}}
	if o != nil && o.Level != nil {
		h.level = o.Level
	}
	return h
}

func (h *TextHandler) handle(level Level, msg string, args []any) {
	if level < h.level.Level() {
		return
	}
	b := append(make([]byte, 0, 256), "level="+level.String()+" msg="...)
	b = appendValue(b, msg)
	for i := 0; i < len(args); i += 2 {
		key, ok := args[i].(string)
		if !ok || i+1 == len(args) {
			b = appendValue(append(b, " !BADKEY="...), fmt.Sprint(args[i]))
			i--
			continue
		}
		b = append(append(append(b, ' '), key...), '=')
		b = appendValue(b, text(args[i+1]))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.w.Write(append(b, '\n')) // a log that can't be written can't be complained of
}

// text is a value in words; a value that panics is no reason to fall.
func text(v any) (s string) {
	defer func() {
		if recover() != nil {
			s = "!PANIC"
		}
	}()
	switch v := v.(type) {
	case string:
		return v
	case error:
		return v.Error()
	case fmt.Stringer:
		return v.String()
	}
	return fmt.Sprint(v)
}

// appendValue quotes what could be taken for something else.
func appendValue(b []byte, s string) []byte {
	plain := s != ""
	for i, r := range s {
		if r == utf8.RuneError && s[i] != 0xef || unicode.IsSpace(r) || r == '"' || r == '=' || !unicode.IsPrint(r) {
			plain = false
			break
		}
	}
	if plain {
		return append(b, s...)
	}
	return strconv.AppendQuote(b, s)
}

// Logger writes lines with key-value pairs to its handler.
type Logger struct{ h Handler }

// New is a logger with that handler.
func New(h Handler) *Logger { return &Logger{h} }

var std = New(NewTextHandler(os.Stderr, nil))

// Default writes to standard error.
func Default() *Logger { return std }

// Debug, Info, Warn and Error write a line of their level; args are keys and
// values in turn.
func (l *Logger) Debug(msg string, args ...any) { l.h.handle(LevelDebug, msg, args) }
func (l *Logger) Info(msg string, args ...any)  { l.h.handle(LevelInfo, msg, args) }
func (l *Logger) Warn(msg string, args ...any)  { l.h.handle(LevelWarn, msg, args) }
func (l *Logger) Error(msg string, args ...any) { l.h.handle(LevelError, msg, args) }

// Enabled tells whether a line of that level is written.
func (l *Logger) Enabled(level Level) bool {
	h, ok := l.h.(*TextHandler)
	return ok && level >= h.level.Level()
}
