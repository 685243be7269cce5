package qr

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
		if strings.Trim(text, alpha) == "" {
			e = coding.Alpha(text)
		}
		v := coding.Version(1)
		for e.Bits(v) > v.DataBytes(coding.L)*8 {
			v++
		}
		c, err := New(text)
		if err != nil {
			t.Fatalf("%d characters: %v", len(text), err)
		}
		if c.Size != 17+4*int(v) {
			// The terminator has to fit here, always; there it may be cut.
			if e.Bits(v)+4 <= v.DataBytes(coding.L)*8 || c.Size != 21+4*int(v) {
				t.Fatalf("%d characters: %d modules, for version %d", len(text), c.Size, v)
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
		for y := range c.Size {
			for x := range c.Size {
				if c.Dark(x, y) != want.Black(x, y) {
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
	if _, err := New(strings.Repeat("x", 1000)); err == nil {
		t.Error("too long")
	}
	c, err := New("HTIP:ABC")
	if err != nil {
		t.Fatal(err)
	}
	rows := c.Rows()
	for y, row := range rows {
		for x := range row {
			if (row[x] == '1') != c.Dark(x, y) || len(rows) != 21 || len(row) != 21 {
				t.Fatal(strings.Join(rows, "\n"))
			}
		}
	}
}
