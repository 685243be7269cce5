package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// GoBuild cross-builds a main package, such as "htip/src/cmd/htipd", without cgo and stripped, into
// build/lab/bin/<architecture>/ and returns the program's path.
func GoBuild(ctx context.Context, pkg string, arch Arch) (string, error) {
	root, err := RepoRoot()
	if err != nil {
		return "", err
	}
	out := programPath(root, path.Base(pkg), arch)
	return out, build(ctx, root, arch, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
}

// ReleaseBuild builds the daemon as it is shipped: by the Makefile, which alone knows how.
func ReleaseBuild(ctx context.Context, arch Arch) (string, error) {
	root, err := RepoRoot()
	if err != nil {
		return "", err
	}
	out := programPath(root, "htip", arch)
	return out, build(ctx, root, arch, "make", "-s", "program", "OUT="+out)
}

func programPath(root, name string, arch Arch) string {
	return filepath.Join(root, "build", "lab", "bin", arch.Name, name)
}

func build(ctx context.Context, root string, arch Arch, command ...string) error {
	unlock, err := lockBuilds()
	if err != nil {
		return err
	}
	defer unlock()
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), arch.GoEnv...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("for %s: %s: %w: %s", arch.Name, strings.Join(command, " "), err, text)
	}
	return nil
}

// RepoRoot is the directory of go.mod above the working directory.
func RepoRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		} else if !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("no go.mod above the working directory")
		}
		dir = filepath.Dir(dir)
	}
}
