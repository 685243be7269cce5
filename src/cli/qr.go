package cli

import (
	"errors"
	"strings"

	"rsc.io/qr/coding"
)

const (
	qrMost  = 20 // version: 97 modules, what a terminal can still show
	qrQuiet = 4  // modules of nothing around the code (ISO/IEC 18004, 5.3.8)
)

// qrText draws a text of A-Z, 0-9 and "$%*+-./: " as a QR code: two modules in a
// character, light ones filled in, as on a dark terminal. color makes it look so
// on every terminal.
func qrText(text string, color bool) (string, error) {
	alpha := coding.Alpha(text)
	if err := alpha.Check(); err != nil {
		return "", err
	}
	v := coding.Version(coding.MinVersion)
	for alpha.Bits(v) > v.DataBytes(coding.L)*8 {
		if v++; v > qrMost {
			return "", errors.New("too long for a QR code")
		}
	}
	plan, err := coding.NewPlan(v, coding.L, 0)
	if err != nil {
		return "", err
	}
	code, err := plan.Encode(alpha)
	if err != nil {
		return "", err
	}
	begin, end := "", "\n"
	if color {
		begin, end = "\x1b[40;97m", "\x1b[0m\n"
	}
	var b strings.Builder
	for y := -qrQuiet; y < code.Size+qrQuiet; y += 2 {
		b.WriteString(begin)
		for x := -qrQuiet; x < code.Size+qrQuiet; x++ {
			upper, lower := code.Black(x, y), code.Black(x, y+1)
			switch {
			case upper && lower:
				b.WriteByte(' ')
			case upper:
				b.WriteString("▄")
			case lower:
				b.WriteString("▀")
			default:
				b.WriteString("█")
			}
		}
		b.WriteString(end)
	}
	return b.String(), nil
}
