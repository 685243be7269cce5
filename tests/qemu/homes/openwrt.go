package homes

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"htip/tests/openwrt"
	"htip/tests/qemu/lab"
)

// Architecture is OpenWrt's name of what packages a router of this kind takes.
func Architecture(a lab.Arch) string {
	switch a.Name {
	case "mipsel":
		return "mipsel_24kc"
	case "armv5", "armv7":
		return "arm_cortex-a7"
	case "arm64":
		return "aarch64_cortex-a53"
	}
	return "x86_64"
}

// Packages builds the .ipk files for routers of this kind, by the names of the packages, in a
// version that is the Makefile's unless release is given.
func Packages(ctx context.Context, a lab.Arch, release string) (map[string][]byte, error) {
	root, err := lab.RepoRoot()
	if err != nil {
		return nil, err
	}
	arch := Architecture(a)
	dir, err := os.MkdirTemp("", "htip-ipk-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	cmd := exec.CommandContext(ctx, filepath.Join(root, "scripts/ipk"), arch)
	cmd.Env = append(os.Environ(), "IPK_OUT="+dir)
	if release != "" {
		cmd.Env = append(cmd.Env, "IPK_RELEASE="+release)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("scripts/ipk %s: %w: %s", arch, err, out)
	}
	found, err := filepath.Glob(filepath.Join(dir, arch, "*.ipk"))
	if err != nil {
		return nil, err
	}
	packages := map[string][]byte{}
	for _, path := range found {
		name, _, _ := strings.Cut(filepath.Base(path), "_")
		if packages[name], err = os.ReadFile(path); err != nil {
			return nil, err
		}
	}
	return packages, nil
}

// BootOpenWrt boots a router for each spec that looks like OpenWrt, with the disk of
// one, and with nothing of ours but packages in /root: they are to be installed.
func BootOpenWrt(ctx context.Context, l *lab.Lab, packages map[string][]byte, specs ...Spec) ([]*Home, error) {
	common, err := openwrtFiles(ctx, l.Arch())
	if err != nil {
		return nil, err
	}
	for name, data := range packages {
		common["/root/"+name] = lab.File{Mode: 0o644, Data: data}
	}
	var out []*Home
	for _, s := range specs {
		h := &Home{Spec: s, Domain: s.Name + ".example.org", log: "/var/log/htip.log"}
		files := map[string]lab.File{}
		for path, f := range common {
			files[path] = f
		}
		files["/etc/resolv.wan"] = lab.Text("nameserver " + lab.InternetDNS.String() + "\n")
		var hosts strings.Builder
		for name, a := range s.LAN.Names {
			fmt.Fprintf(&hosts, "%s %s\n", a, name)
		}
		files["/etc/hosts.lan"] = lab.Text(hosts.String())
		lans := append([]lab.LAN{s.LAN}, s.MoreLANs...)
		h.Router, err = l.AddRouter(ctx, lab.RouterConfig{Name: s.Name, LAN: lans, Files: files, MemoryMB: s.MemoryMB, Disk: true, SecondWAN: s.SecondWAN})
		if err != nil {
			return nil, err
		}
		files["/etc/config/network"] = lab.Text(h.network(lans))
		h.Host = l.Host(h.Router, 0)
		l.Internet().SetA(h.Domain, h.Router.WANAddr())
		out = append(out, h)
	}
	if err := l.Start(ctx); err != nil {
		return nil, err
	}
	for _, h := range out {
		if err := h.WaitBooted(ctx); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// WaitBooted waits until all services of /etc/rc.d have been started.
func (h *Home) WaitBooted(ctx context.Context) error {
	_, err := h.Router.Check(ctx, "n=0; until [ -e /tmp/booted ]; do n=$((n+1)); [ $n -lt 600 ] || { cat /var/log/boot.log; exit 1; }; sleep 0.1; done")
	return err
}

// network is /etc/config/network.
func (h *Home) network(lans []lab.LAN) string {
	var b strings.Builder
	names := []string{"lan", "guest", "lan3"}
	for i, l := range lans {
		device := "br-lan"
		if i > 0 {
			device = fmt.Sprintf("br-lan%d", i+1)
		}
		fmt.Fprintf(&b, "\nconfig interface '%s'\n\toption device '%s'\n\toption proto 'static'\n\tlist ipaddr '%s'\n", names[i], device, l.Router)
	}
	fmt.Fprintf(&b, "\nconfig interface 'wan'\n\toption device 'wan'\n\toption proto 'static'\n\tlist ipaddr '%s/%d'\n\toption gateway '%s'\n\toption metric '10'\n",
		h.Router.WANAddr(), lab.InternetWAN.Bits(), lab.InternetGateway)
	if h.SecondWAN {
		fmt.Fprintf(&b, "\nconfig interface 'wan2'\n\toption device 'wan2'\n\toption proto 'static'\n\tlist ipaddr '%s'\n\toption gateway '%s'\n\toption metric '20'\n",
			h.Router.SecondWAN(), lab.InternetGateway2)
	}
	return b.String()
}

func openwrtFiles(ctx context.Context, arch lab.Arch) (map[string]lab.File, error) {
	owrt, err := lab.GoBuild(ctx, "htip/tests/openwrt/cmd/owrt", arch)
	if err != nil {
		return nil, err
	}
	ubusd, err := lab.GoBuild(ctx, "htip/tests/ubusd/cmd/ubusd", arch)
	if err != nil {
		return nil, err
	}
	link := func(to string) lab.File { return lab.File{Mode: fs.ModeSymlink | 0o777, Data: []byte(to)} }
	files := map[string]lab.File{
		"/bin/sh":               link("busybox"),
		"/etc/rc.d/S19dnsmasq":  link("../init.d/dnsmasq"),
		"/etc/rc.d/S19firewall": link("../init.d/firewall"),
		"/etc/rc.d/S10network":  link("../init.d/network"),
	}
	for _, name := range openwrt.Applets {
		files[name] = link(openwrt.OwrtPath)
	}
	for path, bin := range map[string]string{openwrt.OwrtPath: owrt, "/sbin/ubusd": ubusd} {
		if files[path], err = lab.Program(bin); err != nil {
			return nil, err
		}
	}
	own, err := openwrt.Files()
	if err != nil {
		return nil, err
	}
	for path, data := range own {
		mode := fs.FileMode(0o644)
		if openwrt.Executable(data) {
			mode = 0o755
		}
		files[path] = lab.File{Mode: mode, Data: data}
	}
	return files, nil
}

// WaitAnswer waits until the daemon answers on ubus.
func (h *Home) WaitAnswer(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		begin := time.Now()
		res, err := h.Router.Run(ctx, "htip status --json")
		if err == nil && res.Code == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return errors.Join(fmt.Errorf("htipd on %s does not answer: %s\n%s", h.Name, res.Output, h.Log()), err)
		}
		Pause(time.Since(begin))
	}
}
