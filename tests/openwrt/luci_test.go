package openwrt

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// pageBudget is what the page may cost on a router's flash, in bytes, packed as its .ipk is.
const pageBudget = 60_000

// pagePackages are made of the folder luci-app-htip: the page and its languages.
var pagePackages = []string{"luci-app-htip", "luci-i18n-htip-de", "luci-i18n-htip-ko"}

var pageFields = map[string]string{
	"luci-app-htip/SECTION":    "luci",
	"luci-app-htip/CATEGORY":   "LuCI",
	"luci-app-htip/SUBMENU":    "3. Applications",
	"luci-app-htip/TITLE":      "LuCI page for tunnels to other homes",
	"luci-app-htip/DEPENDS":    "+luci-base +htip",
	"luci-app-htip/PKGARCH":    "all",
	"luci-app-htip/URL":        "",
	"luci-app-htip/MAINTAINER": "HTIP for OpenWrt",
	"luci-app-htip/postinst":   "caches are dropped",

	"luci-i18n-htip-de/SECTION":     "luci",
	"luci-i18n-htip-de/CATEGORY":    "LuCI",
	"luci-i18n-htip-de/TITLE":       "luci-app-htip - de translation",
	"luci-i18n-htip-de/HIDDEN":      "1",
	"luci-i18n-htip-de/DEPENDS":     "luci-app-htip",
	"luci-i18n-htip-de/PKGARCH":     "all",
	"luci-i18n-htip-de/description": "    Translation for luci-app-htip - Deutsch (German)",

	"luci-i18n-htip-ko/SECTION":     "luci",
	"luci-i18n-htip-ko/CATEGORY":    "LuCI",
	"luci-i18n-htip-ko/TITLE":       "luci-app-htip - ko translation",
	"luci-i18n-htip-ko/HIDDEN":      "1",
	"luci-i18n-htip-ko/DEPENDS":     "luci-app-htip",
	"luci-i18n-htip-ko/PKGARCH":     "all",
	"luci-i18n-htip-ko/description": "    Translation for luci-app-htip - 한국어 (Korean)",

	"PKG_NAME":             "luci-app-htip",
	"PKG_MAINTAINER":       "HTIP for OpenWrt",
	"PKG_LICENSE":          "Apache-2.0",
	"PKG_LICENSE_FILES":    "LICENSE",
	"PKG_BUILD_DIR":        "/build/luci-app-htip",
	"PKG_ASLR_PIE":         "1",
	"PKG_ASLR_PIE_REGULAR": "0",

	"LUCI_NAME": "luci-app-htip", "LUCI_BASENAME": "htip",
	"LUCI_SECTION": "luci", "LUCI_CATEGORY": "LuCI",
	"LUCI_LANG.de": "Deutsch (German)", "LUCI_LANG.ko": "한국어 (Korean)",

	"LUCI_TITLE":      "LuCI page for tunnels to other homes",
	"LUCI_DEPENDS":    "+luci-base +htip",
	"LUCI_PKGARCH":    "all",
	"LUCI_MAINTAINER": "HTIP for OpenWrt",
	"LUCI_URL":        "",
	"LUCI_MINIFY_CSS": "0",
}

var pageFree = map[string]string{
	"PKG_VERSION":               `\d+\.\d+\.\d+`,
	"PKG_RELEASE":               `[1-9]\d*`,
	"LUCI_DESCRIPTION":          `[A-Z].*\.`,
	"luci-app-htip/description": `  [A-Z].*\.`,
	"macro Build/Prepare":       ``, "macro Build/Prepare/luci-app-htip": ``,
	"macro Package/luci-app-htip": ``, "macro Package/luci-app-htip/install": ``,
	"macro Package/luci-app-htip/description": ``, "macro Package/luci-app-htip/postinst": ``,
	"macro Package/luci-i18n-htip-de": ``, "macro Package/luci-i18n-htip-de/install": ``, "macro Package/luci-i18n-htip-de/description": ``,
	"macro Package/luci-i18n-htip-ko": ``, "macro Package/luci-i18n-htip-ko/install": ``, "macro Package/luci-i18n-htip-ko/description": ``,
}

// pageWrong lists what the page's Makefile says otherwise than it should. All its packages
// have one version.
func pageWrong(said map[string]string) []string {
	want := map[string]string{"PKG_PO_VERSION": said["PKG_VERSION"] + "-r" + said["PKG_RELEASE"]}
	for _, name := range pagePackages {
		want[name+"/VERSION"] = want["PKG_PO_VERSION"]
	}
	for name, value := range pageFields {
		want[name] = value
	}
	return compare(said, want, pageFree)
}

