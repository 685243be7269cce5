// Command owrt is a stand-in for what OpenWrt has beside the kernel: uci, ubus,
// jsonfilter, validate_data, procd, netifd, fw4 and opkg, by the name that it is
// called. The package of HTIP is tested with it where there is no OpenWrt: its
// scripts see the same commands and get answers of the same form. Each part does
// what the scripts use, and says so loudly when more is asked.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"htip/src/ubus"
	"htip/tests/openwrt/uci"
)

var applets = map[string]func(ctx context.Context, args []string) error{
	"uci": runUCI, "ubus": runUbus, "jsonfilter": jsonfilter, "validate_data": validateData,
	"procd": runProcd, "netifd": runNetifd, "fw4": runFW4, "opkg": runOpkg, "service-set": serviceSet, "config-load": configLoad, "htipd": htipd,
}

func main() {
	name, args := filepath.Base(os.Args[0]), os.Args[1:]
	if name == "owrt" && len(args) > 0 {
		name, args = args[0], args[1:]
	}
	run, ok := applets[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "owrt: there is no %q\n", name)
		os.Exit(2)
	}
	debug.SetGCPercent(10) // routers have 64 MB, and the real ones of these are not written in Go
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := run(ctx, args)
	var code exitCode
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code))
	default:
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}

// exitCode ends the program without a word.
type exitCode int

func (c exitCode) Error() string { return "exit code " + strconv.Itoa(int(c)) }

func runUCI(_ context.Context, args []string) error {
	quiet, err := uci.Command(args, os.Stdin, os.Stdout)
	if err != nil && quiet {
		return exitCode(1)
	}
	return err
}

