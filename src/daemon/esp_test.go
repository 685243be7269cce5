package daemon

import (
	"net/netip"
	"testing"

	"htip/src/datapath"
	"htip/src/htip"
)

// TestESPFeatures: what the kernel has is what the other home is told, and the
// two packages mean the same by a cipher's name.
func TestESPFeatures(t *testing.T) {
	for _, c := range []struct {
		cap  datapath.Capability
		want htip.Features
	}{
		{datapath.Capability{Protocol: datapath.ProtocolWireGuard}, 0},
		{datapath.Capability{Ciphers: []string{datapath.CipherAES}}, htip.FeatureAES},
		{datapath.Capability{Ciphers: []string{datapath.CipherChaCha}}, htip.FeatureChaCha},
		{datapath.Capability{Ciphers: []string{datapath.CipherAES, datapath.CipherChaCha}, FastAES: true}, htip.FeatureAES | htip.FeatureChaCha | htip.FeatureFastAES},
	} {
		d := &Daemon{caps: []datapath.Capability{{Protocol: datapath.ProtocolL2TP}, c.cap}}
		if got := d.esp(); got != c.want {
			t.Errorf("%+v: %b, not %b", c.cap, got, c.want)
		}
	}
	for cipher, name := range map[htip.Cipher]string{htip.AES: datapath.CipherAES, htip.ChaCha: datapath.CipherChaCha} {
		if cipher.String() != name {
			t.Errorf("%v is %s in the data path", cipher, name)
		}
	}
	if p := htip.L2TPESP.String(); p != datapath.ProtocolL2TPESP {
		t.Error(p)
	}
}

// TestESPPath: the data path is told both ends' addresses, the cipher, and
// whether the keys have been used by a former process.
func TestESPPath(t *testing.T) {
	x := inESP()
	p := x.path()
	if p.Local != x.Local || p.Cipher != datapath.CipherChaCha || !p.Old || p.Remote != netip.AddrPortFrom(x.Remote, 0) {
		t.Errorf("%+v", p)
	}
	if p := sample()["bob"].path(); p.Cipher != "" {
		t.Errorf("%+v", p)
	}
}
