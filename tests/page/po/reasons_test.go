package po

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"htip/src/htip"
)

// The page has words for every reason of the daemon, and for no other.
func TestReasons(t *testing.T) {
	const name = App + "/htdocs/luci-static/resources/htip/common.js"
	src, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := scanJS(name, string(src))
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for i := 0; i+2 < len(tokens) && (len(got) == 0 || tokens[i].text != "}"); i++ {
		if tokens[i].text == "const" && tokens[i+1].text == "reasons" {
			got = append(got, "")
		}
		if len(got) > 0 && tokens[i].kind == jsString && tokens[i+1].text == ":" {
			got = append(got, tokens[i].text)
		}
	}
	for r := htip.Reason(1); r.String() != fmt.Sprintf("reason %d", uint16(r)); r++ {
		want = append(want, r.String())
	}
	if len(got) > 0 {
		got = got[1:]
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the page has\n%s\n\nthe daemon has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}
