package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// field is an option of a section: its name in the file and how its values get
// into T and out of it.
type field[T any] struct {
	name string
	list bool
	// read puts values, at least one, into t. What is wrong it tells to bad; then
	// t keeps what it had, a list gets its good entries only.
	read func(t *T, values []string, bad func(value, want string))
	// write is the values for t, nil where the option is better left away.
	write func(t T) []string
}

// fields are the options of a section type.
type fields[T any] []field[T]

func (fs fields[T]) find(name string) (field[T], bool) {
	i := slices.IndexFunc(fs, func(f field[T]) bool { return f.name == name })
	if i < 0 {
		return field[T]{}, false
	}
	return fs[i], true
}

func (fs fields[T]) names() string {
	var names []string
	for _, f := range fs {
		names = append(names, f.name)
	}
	return strings.Join(names, ", ")
}

// one is an option of one value.
func one[T any](name, want string, set func(t *T, value string) bool, write func(t T) []string) field[T] {
	return field[T]{name: name, read: func(t *T, values []string, bad func(string, string)) {
		if len(values) != 1 {
			bad(strings.Join(values, "' '"), "want one value, as: option "+name)
		} else if !set(t, values[0]) {
			bad(values[0], want)
		}
	}, write: write}
}

// number is an option that is a decimal number from low to high.
func number[T any](name string, low, high uint64, set func(t *T, n uint64), write func(t T) []string) field[T] {
	return one(name, fmt.Sprintf("want a number from %d to %d", low, high), func(t *T, v string) bool {
		n, err := strconv.ParseUint(v, 10, 32)
		ok := err == nil && n >= low && n <= high
		if ok {
			set(t, n)
		}
		return ok
	}, write)
}

// boolean is an option that is a truth value, in the words that OpenWrt takes.
func boolean[T any](name string, at func(t *T) *bool, write func(t T) []string) field[T] {
	return one(name, "want 1 or 0", func(t *T, v string) bool {
		switch v {
		case "1", "on", "true", "yes", "enabled":
			*at(t) = true
		case "0", "off", "false", "no", "disabled":
			*at(t) = false
		default:
			return false
		}
		return true
	}, write)
}

// text is an option that normal brings into its one form, or refuses.
func text[T any](name, want string, at func(t *T) *string, normal func(string) (string, bool), write func(t T) []string) field[T] {
	return one(name, want, func(t *T, v string) bool {
		s, ok := normal(v)
		if ok {
			*at(t) = s
		}
		return ok
	}, write)
}

// choice is an option with a fixed set of words.
func choice[T any](name string, words []string, at func(t *T) *string, write func(t T) []string) field[T] {
	return text(name, "want "+orList(words), at, func(v string) (string, bool) { return v, slices.Contains(words, v) }, write)
}

// words is a list with a fixed set of words, none of them twice.
func words[T any](name string, known []string, at func(t *T) *[]string, write func(t T) []string) field[T] {
	good := func(v string) bool { return slices.Contains(known, v) }
	return field[T]{name: name, list: true, read: func(t *T, values []string, bad func(string, string)) {
		readList(at(t), values, "want "+orList(known), good, bad)
	}, write: write}
}

// names is a list of names, none of them twice.
func names(name, want string, at func(m *Main) *[]string, good func(string) bool) field[Main] {
	return field[Main]{name: name, list: true, read: func(m *Main, values []string, bad func(string, string)) {
		readList(at(m), values, want, good, bad)
	}}
}

func readList(at *[]string, values []string, want string, good func(string) bool, bad func(value, want string)) {
	var out []string
	for _, v := range values {
		switch {
		case !good(v):
			bad(v, want)
		case slices.Contains(out, v):
			bad(v, "want each only once")
		default:
			out = append(out, v)
		}
	}
	if len(out) > 0 {
		*at = out
	}
}

func orList(words []string) string {
	n := len(words) - 1
	return strings.Join(words[:n], ", ") + " or " + words[n]
}

// Bounds of a network's or a pool's prefix length, as in the protocol.
const (
	minBits = 8
	maxBits = 30
)

// unusable are ranges in which no home has hosts: this network, loopback,
// multicast, reserved (RFC 6890, 2.2.2).
var unusable = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("224.0.0.0/3"),
}

// prefixes is a list of disjoint IPv4 prefixes; host bits are cleared.
func prefixes[T any](name string, at func(t *T) *[]netip.Prefix) field[T] {
	return field[T]{name: name, list: true, read: func(t *T, values []string, bad func(string, string)) {
		var out []netip.Prefix
		for _, v := range values {
			p, err := netip.ParsePrefix(v)
			p = p.Masked()
			overlap := func(o netip.Prefix) bool { return o.Overlaps(p) }
			if err != nil || !p.Addr().Is4() || p.Bits() < minBits || p.Bits() > maxBits {
				bad(v, fmt.Sprintf("want an IPv4 network and its length, %d to %d, such as 192.168.1.0/24", minBits, maxBits))
			} else if slices.ContainsFunc(unusable, overlap) {
				bad(v, "want a network that can have hosts, such as 192.168.1.0/24")
			} else if i := slices.IndexFunc(out, overlap); i >= 0 {
				bad(v, "want one that does not overlap "+out[i].String())
			} else {
				out = append(out, p)
			}
		}
		if len(out) > 0 {
			*at(t) = out
		}
	}}
}

