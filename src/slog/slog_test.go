package slog

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"
)

type stringer struct{}

func (stringer) String() string { return "in words" }

type falls struct{}

func (falls) String() string { panic("no") }

func TestLikeTheStandard(t *testing.T) {
	for _, args := range [][]any{
		nil, {"k", "v"}, {"k", ""}, {"k", "two words"}, {"k", `a "quoted" one`}, {"k", "a=b"}, {"k", "line\nbreak\x1b[2J"}, {"k", "höme — 🏠"}, {"k", "\xff"},
		{"err", errors.New("no such thing")}, {"d", 3 * time.Second}, {"n", 7, "m", int64(-1), "u", uint16(9), "b", true, "f", 1.5},
		{"a", netip.MustParseAddr("10.0.0.1"), "p", netip.MustParsePrefix("10.0.0.0/24")}, {"s", stringer{}}, {"l", []string{"a", "b"}}, {"nil", nil}, {"odd"},
	} {
		for _, msg := range []string{"started", "a message", ""} {
			var want, got bytes.Buffer
			slog.New(slog.NewTextHandler(&want, &slog.HandlerOptions{ReplaceAttr: func(g []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}})).Warn(msg, args...)
			New(NewTextHandler(&got, nil)).Warn(msg, args...)
			if got.String() != want.String() {
				t.Errorf("%q %v:\n%sthe standard one writes\n%s", msg, args, got.String(), want.String())
			}
		}
	}
}

func TestLevels(t *testing.T) {
	var b bytes.Buffer
	v := &LevelVar{}
	l := New(NewTextHandler(&b, &HandlerOptions{Level: v}))
	l.Debug("one")
	v.Set(LevelDebug)
	l.Debug("two")
	if !l.Enabled(LevelDebug) {
		t.Error("debug is not enabled")
	}
	v.Set(LevelError)
	l.Warn("three")
	l.Error("four", "x", falls{})
	if got := b.String(); got != "level=DEBUG msg=two\nlevel=ERROR msg=four x=!PANIC\n" {
		t.Error(got)
	}
	for name, want := range map[string]Level{"debug": LevelDebug, "INFO": LevelInfo, "Warn": LevelWarn, "error": LevelError} {
		var l Level
		if err := l.UnmarshalText([]byte(name)); err != nil || l != want {
			t.Error(name, l, err)
		}
	}
	var x Level
	if err := x.UnmarshalText([]byte("loud")); err == nil || !strings.Contains(err.Error(), "want debug") {
		t.Error(err)
	}
	New(DiscardHandler).Error("nothing")
	if Default() == nil || New(DiscardHandler).Enabled(LevelError) {
		t.Error("Default or Enabled")
	}
}
