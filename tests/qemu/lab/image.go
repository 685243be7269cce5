package lab

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// imageFiles are the patterns, relative to the unpacked packages, of what the base image
// takes from them. The libraries they need follow by themselves.
var imageFiles = []string{
	"bin/busybox", "bin/dash", "bin/ip", "bin/kmod", "bin/ping", "bin/ss", "sbin/bridge", "sbin/tc",
	"usr/bin/dash", "usr/bin/iperf3", "usr/bin/strace", "usr/bin/tcpdump", "usr/bin/wg",
	"usr/sbin/conntrack", "usr/sbin/dnsmasq", "usr/sbin/ethtool", "sbin/ethtool", "usr/sbin/nft",
	"usr/sbin/pppd", "usr/sbin/pptp", "usr/sbin/pptpctrl", "usr/sbin/pptpd", "usr/sbin/tcpdump", "usr/sbin/xl2tpd", "usr/sbin/xl2tpd-control",
	"usr/sbin/xtables-nft-multi",
	"usr/lib/pppd/*/pppol2tp.so", "usr/lib/pppd/*/openl2tp.so", "usr/lib/pppd/*/pptp.so",
	"usr/lib/*/xtables/lib*.so", "etc/protocols", "etc/services", "etc/ethertypes",
	"lib/*/libgcc_s.so.1", "lib/*/libnss_files.so.2",
}

// imageLinks are symbolic links of the base image; Debian makes most of them when it installs.
var imageLinks = map[string]string{
	"bin/sh":             "dash",
	"sbin/modprobe":      "/bin/kmod", // the kernel execs this very path
	"sbin/lsmod":         "/bin/kmod",
	"sbin/insmod":        "/bin/kmod",
	"sbin/rmmod":         "/bin/kmod",
	"sbin/ip":            "/bin/ip",
	"sbin/init":          "/bin/busybox",
	"var/run":            "/run",
	"var/lock":           "/tmp",
	"usr/sbin/iptables":  "xtables-nft-multi",
	"usr/sbin/ip6tables": "xtables-nft-multi",

	"usr/sbin/iptables-save":     "xtables-nft-multi",
	"usr/sbin/iptables-restore":  "xtables-nft-multi",
	"usr/sbin/ip6tables-save":    "xtables-nft-multi",
	"usr/sbin/ip6tables-restore": "xtables-nft-multi",
}

// imageModules are the patterns, relative to the kernel's module directory, of the modules
// of the base image. What they depend on follows by itself.
var imageModules = []string{
	"drivers/char/hw_random/virtio-rng.ko", "drivers/char/virtio_console.ko",
	"drivers/net/dummy.ko", "drivers/net/ifb.ko", "drivers/net/macvlan.ko", "drivers/net/tun.ko",
	"drivers/net/veth.ko", "drivers/net/virtio_net.ko", "drivers/net/vrf.ko",
	"drivers/net/ppp/*.ko", "drivers/net/wireguard/*.ko",
	"drivers/virtio/virtio.ko", "drivers/virtio/virtio_pci.ko", "drivers/virtio/virtio_ring.ko",
	"net/bridge/bridge.ko", "net/8021q/*.ko", "net/key/*.ko", "net/l2tp/*.ko", "net/packet/*.ko",
	"net/unix/*.ko", "net/xfrm/*.ko",
	"net/ipv4/*_diag.ko", "net/ipv4/ah4.ko", "net/ipv4/esp4*.ko", "net/ipv4/fou.ko", "net/ipv4/gre.ko",
	"net/ipv4/ip*.ko", "net/ipv4/tunnel4.ko", "net/ipv4/xfrm4_tunnel.ko",
	"net/ipv4/netfilter/ip*.ko", "net/ipv4/netfilter/nf_*.ko", "net/ipv4/netfilter/nft_*.ko",
	"net/ipv6/netfilter/nf_reject_ipv6.ko", "net/ipv6/netfilter/nft_*.ko",
	"net/netfilter/nf_conntrack*.ko", "net/netfilter/nf_nat*.ko", "net/netfilter/nf_tables.ko",
	"net/netfilter/nf_log*.ko", "net/netfilter/nfnetlink*.ko", "net/netfilter/nft_*.ko", "net/netfilter/x*.ko",
	"net/sched/act_mirred.ko", "net/sched/act_police.ko", "net/sched/cls_matchall.ko", "net/sched/cls_u32.ko",
	"net/sched/sch_fq_codel.ko", "net/sched/sch_htb.ko", "net/sched/sch_ingress.ko",
	"net/sched/sch_netem.ko", "net/sched/sch_prio.ko", "net/sched/sch_tbf.ko",
	"crypto/authenc*.ko", "crypto/ccm.ko", "crypto/chacha*.ko", "crypto/cmac.ko", "crypto/crc32c_generic.ko",
	"crypto/ctr.ko", "crypto/des_generic.ko", "crypto/drbg.ko", "crypto/ecb.ko", "crypto/echainiv.ko",
	"crypto/gcm.ko", "crypto/gf128mul.ko", "crypto/ghash-generic.ko", "crypto/jitterentropy_rng.ko",
	"crypto/md4.ko", "crypto/poly1305_generic.ko", "crypto/seqiv.ko", "crypto/sha*.ko", "crypto/xcbc.ko",
	"arch/*/crypto/*.ko", "lib/crypto/*.ko", "lib/libcrc32c.ko", "lib/ts_*.ko",
}

