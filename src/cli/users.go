package cli

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"htip/src/daemon"
	"htip/src/ubus"
)

func (c *command) users(ctx context.Context, b bus) error {
	return c.show(ctx, b, "users", nil, usersText)
}

// user adds a person away from home, or takes one out. The key pair is made
// here, and the private key goes to the output and nowhere else: not over ubus,
// not into a file, so that it can't be shown again.
func (c *command) user(ctx context.Context, b bus) error {
	what, name := c.args[0], c.args[1]
	if what == "remove" {
		return c.show(ctx, b, "user_remove", ubus.T("name", name), func(ubus.Table) string {
			return fmt.Sprintf("%s can't come in any more\n", name)
		})
	}
	if what != "add" {
		return failf(ExitUsage, "htip user %s: want htip user add NAME or htip user remove NAME", what)
	}
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return err
	}
	args := ubus.T("name", name, "key", base64.StdEncoding.EncodeToString(k.PublicKey().Bytes()))
	if len(c.homes) > 0 {
		list := ubus.Array{}
		for _, h := range c.homes {
			list = append(list, h)
		}
		args = append(args, ubus.F("homes", list))
	}
	t, err := c.call(ctx, b, "user_add", args)
	if err != nil {
		return err
	}
	text := daemon.UserConfig(t, k)
	if c.json {
		return c.printJSON(append(t, ubus.F("config", text)))
	}
	fmt.Fprintf(c.err, "This is %s's WireGuard configuration. It is shown this once: scan it with the WireGuard app, or keep it as a file there,\nand give it to nobody else. To make it worthless: htip user remove %s\n\n", name, name)
	fmt.Fprint(c.out, text)
	tty := terminal(c.out)
	if !tty && !c.qr {
		return nil
	}
	code, err := qrText(text, tty)
	if err != nil { // very many networks
		fmt.Fprintln(c.err, "This is too long for a QR code: copy the text.")
		return nil
	}
	_, err = fmt.Fprintf(c.out, "\n%s", code)
	return err
}

func usersText(t ubus.Table) string {
	var b strings.Builder
	list, _ := t.GetArray("users")
	if len(list) == 0 {
		return "no users; htip user add phone lets one in\n"
	}
	for _, x := range list {
		row, _ := x.(ubus.Table)
		name, _ := row.GetString("name")
		address, _ := row.GetString("address")
		homes, _ := row.GetStrings("homes")
		state := "not seen since the gateway started"
		if ago, ok := row.GetInt("seen_ago"); ok {
			from, _ := row.GetString("endpoint")
			in, _ := row.GetInt("rx_bytes")
			out, _ := row.GetInt("tx_bytes")
			state = fmt.Sprintf("seen %s at %s, %s in, %s out", agoText(ago), from, bytesText(in), bytesText(out))
		}
		if len(homes) > 0 {
			state += ", may reach " + strings.Join(homes, ", ")
		}
		fmt.Fprintf(&b, "%-16s %-15s %s\n", name, address, state)
	}
	return b.String()
}
