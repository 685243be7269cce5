package lab

import (
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
)

//go:embed guest
var guest embed.FS

// Text is an ordinary file with this content.
func Text(content string) File { return File{Mode: 0o644, Data: []byte(content)} }

// Program is an executable file copied from this machine.
func Program(name string) (File, error) {
	data, err := os.ReadFile(name)
	return File{Mode: 0o755, Data: data}, err
}

// overlayFiles are what a router has besides the base image.
func (r *Router) overlayFiles(agent []byte) (map[string]File, error) {
	files := map[string]File{
		"/dev/console":        {Mode: fs.ModeCharDevice | 0o600, Dev: [2]uint32{5, 1}},
		"/usr/sbin/lab-agent": {Mode: 0o755, Data: agent},
		"/etc/lab.conf":       Text(r.conf()),
		"/etc/passwd":         Text("root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"),
		"/etc/group":          Text("root:x:0:\nnogroup:x:65534:\n"),
		"/etc/hosts":          Text("127.0.0.1 localhost\n" + r.hostLine()),
		"/etc/resolv.conf":    Text("search lan\nnameserver 127.0.0.1\n"),
		"/etc/ppp/options":    Text(""),
		"/tmp/hosts/lan":      Text(r.lanNames()),

		"/tmp/resolv.conf.auto": Text("nameserver " + InternetDNS.String() + "\n"),
		"/.profile":             Text("export PATH=/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/busybox PS1='" + r.Name + "# '\n"),
	}
	for name, to := range map[string]string{
		"init": "/init", "firewall": "/etc/firewall", "dnsmasq.conf": "/etc/dnsmasq.conf",
		"inittab": "/etc/inittab", "restart-dnsmasq": "/usr/sbin/restart-dnsmasq",
	} {
		data, err := guest.ReadFile("guest/" + name)
		if err != nil {
			return nil, err
		}
		data = bytes.ReplaceAll(data, []byte("CONSOLE"), []byte(r.arch.Console))
		mode := fs.FileMode(0o644)
		if bytes.HasPrefix(data, []byte("#!")) {
			mode = 0o755
		}
		files[to] = File{Mode: mode, Data: data}
	}
	maps.Copy(files, r.config.Files)
	return files, nil
}

func sortedNames(files map[string]File) []string { return slices.Sorted(maps.Keys(files)) }

// overlay packs them.
func (r *Router) overlay(agent []byte) ([]byte, error) {
	files, err := r.overlayFiles(agent)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	// dnsmasq takes a resolv-file of 1970 for one that has never changed, and does not read it.
	w := newCPIOWriter(&buf, time.Now().Unix())
	for _, name := range sortedNames(files) {
		if err := w.add(name, files[name]); err != nil {
			return nil, err
		}
	}
	if err := w.close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

// conf is /etc/lab.conf, read by init.
func (r *Router) conf() string {
	var lans []string
	for _, l := range r.config.LAN {
		lans = append(lans, l.Router.String())
	}
	wan2 := ""
	if r.config.SecondWAN {
		wan2 = r.SecondWAN().String()
	}
	return fmt.Sprintf("NAME=%s\nWAN=%s\nGATEWAY=%s\nWAN2='%s'\nGATEWAY2=%s\nLANS='%s'\narch_init() {\n%s\n}\n",
		r.Name, r.config.WAN, InternetGateway, wan2, InternetGateway2, strings.Join(lans, " "), r.arch.Init)
}

func (r *Router) hostLine() string {
	if len(r.config.LAN) == 0 {
		return ""
	}
	return fmt.Sprintf("%s %s\n", r.config.LAN[0].Router.Addr(), r.Name)
}

// lanNames is the hosts file of the LANs.
func (r *Router) lanNames() string {
	var b strings.Builder
	for _, l := range r.config.LAN {
		for _, name := range slices.Sorted(maps.Keys(l.Names)) {
			fmt.Fprintf(&b, "%s %s\n", l.Names[name], name)
		}
	}
	return b.String()
}
