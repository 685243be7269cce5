package datapath

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// DevicePrefix begins the name of every link of ours.
const DevicePrefix = "htip-"

// ProtocolL2TP is the protocol of tunnels by xl2tpd and pppd (RFC 2661).
const ProtocolL2TP = "l2tp"

// ProtocolPPTP is the protocol of tunnels by pptpd and pppd (RFC 2637).
const ProtocolPPTP = "pptp"

const (
	// A packet in PPTP costs 44 bytes: IP 20, GRE with both numbers 16, PPP 4,
	// MPPE 4. As with L2TP there is room for PPPoE.
	pptpDefaultMTU = 1400
	pptpMaxMTU     = 1456
	mppePad        = 4 // pppd takes them off what LCP agreed on

	// DefaultMTU of an L2TP tunnel in bytes. L2TP over UDP costs 38 bytes, the
	// rest leaves room for PPPoE at the WAN and for ESP.
	DefaultMTU = 1410
	// MaxMTU in bytes is what 38 bytes of overhead leave of an Ethernet frame.
	// A tunnel with more overhead stays below it by itself.
	MaxMTU = 1462
	minMTU = 576

	maxDevice = 15 // IFNAMSIZ - 1

	// xl2tpd reads its secrets file in lines of 99 characters, "* * <hex>\n".
	maxSecret = 40
	minSecret = 16
)

// Mapping says by which Substitute a Network of the own home is known inside a
// tunnel (A → A', ¶121). Both have the same length; equal prefixes mean no NAT.
type Mapping struct {
	Network, Substitute netip.Prefix
}

// NAT tells whether addresses are rewritten at all.
func (m Mapping) NAT() bool { return m.Network != m.Substitute }

// Tunnel is one line of the connection table (¶34), as far as the kernel is
// concerned.
type Tunnel struct {
	Name     string // the peer's name, for messages only
	Device   string // the link's name, "htip-" and at most ten characters
	Protocol string // [ProtocolL2TP], [ProtocolL2TPESP], [ProtocolWireGuard] or [ProtocolPPTP]
	Cipher   string // of L2TP in ESP: [CipherAES] or [CipherChaCha]

	Server    bool           // the responder (LNS) or the initiator (LAC)
	LocalPort uint16         // own UDP port; a client may leave it 0, unless it is in ESP
	Local     netip.Addr     // own WAN address; needed in ESP only
	Remote    netip.AddrPort // the peer's WAN address and, for a client, its port

	LocalAddr netip.Addr // own end of the link: the gateway's own substitute address
	PeerAddr  netip.Addr // the other end

	Own  []Mapping      // own networks and how the peer knows them: A → A'
	Peer []netip.Prefix // by which the peer's networks are known here: B'

	Access Access // what the peer may reach here

	// A server without addresses and networks only listens: calls are accepted
	// and wait until a later Apply gives the tunnel the rest (¶94: the server
	// listens before the substitutes are agreed on).

	// Secret is for L2TP that of the tunnel authentication (RFC 2661 §5.1.1), 16
	// to 40 bytes; for WireGuard the keys, [WireGuardSecret] bytes; in ESP
	// [ESPSecret] bytes.
	Secret []byte
	MTU    int  // bytes; 0 is the protocol's own
	Old    bool // of a former process: in ESP it can be taken over, not started again
}

// listening tells whether the tunnel still waits for what will be agreed on.
func (t Tunnel) listening() bool {
	return t.Server && len(t.Own) == 0 && len(t.Peer) == 0 && !t.LocalAddr.IsValid() && !t.PeerAddr.IsValid()
}

func (t Tunnel) mtu() int {
	usual, most := DefaultMTU, MaxMTU
	switch t.Protocol {
	case ProtocolWireGuard:
		usual, most = wgDefaultMTU, wgMaxMTU
	case ProtocolPPTP:
		usual, most = pptpDefaultMTU, pptpMaxMTU
	case ProtocolL2TPESP:
		most = espMaxMTU
	}
	if t.MTU == 0 {
		return usual
	}
	return min(t.MTU, most)
}

