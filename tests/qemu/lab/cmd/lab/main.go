// Command lab is the lab for developers: "lab image" builds the routers' base image, "lab run"
// boots two homes with the same network and gives their shells.
package main

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/signal"
	"time"

	"htip/tests/qemu/lab"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if len(args) == 1 && args[0] == "image" {
		return lab.BuildImage(ctx, lab.Mipsel)
	}
	if len(args) == 0 || args[0] != "run" {
		return fmt.Errorf("want: lab image | lab run [command for router a]")
	}
	l, err := lab.New(ctx, lab.Options{Logf: func(f string, a ...any) { fmt.Fprintf(os.Stderr, f+"\n", a...) }})
	if err != nil {
		return err
	}
	defer l.Close()
	for i, name := range []string{"a", "b"} {
		_, err := l.AddRouter(ctx, lab.RouterConfig{
			Name: name,
			LAN:  []lab.LAN{{Router: netip.MustParsePrefix("10.0.0.1/24"), Host: netip.MustParseAddr(fmt.Sprintf("10.0.0.%d", 4+i))}},
		})
		if err != nil {
			return err
		}
	}
	begin := time.Now()
	if err := l.Start(ctx); err != nil {
		return err
	}
	fmt.Printf("booted in %.1f s\n", time.Since(begin).Seconds())
	for _, cmd := range args[1:] {
		begin := time.Now()
		out, err := l.Routers()[0].Check(ctx, cmd)
		fmt.Printf("%s[%.2f s]\n", out, time.Since(begin).Seconds())
		if err != nil {
			return err
		}
	}
	return nil
}