// TestPageMakefile: and the page has the version of the daemon that it is made for.
func TestPageMakefile(t *testing.T) {
	said, daemon := show(t, "luci-app-htip", "Makefile"), show(t, "openwrt", "Makefile")
	for _, problem := range pageWrong(said) {
		t.Error(problem)
	}
	for _, name := range []string{"PKG_VERSION", "PKG_RELEASE", "PKG_MAINTAINER", "PKG_LICENSE"} {
		if said[name] != daemon[name] {
			t.Errorf("%s is %q for the page and %q for the daemon", name, said[name], daemon[name])
		}
	}
}

func TestPageMakefileTypos(t *testing.T) {
	typos(t, "luci-app-htip", pageWrong, [][2]string{
		{"PKG_VERSION:=", "PKG_VERSION:=v"},
		{"PKG_PO_VERSION", "PKG_PO_VERSIONS"},
		{"PKG_PO_VERSION:=", "PKG_PO_VERSION:=1:"},
		{"PKG_LICENSE_FILES", "PKG_LICENSE_FILE"},
		{"PKG_MAINTAINER:=", "PKG_MAINTENER:="},
		{"LUCI_TITLE", "LUCI_TITEL"},
		{"LUCI_DESCRIPTION:=", "LUCI_DESCRIPTION:=\n#"},
		{"LUCI_DEPENDS", "LUCI_DEPEND"},
		{"+luci-base", "luci-base"},
		{"+htip", "+htpi"},
		{"LUCI_PKGARCH", "LUCI_PKG_ARCH"},
		{"LUCI_PKGARCH:=all", "LUCI_PKGARCH:=any"},
		{"LUCI_MAINTAINER", "LUCI_MAINTENER"},
		{"LUCI_URL:=", ""},
		{"LUCI_MINIFY_CSS:=0", "LUCI_MINIFY_CSS:=1"},
		{"define Build/Prepare/luci-app-htip", "define Build/Prepare/luci-app-htpi"},
	})
}

// TestFeed: a feed's scan finds both folders, and nothing else of this repository: a
// Makefile, at most five folders deep, with certain words in it.
func TestFeed(t *testing.T) {
	if err := look(); err != nil {
		t.Fatal(err)
	}
	words := regexp.MustCompile(`call (Build/DefaultTargets|BuildPackage|KernelPackage)`)
	var found []string
	err := fs.WalkDir(os.DirFS(repo), ".", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (path == "build" || path == ".git"):
			return fs.SkipDir
		case d.Name() != "Makefile" || strings.Count(path, "/") >= 5:
			return nil
		}
		text, err := os.ReadFile(filepath.Join(repo, path))
		if words.Match(text) {
			found = append(found, filepath.Dir(path))
		}
		return err
	})
	if want := []string{"luci-app-htip", "openwrt"}; err != nil || !slices.Equal(found, want) {
		t.Errorf("%q, %v; want %q", found, err, want)
	}
}

// TestPageInstall: what the feed installs is what the packages of scripts/ipk hold.
func TestPageInstall(t *testing.T) {
	said := show(t, "luci-app-htip", "Makefile")
	build := t.TempDir()
	lmo := filepath.Join(build, "lmo")
	if _, err := run(repo, nil, "go", "build", "-o", lmo, "./tests/page/po/cmd/lmo"); err != nil {
		t.Fatal(err)
	}
	feedMake(t, "luci-app-htip", "Makefile", build, "prepare")
	licence, err := os.ReadFile(filepath.Join(build, "luci-app-htip", said["PKG_LICENSE_FILES"]))
	if err != nil || !regexp.MustCompile(`Apache License\s+Version 2\.0`).Match(licence) {
		t.Errorf("licence: %.80q, want that of Apache (%v)", licence, err)
	}
	for _, name := range pagePackages {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			feedMake(t, "luci-app-htip", "Makefile", build, "install/"+name, "DESTDIR="+root, "po2lmo="+lmo)
			p := open(t, name)
			sameFiles(t, tree(t, root), p)
			sameFields(t, said, name, said[name+"/VERSION"], p)
		})
	}
}

