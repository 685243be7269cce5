package cli

import (
	"strings"
	"testing"

	"pgregory.net/rapid"
	"rsc.io/qr/coding"
)

// TestQR holds our codes against another program's, module by module.
func TestQR(t *testing.T) {
	check := func(t interface{ Fatalf(string, ...any) }, text string) {
		var e coding.Encoding = coding.String(text)
		if strings.Trim(text, qrAlpha) == "" {
			e = coding.Alpha(text)
		}
		v := coding.Version(1)
		for e.Bits(v) > v.DataBytes(coding.L)*8 {
			v++
		}
		c, err := newQR(text)
		if err != nil {
			t.Fatalf("%d characters: %v", len(text), err)
		}
		if c.size != 17+4*int(v) {
			// The terminator has to fit here, always; there it may be cut.
			if e.Bits(v)+4 <= v.DataBytes(coding.L)*8 || c.size != 21+4*int(v) {
				t.Fatalf("%d characters: %d modules, for version %d", len(text), c.size, v)
			}
			v++
		}
		plan, err := coding.NewPlan(v, coding.L, 0)
		if err != nil {
			t.Fatalf("%v", err)
		}
		want, err := plan.Encode(e)
		if err != nil {
			t.Fatalf("%v", err)
		}
		for y := range c.size {
			for x := range c.size {
				if c.isDark(x, y) != want.Black(x, y) {
					t.Fatalf("version %d, %d characters: module %d,%d differs", v, len(text), x, y)
				}
			}
		}
	}
	for n := range 650 {
		check(t, strings.Repeat("HTIP:7", 110)[:n])
		if n < 450 {
			check(t, strings.Repeat("htip = ü ", 100)[:n])
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		check(t, rapid.StringMatching(`[A-Z0-9 $%*+./:-]{0,600}`).Draw(t, "alphanumeric"))
		check(t, string(rapid.SliceOfN(rapid.Byte(), 0, 450).Draw(t, "octets")))
	})
	if _, err := newQR(strings.Repeat("x", 1000)); err == nil {
		t.Error("too long")
	}
	s, err := qrText("HTIP:ABC", false)
	if lines := strings.Split(s, "\n"); err != nil || len(lines) != 16 || strings.Trim(lines[0], "█") != "" || !strings.HasPrefix(lines[2], "████ ▄▄▄▄▄ ") {
		t.Errorf("%v\n%s", err, s)
	}
	if s, _ := qrText("HTIP:ABC", true); !strings.HasPrefix(s, "\x1b[40;97m█") || !strings.HasSuffix(s, "█\x1b[0m\n") {
		t.Errorf("%q", s)
	}
}
