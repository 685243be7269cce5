package datapath

import (
	"encoding/hex"
	"fmt"
	"path/filepath"
)

// Files of a PPTP tunnel's directory beside those of l2tpconf.go.
const (
	filePPTPD = "pptpd.conf"
	dirEtc    = "etc" // seen as /etc/ppp by the tunnel's pppd
	dirRun    = "run" // seen as /var/run/pptp by the tunnel's programs
)

const (
	pptpPort = 1723 // TCP, the one that RFC 2637 knows
	pptpUser = "htip"
)

// pptpWays is what differs between the pppds that there are.
type pptpWays struct {
	pppd   string // path
	call   string // path of the program pptp; "" where the plugin calls
	stock  bool   // pppd as its authors have it; OpenWrt's spells the options of MPPE otherwise
	served bool   // pptpd is there
}

// pptpFiles renders the files of a tunnel, as l2tpFiles does.
func pptpFiles(t Tunnel, dir string, w pptpWays) map[string]string {
	options := pppOptions(t, dir)
	if w.stock {
		options += "require-mppe-128\n"
	} else {
		options += "mppe required,no40,no56,stateless\n"
	}
	if t.Server {
		return map[string]string{
			fileOptions: options,
			filePPTPD:   fmt.Sprintf("option %s/%s\nppp %s\ndelegate\nnoipparam\n", dir, fileOptions, w.pppd),
			// Who may be called by what name, with which secret, at which address.
			filepath.Join(dirEtc, "chap-secrets"): fmt.Sprintf("%s * %s *\n", pptpUser, hex.EncodeToString(t.Secret)),
		}
	}
	if w.call != "" {
		options += fmt.Sprintf("pty \"exec %s %s --nolaunchpppd --nohostroute\"\n", w.call, t.Remote.Addr())
	} else {
		options += fmt.Sprintf("plugin pptp.so\npptp_server %s\n", t.Remote.Addr())
	}
	return map[string]string{fileOptions: options}
}

// pptpAuth are the options by which the client proves that it knows the
// tunnel's secret, and the server to it (MS-CHAPv2, RFC 2759). Without it there
// are no keys for MPPE, and no link. Nobody is told anything by another way.
func pptpAuth(t Tunnel) []string {
	refuse := []string{"refuse-pap", "refuse-chap", "refuse-mschap", "refuse-eap"}
	if t.Server {
		return append(refuse, "refuse-mschap-v2", "require-mschap-v2", "name "+pptpUser)
	}
	return append(refuse, "noauth", "user "+pptpUser, "password "+hex.EncodeToString(t.Secret))
}

// pptpServer tells whether the tunnel is the one that port 1723 is for.
func (t Tunnel) pptpServer() bool { return t.Protocol == ProtocolPPTP && t.Server }

// pptpKnock lets nobody but the peer's address call. It stands in INPUT, because
// hosts of the LAN may call PPTP servers on the Internet.
//
// There is no such rule for GRE. A packet of a call gets to the call only if it
// comes from the peer's address: the programs' sockets are connected to it, and
// the kernel looks calls up by it. Other GRE is the router's own business.
func pptpKnock(tunnels []Tunnel) chain {
	c := chain{table: "mangle", hook: "INPUT", what: "PPTP-", match: fmt.Sprintf("-p tcp -m tcp --dport %d", pptpPort)}
	for _, t := range tunnels {
		if t.pptpServer() {
			c.rules = append(c.rules, fmt.Sprintf("! -s %s/32 %s -j DROP", t.Remote.Addr(), c.match))
		}
	}
	return c
}
