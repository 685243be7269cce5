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
	"time"
)

// GoBuild cross-builds a main package, such as "htip/src/cmd/htipd", without cgo and stripped, into
// build/lab/bin/<architecture>/ and returns the program's path.
func GoBuild(ctx context.Context, pkg string, arch Arch) (string, error) {
	root, err := RepoRoot()
	if err != nil {
		return "", err
	}
	out := programPath(root, path.Base(pkg), arch)
	return out, build(ctx, root, arch, out, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, pkg)
}

// ReleaseBuild builds the daemon as it is shipped: by the Makefile, which alone knows how.
func ReleaseBuild(ctx context.Context, arch Arch) (string, error) {
	root, err := RepoRoot()
	if err != nil {
		return "", err
	}
	out := programPath(root, "htip", arch)
	return out, build(ctx, root, arch, out, "make", "-s", "program", "OUT="+out)
}

func programPath(root, name string, arch Arch) string {
	return filepath.Join(root, "build", "lab", "bin", arch.Name, name)
}

// built is when this process has built a program: many labs need the same, and to find out
// that there is nothing to do takes some of the processor's seconds for each. Somebody else may
// have built another one in its place.
var built = map[string]time.Time{} // held by building

func build(ctx context.Context, root string, arch Arch, out string, command ...string) error {
	unlock, err := lockBuilds()
	if err != nil {
		return err
	}
	defer unlock()
	if st, err := os.Stat(out); err == nil && st.ModTime().Equal(built[out]) {
		return nil
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), arch.GoEnv...)
	if text, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("for %s: %s: %w: %s", arch.Name, strings.Join(command, " "), err, text)
	}
	st, err := os.Stat(out)
	if err == nil {
		built[out] = st.ModTime()
	}
	return err
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
