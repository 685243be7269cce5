package datapath

import (
	"errors"
	"fmt"
	"net/netip"
)

// Access is what a peer may reach behind this end of its tunnel. The zero value
// is everything in the networks that are shared with it; of this router the
// names port and an echo, whatever Access is.
type Access struct {
	Limited bool // only what Allow says
	Allow   []Allowed
}

// Allowed is a service that a peer with limited access may reach.
type Allowed struct {
	Host     netip.Addr // its real address, inside an own network; unset with Router
	Router   bool       // this router itself, by whatever address; needs Low
	Protocol string     // "tcp", "udp" or "icmp"; "": all
	Low      uint16     // ports of TCP or UDP; 0: all
	High     uint16
}

// check says what would not do as a rule.
func (a Access) check() error {
	var errs []error
	for _, x := range a.Allow {
		port := x.Protocol == "tcp" || x.Protocol == "udp"
		switch {
		case x.Router == x.Host.IsValid(), x.Host.IsValid() && !x.Host.Is4(), x.Router && x.Low == 0,
			x.Protocol != "" && x.Protocol != "icmp" && !port, x.Low != 0 && !port, x.High < x.Low:
			errs = append(errs, fmt.Errorf("access %+v can't be a rule", x))
		}
	}
	return errors.Join(errs...)
}

// match is the part of a rule that says which packets of the peer are meant,
// or, with answers, which of the host's.
func (x Allowed) match(device string, answers bool) string {
	address, link, port := "-d", "-i", "--dport"
	if answers {
		address, link, port = "-s", "-o", "--sport"
	}
	s := link + " " + device
	if x.Host.IsValid() {
		s = fmt.Sprintf("%s %s/32 %s", address, x.Host, s)
	}
	if x.Protocol == "" {
		return s
	}
	s += " -p " + x.Protocol
	switch {
	case x.Low == 0:
		return s
	case x.Low == x.High:
		return fmt.Sprintf("%s -m %s %s %d", s, x.Protocol, port, x.Low)
	}
	return fmt.Sprintf("%s -m %s %s %d:%d", s, x.Protocol, port, x.Low, x.High)
}

const (
	// ofOurs matches answers to what was begun on this side. The direction is
	// asked for with every packet, so a flow that the peer began stops with the
	// rule that allowed it: nothing has to be flushed. (It must not be. After
	// that the next packet of our own host would begin the flow anew, from our
	// side, and the peer's packets would be answers.)
	ofOurs = "-m conntrack --ctstate RELATED,ESTABLISHED --ctdir REPLY -j RETURN"
	// ofErrors matches ICMP errors about flows that are tracked: what is too big
	// must be told (RFC 1191), also about answers to the peer.
	ofErrors = "-p icmp -m conntrack --ctstate RELATED -j RETURN"
	// ofMiddle matches TCP segments that belong to no flow and begin none. Where
	// a flow of the peer was forgotten, our host's next segment would begin it
	// anew as if it were our own.
	ofMiddle = "-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN -m conntrack --ctstate NEW -j DROP"
	// ofTheirs matches answers of our hosts to what the peer began. A camera
	// that was once asked for its stream would go on sending it.
	ofTheirs = "-m conntrack --ctstate ESTABLISHED --ctdir REPLY -j DROP"
)

// accessRules are those for a tunnel with limited access: of packets to hosts
// behind this router, to this router, and of hosts out into the tunnel.
func accessRules(t *Tunnel) (forward, input, out []string) {
	for _, x := range t.Access.Allow {
		if x.Router {
			input = append(input, x.match(t.Device, false)+" -j RETURN")
		}
	}
	if !t.Access.Limited || t.listening() {
		return nil, input, nil
	}
	forward = []string{"-i " + t.Device + " " + ofOurs, "-i " + t.Device + " " + ofErrors}
	out = []string{"-o " + t.Device + " " + ofMiddle}
	for _, x := range t.Access.Allow {
		if !x.Router {
			forward = append(forward, x.match(t.Device, false)+" -j RETURN")
			out = append(out, x.match(t.Device, true)+" -j RETURN")
		}
	}
	return append(forward, "-i "+t.Device+" -j DROP"), input, append(out, "-o "+t.Device+" "+ofTheirs)
}
