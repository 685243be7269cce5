package datapath

import (
	"strings"
	"testing"
	"unicode"
)

// Lines of xl2tpd 1.3.18 and pppd 2.4.9 as they were seen on a router.
const (
	logBegin = `xl2tpd[163]: Not looking for kernel SAref support.
xl2tpd[163]: Using l2tp kernel support.
xl2tpd[163]: xl2tpd version xl2tpd-1.3.18 started on b PID:163
xl2tpd[163]: Listening on IP address 0.0.0.0, port 17010
`
	logCall = `xl2tpd[163]: Connection established to 192.88.99.1, 58090.  Local: 47511, Remote: 5936 (ref=0/0).  LNS session is 'default'
xl2tpd[163]: start_pppd: I'm running: 
xl2tpd[163]: "/usr/sbin/pppd" 
xl2tpd[163]: "pppol2tp.so" 
xl2tpd[163]: "/var/run/htip/htip-alice/ppp.gate" 
xl2tpd[163]: Call established with 192.88.99.1, PID: 165, Local: 61852, Remote: 13607, Serial: 1
`
	logUp = `Renamed interface ppp0 to htip-alice
Using interface htip-alice
Connect: htip-alice <--> 
Overriding mtu 1500 to 1410
local  IP address 10.0.2.1
remote IP address 10.0.1.1
`
	logDead = `No response to 4 echo-requests
Serial link appears to be disconnected.
Connect time 0.4 minutes.
Sent 120 bytes, received 120 bytes.
Connection terminated.
Modem hangup
xl2tpd[163]: child_handler : pppd exited for call 13607 with code 15
xl2tpd[163]: call_close: Call 61852 to 192.88.99.1 disconnected
`
)

func TestReadLog(t *testing.T) {
	for name, c := range map[string]struct {
		log    string
		server bool
		phase  phase
		want   string // piece of the sentence
	}{
		"nothing":   {"", false, phaseNone, ""},
		"listening": {logBegin, true, phaseListening, "waiting"},
		"call":      {logBegin + logCall, true, phaseNegotiating, "PPP is being negotiated"},
		"up":        {logBegin + logCall + logUp, true, phaseUp, "up"},
		"silence":   {logBegin + logCall + logUp + logDead, true, phaseEnded, "fell silent"},
		"no answer": {logBegin + "xl2tpd[163]: Connecting to host 192.88.99.2, port 17010\nxl2tpd[163]: Maximum retries exceeded for tunnel 1.  Closing.\nxl2tpd[163]: Connection 0 closed to 192.88.99.2, port 17010 (Timeout)\n",
			false, phaseEnded, "does not answer"},
		"refused":           {logBegin + "xl2tpd[163]: control_finish: Connection closed to 192.88.99.2, port 17010 (Invalid challenge authentication), Local: 1, Remote: 2\n", false, phaseEnded, "refused our tunnel secret"},
		"stranger":          {logBegin + "xl2tpd[163]: control_finish: Invalid authentication for host 'x'\nxl2tpd[163]: Connection 7 closed to 203.0.113.9, port 1701 (Invalid challenge authentication)\n", true, phaseListening, "did not know the tunnel's secret"},
		"stranger while up": {logBegin + logCall + logUp + "xl2tpd[163]: Maximum retries exceeded for tunnel 9.  Closing.\n", true, phaseUp, "silent"},
		"no module":         {"xl2tpd[163]: L2TP kernel support not detected (try modprobing l2tp_ppp and pppol2tp)\n" + "xl2tpd[163]: Listening on IP address 0.0.0.0, port 17010\n", true, phaseListening, "waiting"},
		"port":              {"xl2tpd[163]: init_network: Unable to bind socket: Address already in use. Terminating.\n", true, phaseEnded, "already in use"},
		"taken name":        {logBegin + logCall + "Couldn't rename interface ppp1 to htip-alice: File exists\n", true, phaseEnded, "older tunnel"},
		"again":             {logBegin + logCall + logUp + logDead + logCall, true, phaseNegotiating, "PPP is being negotiated"},
		"peer ended":        {logBegin + logCall + logUp + "LCP terminated by peer\nModem hangup\nConnection terminated.\n", false, phaseEnded, "other gateway ended"},
		"we ended":          {logBegin + logCall + logUp + "Terminating on signal 15\nConnection terminated.\n", false, phaseEnded, "on this router"},
	} {
		t.Run(name, func(t *testing.T) {
			book := readLog(c.log, c.server)
			if book.phase != c.phase || !strings.Contains(book.sentence, c.want) || c.want == "" && book.sentence != "" {
				t.Errorf("got %+v", book)
			}
		})
	}
}

func TestPrintable(t *testing.T) {
	if got := printable(" host '\x1b[31mx\x00' \xff\n"); got != "host '[31mx'" {
		t.Errorf("%q", got)
	}
	if got := printable(strings.Repeat("ä", 200)); len(got) > 200 || strings.ContainsRune(got, '\ufffd') {
		t.Errorf("%q", got)
	}
}

func FuzzReadLog(f *testing.F) {
	f.Add(logBegin+logCall+logUp+logDead, true)
	f.Add("Invalid authentication for host '\x1b\n", false)
	f.Fuzz(func(t *testing.T, text string, server bool) {
		book := readLog(text, server)
		for _, r := range book.line {
			if unicode.IsControl(r) && r < 0x80 {
				t.Errorf("control character in %q", book.line)
			}
		}
	})
}
