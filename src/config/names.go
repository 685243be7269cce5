package config

import "strings"

// lower makes ASCII letters small and leaves everything else, unlike
// strings.ToLower, which turns a Kelvin sign into a k.
func lower(s string) string {
	return strings.Map(func(r rune) rune {
		if 'A' <= r && r <= 'Z' {
			return r + 'a' - 'A'
		}
		return r
	}, s)
}

// hostLabel tells whether s, in lower case, is one label of a host name: RFC 1035,
// 2.3.1, with the digits in front of RFC 1123, 2.1.
func hostLabel(s string) bool {
	if s == "" || len(s) > 63 || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-') {
			return false
		}
	}
	return true
}

// hostName brings a host name into its one form: lower case, no dot at the end. It
// is false for what is no host name, an IPv4 address included (RFC 1123, 2.1: the
// last label is never all digits).
func hostName(s string) (string, bool) {
	s = strings.TrimSuffix(lower(s), ".")
	if len(s) > 253 {
		return "", false
	}
	last := ""
	for l := range strings.SplitSeq(s, ".") {
		if !hostLabel(l) {
			return "", false
		}
		last = l
	}
	return s, strings.Trim(last, "0123456789") != ""
}

// publicName is hostName for a home's name in the public DNS. One label alone is
// refused: the names of a home are asked from its gateway, so a peer whose name is
// "com" would take over everything that ends in it.
func publicName(s string) (string, bool) {
	s, ok := hostName(s)
	return s, ok && strings.Contains(s, ".")
}

// within tells whether name is domain or a name below it.
func within(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

// deviceName tells whether the kernel takes s as the name of a network device
// (at most 15 bytes, no slash, colon, white space or invisible byte).
func deviceName(s string) bool {
	if s == "" || len(s) > 15 || s == "." || s == ".." {
		return false
	}
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c >= 127 || c == '/' || c == ':' || c == '%' {
			return false
		}
	}
	return true
}

// InterfaceName tells whether s can be the name of one of netifd's interfaces: a
// section of /etc/config/network, or what a protocol makes beside it.
func InterfaceName(s string) bool { return len(s) <= 64 && validName(s) }
