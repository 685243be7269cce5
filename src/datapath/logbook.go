package datapath

import (
	"slices"
	"strings"
)

// phase is how far a tunnel has come, as far as its log tells.
type phase int

const (
	phaseNone        phase = iota // nothing of interest yet
	phaseListening                // xl2tpd is ready
	phaseControl                  // L2TP control connection is up
	phaseNegotiating              // the call is up, pppd has been started
	phaseUp                       // PPP carries IP
	phaseEnded                    // it is over; the sentence says why
)

// saying is what a piece of a log line means.
type saying struct {
	piece    string
	phase    phase // phaseNone: keeps the present phase
	sentence string
	// causal lines explain; the line after them that only says "ended" must not
	// cover them.
	causal bool
}

// strangers are the lines that anybody who can reach a server's UDP port may
// cause. They do not end the server's wait for its peer.
var strangers = []saying{
	{"Invalid authentication for host", phaseNone, "a caller did not know the tunnel's secret", true},
	{"Invalid challenge authentication", phaseNone, "", false},
	{"Maximum retries exceeded", phaseNone, "a caller fell silent before the tunnel was up", true},
	{"Connection closed to", phaseNone, "", false},
	{"recvfrom returned error", phaseNone, "", false},
	{"udp_xmit failed", phaseNone, "packets to the caller can't be sent (is the WAN down?)", true},
}

// sayings of xl2tpd 1.3 and pppd 2.4/2.5. The first piece that a line contains
// counts.
var sayings = []saying{
	{"Unable to bind socket", phaseEnded, "the UDP port of the tunnel is already in use on this router", true},
	{"L2TP kernel support not detected", phaseNone, "this kernel has no L2TP, the tunnel would run in user space", true},
	{"Unable to allocate PPPoL2TP socket", phaseEnded, "this kernel has no L2TP (module l2tp_ppp)", true},
	{"Unable to connect PPPoL2TP socket", phaseEnded, "the kernel refused the L2TP session", true},
	{"PPPoL2TP kernel driver not installed", phaseEnded, "this kernel has no L2TP (module l2tp_ppp)", true},
	{"Unable to load config file", phaseEnded, "xl2tpd refused its configuration", true},
	{"Unknown field", phaseEnded, "this xl2tpd is too old or too new: it does not know an option", true},
	{"parse_config", phaseEnded, "xl2tpd refused its configuration", true},
	{"Exec of ", phaseEnded, "pppd could not be started (is the package ppp installed?)", true},

	{"Invalid authentication for host", phaseEnded, "the other gateway does not know the tunnel's secret", true},
	{"Invalid challenge authentication", phaseEnded, "the other gateway refused our tunnel secret", true},
	{"No secret", phaseEnded, "xl2tpd found no tunnel secret", true},
	{"no secret found", phaseEnded, "xl2tpd found no tunnel secret", true},
	{"Maximum retries exceeded", phaseEnded, "the other gateway does not answer on its L2TP port (is a firewall in the way?)", true},
	{"recvfrom returned error 111", phaseNone, "the other gateway refuses packets on its L2TP port (nothing listens there)", true},
	{"udp_xmit failed", phaseNone, "packets to the other gateway can't be sent (is the WAN down?)", true},

	{"Could not open control connection", phaseEnded, "the other gateway does not answer on its PPTP port, TCP 1723 (is a firewall in the way?)", true},
	{"Couldn't load plugin pptp", phaseEnded, "pppd has no PPTP plugin (install ppp-mod-pptp)", true},
	{"MPPE required", phaseEnded, "the two gateways did not agree on PPTP's encryption", true},
	{"failed CHAP authentication", phaseEnded, "the other gateway does not know the tunnel's secret", true},
	{"CHAP authentication failed", phaseEnded, "the other gateway refused our tunnel secret", true},
	{"Couldn't load plugin", phaseEnded, "pppd has no L2TP plugin (install ppp-mod-pppol2tp)", true},
	{"unrecognized option", phaseEnded, "this pppd does not know an option that a tunnel needs", true},
	{"Couldn't rename interface", phaseEnded, "the link's name is still taken by an older tunnel", true},
	{"Couldn't create new ppp unit", phaseEnded, "this kernel has no PPP (install kmod-ppp)", true},
	{"This system lacks kernel support for PPP", phaseEnded, "this kernel has no PPP (install kmod-ppp)", true},
	{"LCP: timeout sending Config-Requests", phaseEnded, "the other gateway's PPP does not answer", true},
	{"IPCP: timeout sending Config-Requests", phaseEnded, "the other gateway's PPP did not agree on addresses", true},
	{"Could not determine remote IP address", phaseEnded, "the other gateway's PPP did not agree on addresses", true},
	{"Could not determine local IP address", phaseEnded, "the other gateway's PPP did not agree on addresses", true},
	{"not authorized to use remote address", phaseEnded, "the other gateway's PPP insisted on an address that was not agreed", true},
	{"Peer refused to agree to", phaseEnded, "the other gateway's PPP did not agree on addresses", true},
	{"echo-requests", phaseEnded, "the other gateway fell silent", true},
	{"LCP terminated by peer", phaseEnded, "the other gateway ended the tunnel", true},
	{"Terminating on signal", phaseEnded, "the tunnel was ended on this router", true},

	{"local  IP address", phaseUp, "the tunnel is up", false},
	{"remote IP address", phaseUp, "the tunnel is up", false},
	{"Call established with", phaseNegotiating, "L2TP is up, PPP is being negotiated", false},
	{"Connection established to", phaseControl, "the L2TP control connection is up", false},
	{"Listening on IP address", phaseListening, "waiting for L2TP", false},
	{"Connecting to host", phaseListening, "calling the other gateway", false},

	{"Connection terminated", phaseEnded, "the tunnel ended", false},
	{"Modem hangup", phaseEnded, "the tunnel ended", false},
	{"pppd exited for call", phaseEnded, "the tunnel ended", false},
	{"pppd terminated for call", phaseEnded, "pppd was killed", false},
	{"Connection closed to", phaseEnded, "the other gateway ended the tunnel", false},
}

// logbook is what a log says about its tunnel.
type logbook struct {
	phase    phase
	sentence string // in plain words
	line     string // the line it comes from
}

// readLog goes through the log of xl2tpd and pppd from its first line.
func readLog(text string, server bool) logbook {
	var book logbook
	causal := false
	all := sayings
	if server {
		all = slices.Concat(strangers, sayings)
	}
	for len(text) > 0 {
		var line string
		line, text, _ = strings.Cut(text, "\n")
		for _, s := range all {
			if !strings.Contains(line, s.piece) {
				continue
			}
			covered := s.sentence == "" || causal && !s.causal && (s.phase == phaseEnded || s.phase == phaseNone)
			if s.phase != phaseNone {
				book.phase = s.phase
			}
			if !covered {
				book.sentence, book.line, causal = s.sentence, printable(line), s.causal
			}
			break
		}
	}
	return book
}

// printable keeps a line of log, parts of which the peer wrote, harmless and
// short.
func printable(line string) string {
	line = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return -1
		}
		return r
	}, line)
	line = strings.TrimSpace(line)
	if len(line) > 200 {
		line = strings.ToValidUTF8(line[:200], "")
	}
	return line
}
