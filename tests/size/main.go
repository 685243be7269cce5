// Command size prints of what a program for routers consists: its largest
// packages, and what each module of go.mod costs. The program must be built for
// mipsle and not be stripped.
package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
)

// most is how many packages are printed.
const most = 15

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "size:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want the program, not stripped, as the only argument")
	}
	symbols, err := tool("tool", "nm", "-size", args[0])
	if err != nil {
		return err
	}
	direct, err := tool("list", "-m", "-f", "{{if not (or .Indirect .Main)}}{{.Path}}{{end}}", "all")
	if err != nil {
		return err
	}
	deps, err := tool("list", "-deps", "-f", `{{.ImportPath}} {{with .Module}}{{.Path}}{{else}}-{{end}} {{join .Imports " "}}`, "./src/cmd/htip")
	if err != nil {
		return err
	}
	sizes, err := Packages(symbols)
	if err != nil {
		return err
	}
	fmt.Print(Report(sizes, ParseDeps(deps), strings.Fields(direct), most))
	return nil
}

// tool runs go for the processor of routers.
func tool(args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Env = append(os.Environ(), "GOOS=linux", "GOARCH=mipsle", "CGO_ENABLED=0")
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, said.String())
	}
	return string(out), nil
}
