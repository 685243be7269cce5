package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
)

// Words of the options that have a fixed choice.
const (
	ProtocolWireGuard = "wireguard"
	ProtocolL2TPESP   = "l2tp-esp"
	ProtocolL2TP      = "l2tp"
	ProtocolPPTP      = "pptp"

	Derived    = "derived"    // candidates in an order of the gateway's own key
	Sequential = "sequential" // candidates from the pool's start, as in the seed (¶121)

	EncryptionRequired = "required"
	EncryptionOff      = "off"
)

// Config is what /etc/config/htip says, checked. It is read-only once made.
type Config struct {
	Main  Main
	Peers []Peer // in the file's order; names, keys and domains are unique
	// LeftOut are the names of the peer sections that have errors, as `uci show`
	// prints them.
	LeftOut []string
}

// Main is the section "main" of type htip: this home.
type Main struct {
	Enabled    bool
	Domain     string         // own public domain name, lower case, no dot at the end; "" without one
	Name       string         // what this home calls itself, a DNS label
	Port       uint16         // TCP port of the control channel
	Networks   []netip.Prefix // what is offered to other homes, masked, disjoint; empty: what LANDevices have
	LANDevices []string       // empty: those of Interfaces
	Interfaces []string       // netifd's names of what is shared
	WANDevice  string         // "": wherever a default route leads
	Pool       []netip.Prefix // where substitutes may lie, masked, disjoint
	Candidates string         // Derived or Sequential
	Zone       string         // other homes' hosts are <host>.<peer>.<Zone>
	LANDomain  string         // what dnsmasq calls the own hosts: <host>.<LANDomain>
	Protocols  []string       // VPN protocols, best first
	L2TPPort   uint16         // first of L2TPPorts UDP ports, of WireGuard too
	MTU        int            // of a tunnel device, bytes; 0: what suits the protocol
	Accept     string         // who may ask for a tunnel: AcceptAsk, AcceptKnown or AcceptNone
	LogLevel   string         // debug, info, warn or error
}

// L2TPPorts is the number of UDP ports from Main.L2TPPort on, one a tunnel.
const L2TPPorts = 64

// Peer is another home.
type Peer struct {
	Name       string // DNS label, lower case
	Enabled    bool
	Domain     string   // its public domain name; "": it can only call us
	Port       uint16   // TCP port of its control channel
	Key        Key      // its gateway's public key
	Auto       bool     // connect at start, not only when asked
	Encryption string   // EncryptionRequired or EncryptionOff
	Protocols  []string // VPN protocols allowed with it, best first; empty: Main.Protocols
	// Access is what the peer may reach here: AccessAll or AccessNone alone, or
	// entries as ParseAccess reads them. Empty: everything.
	Access []string
}

// Equal tells whether p and q are the same in everything.
func (p Peer) Equal(q Peer) bool {
	return p.Name == q.Name && p.Enabled == q.Enabled && p.Domain == q.Domain && p.Port == q.Port &&
		p.Key == q.Key && p.Auto == q.Auto && p.Encryption == q.Encryption && slices.Equal(p.Protocols, q.Protocols) &&
		slices.Equal(p.Access, q.Access)
}

// Equal tells whether m and n are the same in everything.
func (m Main) Equal(n Main) bool { return len(m.changed(n)) == 0 }

// Peer finds a peer by its name, in whatever case.
func (c Config) Peer(name string) (Peer, bool) {
	name = lower(name)
	if i := slices.IndexFunc(c.Peers, func(p Peer) bool { return p.Name == name }); i >= 0 {
		return c.Peers[i], true
	}
	return Peer{}, false
}

// Defaults is a Config of an empty file: disabled, no peers.
func Defaults() Config {
	return Config{Main: Main{
		Name: "home",
		Port: 4847,
		Pool: []netip.Prefix{
			netip.MustParsePrefix("10.0.0.0/8"),
			netip.MustParsePrefix("172.16.0.0/12"),
			netip.MustParsePrefix("192.168.0.0/16"),
		},
		Interfaces: []string{"lan"},
		Candidates: Derived,
		Zone:       "internal",
		LANDomain:  "lan",
		Protocols:  []string{ProtocolWireGuard, ProtocolL2TPESP, ProtocolL2TP},
		L2TPPort:   17010,
		Accept:     AcceptAsk,
		LogLevel:   "info",
	}}
}

// NewPeer is a peer with the defaults of its options.
func NewPeer(name string) Peer {
	return Peer{Name: name, Enabled: true, Port: 4847, Encryption: EncryptionRequired}
}

// MaxSize is the largest file that is read, in bytes.
const MaxSize = 256 << 10

// Load reads a configuration file. The Config can always be used: with an error,
// and with a fatal problem, it is a disabled one. A missing file is an error that
// is os.ErrNotExist; a file that uci can't read is a *ParseError.
func Load(path string) (Config, Problems, error) {
	data, err := readFile(path)
	if err != nil {
		return Defaults(), nil, fmt.Errorf("reading the configuration: %w", err)
	}
	d, err := parse(data, nil)
	if err != nil {
		return Defaults(), nil, fmt.Errorf("reading the configuration %s: %w", path, err)
	}
	c, problems := decode(d)
	return c, problems, nil
}

// readFile reads a file of at most MaxSize bytes that is really a file: a pipe
// would be waited for without end.
func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a regular file")}
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read from
	return readAll(f, path)
}

func readAll(r io.Reader, path string) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(data) > MaxSize {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("larger than %d bytes", MaxSize)}
	}
	return data, nil
}
