package datapath

import (
	"fmt"
	"strings"
	"testing"
)

func TestL2TPFiles(t *testing.T) {
	for name, tun := range map[string]Tunnel{"lac": homeA(), "lns": homeB()} {
		files := l2tpFiles(tun, "/var/run/htip/"+tun.Device)
		var b strings.Builder
		for _, f := range sortedKeys(files) {
			fmt.Fprintf(&b, "==> %s\n%s", f, files[f])
		}
		golden(t, "l2tp-"+name+".txt", b.String())
	}
}

// Whatever check lets pass can't break out of its line.
func TestFilesHaveNoForeignLines(t *testing.T) {
	tun := homeB()
	tun.Name = "bob\n[global]\nauth file = /etc/shadow"
	tun.Secret = []byte("line\nbreak ; \" ' # and more")
	if err := tun.check(); err != nil {
		t.Fatal(err)
	}
	plain := l2tpFiles(homeB(), "/x")
	for name, text := range l2tpFiles(tun, "/x") {
		if strings.Count(text, "\n") != strings.Count(plain[name], "\n") || strings.Contains(text, "shadow") {
			t.Errorf("%s:\n%s", name, text)
		}
		if name == fileSecrets && len(text) > 99 {
			t.Errorf("line of %d characters, xl2tpd reads 99", len(text))
		}
		if name != fileSecrets && strings.Contains(text, "6c696e65") {
			t.Errorf("the secret stands in %s", name)
		}
	}
}

func TestBoundPort(t *testing.T) {
	const udp = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  131: 0100007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 2084 2 81e4a000 0
  240: 00000000:4272 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 2101 2 81e4a400 0
`
	if !boundPort(udp, 17010) || !boundPort(udp, 53) || boundPort(udp, 17011) || boundPort("", 53) {
		t.Error("wrong")
	}
	if !boundPort("  1: 00000000000000000000000000000000:4272 00000000000000000000000000000000:0000 07", 17010) {
		t.Error("udp6")
	}
}

func TestInKernel(t *testing.T) {
	const sessions = `PPPoL2TP driver info, V2.0
TUNNEL name, user-data-ok session-count
 debug tx-pkts/bytes/errs rx-pkts/bytes/errs
  SESSION name, addr/port src-tid/sid dest-tid/sid state user-data-ok
   mtu/mru/rcvseq/sendseq/lns debug reorderto
   nr/ns tx-pkts/bytes/errs rx-pkts/bytes/errs
TUNNEL 43690, Y 2
 00000000 0/0/0 3/162/0
  SESSION 'sess 43690/12' C0586302/17010 AAAA/000C -> 1234/5678 1 Y
   -/-/-/-/LNS 00000000 0
   0/0 3/54/0 3/54/0
   interface htip-bob
`
	if !inKernel(sessions, "htip-bob") || inKernel(sessions, "htip-bo") || inKernel("", "htip-bob") {
		t.Error("wrong")
	}
}