var protocols = []string{ProtocolWireGuard, ProtocolL2TPESP, ProtocolL2TP, ProtocolPPTP}

const wantPublicName = "want a name in the public DNS, such as bob.example.org"

// mainFields are the options of the section "main".
var mainFields = fields[Main]{
	boolean("enabled", func(m *Main) *bool { return &m.Enabled }, nil),
	text("domain", wantPublicName, func(m *Main) *string { return &m.Domain }, publicName, nil),
	text("name", "want a word of a-z, 0-9 and hyphens", func(m *Main) *string { return &m.Name }, labelName, nil),
	number("port", 1, 65535, func(m *Main, n uint64) { m.Port = uint16(n) }, nil),
	prefixes("network", func(m *Main) *[]netip.Prefix { return &m.Networks }),
	names("interface", "want an interface of /etc/config/network, such as lan", func(m *Main) *[]string { return &m.Interfaces }, InterfaceName),
	names("lan_device", wantDevice, func(m *Main) *[]string { return &m.LANDevices }, deviceName),
	text("wan_device", wantDevice, func(m *Main) *string { return &m.WANDevice }, device, nil),
	prefixes("pool", func(m *Main) *[]netip.Prefix { return &m.Pool }),
	choice("candidates", []string{Derived, Sequential}, func(m *Main) *string { return &m.Candidates }, nil),
	text("zone", "want a domain name", func(m *Main) *string { return &m.Zone }, hostName, nil),
	text("lan_domain", "want a domain name", func(m *Main) *string { return &m.LANDomain }, hostName, nil),
	words("protocol", protocols, func(m *Main) *[]string { return &m.Protocols }, nil),
	number("l2tp_port", 1024, 65536-L2TPPorts, func(m *Main, n uint64) { m.L2TPPort = uint16(n) }, nil),
	number("mtu", 576, 1462, func(m *Main, n uint64) { m.MTU = int(n) }, nil),
	choice("accept", []string{AcceptAsk, AcceptKnown, AcceptNone}, func(m *Main) *string { return &m.Accept }, nil),
	choice("log_level", []string{"debug", "info", "warn", "error"}, func(m *Main) *string { return &m.LogLevel }, nil),
}

const wantDevice = "want a network device, such as br-lan"

func device(v string) (string, bool) { return v, deviceName(v) }

func labelName(v string) (string, bool) { return lower(v), hostLabel(lower(v)) }

// peerFields are the options of a section of type peer, in the order in which a
// new one is written.
var peerFields = fields[Peer]{
	text("name", wantPeerName, func(p *Peer) *string { return &p.Name }, PeerName,
		func(p Peer) []string { return []string{p.Name} }),
	boolean("enabled", func(p *Peer) *bool { return &p.Enabled },
		func(p Peer) []string { return unless(p.Enabled, "0") }),
	text("domain", wantPublicName, func(p *Peer) *string { return &p.Domain }, publicName,
		func(p Peer) []string { return unless(p.Domain == "", p.Domain) }),
	number("port", 1, 65535, func(p *Peer, n uint64) { p.Port = uint16(n) },
		func(p Peer) []string { return unless(p.Port == NewPeer("").Port, strconv.Itoa(int(p.Port))) }),
	one("key", wantKey, func(p *Peer, v string) (ok bool) {
		k, ok := parseKey(v)
		if ok {
			p.Key = k
		}
		return ok
	}, func(p Peer) []string { return []string{p.Key.String()} }),
	boolean("auto", func(p *Peer) *bool { return &p.Auto },
		func(p Peer) []string { return unless(!p.Auto, "1") }),
	choice("encryption", []string{EncryptionRequired, EncryptionOff}, func(p *Peer) *string { return &p.Encryption },
		func(p Peer) []string { return unless(p.Encryption == EncryptionRequired, p.Encryption) }),
	words("protocol", protocols, func(p *Peer) *[]string { return &p.Protocols },
		func(p Peer) []string { return p.Protocols }),
	{name: "access", list: true, read: readAccess, write: func(p Peer) []string {
		if len(p.Access) == 0 {
			return nil // an empty list is none at all: everything, as when it is read
		}
		return p.Access
	}},
}

const (
	wantPeerName = "want a word of a-z, 0-9 and hyphens other than all, such as: option name 'bobs-home'"
	wantKey      = `want 44 characters of base64 as printed by "htip key" on the other router`
)

func unless(is bool, v string) []string {
	if is {
		return nil
	}
	return []string{v}
}
