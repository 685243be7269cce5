// Command serve starts two homes, alice and bob, with a fake kernel, and serves
// their pages until it is interrupted:
//
//	go run ./tests/page/serve [-app luci-app-htip] [-luci CHECKOUT] [-port 8000]
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"htip/tests/page"
	"htip/tests/page/bridge"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "serve:", err)
		os.Exit(1)
	}
}

func run() error {
	app := flag.String("app", "luci-app-htip", "the app's directory")
	luci := flag.String("luci", "", "a checkout of openwrt/luci, to be served in the place of the stand-in")
	port := flag.Int("port", 8000, "of alice's pages; bob has the next one")
	flag.Parse()
	dir, err := os.MkdirTemp("", "htip-page-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	homes, err := page.Start(dir, page.Options{App: bridge.AppIn(*app), LuCI: *luci, Port: *port}, "alice", "bob")
	if err != nil {
		return err
	}
	fmt.Printf("root and guest have the password %q\n", page.Password)
	for _, h := range homes {
		fmt.Printf("%s  %s/cgi-bin/luci/admin/services/htip\n\tbus %s, configuration %s\n", h.Name, h.URL, h.Socket(), h.File())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	<-ctx.Done()
	return page.Close(homes)
}
