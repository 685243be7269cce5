package datapath

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// Files of a tunnel's directory.
const (
	fileConfig  = "xl2tpd.conf"
	fileSecrets = "secrets"
	fileOptions = "ppp.options" // what pppd is told
	fileCall    = "ppp.call"    // what a server's pppd reads first: the gate, then its options
	fileGate    = "ppp.gate"    // the named pipe at which it waits, see gate.go
	fileControl = "control"
	fileAnswer  = "answer"
	filePid     = "pid"
	fileLog     = "log"
)

// xl2tpd keeps file names in 100 bytes and cuts silently.
const maxPath = 99

// l2tpFiles renders the files of a tunnel that has passed check; dir is the
// tunnel's directory. They are a pure function of the tunnel: an xl2tpd that
// runs with equal files is the one that is wanted. A tunnel that only listens
// has no options for pppd yet.
func l2tpFiles(t Tunnel, dir string) map[string]string {
	files := map[string]string{
		fileConfig:  xl2tpdConfig(t, dir),
		fileSecrets: "* * " + hex.EncodeToString(t.Secret) + "\n",
	}
	if t.Server {
		files[fileCall] = fmt.Sprintf("file %s/%s\nfile %s/%s\n", dir, fileGate, dir, fileOptions)
	}
	if !t.listening() {
		files[fileOptions] = pppOptions(t, dir)
	}
	return files
}

// xl2tpdConfig is the configuration of a tunnel's own xl2tpd.
//
// "max retries" counts transmissions one and two and four … seconds apart: 4
// survive 15 s without an answer, so that a short cut does not end a tunnel
// only because it fell on a HELLO. Death is noticed earlier, by PPP.
//
// There is no "redial": a tunnel that ends stays ended until the caller starts
// it afresh, the control talk included.
//
// The random source must be named: tunnel IDs are unique in the whole kernel
// and the other source is seeded with the second in which xl2tpd starts.
//
// "ipsec saref" stays away: setting it to anything means user space.
func xl2tpdConfig(t Tunnel, dir string) string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("[global]")
	line("port = %d", t.LocalPort)
	line("access control = no")
	line("rand source = dev")
	line("max retries = 4")
	if t.Server {
		line("[lns default]")
		line("assign ip = no")
		line("pppoptfile = %s/%s", dir, fileCall)
	} else {
		line("[lac htip]")
		line("lns = %s:%d", t.Remote.Addr(), t.Remote.Port())
		line("autodial = yes")
		line("pppoptfile = %s/%s", dir, fileOptions)
	}
	line("hostname = htip")
	line("challenge = yes")
	line("require authentication = no")
	line("length bit = yes")
	line("tx bps = 1000000000")
	line("rx bps = 1000000000")
	return b.String()
}

// pppOptions are the options of pppd.
//
// The addresses were agreed on in the control talk, therefore neither end may
// change them now: no ipcp-accept-…, a peer could have us route any address to
// it. The initiator is silent and waits: its pppd starts first, and the
// responder's first packet finds it ready (gate.go).
//
// Echoes every 2 s while nothing else arrives, four of them lost: a dead peer
// is noticed after 8 to 12 s, a shorter cut is not.
func pppOptions(t Tunnel, dir string) string {
	mtu, auth, compression := t.mtu(), []string{"noauth"}, []string{"noccp"}
	if t.Protocol == ProtocolPPTP {
		mtu, auth, compression = mtu+mppePad, pptpAuth(t), []string{"nobsdcomp", "nodeflate", "nopredictor1"}
	}
	lines := slices.Concat([]string{
		"ifname " + t.Device,
		fmt.Sprintf("%s:%s", t.LocalAddr, t.PeerAddr),
		fmt.Sprintf("mtu %d", mtu),
		fmt.Sprintf("mru %d", mtu),
	}, auth, []string{
		"nodefaultroute",
		"noipv6",
	}, compression, []string{
		"novj",
		"nopcomp",
		"noaccomp",
		"nodetach",
		"nopersist",
		"lcp-restart 1",
		"ipcp-restart 1",
		"lcp-max-terminate 1",
		"lcp-echo-interval 2",
		"lcp-echo-failure 4",
		"lcp-echo-adaptive",
		"logfd 2",
		// The system's scripts are for dial-up lines. These do not exist.
		"ip-up-script " + dir + "/no-script",
		"ip-down-script " + dir + "/no-script",
	})
	if !t.Server {
		lines = append(lines, "silent")
	}
	return strings.Join(lines, "\n") + "\n"
}
