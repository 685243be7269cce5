package cli

import (
	"fmt"
	"net/netip"
	"strings"
	"time"

	"htip/src/htip"
	"htip/src/ubus"
)

// pattern is a prefix the way people say it: 192.168.1.x, 10.0.x.x; other
// lengths as a prefix.
func pattern(s string) string {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() || p.Bits()%8 != 0 || p.Bits() == 0 {
		return s
	}
	parts := strings.Split(p.Addr().String(), ".")
	for i := p.Bits() / 8; i < 4; i++ {
		parts[i] = "x"
	}
	return strings.Join(parts, ".")
}

// rows are the mappings of an array of tables.
func rows(t ubus.Table, name string) (out [][2]string) {
	list, _ := t.GetArray(name)
	for _, x := range list {
		if m, ok := x.(ubus.Table); ok {
			n, _ := m.GetString("network")
			s, _ := m.GetString("substitute")
			out = append(out, [2]string{n, s})
		}
	}
	return out
}

// texts are those of each table of an array: 192.168.1.0/24 lan, 192.168.3.0/24 guest.
func texts(t ubus.Table, name string) string {
	var out []string
	list, _ := t.GetArray(name)
	for _, x := range list {
		line := ""
		row, _ := x.(ubus.Table)
		for i := range row {
			if s, _ := row[i].Value.(string); s != "" {
				line += " " + s
			}
		}
		out = append(out, strings.TrimPrefix(line, " "))
	}
	return strings.Join(out, ", ")
}

// theirsText says where the other home's networks are found from here.
func theirsText(peer string, tunnel ubus.Table) string {
	var parts []string
	for _, m := range rows(tunnel, "theirs") {
		if m[0] == m[1] {
			parts = append(parts, fmt.Sprintf("%s's %s keeps its addresses", peer, pattern(m[0])))
		} else {
			parts = append(parts, fmt.Sprintf("%s's %s is your %s", peer, pattern(m[0]), pattern(m[1])))
		}
	}
	return strings.Join(parts, ", ")
}

func connectedText(peer string, tunnel ubus.Table, host string) string {
	return fmt.Sprintf("%s; try ping %s\n", theirsText(peer, tunnel), host)
}

// stepNames are the steps in the words of the protocol and, behind them, of
// people.
var stepNames = map[string][2]string{
	"connecting": {"resolving", ""},
	"request":    {"REQUEST", "tunnel and addresses asked for"},
	"response":   {"RESPONSE", "addresses proposed"},
	"nak":        {"NAK", "these addresses don't suit; trying others"},
	"ack":        {"ACK", "addresses agreed on"},
	"ready":      {"READY", "VPN server is listening"},
	"tunnel":     {"tunnel, NAT", "VPN tunnel is up, addresses are translated"},
	"up":         {"names", "the other home's names answer through the tunnel"},
	"down":       {"down", ""},
	"failed":     {"failed", ""},
}

func stepText(t ubus.Table, named bool) string {
	step, _ := t.GetString("step")
	ms, _ := t.GetInt("took_ms")
	text, _ := t.GetString("text")
	words, ok := stepNames[step]
	if !ok {
		words = [2]string{step, ""}
	}
	if text == "" {
		text = words[1]
	}
	if reason, _ := t.GetString("reason"); reason == htip.ReasonApproval.String() {
		words[0], text = "approval", "waiting for the other home's approval"
	}
	if step == "connecting" && text == "" {
		return "" // what it does comes at once as a step of its own
	}
	s := fmt.Sprintf("%6.1f s  %-11s  %s", float64(ms)/1000, words[0], text)
	if retry, ok := t.GetInt("retry_ms"); ok {
		s += fmt.Sprintf("; trying again in %v", time.Duration(retry)*time.Millisecond)
	}
	if named {
		peer, _ := t.GetString("peer")
		s = fmt.Sprintf("%-10s %s", peer, s)
	}
	return strings.TrimRight(s, " ") + "\n"
}

func statusText(t ubus.Table, now time.Time) string {
	var b strings.Builder
	name, _ := t.GetString("name")
	domain, _ := t.GetString("domain")
	fp, _ := t.GetString("fingerprint")
	nets, _ := t.GetStrings("networks")
	if domain == "" {
		domain = "no public name"
	}
	fmt.Fprintf(&b, "%s (%s), fingerprint %s, networks %s\n", name, domain, fp, strings.Join(nets, ", "))
	for _, kind := range []string{"lan", "wan"} {
		if text := texts(t, kind); text != "" {
			fmt.Fprintf(&b, "%-14s %s\n", kind, text)
		}
	}
	problems, _ := t.GetStrings("problems")
	for _, p := range problems {
		fmt.Fprintf(&b, "problem: %s\n", p)
	}
	if n, _ := t.GetInt("names_refused"); n > 0 {
		fmt.Fprintf(&b, "names          %d answers of other homes were refused: they gave addresses that are not theirs\n", n)
	}
	list, _ := t.GetArray("tunnels")
	if len(list) == 0 {
		b.WriteString("no other homes are configured\n")
	}
	for _, x := range list {
		row, _ := x.(ubus.Table)
		tunnelText(&b, row, now)
	}
	return b.String()
}

