// lmo makes of a translation the file that LuCI reads:
//
//	go run ./tests/page/po/cmd/lmo luci-app-htip/po/de/htip.po htip.de.lmo
package main

import (
	"fmt"
	"os"

	"htip/tests/page/po"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lmo:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return fmt.Errorf("usage: lmo IN.po OUT.lmo")
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	f, err := po.Parse(args[0], string(text))
	if err != nil {
		return err
	}
	out, err := f.LMO()
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	if out == nil {
		return fmt.Errorf("%s: nothing is translated", args[0])
	}
	return os.WriteFile(args[1], out, 0o644)
}
