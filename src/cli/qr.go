package cli

import (
	"strings"

	"htip/src/qr"
)

// qrText draws a text as a QR code: two modules in a character, light ones filled
// in, as on a dark terminal. color makes it look so on every terminal.
func qrText(text string, color bool) (string, error) {
	c, err := qr.New(text)
	if err != nil {
		return "", err
	}
	begin, end := "", "\n"
	if color {
		begin, end = "\x1b[40;97m", "\x1b[0m\n"
	}
	blocks := [...]string{"█", "▀", "▄", " "}
	var b strings.Builder
	for y := -qr.Quiet; y < c.Size+qr.Quiet; y += 2 {
		b.WriteString(begin)
		for x := -qr.Quiet; x < c.Size+qr.Quiet; x++ {
			i := 0
			if c.Dark(x, y) {
				i = 2
			}
			if c.Dark(x, y+1) {
				i++
			}
			b.WriteString(blocks[i])
		}
		b.WriteString(end)
	}
	return b.String(), nil
}
