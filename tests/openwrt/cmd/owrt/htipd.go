package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// htipd is a daemon in the place of ours that writes down, in /tmp/calls, its
// arguments, its limit of memory and the signals that it gets. A file /tmp/slow
// holds it up for a second before it listens to signals, and for two at its end.
func htipd(_ context.Context, args []string) error {
	say := func(text string) {
		f, err := os.OpenFile("/tmp/calls", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err == nil {
			fmt.Fprintln(f, text)
			f.Close()
		}
	}
	say(fmt.Sprintf("start %s limit=%s", strings.Join(args, " "), os.Getenv("GOMEMLIMIT")))
	if _, err := os.Stat("/tmp/slow"); err == nil {
		time.Sleep(time.Second)
	}
	c := make(chan os.Signal, 10)
	signal.Notify(c, syscall.SIGWINCH, syscall.SIGUSR1, syscall.SIGTERM)
	say("ready")
	for s := range c {
		switch s {
		case syscall.SIGWINCH:
			say("reload")
		case syscall.SIGUSR1:
			say("USR1")
			return nil
		case syscall.SIGTERM:
			if _, err := os.Stat("/tmp/slow"); err == nil {
				time.Sleep(2 * time.Second)
			}
			say("TERM")
			return nil
		}
	}
	return nil
}