// configLoad prints a package as assignments for the shell: what config_load of
// /lib/functions.sh leaves in the environment. Unnamed sections get names as long
// as the real ones, which have a hash at their end.
func configLoad(_ context.Context, args []string) error {
	if len(args) != 1 {
		return errors.New("want a package")
	}
	p, err := (uci.Dirs{Config: "/etc/config", Changes: "/tmp/.uci"}).Load(args[0])
	if err != nil {
		return exitCode(1)
	}
	var names []string
	quote := func(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
	for i, s := range p.Sections {
		name := s.Name
		if name == "" {
			name = fmt.Sprintf("cfg%02x0000", i+1)
		}
		names = append(names, name)
		fmt.Printf("CONFIG_%s_TYPE=%s\n", name, quote(s.Type))
		for _, o := range s.Options {
			fmt.Printf("CONFIG_%s_%s=%s\n", name, o.Name, quote(s.Get(o.Name)))
		}
	}
	fmt.Printf("CONFIG_SECTIONS=%s\n", quote(strings.Join(names, " ")))
	return nil
}

// socket is ubusd's.
func socket() string {
	if s := os.Getenv("UBUS_SOCKET"); s != "" {
		return s
	}
	return ubus.DefaultSocket
}

// call calls a method, waiting up to two seconds for the object.
func call(ctx context.Context, object, method string, args ubus.Table) (ubus.Table, error) {
	c, err := ubus.Dial(ctx, socket())
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Call(ctx, object, method, args)
}

// runUbus is "ubus call OBJECT METHOD [JSON]".
func runUbus(ctx context.Context, args []string) error {
	if len(args) < 3 || args[0] != "call" {
		return fmt.Errorf("%q is not understood here", args)
	}
	t := ubus.Table{}
	if len(args) > 3 {
		var err error
		if t, err = ubus.ParseJSON([]byte(args[3])); err != nil {
			return err
		}
	}
	out, err := call(ctx, args[1], args[2], t)
	if err != nil {
		return fmt.Errorf("Command failed: %w", err)
	}
	if out != nil {
		os.Stdout.Write(append(ubus.AppendJSON(nil, out), '\n'))
	}
	return nil
}

// jsonfilter is "jsonfilter [-q] -e EXPRESSION" with paths of the form
// @.a.b[*].c[2]. An object's values come in the order of their names.
func jsonfilter(_ context.Context, args []string) error {
	args = slices.DeleteFunc(args, func(a string) bool { return a == "-q" })
	if len(args) != 2 || args[0] != "-e" {
		return fmt.Errorf("%q is not understood here", args)
	}
	data, err := io.ReadAll(os.Stdin)
	if err != nil {
		return err
	}
	var root any
	if err := json.Unmarshal(data, &root); err != nil {
		return exitCode(126)
	}
	step := regexp.MustCompile(`^(?:\.([A-Za-z0-9_-]+)|\[(\*|[0-9]+)\])`)
	at := []any{root}
	for path := strings.TrimPrefix(strings.TrimPrefix(args[1], "@"), "$"); path != ""; {
		m := step.FindStringSubmatch(path)
		if m == nil {
			return fmt.Errorf("%q is not understood here", path)
		}
		path = path[len(m[0]):]
		var next []any
		for _, v := range at {
			switch v := v.(type) {
			case map[string]any:
				names := make([]string, 0, len(v))
				for n := range v {
					names = append(names, n)
				}
				slices.Sort(names)
				for _, n := range names {
					if n == m[1] || m[2] == "*" {
						next = append(next, v[n])
					}
				}
			case []any:
				for i, x := range v {
					if m[2] == "*" || m[2] == strconv.Itoa(i) {
						next = append(next, x)
					}
				}
			}
		}
		at = next
	}
	for _, v := range at {
		if s, ok := v.(string); ok {
			fmt.Println(s)
		} else if b, err := json.Marshal(v); err == nil {
			fmt.Println(string(b))
		}
	}
	if len(at) == 0 {
		return exitCode(1)
	}
	return nil
}

// validateData is "validate_data PACKAGE TYPE NAME 'option:type[:default]'…": it
// prints assignments for the shell, and its exit code is how many are wrong.
func validateData(_ context.Context, args []string) error {
	if len(args) < 3 {
		return fmt.Errorf("%q is not understood here", args)
	}
	p, err := (uci.Dirs{Config: "/etc/config", Changes: "/tmp/.uci"}).Load(args[0])
	if err != nil {
		return exitCode(255)
	}
	s := &uci.Section{}
	if found := p.Find(args[2]); found != nil && found.Type == args[1] {
		s = found
	}
	bad := 0
	for _, spec := range args[3:] {
		f := strings.SplitN(spec, ":", 3)
		if len(f) < 2 {
			return fmt.Errorf("%q is not understood here", spec)
		}
		v := s.Get(f[0])
		if v == "" && len(f) == 3 {
			v = f[2]
		}
		if v != "" {
			var ok bool
			if v, ok = valid(f[1], v); !ok {
				fmt.Fprintf(os.Stderr, "[%s] %s.%s.%s=%s validates as %s with false\n", args[0], args[0], args[2], f[0], v, f[1])
				bad++
				continue
			}
		}
		fmt.Printf("%s='%s'; ", f[0], strings.ReplaceAll(v, "'", `'\''`))
	}
	if bad > 0 {
		return exitCode(bad)
	}
	return nil
}

var ranged = regexp.MustCompile(`^range\((\d+),(\d+)\)$`)

func valid(kind, v string) (string, bool) {
	within := func(low, high string) bool {
		n, err := strconv.Atoi(v)
		l, _ := strconv.Atoi(low)
		h, _ := strconv.Atoi(high)
		return err == nil && n >= l && n <= h
	}
	switch m := ranged.FindStringSubmatch(kind); {
	case m != nil:
		return v, within(m[1], m[2])
	case kind == "port":
		return v, within("0", "65535")
	case kind == "bool":
		switch v {
		case "1", "on", "true", "yes", "enabled":
			return "1", true
		case "0", "off", "false", "no", "disabled":
			return "0", true
		}
		return v, false
	}
	return v, false
}

// serve keeps an object on ubus until ctx ends; a broker that is not there yet is
// waited for.
func serve(ctx context.Context, o *ubus.Object) (*ubus.Server, error) {
	s, err := ubus.NewServer(ubus.ServerConfig{Socket: socket(), Objects: []*ubus.Object{o}})
	if err != nil {
		return nil, err
	}
	go s.Run(ctx)
	select {
	case <-s.Ready():
		return s, nil
	case <-time.After(30 * time.Second):
		return nil, errors.New("no broker on " + socket())
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
