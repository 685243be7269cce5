package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"htip/src/ubus"
	"htip/tests/openwrt/uci"
)

// netifd gives devices their addresses by /etc/config/network and tells of them
// on ubus, as the object network.interface. Protocol static only.
type netifd struct {
	mu   sync.Mutex
	ifs  []*iface
	made map[string]bool // routes, by text
}

type iface struct {
	name, device, gateway string
	metric                string
	addrs                 []netip.Prefix
	disabled              bool
}

func runNetifd(ctx context.Context, _ []string) error {
	n := &netifd{made: map[string]bool{}}
	if err := n.apply(ctx, false); err != nil {
		return err
	}
	_, err := serve(ctx, &ubus.Object{Name: "network.interface", Methods: []ubus.Method{
		{Name: "dump", Handler: func(context.Context, *ubus.Request) (ubus.Table, error) { return n.dump(), nil }},
	}})
	if err != nil {
		return err
	}
	_, err = serve(ctx, &ubus.Object{Name: "network", Methods: []ubus.Method{
		{Name: "reload", Handler: func(ctx context.Context, _ *ubus.Request) (ubus.Table, error) { return nil, n.apply(ctx, true) }},
	}})
	if err != nil {
		return err
	}
	<-ctx.Done()
	return nil
}

// readInterfaces reads the interfaces with a device and addresses.
func readInterfaces() ([]*iface, error) {
	p, err := (uci.Dirs{Config: "/etc/config", Changes: "/nowhere"}).Load("network")
	if err != nil {
		return nil, err
	}
	var out []*iface
	for _, s := range p.Of("interface") {
		i := &iface{name: s.Name, device: s.Get("device"), gateway: s.Get("gateway"), metric: s.Get("metric"), disabled: s.Get("disabled") == "1"}
		for _, a := range s.List("ipaddr") {
			if !strings.Contains(a, "/") {
				a += "/24"
			}
			prefix, err := netip.ParsePrefix(a)
			if err != nil {
				return nil, fmt.Errorf("interface %s: %w", s.Name, err)
			}
			i.addrs = append(i.addrs, prefix)
		}
		out = append(out, i)
	}
	return out, nil
}

func ip(args ...string) error {
	out, err := exec.Command("ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %s", strings.Join(args, " "), out)
	}
	return nil
}

// apply brings addresses and default routes in line with the configuration. What
// has not changed is not touched, as by netifd.
func (n *netifd) apply(ctx context.Context, tell bool) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	next, err := readInterfaces()
	if err != nil {
		return err
	}
	var changed []string
	for _, i := range next {
		if i.device == "lo" || i.device == "" {
			continue
		}
		var want []netip.Prefix
		if !i.disabled {
			want = i.addrs
		}
		have := addresses(i.device)
		for _, a := range have {
			if !slices.Contains(want, a) {
				changed = append(changed, i.name)
				if err := ip("addr", "del", a.String(), "dev", i.device); err != nil {
					return err
				}
			}
		}
		for _, a := range want {
			if !slices.Contains(have, a) {
				changed = append(changed, i.name)
				if err := ip("addr", "add", a.String(), "dev", i.device); err != nil {
					return err
				}
			}
		}
		if err := ip("link", "set", i.device, "up"); err != nil {
			return err
		}
	}
	routes := map[string]bool{}
	for _, i := range next {
		if i.gateway != "" && !i.disabled {
			metric := i.metric
			if metric == "" {
				metric = "0"
			}
			routes[fmt.Sprintf("default via %s dev %s metric %s", i.gateway, i.device, metric)] = true
		}
	}
	for r := range n.made {
		if !routes[r] {
			ip(append([]string{"route", "del"}, strings.Fields(r)...)...) // it went with the address, perhaps
		}
	}
	for r := range routes {
		if err := ip(append([]string{"route", "replace"}, strings.Fields(r)...)...); err != nil {
			return err
		}
	}
	n.ifs, n.made = next, routes
	if tell {
		for _, name := range slices.Compact(changed) {
			event(ctx, "interface.update", "interface", name)
		}
	}
	return nil
}

// event tells procd of something, beside the caller.
func event(ctx context.Context, kind, name, value string) {
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		call(ctx, "service", "event", ubus.T("type", kind, "data", ubus.T(name, value)))
	}()
}

func addresses(device string) (out []netip.Prefix) {
	data, err := exec.Command("ip", "-j", "-4", "addr", "show", "dev", device).Output()
	if err != nil {
		return nil
	}
	var links []struct {
		Addrs []struct {
			Local string `json:"local"`
			Bits  int    `json:"prefixlen"`
		} `json:"addr_info"`
	}
	if json.Unmarshal(data, &links) != nil {
		return nil
	}
	for _, l := range links {
		for _, a := range l.Addrs {
			if at, err := netip.ParseAddr(a.Local); err == nil {
				out = append(out, netip.PrefixFrom(at, a.Bits))
			}
		}
	}
	return out
}

// dump is what netifd answers, as far as anybody here reads it.
func (n *netifd) dump() ubus.Table {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := ubus.Array{}
	for _, i := range n.ifs {
		_, err := os.Stat("/sys/class/net/" + i.device)
		up := !i.disabled && err == nil
		t := ubus.T("interface", i.name, "up", up, "pending", false, "available", err == nil, "autostart", true, "proto", "static", "device", i.device)
		if up {
			addrs, routes := ubus.Array{}, ubus.Array{}
			for _, a := range i.addrs {
				addrs = append(addrs, ubus.T("address", a.Addr().String(), "mask", int32(a.Bits())))
			}
			if i.gateway != "" {
				routes = append(routes, ubus.T("target", "0.0.0.0", "mask", int32(0), "nexthop", i.gateway, "source", "0.0.0.0/0"))
			}
			t = append(t, ubus.T("l3_device", i.device, "metric", int32(0), "ipv4-address", addrs, "ipv6-address", ubus.Array{}, "route", routes, "dns-server", []string{})...)
		}
		list = append(list, t)
	}
	return ubus.T("interface", list)
}
