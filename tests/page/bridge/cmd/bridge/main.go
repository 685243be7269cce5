// Command bridge serves an app's pages and the bus of one router over HTTP: on
// routers that have neither uhttpd nor LuCI.
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"os/exec"

	"htip/src/ubus"
	"htip/tests/page/bridge"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bridge:", err)
		os.Exit(1)
	}
}

func run() error {
	var cfg bridge.Config
	listen := flag.String("listen", ":80", "address to serve")
	root := flag.String("root-password", "", "root's password")
	guest := flag.String("guest-password", "", "password of guest, who may only look; empty: there is no guest")
	changed := flag.String("changed", "/sbin/reload_config", "program to run with the name of each configuration that was written")
	flag.StringVar(&cfg.Socket, "ubus-socket", ubus.DefaultSocket, "ubusd's socket")
	flag.StringVar(&cfg.UCI, "uci", "/etc/config", "the configuration")
	flag.StringVar(&cfg.App.Htdocs, "htdocs", "/www", "the app's files for browsers")
	flag.StringVar(&cfg.App.Root, "root", "/", "where the app's menu.d and acl.d lie below usr/share")
	flag.StringVar(&cfg.App.Po, "po", "", "the app's translations")
	flag.StringVar(&cfg.Host, "name", "OpenWrt", "the router's name")
	flag.StringVar(&cfg.LuCI, "luci", "", "a checkout of openwrt/luci, to be served in the place of the stand-in")
	flag.DurationVar(&cfg.SessionTimeout, "session-timeout", 0, "how long a login lasts; 0 is rpcd's usual")
	flag.Parse()
	cfg.Users = []bridge.User{bridge.Root(*root)}
	if *guest != "" {
		cfg.Users = append(cfg.Users, bridge.Guest(*guest))
	}
	if *changed != "" {
		cfg.Changed = func(config string) {
			if out, err := exec.Command(*changed, config).CombinedOutput(); err != nil {
				fmt.Fprintf(os.Stderr, "bridge: %s %s: %v\n%s", *changed, config, err, out)
			}
		}
	}
	b, err := bridge.New(cfg)
	if err != nil {
		return err
	}
	return http.ListenAndServe(*listen, b)
}
