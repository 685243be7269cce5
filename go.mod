module htip

go 1.26.0

require (
	github.com/coreos/go-iptables v0.8.0
	github.com/digineo/go-uci v0.0.0-20210918132103-37c7b10c14fa
	github.com/miekg/dns v1.1.73
	github.com/vishvananda/netlink v1.3.1
	github.com/vishvananda/netns v0.0.5
	golang.org/x/net v0.57.0
	golang.org/x/sys v0.49.0
	pgregory.net/rapid v1.3.0
	rsc.io/qr v0.2.0
)