// image is a base image on disk.
type image struct {
	Kernel string // path of the kernel
	Initrd string // path of the packed archive with programs and modules
}

// BuildImage makes the base image of an architecture (Debian's name) from the packages that
// scripts/setup has unpacked under build/cache, unless the one in build/lab is of the same
// packages and list.
func BuildImage(ctx context.Context, debian string) error {
	arch, err := archByDebian(debian)
	if err == nil {
		_, err = buildImage(ctx, arch)
	}
	return err
}

// building is held by who builds an image, a disk or a program: they all go to one place.
var building sync.Mutex

// lockBuilds keeps other goroutines and other processes from building until it is called.
func lockBuilds() (unlock func(), err error) {
	root, err := RepoRoot()
	if err != nil {
		return nil, err
	}
	dir := filepath.Join(root, "build", "lab")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	building.Lock()
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
			f.Close()
		}
	}
	if err != nil {
		building.Unlock()
		return nil, fmt.Errorf("lock of builds: %w", err)
	}
	return func() {
		f.Close()
		building.Unlock()
	}, nil
}

func buildImage(ctx context.Context, arch Arch) (image, error) {
	unlock, err := lockBuilds()
	if err != nil {
		return image{}, err
	}
	defer unlock()
	root, err := RepoRoot()
	if err != nil {
		return image{}, err
	}
	cache := filepath.Join(root, "build", "cache", arch.Debian)
	want, err := imageStamp(cache)
	if err != nil {
		return image{}, fmt.Errorf("base image of %s: %w (run scripts/setup %s)", arch.Debian, err, arch.Debian)
	}
	dir := filepath.Join(root, "build", "lab")
	img := image{Kernel: filepath.Join(dir, arch.Debian+"-kernel"), Initrd: filepath.Join(dir, arch.Debian+"-base.cpio.gz")}
	stamp := filepath.Join(dir, arch.Debian+"-stamp")
	if have, err := os.ReadFile(stamp); err == nil && string(have) == want {
		return img, nil
	}
	b := &imageBuilder{root: filepath.Join(cache, "root"), files: map[string]File{}}
	err = errors.Join(os.MkdirAll(dir, 0o755), b.collect(ctx))
	if err == nil {
		err = b.write(img)
	}
	if err == nil {
		err = replaceFile(stamp, []byte(want))
	}
	if err != nil {
		return image{}, fmt.Errorf("base image of %s: %w", arch.Debian, err)
	}
	return img, nil
}

// imageStamp names everything a base image depends on.
func imageStamp(cache string) (string, error) {
	h := sha256.New()
	stamp, err := os.ReadFile(filepath.Join(cache, "stamp"))
	if err != nil {
		return "", err
	}
	h.Write(stamp)
	debs, err := filepath.Glob(filepath.Join(cache, "debs", "*.deb"))
	if err != nil {
		return "", err
	}
	fmt.Fprint(h, debs, imageFiles, imageLinks, imageModules)
	return hex.EncodeToString(h.Sum(nil)), nil
}

// imageBuilder collects the files of a base image.
type imageBuilder struct {
	root   string // unpacked packages
	kernel string // path of the kernel
	files  map[string]File
}

func (b *imageBuilder) collect(ctx context.Context) error {
	kernels, err := filepath.Glob(filepath.Join(b.root, "boot", "vmlinu[xz]-*"))
	if err != nil || len(kernels) != 1 {
		return fmt.Errorf("want one kernel in %s/boot, found %q (%w)", b.root, kernels, err)
	}
	b.kernel = kernels[0]
	for _, pattern := range imageFiles {
		names, err := filepath.Glob(filepath.Join(b.root, pattern))
		if err != nil {
			return fmt.Errorf("pattern %q: %w", pattern, err)
		}
		for _, name := range names {
			if err := b.program(strings.TrimPrefix(name, b.root+"/")); err != nil {
				return err
			}
		}
	}
	for name, target := range imageLinks {
		b.files[name] = File{Mode: fs.ModeSymlink | 0o777, Data: []byte(target)}
	}
	return b.modules(ctx)
}

