package openwrt

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const repo = "../.."

// scratch is where packages are built; TestMain removes it.
var scratch string

func TestMain(m *testing.M) {
	var err error
	if scratch, err = os.MkdirTemp("", "htip-ipk"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(scratch)
	os.Exit(code)
}

// look reads what programs read that tests run: go test repeats an old result until
// something changes that the test itself has looked at.
var look = sync.OnceValue(func() error {
	for _, name := range []string{"openwrt", "luci-app-htip", "scripts", "src", "tests/page/po", "Makefile", "go.mod", "go.sum"} {
		err := filepath.WalkDir(filepath.Join(repo, name), func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
})

// run gives a program's output, without what a make above us says to those below.
func run(dir string, env []string, args ...string) (string, error) {
	if err := look(); err != nil {
		return "", err
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return slices.Contains([]string{"MAKEFLAGS", "MFLAGS", "MAKEOVERRIDES", "MAKELEVEL", "IPK_RELEASE", "IPK_OUT", "FEED_KEY"}, name)
	})
	cmd.Env = append(cmd.Env, env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%q: %w: %s%s", args, err, out, &stderr)
	}
	return string(out), err
}

// epoch is the time of everything in our packages.
var epoch = time.Date(2024, 2, 29, 12, 30, 15, 0, time.UTC)

// feeds makes the signed feed for x86_64 twice, with all different that may differ from
// one machine to the next.
var feeds = sync.OnceValues(func() (dirs [2]string, err error) {
	script, err := filepath.Abs(filepath.Join(repo, "scripts/ipk"))
	if err != nil {
		return dirs, err
	}
	for i, other := range []struct{ umask, cwd, tz string }{{"022", ".", "UTC"}, {"077", "/", "Asia/Tokyo"}} {
		dirs[i] = filepath.Join(scratch, fmt.Sprint("feed", i))
		env := []string{"TZ=" + other.tz, "IPK_OUT=" + dirs[i], "FEED_KEY=" + filepath.Join(scratch, "key"),
			fmt.Sprint("SOURCE_DATE_EPOCH=", epoch.Unix())}
		if _, err := run(other.cwd, env, "sh", "-c", `umask "$1" && exec "$2" x86_64`, "sh", other.umask, script); err != nil {
			return dirs, err
		}
	}
	return dirs, nil
})

// Feed is the first of them, for tests that install its packages.
func Feed() (string, error) {
	dirs, err := feeds()
	return filepath.Join(dirs[0], "x86_64"), err
}

// read is what lies below a directory, by path.
func read(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(filepath.Join(dir, name))
		files[name] = string(data)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// member is an entry of a package's archive, under an absolute name.
type member struct {
	tar.Header
	content string
}

func unpack(t *testing.T, data string) map[string]member {
	t.Helper()
	zr, err := gzip.NewReader(strings.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]member{}
	for tr := tar.NewReader(zr); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		var content bytes.Buffer
		if _, err := content.ReadFrom(tr); err != nil {
			t.Fatal(err)
		}
		name := "/" + strings.Trim(strings.TrimPrefix(h.Name, "./"), "/")
		if _, twice := out[name]; twice {
			t.Errorf("%s is there twice", name)
		}
		out[name] = member{*h, content.String()}
	}
}

// built is a package out of a feed: its fields, what else is in its control archive, and
// its files.
type built struct {
	fields        map[string]string
	control, data map[string]member
}

func open(t *testing.T, name string) built {
	t.Helper()
	dirs, err := feeds()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dirs[0], "x86_64", name+"_*.ipk"))
	if err != nil || len(found) != 1 {
		t.Fatalf("packages %s: %q, want one (%v)", name, found, err)
	}
	ipk, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	outer := unpack(t, string(ipk))
	p := built{map[string]string{}, unpack(t, outer["/control.tar.gz"].content), unpack(t, outer["/data.tar.gz"].content)}
	for line := range strings.Lines(p.control["/control"].content) {
		field, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		if !ok {
			t.Fatalf("%s: control: %q is no field", name, line)
		}
		p.fields[field] = value
	}
	if want := fmt.Sprintf("%s_%s_%s.ipk", name, p.fields["Version"], p.fields["Architecture"]); filepath.Base(found[0]) != want {
		t.Errorf("%s: want %s as its name", found[0], want)
	}
	return p
}

// TestIpkReproducible: two builds of one commit have the same bytes.
func TestIpkReproducible(t *testing.T) {
	dirs, err := feeds()
	if err != nil {
		t.Fatal(err)
	}
	a, b := read(t, dirs[0]), read(t, dirs[1])
	names := slices.Sorted(maps.Keys(a))
	if other := slices.Sorted(maps.Keys(b)); !slices.Equal(names, other) {
		t.Fatalf("files %q, then %q", names, other)
	}
	if len(names) != 10 { // six packages, the list, zipped, its signature, the public key
		t.Errorf("files: %q", names)
	}
	for _, name := range names {
		if a[name] != b[name] {
			t.Errorf("%s: %d bytes with SHA-256 %x, then %d with %x", name,
				len(a[name]), sha256.Sum256([]byte(a[name])), len(b[name]), sha256.Sum256([]byte(b[name])))
		}
		if filepath.Ext(name) != ".ipk" {
			continue
		}
		outer := unpack(t, a[name])
		for _, archive := range []map[string]member{outer, unpack(t, outer["/control.tar.gz"].content), unpack(t, outer["/data.tar.gz"].content)} {
			for path, m := range archive {
				if !m.ModTime.Equal(epoch) || m.Uid != 0 || m.Gid != 0 {
					t.Errorf("%s: %s is of %v, owner %d:%d; want %v, 0:0", name, path, m.ModTime.UTC(), m.Uid, m.Gid, epoch)
				}
			}
		}
	}
}