// Door keeps connections of strangers to a TCP port of this router few, before
// they cost connection tracking or anybody else anything. The zero value lets
// all in.
type Door struct {
	Port    uint16
	Friends []netip.Addr // whose connections don't count, ascending
}

// Wanted is all that should exist.
type Wanted struct {
	Tunnels []Tunnel
	// Known are the substitutes of all known homes, their tunnels being up or
	// not. Each gets an unreachable route of the highest metric, so that
	// packets for a home that is away never leave through the WAN.
	Known []netip.Prefix
	Door  Door
	Users Users
}

// validDevice tells whether name may be a device, a directory and a word in a
// configuration file.
func validDevice(name string) bool {
	rest, ok := strings.CutPrefix(name, DevicePrefix)
	if !ok || rest == "" || len(name) > maxDevice {
		return false
	}
	for _, c := range []byte(rest) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_':
		default:
			return false
		}
	}
	return true
}

// validPrefix refuses what is not an IPv4 prefix in its canonical form, and
// what no home can own.
func validPrefix(p netip.Prefix) error {
	switch {
	case !p.IsValid() || !p.Addr().Is4():
		return fmt.Errorf("%q is no IPv4 prefix", p)
	case p != p.Masked():
		return fmt.Errorf("%s has bits behind its length (should be %s)", p, p.Masked())
	case p.Bits() < 8:
		return fmt.Errorf("%s is too large for a home", p)
	case p.Addr().IsLoopback() || p.Addr().IsMulticast() || p.Addr().IsUnspecified() || p.Addr().IsLinkLocalUnicast():
		return fmt.Errorf("%s is no network of hosts", p)
	}
	return nil
}

// check says everything that is wrong with the tunnel alone. Values that pass
// are safe to stand in a configuration file or in a rule.
func (t Tunnel) check() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }

	if !validDevice(t.Device) {
		bad("device %q: want %q and 1 to 10 letters, digits, - or _", t.Device, DevicePrefix)
	}
	if t.Server && t.LocalPort == 0 {
		bad("a server needs a local port")
	}
	if a := t.Remote.Addr(); !a.Is4() || a.IsUnspecified() || a.IsMulticast() {
		bad("remote %s: want an IPv4 address", t.Remote)
	} else if !t.Server && t.Remote.Port() == 0 {
		bad("remote %s: want a port", t.Remote)
	}
	if m := t.MTU; m != 0 && (m < minMTU || m > MaxMTU) {
		bad("mtu %d: want %d to %d", m, minMTU, MaxMTU)
	}
	least, most := minSecret, maxSecret
	switch t.Protocol {
	case ProtocolWireGuard:
		least, most = WireGuardSecret, WireGuardSecret
	case ProtocolL2TPESP:
		least, most = ESPSecret, ESPSecret
		if !t.Local.Is4() || t.Local.IsUnspecified() || t.Local == t.Remote.Addr() || t.LocalPort == 0 {
			bad("local end %s, port %d: ESP needs to know it", t.Local, t.LocalPort)
		}
		if t.Cipher != CipherAES && t.Cipher != CipherChaCha {
			bad("cipher %q is unknown", t.Cipher)
		}
	}
	if n := len(t.Secret); n < least || n > most {
		bad("secret of %d bytes: want %d to %d", n, least, most)
	}
	if err := t.Access.check(); err != nil {
		errs = append(errs, err)
	}
	if t.listening() {
		return errors.Join(errs...)
	}
	if len(t.Own) == 0 || len(t.Peer) == 0 {
		bad("%d own and %d peer networks: want at least one of each", len(t.Own), len(t.Peer))
	}

	local, peer := false, false
	for i, m := range t.Own {
		if err := errors.Join(validPrefix(m.Network), validPrefix(m.Substitute)); err != nil {
			bad("own network: %w", err)
			continue
		}
		if m.Network.Bits() != m.Substitute.Bits() {
			bad("own network %s and its substitute %s differ in length", m.Network, m.Substitute)
		}
		local = local || m.Substitute.Contains(t.LocalAddr)
		for _, o := range t.Own[:i] {
			if o.Network.Overlaps(m.Network) || o.Substitute.Overlaps(m.Substitute) {
				bad("own %s→%s overlaps %s→%s", m.Network, m.Substitute, o.Network, o.Substitute)
			}
		}
	}
	for i, p := range t.Peer {
		if err := validPrefix(p); err != nil {
			bad("peer network: %w", err)
			continue
		}
		peer = peer || p.Contains(t.PeerAddr)
		if p.Contains(t.Remote.Addr()) {
			// Its packets would be routed into themselves.
			bad("peer network %s contains the peer's WAN address %s", p, t.Remote.Addr())
		}
		for _, o := range t.Peer[:i] {
			if o.Overlaps(p) {
				bad("peer network %s overlaps %s", p, o)
			}
		}
		for _, m := range t.Own {
			if m.Network.Overlaps(p) || m.Substitute.Overlaps(p) {
				bad("peer network %s overlaps own %s→%s", p, m.Network, m.Substitute)
			}
		}
	}
	if !local {
		bad("local address %s is in no own substitute", t.LocalAddr)
	}
	if !peer {
		bad("peer address %s is in no peer network", t.PeerAddr)
	}
	return errors.Join(errs...)
}

