package config

import (
	"slices"
	"strings"
	"testing"
)

func TestAccess(t *testing.T) {
	for _, bad := range []string{"", "nas:", "nas:sctp", "nas:tcp:", "nas:tcp:0", "nas:tcp:65536", "nas:tcp:20-10", "nas:icmp:8", "nas:tcp:1:2", "0.0.0.0", "127.0.0.1", "239.0.0.1",
		"::1", "10.0.0.0/24", "na_s", "n s", "12", "router", "router:tcp", "nas:tcp:+80", "nas:tcp:80-", "all:tcp:80", "nas\n:tcp", "*"} {
		if a, ok := ParseAccess(bad); ok {
			t.Errorf("%q was taken as %v", bad, a)
		}
	}
	for in, want := range map[string]string{"NAS": "nas", "nas:TCP:445": "nas:tcp:445", "192.168.1.20:udp:5000-5010": "192.168.1.20:udp:5000-5010",
		"nas:tcp:80-80": "nas:tcp:80", "nas:icmp": "nas:icmp", "router:tcp:22": "router:tcp:22", "nas:udp": "nas:udp"} {
		a, ok := ParseAccess(in)
		if !ok || a.String() != want {
			t.Errorf("%q: %v %q", in, ok, a)
		}
		if b, ok := ParseAccess(a.String()); !ok || b != a {
			t.Errorf("%q does not read back: %+v", a, b)
		}
	}
}

// What is wrong with a list takes the whole peer out: nobody gets more than was
// meant.
func TestAccessList(t *testing.T) {
	read := func(lines string) (Config, Problems) {
		return decodeText(t, "config htip main\nconfig peer 'bob'\noption key '"+bobKey+"'\n"+lines)
	}
	for text, want := range map[string][]string{
		"":                                       nil,
		"list access 'ALL'\n":                    {"all"},
		"option access 'none'\n":                 {"none"},
		"list access 'NAS'\nlist access 'nas'\n": {"nas"},
		"list access 'nas:tcp:445'\nlist access 'tv'\n": {"nas:tcp:445", "tv"},
	} {
		c, ps := read(text)
		if len(ps) > 0 || len(c.Peers) != 1 || !slices.Equal(c.Peers[0].Access, want) {
			t.Errorf("%q: %+v %s", text, c.Peers, lines(ps))
		}
	}
	for _, text := range []string{"list access 'all'\nlist access 'nas'\n", "list access 'nas:tcp:x'\n", "list access 'nas'\nlist access 'none'\n"} {
		c, ps := read(text)
		if len(c.Peers) != 0 || len(ps) == 0 || !strings.Contains(lines(ps), "want ") {
			t.Errorf("%q: %+v %s", text, c.Peers, lines(ps))
		}
	}
}

// A peer that is written with an empty list may reach what it may without one:
// so is that of an invite that came back from a file.
func TestEmptyAccessIsWritten(t *testing.T) {
	for _, list := range [][]string{nil, {}} {
		p := NewPeer("bob")
		p.Key, _ = parseKey(bobKey)
		p.Access = list
		out, err := setPeer([]byte("config htip main\n"), p)
		if err != nil || strings.Contains(string(out), "access") {
			t.Errorf("%v: %v\n%s", list, err, out)
		}
	}
}
