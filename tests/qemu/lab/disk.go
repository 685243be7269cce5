package lab

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A router with a disk keeps its files over restarts and loss of power, and its programs don't
// lie in its memory: with 64 MB it has as much as a router of that size. Its first file system
// only loads the disk's driver, lays the router's own files over the base at the first boot,
// and goes on from the disk.

// diskModules are loaded by the first file system, with all they need.
var diskModules = []string{"virtio_pci", "virtio_blk", "ext4", "crc32c_generic"}

const diskMB = 160

const diskInit = `#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /disk
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sys /sys
/bin/busybox mount -t devtmpfs dev /dev
exec </dev/console >/dev/console 2>&1
. /etc/lab.conf
arch_init
for m in $(/bin/busybox cat /modules/order); do /bin/busybox insmod /modules/$m || echo "no $m"; done
until [ -b /dev/vda ]; do /bin/busybox usleep 10000; done
/bin/busybox mount -t ext4 -o noatime /dev/vda /disk || exec /bin/busybox sh
if [ ! -e /disk/.furnished ]; then
	# tar, because cp would write through links of the base
	/bin/busybox tar -C /overlay -cf - . | /bin/busybox tar -C /disk -xf - && : >/disk/.furnished && /bin/busybox sync
fi
/bin/busybox umount /proc /sys /dev
exec /bin/busybox switch_root /disk /init
`

// baseDisk makes the disk with the base image's files, unless there is one of this image.
func baseDisk(ctx context.Context, arch Arch, img image) (string, error) {
	unlock, err := lockBuilds()
	if err != nil {
		return "", err
	}
	defer unlock()
	initrd, err := os.ReadFile(img.Initrd)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(append(initrd, fmt.Sprint(diskMB, "ext4")...))
	want := hex.EncodeToString(sum[:])
	name := strings.TrimSuffix(img.Initrd, ".cpio.gz") + ".ext4"
	if have, err := os.ReadFile(name + ".stamp"); err == nil && string(have) == want {
		return name, nil
	}
	dir, err := os.MkdirTemp("", "htip-disk-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // becomes the root directory
		return "", err
	}
	zr, err := gzip.NewReader(bytes.NewReader(initrd))
	if err != nil {
		return "", err
	}
	unpack := exec.CommandContext(ctx, "cpio", "-idm", "--quiet")
	unpack.Dir, unpack.Stdin = dir, zr
	if out, err := unpack.CombinedOutput(); err != nil {
		return "", fmt.Errorf("unpacking the base image: %w: %s", err, out)
	}
	tmp := name + ".new"
	os.Remove(tmp)
	mke2fs := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-m", "0", "-d", dir, tmp, fmt.Sprintf("%dM", diskMB))
	if out, err := mke2fs.CombinedOutput(); err != nil {
		return "", fmt.Errorf("mke2fs: %w: %s", err, out)
	}
	return name, errors.Join(os.Rename(tmp, name), replaceFile(name+".stamp", []byte(want)))
}

// cacheRoot is where scripts/setup has unpacked an architecture's packages.
func cacheRoot(arch Arch) (string, error) {
	root, err := RepoRoot()
	return filepath.Join(root, "build", "cache", arch.Debian, "root"), err
}

// makeDisk gives the router a disk of its own, once.
func (r *Router) makeDisk(ctx context.Context) error {
	if _, err := os.Stat(r.path("disk")); err == nil {
		return nil
	}
	base, err := baseDisk(ctx, r.arch, r.lab.image)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "cp", "--sparse=always", base, r.path("disk")).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	return nil
}

// diskInitrd is the first file system of a router with a disk.
func (r *Router) diskInitrd() ([]byte, error) {
	cache, err := cacheRoot(r.arch)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	zw, _ := gzip.NewWriterLevel(&buf, gzip.BestSpeed)
	w := newCPIOWriter(zw, time.Now().Unix())
	busybox, err := Program(filepath.Join(cache, "bin/busybox"))
	if err != nil {
		return nil, err
	}
	files := map[string]File{
		"/bin/busybox":  busybox,
		"/init":         {Mode: 0o755, Data: []byte(diskInit)},
		"/etc/lab.conf": Text(r.conf()),
		"/dev/console":  {Mode: fs.ModeCharDevice | 0o600, Dev: [2]uint32{5, 1}},
	}
	order, err := moduleOrder(cache)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, m := range order {
		data, err := os.ReadFile(m)
		if err != nil {
			return nil, err
		}
		names = append(names, filepath.Base(m))
		files["/modules/"+filepath.Base(m)] = File{Mode: 0o644, Data: data}
	}
	files["/modules/order"] = Text(strings.Join(names, "\n") + "\n")
	own, err := r.overlayFiles(r.lab.agent)
	if err != nil {
		return nil, err
	}
	for name, f := range own {
		files["/overlay"+name] = f
	}
	for _, name := range sortedNames(files) {
		if err := w.add(name, files[name]); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.close(), zw.Close()); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// moduleOrder lists the files of diskModules, each behind those that it needs.
func moduleOrder(root string) ([]string, error) {
	dirs, err := filepath.Glob(filepath.Join(root, "lib/modules/*"))
	if err == nil && len(dirs) != 1 {
		err = fmt.Errorf("want one kernel in %s/lib/modules, found %q", root, dirs)
	}
	if err != nil {
		return nil, err
	}
	deps, err := readModuleDeps(filepath.Join(dirs[0], "modules.dep"))
	if err != nil {
		return nil, err
	}
	builtin, err := builtinModules(filepath.Join(dirs[0], "modules.builtin"))
	if err != nil {
		return nil, err
	}
	var out []string
	for _, want := range diskModules {
		found := builtin[want]
		for mod, needs := range deps {
			if strings.TrimSuffix(filepath.Base(mod), ".ko") != want {
				continue
			}
			found = true
			// depmod lists what is needed last first.
			chain := append([]string{mod}, needs...)
			slices.Reverse(chain)
			for _, m := range chain {
				if full := filepath.Join(dirs[0], m); !slices.Contains(out, full) {
					out = append(out, full)
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("the kernel has no module %s", want)
		}
	}
	return out, nil
}

func builtinModules(name string) (map[string]bool, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]bool{}
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		out[strings.ReplaceAll(strings.TrimSuffix(filepath.Base(sc.Text()), ".ko"), "-", "_")] = true
	}
	return out, sc.Err()
}
