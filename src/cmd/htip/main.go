// Command htip is both the daemon htipd and the command htip, by the name it is
// called: one binary is half the flash of two.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"htip/src/cli"
	"htip/src/daemon"
)

// version is set by the linker: -X main.version=…
var version = "devel"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if filepath.Base(os.Args[0]) != "htipd" {
		os.Exit(cli.Run(ctx, os.Args[1:], version, os.Stdout, os.Stderr))
	}
	if err := daemon.Main(ctx, os.Args[1:], version); err != nil {
		fmt.Fprintln(os.Stderr, "htipd:", err)
		os.Exit(1)
	}
}
