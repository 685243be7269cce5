package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"htip/src/ubus"
)

// doctorSteps are what somebody reads who has waited for a second, and for three.
var doctorSteps = []struct {
	after time.Duration
	text  string
}{
	{time.Second, "looking up names, and knocking at the other homes' ports ..."},
	{3 * time.Second, "some do not answer; 2 more seconds at most ..."},
}

// doctor prints what is wrong with this home. Something bad is exit code 1.
func (c *command) doctor(ctx context.Context, b bus) error {
	for _, s := range doctorSteps {
		t := time.AfterFunc(s.after, func() { fmt.Fprintln(c.err, s.text) })
		defer t.Stop()
	}
	t, err := c.call(ctx, b, "doctor", nil)
	if err != nil {
		return err
	}
	text, bad := doctorText(t)
	if c.json {
		if err := c.printJSON(t); err != nil {
			return err
		}
	} else if _, err := fmt.Fprint(c.out, text); err != nil {
		return err
	}
	if bad {
		return &exit{code: ExitFailed}
	}
	return nil
}

// doctorText is the rows for people: what is wrong first, what is well last.
func doctorText(t ubus.Table) (text string, bad bool) {
	var b strings.Builder
	rows, _ := t.GetArray("rows")
	wrong := 0
	for _, level := range []string{"bad", "warn", "ok"} {
		for _, x := range rows {
			row, _ := x.(ubus.Table)
			if l, _ := row.GetString("level"); l != level {
				continue
			}
			text, _ := row.GetString("text")
			fmt.Fprintf(&b, "%-5s %s\n", level, text)
			if advice, _ := row.GetString("advice"); advice != "" {
				fmt.Fprintf(&b, "      -> %s\n", advice)
			}
			if level != "ok" {
				wrong++
			}
			bad = bad || level == "bad"
		}
	}
	if wrong == 0 {
		b.WriteString("nothing is wrong here\n")
	}
	return b.String(), bad
}
