package cli

import (
	"strings"
	"testing"
)

func TestQRText(t *testing.T) {
	s, err := qrText("HTIP:ABC", false)
	if lines := strings.Split(s, "\n"); err != nil || len(lines) != 16 || strings.Trim(lines[0], "█") != "" || !strings.HasPrefix(lines[2], "████ ▄▄▄▄▄ ") {
		t.Errorf("%v\n%s", err, s)
	}
	if s, _ := qrText("HTIP:ABC", true); !strings.HasPrefix(s, "\x1b[40;97m█") || !strings.HasSuffix(s, "█\x1b[0m\n") {
		t.Errorf("%q", s)
	}
}
