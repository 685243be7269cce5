// Command lab is the lab for developers.
//
//	lab image ARCH       builds the base image of routers of an architecture, by Debian's name
//	lab run [COMMAND]    boots homes a and b, both 10.0.0.0/24; runs the command on router a, or
//	                     waits for an interrupt if there is none
//	lab shell SOCKET     opens the shell on a running router's serial console
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"strings"
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
	switch {
	case len(args) == 2 && args[0] == "image":
		return lab.BuildImage(context.Background(), args[1])
	case len(args) >= 1 && args[0] == "run":
		return homes(strings.Join(args[1:], " "))
	case len(args) == 2 && args[0] == "shell":
		return shell(args[1])
	}
	return errors.New("want: image ARCH | run [COMMAND] | shell SOCKET")
}

// homes boots two homes.
func homes(command string) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if command == "" {
		if err := os.Setenv("LAB_KEEP", "1"); err != nil {
			return err
		}
	}
	l, err := lab.New(ctx, lab.Options{Logf: func(f string, a ...any) { fmt.Fprintf(os.Stderr, f+"\n", a...) }})
	if err != nil {
		return err
	}
	err = boot(ctx, l)
	if err == nil && command != "" {
		var out string
		out, err = l.Routers()[0].Check(ctx, command)
		fmt.Print(out)
	}
	return errors.Join(err, l.Close())
}

func boot(ctx context.Context, l *lab.Lab) error {
	for i, name := range []string{"a", "b"} {
		_, err := l.AddRouter(ctx, lab.RouterConfig{
			Name: name,
			LAN: []lab.LAN{{
				Router: netip.MustParsePrefix("10.0.0.1/24"),
				Host:   netip.AddrFrom4([4]byte{10, 0, 0, byte(4 + i)}),
			}},
		})
		if err != nil {
			return err
		}
	}
	begin := time.Now()
	if err := l.Start(ctx); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "booted in %.1f s\n", time.Since(begin).Seconds())
	return nil
}

// shell joins the terminal and a router's serial console.
func shell(socket string) error {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer conn.Close()
	stty := func(args ...string) error {
		cmd := exec.Command("stty", args...)
		cmd.Stdin = os.Stdin
		return cmd.Run()
	}
	if stty("raw", "-echo") == nil { // otherwise it is no terminal
		defer stty("sane")
		fmt.Print("Leave with Ctrl-].\r\n")
	}
	go io.Copy(os.Stdout, conn)
	if _, err := conn.Write([]byte("\n")); err != nil {
		return err
	}
	b := make([]byte, 1)
	for {
		if _, err := os.Stdin.Read(b); err != nil || b[0] == 0x1d {
			return nil
		}
		if _, err := conn.Write(b); err != nil {
			return err
		}
	}
}
