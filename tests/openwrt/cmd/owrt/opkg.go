package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const opkgInfo = "/usr/lib/opkg/info"

// runOpkg is "opkg install FILE.ipk" and "opkg remove NAME", with the scripts and
// conffiles that go with them, in the order of OpenWrt's opkg. It does not look for
// what a package depends on.
func runOpkg(_ context.Context, args []string) error {
	switch {
	case len(args) == 2 && args[0] == "install":
		return opkgInstall(args[1])
	case len(args) == 2 && args[0] == "remove":
		return opkgRemove(args[1])
	}
	return fmt.Errorf("%q is not understood here", args)
}

// ipk is what a package's control archive says; its data is read file by file.
type ipk struct {
	path          string
	name, version string
	control       map[string][]byte
}

// untar reads a tar.gz archive; names become absolute.
func untar(r io.Reader, each func(h *tar.Header, content io.Reader) error) error {
	zr, err := gzip.NewReader(r)
	if err != nil {
		return err
	}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		h.Name = "/" + strings.Trim(strings.TrimPrefix(h.Name, "./"), "/")
		if err := each(h, tr); err != nil {
			return err
		}
	}
}

// member reads one of the archives inside a package.
func member(path, name string, each func(h *tar.Header, content io.Reader) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	found := false
	err = untar(f, func(h *tar.Header, content io.Reader) error {
		if h.Name != name {
			return nil
		}
		found = true
		return untar(content, each)
	})
	if err == nil && !found {
		err = fmt.Errorf("no %s in it", name)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func readIPK(path string) (*ipk, error) {
	p := &ipk{path: path, control: map[string][]byte{}}
	err := member(path, "/control.tar.gz", func(h *tar.Header, content io.Reader) (err error) {
		if h.Typeflag == tar.TypeReg {
			p.control[strings.TrimPrefix(h.Name, "/")], err = io.ReadAll(content)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(string(p.control["control"]), "\n") {
		if v, ok := strings.CutPrefix(line, "Package: "); ok {
			p.name = v
		}
		if v, ok := strings.CutPrefix(line, "Version: "); ok {
			p.version = v
		}
	}
	if p.name == "" {
		return nil, fmt.Errorf("%s: no Package in its control file", path)
	}
	return p, nil
}

func infoFile(name, what string) string { return filepath.Join(opkgInfo, name+"."+what) }

func script(name, what string, upgrade bool, args ...string) error {
	file := infoFile(name, what)
	if _, err := os.Stat(file); err != nil {
		return nil
	}
	cmd := exec.Command(file, args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if upgrade {
		cmd.Env = append(os.Environ(), "PKG_UPGRADE=1")
	}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s.%s %v: %w", name, what, args, err)
	}
	return nil
}

func lines(file string) []string {
	data, _ := os.ReadFile(file)
	return strings.Fields(string(data))
}

func sum(data []byte) string { return fmt.Sprintf("%x", sha256.Sum256(data)) }

func opkgInstall(file string) error {
	p, err := readIPK(file)
	if err != nil {
		return err
	}
	old := lines(infoFile(p.name, "list"))
	upgrade := len(old) > 0
	sums := map[string]string{} // of conffiles as the old version brought them
	if upgrade {
		data, _ := os.ReadFile(infoFile(p.name, "conffiles-sums"))
		for _, l := range strings.Split(string(data), "\n") {
			if s, name, ok := strings.Cut(l, " "); ok {
				sums[name] = s
			}
		}
		if err := script(p.name, "prerm", true, "upgrade", p.version); err != nil {
			return err
		}
	}
	conffiles := strings.Fields(string(p.control["conffiles"]))
	if err := os.MkdirAll(opkgInfo, 0o755); err != nil {
		return err
	}
	var list []string
	var newSums strings.Builder
	err = member(file, "/data.tar.gz", func(h *tar.Header, content io.Reader) error {
		if h.Typeflag == tar.TypeDir {
			return nil
		}
		list = append(list, h.Name)
		if err := os.MkdirAll(filepath.Dir(h.Name), 0o755); err != nil {
			return err
		}
		to := h.Name
		switch {
		case h.Typeflag == tar.TypeSymlink:
			os.Remove(to)
			return os.Symlink(h.Linkname, to)
		case h.Typeflag != tar.TypeReg:
			return fmt.Errorf("%s: type %c", h.Name, h.Typeflag)
		case slices.Contains(conffiles, h.Name):
			data, err := io.ReadAll(content)
			if err != nil {
				return err
			}
			content = bytes.NewReader(data)
			fmt.Fprintf(&newSums, "%s %s\n", sum(data), h.Name)
			have, err := os.ReadFile(h.Name)
			if err == nil && sum(have) != sums[h.Name] && sum(have) != sum(data) {
				to += "-opkg" // somebody has changed it: the new one lies beside it
			}
		}
		tmp, err := os.OpenFile(to+".opkg-new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, h.FileInfo().Mode().Perm())
		if err != nil {
			return err
		}
		_, err = io.Copy(tmp, content)
		return errors.Join(err, tmp.Chmod(h.FileInfo().Mode().Perm()), tmp.Close(), os.Rename(tmp.Name(), to))
	})
	if err != nil {
		return err
	}
	for _, name := range old {
		if !slices.Contains(list, name) {
			os.Remove(name)
		}
	}
	for what, content := range p.control {
		if err := os.WriteFile(infoFile(p.name, what), content, 0o755); err != nil {
			return err
		}
	}
	err = os.WriteFile(infoFile(p.name, "list"), []byte(strings.Join(list, "\n")+"\n"), 0o644)
	if err == nil {
		err = os.WriteFile(infoFile(p.name, "conffiles-sums"), []byte(newSums.String()), 0o644)
	}
	if err == nil {
		err = script(p.name, "postinst", upgrade, "configure")
	}
	return err
}

func opkgRemove(name string) error {
	list := lines(infoFile(name, "list"))
	if len(list) == 0 {
		return fmt.Errorf("package %s is not installed", name)
	}
	if err := script(name, "prerm", false, "remove"); err != nil {
		return err
	}
	keep := map[string]bool{}
	data, _ := os.ReadFile(infoFile(name, "conffiles-sums"))
	for _, l := range strings.Split(string(data), "\n") {
		if s, file, ok := strings.Cut(l, " "); ok {
			have, err := os.ReadFile(file)
			keep[file] = err == nil && sum(have) != s
		}
	}
	slices.Sort(list)
	slices.Reverse(list)
	for _, file := range list {
		if keep[file] {
			continue
		}
		if err := os.Remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		// Directories that only this package had go with it, as by opkg.
		for dir := filepath.Dir(file); dir != "/" && os.Remove(dir) == nil; dir = filepath.Dir(dir) {
		}
	}
	if err := script(name, "postrm", false, "remove"); err != nil {
		return err
	}
	info, _ := filepath.Glob(infoFile(name, "*"))
	for _, f := range info {
		os.Remove(f)
	}
	return nil
}
