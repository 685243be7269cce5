// Command ubusd is the broker of package ubusd on its own, for test machines
// without OpenWrt.
package main

import (
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"htip/src/ubus"
	"htip/tests/ubusd"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "ubusd:", err)
		os.Exit(1)
	}
}

func run() error {
	socket := flag.String("s", ubus.DefaultSocket, "Unix `socket` to listen on")
	everyone := flag.Bool("everyone", false, "let users other than root do all")
	flag.Parse()
	if err := os.MkdirAll(filepath.Dir(*socket), 0o755); err != nil {
		return err
	}
	cfg := ubusd.Config{Socket: *socket}
	if *everyone {
		cfg.Policy = ubusd.Everyone{}
	}
	b, err := ubusd.Listen(cfg)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	<-stop
	return b.Close()
}