// TestPagePackages: what lies where, with which rights, and that nothing of it is anybody's
// configuration.
func TestPagePackages(t *testing.T) {
	resources := "/www/luci-static/resources/"
	for name, want := range map[string][]string{
		"luci-app-htip": {"/usr/share/luci/menu.d/luci-app-htip.json", "/usr/share/rpcd/acl.d/luci-app-htip.json",
			resources + "htip/common.js", resources + "htip/style.css", resources + "view/htip/diagnosis.js", resources + "view/htip/hosts.js",
			resources + "view/htip/invites.js", resources + "view/htip/map.js", resources + "view/htip/overview.js", resources + "view/htip/phones.js",
			resources + "view/htip/settings.js"},
		"luci-i18n-htip-de": {"/etc/uci-defaults/luci-i18n-htip-de", "/usr/lib/lua/luci/i18n/htip.de.lmo"},
		"luci-i18n-htip-ko": {"/etc/uci-defaults/luci-i18n-htip-ko", "/usr/lib/lua/luci/i18n/htip.ko.lmo"},
	} {
		p := open(t, name)
		var files []string
		for path, m := range p.data {
			mode, kind := m.FileInfo().Mode(), m.FileInfo().Mode().Type()
			switch {
			case kind == fs.ModeDir && mode.Perm() == 0o755:
			case kind == 0 && mode.Perm() == 0o644:
				files = append(files, path)
			default:
				t.Errorf("%s: %s has mode %v", name, path, mode)
			}
			if m.Uname != "root" || m.Gname != "root" {
				t.Errorf("%s: %s belongs to %s:%s", name, path, m.Uname, m.Gname)
			}
			if strings.HasSuffix(path, ".json") && !json.Valid([]byte(m.content)) {
				t.Errorf("%s: %s is no JSON", name, path)
			}
		}
		slices.Sort(files)
		if !slices.Equal(files, want) {
			t.Errorf("%s: files %q\nwant %q", name, files, want)
		}
		if got := strings.TrimSpace(p.control["/conffiles"].content); got != "" {
			t.Errorf("%s: conffiles %q", name, got)
		}
		for _, script := range []string{"postinst", "postrm"} {
			if m := p.control["/"+script]; m.Mode&0o777 != 0o755 || !strings.HasPrefix(m.content, "#!/bin/sh\n") || !strings.Contains(m.content, "rpcd reload") {
				t.Errorf("%s: %s with mode %o: %q", name, script, m.Mode, m.content)
			}
		}
	}
	depends := map[string]string{"luci-app-htip": "luci-base, htip", "luci-i18n-htip-de": "luci-app-htip", "luci-i18n-htip-ko": "luci-app-htip"}
	for name, want := range depends {
		if p := open(t, name); p.fields["Depends"] != want || p.fields["Architecture"] != "all" {
			t.Errorf("%s: Depends %q, Architecture %q; want %q, all", name, p.fields["Depends"], p.fields["Architecture"], want)
		}
	}
}

// TestPageSize: the page fits beside what is on small routers.
func TestPageSize(t *testing.T) {
	dirs, err := feeds()
	if err != nil {
		t.Fatal(err)
	}
	found, err := filepath.Glob(filepath.Join(dirs[0], "x86_64", "luci-app-htip_*.ipk"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	ipk, err := os.ReadFile(found[0])
	if err != nil {
		t.Fatal(err)
	}
	size := len(unpack(t, string(ipk))["/data.tar.gz"].content)
	t.Logf("%d bytes packed", size)
	if size > pageBudget || size < pageBudget/10 {
		t.Errorf("the page has %d bytes packed, the budget is %d", size, pageBudget)
	}
}

// TestFeedIndex: the list of a feed has all its packages, each with its size and digest.
func TestFeedIndex(t *testing.T) {
	dirs, err := feeds()
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(dirs[0], "x86_64", "Packages"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for entry := range strings.SplitSeq(strings.TrimSpace(string(index)), "\n\n") {
		fields := map[string]string{}
		for line := range strings.Lines(entry) {
			field, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
			fields[field] = value
		}
		names = append(names, fields["Package"])
		if p := open(t, fields["Package"]); fields["Depends"] != p.fields["Depends"] || fields["Version"] != p.fields["Version"] || fields["SHA256sum"] == "" {
			t.Errorf("%q, and the package says %q", fields, p.fields)
		}
	}
	slices.Sort(names)
	if want := append([]string{"htip", "htip-esp", "htip-pptp"}, pagePackages...); !slices.Equal(names, want) {
		t.Errorf("the feed has %q, want %q", names, want)
	}
}