func tunnelText(b *strings.Builder, t ubus.Table, now time.Time) {
	peer, _ := t.GetString("peer")
	domain, _ := t.GetString("domain")
	state, _ := t.GetString("state")
	fmt.Fprintf(b, "\n%s (%s): %s", peer, domain, state)
	if since, _ := t.GetInt("since"); since > 0 && state == "up" {
		fmt.Fprintf(b, " for %v", now.Sub(time.Unix(since, 0)).Truncate(time.Second))
	}
	b.WriteByte('\n')
	if why, ok := t.GetString("error"); ok {
		fmt.Fprintf(b, "  last error     %s\n", why)
	}
	if proto, ok := t.GetString("protocol"); ok {
		role, _ := t.GetString("role")
		id, _ := t.GetString("tunnel_id")
		dev, _ := t.GetString("device")
		secret := "NOT encrypted"
		if proto == htip.PPTP.String() {
			secret = "NOT safe: its encryption is broken"
		}
		if enc, _ := t.GetBool("encrypted"); enc {
			secret = "encrypted"
		}
		if cipher, ok := t.GetString("cipher"); ok {
			proto += " (" + cipher + ")"
		}
		fmt.Fprintf(b, "  tunnel         %s (%s), %s, ID %s, device %s", proto, role, secret, id, dev)
		if kernel, ok := t.GetBool("kernel"); ok && !kernel {
			b.WriteString(", not in the kernel: slow")
		}
		b.WriteByte('\n')
		if why, _ := t.GetString("protocol_reason"); why != "" {
			fmt.Fprintf(b, "  because        %s\n", why)
		}
	}
	for _, m := range rows(t, "own") {
		fmt.Fprintf(b, "  our  %-18s %s\n", m[0], known(m, "is known there as"))
	}
	for _, m := range rows(t, "theirs") {
		fmt.Fprintf(b, "  their %-17s %s\n", m[0], known(m, "is known here as"))
	}
	if gw, ok := t.GetString("gateway"); ok {
		other, _ := t.GetString("peer_gateway")
		fmt.Fprintf(b, "  gateways       %s here, %s there\n", gw, other)
	}
	if _, ok := t.Get("access"); ok {
		fmt.Fprintf(b, "  may reach      %s\n", accessText(t))
		nowhereText(b, t, "                 ")
	}
	if rx, ok := t.GetInt("rx_bytes"); ok {
		tx, _ := t.GetInt("tx_bytes")
		fmt.Fprintf(b, "  traffic        %s received, %s sent\n", bytesText(rx), bytesText(tx))
	}
	refusedText(b, t)
}

func known(m [2]string, words string) string {
	if m[0] == m[1] {
		return "keeps its addresses"
	}
	return words + " " + m[1]
}

func bytesText(n int64) string {
	units := []string{"B", "kB", "MB", "GB", "TB"}
	f, i := float64(n), 0
	for ; f >= 1000 && i < len(units)-1; i++ {
		f /= 1000
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", f, units[i])
}

func peersText(t ubus.Table) string {
	var b strings.Builder
	list, _ := t.GetArray("peers")
	if len(list) == 0 {
		return "no other homes are configured\n"
	}
	for _, x := range list {
		row, _ := x.(ubus.Table)
		peer, _ := row.GetString("peer")
		domain, _ := row.GetString("domain")
		fp, _ := row.GetString("fingerprint")
		state, _ := row.GetString("state")
		if enabled, _ := row.GetBool("enabled"); !enabled {
			state = "disabled"
		}
		protocols, _ := row.GetStrings("protocols")
		if len(protocols) == 0 {
			protocols = []string{"no VPN protocol possible"}
		}
		fmt.Fprintf(&b, "%-12s %-28s %s  %-10s %s\n", peer, domain, fp, state, strings.Join(protocols, ","))
	}
	return b.String()
}

func hostsText(t ubus.Table) string {
	var b strings.Builder
	list, _ := t.GetArray("hosts")
	for _, x := range list {
		row, _ := x.(ubus.Table)
		name, _ := row.GetString("fqdn")
		addr, _ := row.GetString("address")
		fmt.Fprintf(&b, "%-15s %s\n", addr, name)
	}
	return b.String()
}