// program takes a file, what its symbolic link leads to, and the libraries it needs.
func (b *imageBuilder) program(name string) error {
	if _, have := b.files[name]; have {
		return nil
	}
	full := filepath.Join(b.root, name)
	st, err := os.Lstat(full)
	if err != nil {
		return err
	}
	if st.Mode().Type() == fs.ModeSymlink {
		target, err := os.Readlink(full)
		if err != nil {
			return err
		}
		b.files[name] = File{Mode: fs.ModeSymlink | 0o777, Data: []byte(target)}
		if !path.IsAbs(target) {
			target = path.Join(path.Dir(name), target)
		}
		return b.program(strings.TrimPrefix(target, "/"))
	}
	data, err := os.ReadFile(full)
	if err != nil {
		return err
	}
	b.files[name] = File{Mode: st.Mode().Perm(), Data: data}
	if !bytes.HasPrefix(data, []byte(elf.ELFMAG)) {
		return nil
	}
	return b.libraries(name, data)
}

// libraries takes the interpreter and the needed libraries of an ELF file.
func (b *imageBuilder) libraries(name string, data []byte) error {
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return fmt.Errorf("libraries of %s: %w", name, err)
	}
	if s := f.Section(".interp"); s != nil {
		interp, err := s.Data()
		if err != nil {
			return fmt.Errorf("interpreter of %s: %w", name, err)
		}
		if err := b.program(strings.Trim(string(interp), "/\x00")); err != nil {
			return fmt.Errorf("interpreter of %s: %w", name, err)
		}
	}
	for _, lib := range needed {
		var found []string
		for _, dir := range []string{"lib/*", "usr/lib/*", "lib", "usr/lib"} {
			m, err := filepath.Glob(filepath.Join(b.root, dir, lib))
			if err != nil {
				return err
			}
			found = append(found, m...)
		}
		if len(found) == 0 {
			return fmt.Errorf("%s needs %s, which no package has", name, lib)
		}
		if err := b.program(strings.TrimPrefix(found[0], b.root+"/")); err != nil {
			return fmt.Errorf("%s needs %s: %w", name, lib, err)
		}
	}
	return nil
}

// modules takes the kernel modules with all they depend on, and depmod's index of just those.
func (b *imageBuilder) modules(ctx context.Context) error {
	release := strings.SplitN(filepath.Base(b.kernel), "-", 2)[1]
	dir := filepath.Join("lib/modules", release)
	if err := depmod(ctx, b.root, release); err != nil {
		return err
	}
	deps, err := readModuleDeps(filepath.Join(b.root, dir, "modules.dep"))
	if err != nil {
		return err
	}
	stage, err := os.MkdirTemp("", "htip-image-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(stage)
	take := []string{"modules.builtin", "modules.builtin.modinfo", "modules.order"}
	for _, pattern := range imageModules {
		for mod, needs := range deps {
			ok, err := path.Match("kernel/"+pattern, mod)
			if err != nil {
				return fmt.Errorf("pattern %q: %w", pattern, err)
			}
			if ok {
				take = append(append(take, mod), needs...)
			}
		}
	}
	slices.Sort(take)
	for _, name := range slices.Compact(take) {
		data, err := os.ReadFile(filepath.Join(b.root, dir, name))
		if err != nil {
			return err
		}
		to := filepath.Join(stage, dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, data, 0o644)); err != nil {
			return err
		}
	}
	if err := depmod(ctx, stage, release); err != nil {
		return err
	}
	return filepath.WalkDir(stage, func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(name)
		b.files[strings.TrimPrefix(name, stage+"/")] = File{Mode: 0o644, Data: data}
		return err
	})
}

func depmod(ctx context.Context, root, release string) error {
	out, err := exec.CommandContext(ctx, "depmod", "-b", root, release).CombinedOutput()
	if err != nil {
		return fmt.Errorf("depmod of %s: %w: %s", release, err, out)
	}
	return nil
}

// readModuleDeps reads modules.dep: for each module the modules it needs, all levels deep.
func readModuleDeps(name string) (map[string][]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	deps := map[string][]string{}
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		mod, needs, _ := strings.Cut(sc.Text(), ":")
		deps[mod] = strings.Fields(needs)
	}
	return deps, sc.Err()
}

// write packs the archive and copies the kernel, each by rename, so that a reader never sees half.
func (b *imageBuilder) write(img image) error {
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	cw := newCPIOWriter(zw, 0)
	names := make([]string, 0, len(b.files))
	for name := range b.files {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := cw.add(name, b.files[name]); err != nil {
			return err
		}
	}
	if err := errors.Join(cw.close(), zw.Close()); err != nil {
		return err
	}
	kernel, err := os.ReadFile(b.kernel)
	if err != nil {
		return err
	}
	return errors.Join(replaceFile(img.Kernel, kernel), replaceFile(img.Initrd, buf.Bytes()))
}

// replaceFile writes a file under another name and renames it.
func replaceFile(name string, data []byte) error {
	tmp := fmt.Sprintf("%s.%d", name, os.Getpid())
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}
