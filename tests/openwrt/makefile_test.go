package openwrt

import (
	"debug/elf"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// feedMake runs a target of a Makefile of the feed in the folder dir, with stand-ins for
// OpenWrt's own parts.
func feedMake(t *testing.T, dir, makefile, buildDir string, args ...string) string {
	t.Helper()
	topdir, err := filepath.Abs("testdata/topdir")
	if err != nil {
		t.Fatal(err)
	}
	args = append([]string{"sh", "-c", `umask 022 && exec "$@"`, "sh",
		"make", "-s", "-f", makefile, "TOPDIR=" + topdir, "BUILD_DIR=" + buildDir}, args...)
	out, err := run(filepath.Join(repo, dir), nil, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// show is what a Makefile says, by name: variables, PACKAGE/FIELD, and macros with nothing.
func show(t *testing.T, dir, makefile string) map[string]string {
	t.Helper()
	said := map[string]string{}
	for _, block := range strings.Split("\n"+feedMake(t, dir, makefile, "/build", "show"), "\n@@")[1:] {
		name, text, _ := strings.Cut(block, "\n")
		said[name] = strings.TrimSuffix(text, "\n")
	}
	return said
}

// fields are of the three packages: exactly these, under these names.
var fields = map[string]string{
	"go htip": "",

	"htip/SECTION":  "net",
	"htip/CATEGORY": "Network",
	"htip/SUBMENU":  "VPN",
	"htip/TITLE":    "Tunnels between homes with the same addresses",
	"htip/DEPENDS": "@(aarch64||x86_64) +kmod-wireguard +xl2tpd +ppp +ppp-mod-pppol2tp +kmod-pppol2tp +kmod-l2tp" +
		" +iptables-nft +iptables-mod-nat-extra +kmod-ipt-nat-extra +kmod-ipt-conntrack +kmod-nf-conntrack-netlink",
	"htip/conffiles": "/etc/config/htip",
	"htip/postinst":  "#!/bin/sh\n[ -n \"${IPKG_INSTROOT}\" ] || /usr/share/htip/package.sh installed \"$@\"",
	"htip/prerm":     "#!/bin/sh\n[ -n \"${IPKG_INSTROOT}\" ] || /usr/share/htip/package.sh remove \"$@\"",

	"htip-esp/SECTION":  "net",
	"htip-esp/CATEGORY": "Network",
	"htip-esp/SUBMENU":  "VPN",
	"htip-esp/TITLE":    "HTIP: L2TP in ESP",
	"htip-esp/PKGARCH":  "all",
	"htip-esp/DEPENDS":  "+htip +kmod-ipsec +kmod-ipsec4 +kmod-crypto-seqiv +kmod-crypto-gcm +kmod-crypto-chacha20poly1305",

	"htip-pptp/SECTION":  "net",
	"htip-pptp/CATEGORY": "Network",
	"htip-pptp/SUBMENU":  "VPN",
	"htip-pptp/TITLE":    "HTIP: PPTP, whose encryption is broken",
	"htip-pptp/PKGARCH":  "all",
	"htip-pptp/DEPENDS":  "+htip +ppp-mod-pptp +kmod-pptp +kmod-mppe +pptpd",

	"PKG_NAME":             "htip",
	"PKG_MAINTAINER":       "HTIP for OpenWrt",
	"PKG_LICENSE":          "Apache-2.0",
	"PKG_LICENSE_FILES":    "LICENSE",
	"PKG_BUILD_DEPENDS":    "golang/host",
	"PKG_BUILD_PARALLEL":   "1",
	"PKG_BUILD_FLAGS":      "no-mips16",
	"PKG_ASLR_PIE":         "0",
	"PKG_ASLR_PIE_REGULAR": "0",

	"GO_PKG":                 "htip",
	"GO_PKG_BUILD_PKG":       "htip/src/cmd/htip",
	"GO_PKG_LDFLAGS":         "-s -w",
	"GO_PKG_DEFAULT_LDFLAGS": "",
}

// free are names with a value that is not written down here: forms are, and what the
// stand-ins make of others.
var free = map[string]string{
	"PKG_VERSION":          `\d+\.\d+\.\d+`,
	"PKG_RELEASE":          `[1-9]\d*`,
	"htip/description":     `(?s)  \S.*\.`,
	"htip/Default":         `(?s).*`,
	"htip-esp/description": `(?s)  \S.*\.`, "htip-pptp/description": `(?s)  \S.*\.`,
	"GO_PKG_GCFLAGS":     `all=.+`,
	"PKG_FILE_DEPENDS":   `\S+/\.\./src \S+/\.\./go\.mod \S+/\.\./go\.sum`,
	"GO_PKG_TARGET_VARS": `.* CGO_ENABLED=0`, "GO_PKG_VARS": `.*`,
	"GO_PKG_BUILD_DIR": `.*`, "GO_PKG_BUILD_BIN_DIR": `.*`,
	"macro Build/Prepare": ``, "macro Package/htip/Default": ``,
	"macro Package/htip": ``, "macro Package/htip-esp": ``, "macro Package/htip-pptp": ``,
	"macro Package/htip/install": ``, "macro Package/htip-esp/install": ``, "macro Package/htip-pptp/install": ``,
	"macro Package/htip/description": ``, "macro Package/htip-esp/description": ``, "macro Package/htip-pptp/description": ``,
	"macro Package/htip/conffiles": ``, "macro Package/htip/postinst": ``, "macro Package/htip/prerm": ``,
}

// wrong lists what the daemon's Makefile says otherwise than it should.
func wrong(said map[string]string) []string {
	want := maps.Clone(fields)
	want["GO_PKG_LDFLAGS_X"] = fmt.Sprintf("main.version=%s-r%s", said["PKG_VERSION"], said["PKG_RELEASE"])
	want["PKG_BUILD_DIR"] = "/build/htip-" + said["PKG_VERSION"]
	return compare(said, want, free)
}

// compare lists what is not said as it is wanted, or not in the form, or not known at all.
func compare(said, want, forms map[string]string) (problems []string) {
	for name, value := range want {
		if got, found := said[name]; !found || got != value {
			problems = append(problems, fmt.Sprintf("%s: got %q, want %q", name, got, value))
		}
	}
	for name, form := range forms {
		if got, found := said[name]; !found || !regexp.MustCompile(`^(?:`+form+`)\n?$`).MatchString(got) {
			problems = append(problems, fmt.Sprintf("%s: got %q, want the form %s", name, got, form))
		}
	}
	for name, got := range said {
		_, known := want[name]
		if _, form := forms[name]; !known && !form {
			problems = append(problems, fmt.Sprintf("%s (%q) is nothing that is known here", name, got))
		}
	}
	slices.Sort(problems)
	return problems
}

func TestMakefile(t *testing.T) {
	for _, problem := range wrong(show(t, "openwrt", "Makefile")) {
		t.Error(problem)
	}
}

// TestMakefileTypos: OpenWrt says nothing about a name that it doesn't know.
func TestMakefileTypos(t *testing.T) {
	typos(t, "openwrt", wrong, [][2]string{
		{"  DEPENDS:=+htip +kmod-ipsec ", "  DEPEND:=+htip +kmod-ipsec "},
		{"  PKGARCH:=all", "  PKG_ARCH:=all"},
		{"  SUBMENU:=", "  SUBMENUE:="},
		{"  TITLE:=HTIP: PPTP", "  TITEL:=HTIP: PPTP"},
		{"PKG_LICENSE_FILES", "PKG_LICENSE_FILE"},
		{"PKG_ASLR_PIE:=0", "PKG_ALSR_PIE:=0"},
		{"PKG_BUILD_FLAGS:=no-mips16", "PKG_USE_MIPS16:=no"},
		{"GO_PKG_GCFLAGS", "GO_PKG_GC_FLAGS"},
		{"GO_PKG_DEFAULT_LDFLAGS:=", "GO_PKG_DEFAULT_LDFLAG:="},
		{"GO_PKG_TARGET_VARS+=CGO_ENABLED=0", "GO_PKG_TARGET_VARS+=CGO_ENABLE=0"},
		{"GO_PKG_TARGET_VARS+=CGO_ENABLED=0", "GO_PKG_TARGET_VARS:=CGO_ENABLED=0 $(GO_PKG_TARGET_VARS)"},
		{"define Package/htip/conffiles", "define Package/htip/conffile"},
		{"define Package/htip/postinst", "define Package/htip/postins"},
		{"define Package/htip-esp/install", "define Package/htip-esp/instal"},
		{"define Build/Prepare", "define Build/Prepares"},
		{"$(eval $(call BuildPackage,htip-pptp))", ""},
		{"$(eval $(call GoBinPackage,htip))", ""},
		{"kmod-l2tp", "kmod-l2pt"},
		{"$${IPKG_INSTROOT}", "${IPKG_INSTROOT}"},
		{"PKG_VERSION:=", "PKG_VERSION:=v"},
	})
}

// typos puts one after the other into the Makefile of a folder: each has to be seen.
func typos(t *testing.T, dir string, wrong func(said map[string]string) []string, all [][2]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(repo, dir, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	if problems := wrong(show(t, dir, "Makefile")); problems != nil {
		t.Fatal(problems)
	}
	for _, c := range all {
		typo := strings.Replace(string(text), c[0], c[1], 1)
		if typo == string(text) {
			t.Errorf("%q is not in the Makefile", c[0])
			continue
		}
		name := filepath.Join(t.TempDir(), "Makefile")
		if err := os.WriteFile(name, []byte(typo), 0o644); err != nil {
			t.Fatal(err)
		}
		if len(wrong(show(t, dir, name))) == 0 {
			t.Errorf("%q in the place of %q is not seen", c[1], c[0])
		}
	}
}

// TestMakefileFlags: both Makefiles compile alike.
func TestMakefileFlags(t *testing.T) {
	out, err := run(repo, nil, "make", "-s", "--eval", "flags: ; @:$(info $(GCFLAGS))", "flags")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.TrimSpace(out)
	if got := show(t, "openwrt", "Makefile")["GO_PKG_GCFLAGS"]; got != want || want == "" {
		t.Errorf("GO_PKG_GCFLAGS %q, and GCFLAGS %q beside go.mod", got, want)
	}
}

// tree lists what an installed directory holds: mode, path, target or digest.
func tree(t *testing.T, dir string) []string {
	t.Helper()
	var lines []string
	err := filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == dir {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		path, content := strings.TrimPrefix(name, dir), ""
		switch info.Mode().Type() {
		case 0:
			data, err := os.ReadFile(name)
			if err != nil {
				return err
			}
			content = string(data)
		case fs.ModeSymlink:
			if content, err = os.Readlink(name); err != nil {
				return err
			}
		}
		lines = append(lines, entry(info.Mode(), path, content))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	return lines
}

func entry(mode fs.FileMode, path, content string) string {
	switch {
	case mode&fs.ModeSymlink != 0:
		return path + " -> " + content
	case path == "/usr/bin/htip": // the two are linked with another stamp
		content = ""
	case strings.HasPrefix(path, "/etc/uci-defaults/luci-i18n-"): // in LuCI's words, and in ours
		content = ""
	}
	return fmt.Sprintf("%s %v %q", path, mode, content)
}

// sameFiles compares what the feed has installed with what an .ipk holds.
func sameFiles(t *testing.T, got []string, p built) {
	t.Helper()
	var want []string
	for path, m := range p.data {
		content := m.content
		if m.Linkname != "" {
			content = m.Linkname
		}
		want = append(want, entry(m.FileInfo().Mode(), path, content))
	}
	slices.Sort(want)
	for _, line := range got {
		if !slices.Contains(want, line) {
			t.Errorf("only the feed's package has %.200s", line)
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("only the .ipk has %.200s", line)
		}
	}
}

// sameFields compares what a Makefile says of a package with what its .ipk says.
func sameFields(t *testing.T, said map[string]string, name, version string, p built) {
	t.Helper()
	arch := said[name+"/PKGARCH"]
	if arch == "" {
		arch = "x86_64"
	}
	var depends []string
	for _, d := range strings.Fields(said[name+"/DEPENDS"]) {
		if !strings.HasPrefix(d, "@") {
			depends = append(depends, strings.TrimPrefix(d, "+"))
		}
	}
	for field, want := range map[string]string{
		"Package":      name,
		"Version":      version,
		"Architecture": arch,
		"Depends":      strings.Join(depends, ", "),
		"License":      said["PKG_LICENSE"],
		"Maintainer":   said["PKG_MAINTAINER"],
		"Section":      said[name+"/SECTION"],
		"Description":  strings.Join(strings.Fields(said[name+"/description"]), " "),
	} {
		if p.fields[field] != want {
			t.Errorf("%s: %q, want %q", field, p.fields[field], want)
		}
	}
}

// TestMakefileInstall: what the feed installs is what the packages of scripts/ipk hold,
// and so is what they say.
func TestMakefileInstall(t *testing.T) {
	said := show(t, "openwrt", "Makefile")
	version := said["PKG_VERSION"] + "-r" + said["PKG_RELEASE"]
	for _, name := range []string{"htip", "htip-esp", "htip-pptp"} {
		t.Run(name, func(t *testing.T) {
			build, root := t.TempDir(), t.TempDir()
			bin := filepath.Join(build, "bin")
			if err := os.Mkdir(bin, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(bin, "htip"), []byte("program"), 0o644); err != nil {
				t.Fatal(err)
			}
			feedMake(t, "openwrt", "Makefile", build, "install/"+name, "DESTDIR="+root, "GO_PKG_BUILD_BIN_DIR="+bin)

			p := open(t, name)
			sameFiles(t, tree(t, root), p)
			sameFields(t, said, name, version, p)
			if got, want := strings.Fields(p.control["/conffiles"].content), strings.Fields(said[name+"/conffiles"]); !slices.Equal(got, want) {
				t.Errorf("conffiles %q, want %q", got, want)
			}
			for _, script := range []string{"preinst", "postinst", "prerm", "postrm"} {
				m, there := p.control["/"+script]
				text, wanted := said[name+"/"+script]
				if there != wanted {
					t.Errorf("%s: in the .ipk %t, in the Makefile %t", script, there, wanted)
				}
				_, command, _ := strings.Cut(strings.TrimSpace(text), "\n")
				if script == "postinst" { // which runs behind the start here, and before it in the SDK's
					command = `[ -n "${IPKG_INSTROOT}" ] || /usr/share/htip/firewall.sh reload`
				}
				if there && (m.Mode&0o777 != 0o755 || !strings.HasPrefix(m.content, "#!/bin/sh\n") || !strings.Contains(m.content, "\n"+command)) {
					t.Errorf("%s with mode %o: want a script with %q, got %s", script, m.Mode, command, m.content)
				}
			}
		})
	}
}

// TestMakefileBuild: what is copied is enough to build from, with the licence beside it;
// the program is static, at a fixed address, and knows its version.
func TestMakefileBuild(t *testing.T) {
	said := show(t, "openwrt", "Makefile")
	build := t.TempDir()
	feedMake(t, "openwrt", "Makefile", build, "prepare")
	feedMake(t, "openwrt", "Makefile", build, "compile")

	dir := filepath.Join(build, "htip-"+said["PKG_VERSION"])
	licence, err := os.ReadFile(filepath.Join(dir, said["PKG_LICENSE_FILES"]))
	if err != nil || !regexp.MustCompile(`Apache License\s+Version 2\.0`).Match(licence) {
		t.Errorf("licence: %.80q, want that of Apache (%v)", licence, err)
	}

	version := strings.TrimPrefix(said["GO_PKG_LDFLAGS_X"], "main.version=")
	packed := filepath.Join(t.TempDir(), "htip")
	if err := os.WriteFile(packed, []byte(open(t, "htip").data["/usr/bin/htip"].content), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{filepath.Join(dir, ".go_work/build/bin/htip"), packed} {
		f, err := elf.Open(program)
		if err != nil {
			t.Fatal(err)
		}
		if f.Type != elf.ET_EXEC || slices.ContainsFunc(f.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }) {
			t.Errorf("%s: want a static program at a fixed address, got %v with %v", program, f.Type, f.Progs)
		}
		if f.Section(".symtab") != nil || f.Section(".debug_info") != nil {
			t.Errorf("%s has symbols", program)
		}
		f.Close()
		if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
			continue
		}
		if out, err := exec.Command(program, "version").CombinedOutput(); err != nil || !slices.Contains(strings.Fields(string(out)), version) {
			t.Errorf("htip version: %s (%v), want %s", out, err, version)
		}
	}
}
