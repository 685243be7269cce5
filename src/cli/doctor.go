package cli

import (
	"context"
	"fmt"
	"time"

	"htip/src/ubus"
)

// doctor prints what is wrong with this home. Who has waited for a second is told
// what for.
func (c *command) doctor(ctx context.Context, b bus) error {
	defer time.AfterFunc(time.Second, func() {
		fmt.Fprintln(c.err, "looking up names, and knocking at the ports of other homes; some do not answer ...")
	}).Stop()
	return c.show(ctx, b, "doctor", nil, doctorText)
}

func doctorText(t ubus.Table) (out string) {
	rows, _ := t.GetArray("rows")
	for _, x := range rows {
		row, _ := x.(ubus.Table)
		level, _ := row.GetString("level")
		text, _ := row.GetString("text")
		out += (level + "      ")[:6] + text + "\n"
		if advice, _ := row.GetString("advice"); advice != "" {
			out += "      -> " + advice + "\n"
		}
	}
	return out
}