// check splits what is wanted into the part that can be had and one error per
// device for the rest. A bad tunnel never takes a good one down: of two that
// contradict each other the first one stays.
func (w Wanted) check() (Wanted, map[string]error) {
	errs := map[string]error{}
	good := Wanted{Door: w.Door}
	if err := w.Users.check(); err != nil {
		errs[UsersDevice] = err
	} else {
		good.Users = w.Users
	}
	for _, t := range w.Tunnels {
		err := t.check()
		for _, o := range good.Tunnels {
			switch {
			case o.Device == t.Device:
				err = errors.Join(err, fmt.Errorf("device %s is wanted twice", t.Device))
			case t.LocalPort != 0 && o.LocalPort == t.LocalPort:
				err = errors.Join(err, fmt.Errorf("port %d belongs to %s", t.LocalPort, o.Device))
			case t.pptpServer() && o.pptpServer():
				err = errors.Join(err, fmt.Errorf("only one home at a time can call here by PPTP, and %s does", o.Name))
			}
			for _, p := range t.Peer {
				for _, q := range o.Peer {
					if p.Overlaps(q) {
						err = errors.Join(err, fmt.Errorf("peer network %s overlaps %s of %s", p, q, o.Device))
					}
				}
				for _, m := range o.Own {
					if p.Overlaps(m.Network) {
						err = errors.Join(err, fmt.Errorf("peer network %s overlaps own network %s", p, m.Network))
					}
				}
			}
			for _, m := range t.Own {
				for _, q := range o.Peer {
					if m.Network.Overlaps(q) {
						err = errors.Join(err, fmt.Errorf("own network %s overlaps %s of %s", m.Network, q, o.Device))
					}
				}
			}
		}
		if err != nil {
			if _, seen := errs[t.Device]; !seen {
				errs[t.Device] = &Error{Tunnel: t.Name, Device: t.Device, Permanent: true, Err: err}
			}
			continue
		}
		good.Tunnels = append(good.Tunnels, t)
	}
	for _, p := range w.Known {
		if err := validPrefix(p); err != nil {
			errs[p.String()] = &Error{Permanent: true, Err: fmt.Errorf("known substitute: %w", err)}
			continue
		}
		good.Known = append(good.Known, p)
	}
	return good, errs
}
