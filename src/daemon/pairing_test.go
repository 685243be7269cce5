package daemon

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"htip/src/control"
	"htip/src/htip"
	"htip/src/ubus"
)

func TestPick(t *testing.T) {
	key := func(i int) []byte { return bytes.Repeat([]byte{byte(i), byte(i >> 8)}, 16) }
	// Two whose fingerprints begin alike.
	begin := map[string]int{}
	var one, two []byte
	for i := 0; two == nil; i++ {
		f := control.Fingerprint(key(i))[:4]
		if j, ok := begin[f]; ok {
			one, two = key(j), key(i)
		}
		begin[f] = i
	}
	pending := []htip.Pending{{Number: 7, Key: one}, {Number: 12, Key: two}}
	other := []byte("0123456789abcdef0123456789abcdef")
	fp := control.Fingerprint
	for _, c := range []struct {
		what string
		want []byte
		err  string
	}{
		{"", nil, "at least 4"},
		{"8", nil, "no request 8"},
		{"-7", nil, "no request -7"},
		{"bob", nil, "at least 4"},
		{"----", nil, "at least 4"},
		{"AAAA-BBBB", nil, "no home with the fingerprint"},
		{fp(one)[:4], nil, "2 homes"},
		{"7", one, ""},
		{" 12 ", two, ""},
		{fp(one), one, ""},
		{strings.ToLower(fp(two)[:14]), two, ""},
		{strings.ReplaceAll(fp(other), "-", "")[:5], other, ""},
		{control.EncodeKey(other), other, ""},
		{control.EncodeKey(two), two, ""},
	} {
		got, err := pick(c.what, pending, [][]byte{other, one})
		if !bytes.Equal(got, c.want) || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %x, %v", c.what, got, err)
		}
	}
}

// TestStrangersFile: what is written is read back; a damaged line is left out,
// and said.
func TestStrangersFile(t *testing.T) {
	a, b := htip.Secret{1}, htip.Secret{2}
	invites := htip.Invites{
		{Number: 1, ID: a.ID(), Key: a.Key(), Expires: 1800000000, Name: "bob", Access: []string{"nas:tcp:445"}},
		{Number: 3, ID: b.ID(), Key: b.Key(), Expires: 1800000001, State: htip.InviteClaimed, By: bytes.Repeat([]byte{5}, 32)},
	}
	rejected := [][]byte{bytes.Repeat([]byte{6}, 32)}
	file := filepath.Join(t.TempDir(), "strangers.json")
	if err := writeTable(file, encodeStrangers(invites, rejected)); err != nil {
		t.Fatal(err)
	}
	read := func() (htip.Invites, [][]byte, error) {
		table, err := readTable(file)
		if err != nil {
			t.Fatal(err)
		}
		return decodeStrangers(table)
	}
	got, keys, err := read()
	if err != nil || fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", invites) || fmt.Sprint(keys) != fmt.Sprint(rejected) || got[0].Key != a.Key() || got[1].ID != b.ID() {
		t.Errorf("%+v %v %v", got, keys, err)
	}
	good, _ := os.ReadFile(file)
	for _, change := range [][2]string{{"open", "ajar"}, {`["1 `, `["x `}, {`["1 `, `["1 A`}, {"1800000000", "never"}, {"nas:tcp:445", "nas:tcp:99999"}, {"nas:tcp:445", "all nas"}, {" - bob nas:tcp:445", ""}, {" - bob", " AAAA bob"}} {
		os.WriteFile(file, bytes.Replace(good, []byte(change[0]), []byte(change[1]), 1), 0o600)
		if got, keys, err := read(); err == nil || len(got) != 1 || got[0].Number != 3 || len(keys) != 1 {
			t.Errorf("%q: %+v, %v", change[1], got, err)
		}
	}
	os.WriteFile(file, bytes.Replace(good, []byte("BgYG"), []byte("!"), 1), 0o600)
	if got, keys, err := read(); err == nil || len(got) != 2 || len(keys) != 0 {
		t.Errorf("%+v %v %v", got, keys, err)
	}
}

// TestAccessOfANewPeer: what is no list of words opens nothing, and an empty list
// is one; only where nothing is said everything is open.
func TestAccessOfANewPeer(t *testing.T) {
	for _, x := range []struct {
		args ubus.Table
		want string // access, or the error
	}{
		{ubus.T("access", ubus.Array{"nas", int32(445)}), "a list of words"},
		{ubus.T("access", ubus.Array{int32(445)}), "a list of words"},
		{ubus.T("access", "nas"), "a list of words"},
		{ubus.T("access", nil), "a list of words"},
		{ubus.T("access", ubus.Array{"nas:tcp:x"}), "nas:tcp:x"},
		{ubus.T("access", ubus.Array{}), "[none]"},
		{ubus.T("access", ubus.Array{"nas", "tv"}), "[nas tv]"},
		{nil, "[]"},
	} {
		p, err := newPeer(&ubus.Request{Args: x.args})
		if got := fmt.Sprint(p.Access, err); !strings.Contains(got, x.want) || (err == nil) != (x.want[0] == '[') {
			t.Errorf("%v: %s, want %s", x.args, got, x.want)
		}
		d := readyForUsers(t)
		if out, err := d.busInvite(&ubus.Request{Args: x.args}); err != nil || strings.Contains(fmt.Sprint(out), x.want) != (x.want[0] != '[') || len(d.invites) > 0 && !strings.Contains(fmt.Sprint(d.invites[0].Access), x.want) {
			t.Errorf("%v: %v, %v, %v", x.args, out, err, d.invites)
		}
	}
}
