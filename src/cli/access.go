package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"htip/src/ubus"
)

// reach shows what a peer may reach here, or changes it.
func (c *command) reach(ctx context.Context, b bus) error {
	args := c.peerArg()
	if entries := append(slices.Clone(c.args[1:]), c.access...); len(entries) > 0 {
		list := ubus.Array{}
		for _, e := range entries {
			list = append(list, e)
		}
		args = append(args, ubus.F("access", list))
	}
	return c.show(ctx, b, "access", args, func(t ubus.Table) string {
		peer, _ := t.GetString("peer")
		var s strings.Builder
		fmt.Fprintf(&s, "%s may reach %s\n", peer, accessText(t))
		nowhereText(&s, t, "")
		return s.String()
	})
}

// accessText is a list access in words.
func accessText(t ubus.Table) string {
	list, _ := t.GetStrings("access")
	switch {
	case len(list) == 0, slices.Equal(list, []string{"all"}):
		return "everything in the networks that are shared"
	case slices.Equal(list, []string{"none"}):
		return "nothing here; names are told"
	}
	return strings.Join(list, ", ")
}

func nowhereText(b *strings.Builder, t ubus.Table, indent string) {
	list, _ := t.GetStrings("nowhere")
	for _, e := range list {
		fmt.Fprintf(b, "%s%s opens nothing: no such host in the networks that are shared\n", indent, e)
	}
}

// refusedText says what a peer sent that was dropped.
func refusedText(b *strings.Builder, t ubus.Table) {
	v, ok := t.Get("refused")
	r, isTable := v.(ubus.Table)
	if !ok || !isTable {
		return
	}
	var parts []string
	for _, x := range []struct{ name, words string }{
		{"source", "with a forged source"}, {"destination", "to addresses that are not shared"},
		{"host", "to hosts and ports that are not open to it"}, {"router", "to services of this router"},
	} {
		if n, _ := r.GetInt(x.name); n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, x.words))
		}
	}
	if len(parts) > 0 {
		fmt.Fprintf(b, "  dropped        packets: %s\n", strings.Join(parts, ", "))
	}
}
