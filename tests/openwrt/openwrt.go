// Package openwrt makes a machine look like an OpenWrt router to HTIP's package:
// its scripts, commands and services, as stand-ins (see cmd/owrt). The same files
// serve in a chroot, for the scripts alone, and on emulated routers.
package openwrt

import (
	"embed"
	"io/fs"
	"strings"
)

//go:embed root
var root embed.FS

// Applets are the names of the program owrt, by path.
var Applets = []string{
	"/sbin/uci", "/bin/ubus", "/usr/bin/jsonfilter", "/sbin/validate_data", "/sbin/procd", "/sbin/netifd", "/sbin/fw4", "/bin/opkg",
}

// OwrtPath is where that program lies itself.
const OwrtPath = "/usr/bin/owrt"

// Files are the files of a router by path, without programs. Scripts begin with
// "#!".
func Files() (map[string][]byte, error) {
	out := map[string][]byte{}
	err := fs.WalkDir(root, "root", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := root.ReadFile(name)
		out[strings.TrimPrefix(name, "root")] = data
		return err
	})
	return out, err
}

// Executable tells whether a file of Files is to be run.
func Executable(data []byte) bool { return strings.HasPrefix(string(data), "#!") }
