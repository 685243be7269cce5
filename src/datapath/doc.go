// Package datapath is what touches the kernel for HTIP's tunnels: the links
// themselves, NAT at the tunnel's end (¶125, 142, 161), routes, the guard
// against forged sources, connection tracking.
//
// The caller says what it wants, [Manager.Apply] compares that with what the
// kernel, the process table and the run directory hold, and changes only what
// differs. Nothing is remembered that the kernel can be asked for, therefore a
// daemon that was killed and started again continues where the old one was.
//
//	tunnel.go         what is wanted, and what is refused
//	manager.go        Apply, the order of things
//	links.go, watch.go  routes and settings of links that are up, events
//	driver.go         what a tunnel protocol has to do; l2tp*.go, gate.go: L2TP
//	pptp*.go          PPTP, by the same pppd
//	rules.go          the iptables rules, as text, from what is wanted
//	saved.go          reading iptables-save, comparing, what iptables-restore gets
//	routes.go         which routes there should be
//	conntrack.go      which tracked flows have to go
//	netlink.go        the kernel behind an interface
//	process.go        programs that outlive the daemon
//	logbook.go        what xl2tpd's and pppd's log lines mean, in plain words
//	fake.go           the same for the tests of other packages
//
// Everything of ours carries our mark: chains begin with HTIP-, routes have
// protocol 72, devices begin with htip-, files lie in the run directory.
package datapath
