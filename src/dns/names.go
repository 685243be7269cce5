package dns

import (
	"net/netip"
	"strconv"
	"strings"
)

// pseudo is the zone in which two proxies speak of each other's hosts.
const pseudo = "htip."

const reverseZone = "in-addr.arpa."

// maxName is the longest name in presentation form, final dot included
// (RFC 1035 §3.1: 255 octets on the wire).
const maxName = 254

// canonical is a name in lower case with its final dot.
func canonical(name string) string {
	if !strings.HasSuffix(name, ".") {
		name += "."
	}
	return strings.ToLower(name)
}

// hostname tells whether s, a dotted name without final dot, is made only of
// letters, digits, '-' and '_' in labels of 1 to 63. Everything that we learn
// from a file or from a peer and hand on must be one: no escapes, no control
// characters, no dots within a label.
func hostname(s string) bool {
	if s == "" || len(s) >= maxName {
		return false
	}
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 {
			return false
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			switch {
			case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
			default:
				return false
			}
		}
	}
	return true
}

// domainname is hostname for a name with or without its final dot.
func domainname(s string) bool { return hostname(strings.TrimSuffix(s, ".")) }

// below cuts zone off name: "a.b" for a.b.lan. in lan., and "" for lan. itself.
// Both are canonical. ok is false when name lies elsewhere.
func below(name, zone string) (host string, ok bool) {
	if name == zone {
		return "", true
	}
	if zone == "." {
		return strings.TrimSuffix(name, "."), true
	}
	host, ok = strings.CutSuffix(name, "."+zone)
	return host, ok && host != ""
}

// within tells whether name is zone or lies below it.
func within(name, zone string) bool {
	_, ok := below(name, zone)
	return ok
}

// join is host below zone; "" when the whole would be too long for a name.
func join(host, zone string) string {
	name := host + "." + zone
	if host == "" {
		name = zone
	}
	if len(name) > maxName {
		return ""
	}
	return name
}

// reverseName is the PTR name of an IPv4 address (RFC 1035 §3.5).
func reverseName(a netip.Addr) string {
	b := a.As4()
	var s []byte
	for i := 3; i >= 0; i-- {
		s = strconv.AppendUint(s, uint64(b[i]), 10)
		s = append(s, '.')
	}
	return string(append(s, reverseZone...))
}

// reverseAddr reads a canonical name of in-addr.arpa. back. octets counts the
// octets that the name has; only with 4 is a an address. ok is false for
// anything that reverseName would not write, such as a leading zero.
func reverseAddr(name string) (a netip.Addr, octets int, ok bool) {
	host, ok := below(name, reverseZone)
	if !ok {
		return a, 0, false
	}
	if host == "" {
		return a, 0, true
	}
	labels := strings.Split(host, ".")
	if len(labels) > 4 {
		return a, 0, false
	}
	var b [4]byte
	for i, l := range labels {
		n, err := strconv.ParseUint(l, 10, 8)
		if err != nil || strconv.FormatUint(n, 10) != l {
			return a, 0, false
		}
		b[len(labels)-1-i] = byte(n)
	}
	if len(labels) == 4 {
		a = netip.AddrFrom4(b)
	}
	return a, len(labels), true
}
