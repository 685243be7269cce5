package htip

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func sample() Invite {
	return Invite{Domain: "alice.example.org", Port: 4847, Key: bytes.Repeat([]byte{7}, KeySize), Secret: Secret{1, 2, 3}, Expires: 1800000000}
}

// golden is what docs/protocol.md shows.
func TestGoldenInvite(t *testing.T) {
	s, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	p := sample().Secret.Prove(bytes.Repeat([]byte{9}, ExporterSize), bytes.Repeat([]byte{8}, KeySize))
	k := sample().Secret.Key()
	doc, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{s, fmt.Sprintf("%x", k[:]), fmt.Sprintf("%x", p.ID[:]), fmt.Sprintf("%x", p.MAC[:])} {
		if !strings.Contains(string(doc), line) {
			t.Errorf("docs/protocol.md does not show %s", line)
		}
	}
}

func TestInviteRefused(t *testing.T) {
	good, err := sample().Encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, text string
		want       error
	}{
		{"empty", "", ErrNoInvite},
		{"another scheme", "http:" + good[5:], ErrNoInvite},
		{"no prefix", good[5:], ErrNoInvite},
		{"endless", "htip:" + strings.Repeat("a", 5000), ErrNoInvite},
		{"nothing behind it", "htip:", ErrDamagedInvite},
		{"cut", good[:len(good)-1], ErrDamagedInvite},
		{"half", good[:len(good)/2], ErrDamagedInvite},
		{"more", good + "aa", ErrDamagedInvite},
		{"a letter changed", good[:40] + "7" + good[41:], ErrDamagedInvite},
		{"no base32", good[:40] + "!" + good[41:], ErrDamagedInvite},
		{"twice", good + good, ErrDamagedInvite},
	} {
		if v, err := ParseInvite(c.text); !errors.Is(err, c.want) || v.Domain != "" {
			t.Errorf("%s: %+v, %v", c.name, v, err)
		}
	}
	for name, change := range map[string]func(*Invite){
		"no domain":      func(v *Invite) { v.Domain = "" },
		"no domain name": func(v *Invite) { v.Domain = "a b" },
		"a longer one":   func(v *Invite) { v.Domain = strings.Repeat("a.", 127) },
		"no port":        func(v *Invite) { v.Port = 0 },
		"no key":         func(v *Invite) { v.Key = nil },
		"a short key":    func(v *Invite) { v.Key = v.Key[1:] },
		"before 1970":    func(v *Invite) { v.Expires = -1 },
		"in 2106":        func(v *Invite) { v.Expires = 1 << 32 },
	} {
		v := sample()
		change(&v)
		if s, err := v.Encode(); err == nil {
			t.Errorf("%s: %s", name, s)
		}
	}
	// Whole, but of a later version.
	b, _ := inviteCode.DecodeString(strings.ToUpper(good[5:]))
	b[0] = 2
	if _, err := ParseInvite(seal(b[:len(b)-inviteSum])); !errors.Is(err, ErrNewInvite) {
		t.Error(err)
	}
	b[0] = 1
	b[1], b[2] = 0, 0
	if _, err := ParseInvite(seal(b[:len(b)-inviteSum])); !errors.Is(err, ErrDamagedInvite) {
		t.Error(err)
	}
}

// TestInviteSurvives: what mail programs, messengers and people do to it.
func TestInviteSurvives(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		v := sample()
		v.Domain = rapid.StringMatching(`[a-z0-9]{1,20}(\.[a-z0-9]{1,20}){1,4}`).Draw(t, "domain")
		v.Port = rapid.Uint16Range(1, 65535).Draw(t, "port")
		v.Expires = int64(rapid.Uint32().Draw(t, "expires"))
		copy(v.Secret[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "secret"))
		s, err := v.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if strings.Trim(s[5:], "abcdefghijklmnopqrstuvwxyz234567") != "" {
			t.Fatal(s)
		}
		if rapid.Bool().Draw(t, "upper") {
			s = strings.ToUpper(s)
		}
		for _, x := range rapid.SliceOf(rapid.SampledFrom([]string{" ", "\n", "\r\n> ", "\t", "\u00a0", "\u00ad", "\u200b", "\ufeff", `"`, "<", ">"})).Draw(t, "between") {
			i := rapid.IntRange(0, len(s)).Draw(t, "at")
			for i < len(s) && s[i]&0xc0 == 0x80 {
				i++
			}
			s = s[:i] + x + s[i:]
		}
		got, err := ParseInvite(s)
		if err != nil || got.Domain != v.Domain || got.Port != v.Port || got.Expires != v.Expires || got.Secret != v.Secret || !bytes.Equal(got.Key, v.Key) {
			t.Fatalf("%q: %+v, %v", s, got, err)
		}
		// One changed letter is always noticed.
		plain, _ := v.Encode()
		i := rapid.IntRange(5, len(plain)-1).Draw(t, "changed")
		c := rapid.SampledFrom([]byte("abcdefghijklmnopqrstuvwxyz234567")).Draw(t, "to")
		bad := plain[:i] + string(c) + plain[i+1:]
		if got, err := ParseInvite(bad); err == nil && (got.Secret != v.Secret || !bytes.Equal(got.Key, v.Key) || got.Domain != v.Domain || got.Port != v.Port || got.Expires != v.Expires) {
			t.Fatalf("%q is taken for an invite: %+v", bad, got)
		}
	})
}

func FuzzInvite(f *testing.F) {
	s, _ := sample().Encode()
	f.Add(s)
	f.Add(strings.ToUpper(s[:50]) + "\n> " + s[50:])
	f.Add("htip:aeaa")
	f.Fuzz(func(t *testing.T, s string) {
		v, err := ParseInvite(s)
		if err != nil {
			return
		}
		again, err := v.Encode()
		if err != nil {
			t.Fatalf("%q is read as %+v, which can't be written: %v", s, v, err)
		}
		if w, err := ParseInvite(again); err != nil || fmt.Sprint(w) != fmt.Sprint(v) {
			t.Fatal(w, err)
		}
	})
}

func TestSecretsAreNotPrinted(t *testing.T) {
	v := sample()
	if s := fmt.Sprintf("%v %+v %s %v", v, v, v.Secret, v.Secret.Key()); strings.Contains(s, "1 2 3") || strings.Contains(s, "1, 2, 3") {
		t.Error(s)
	}
}

// TestProof: good for this connection, this sender, this secret.
func TestProof(t *testing.T) {
	a, b := Secret{1}, Secret{2}
	x, y, key, other := []byte("exporter 1"), []byte("exporter 2"), []byte("key 1"), []byte("key 2")
	p := a.Prove(x, key)
	if p != a.Prove(x, key) || a.ID() == b.ID() {
		t.Error("not the same twice, or the same for two")
	}
	for name, q := range map[string]Proof{"secret": b.Prove(x, key), "connection": a.Prove(y, key), "sender": a.Prove(x, other)} {
		if q.MAC == p.MAC {
			t.Error("the proof does not depend on the", name)
		}
	}
	k, id := a.Key(), a.ID()
	if bytes.Contains(k[:], a[:]) || bytes.Contains(id[:], a[:8]) || bytes.Equal(id[:], k[:8]) {
		t.Error("the secret is given away")
	}
}

var noon = time.Unix(1800000000, 0)

func issued(s Secret) Issued {
	return Issued{ID: s.ID(), Key: s.Key(), Expires: noon.Unix() + 3600}
}

// TestJudge: what becomes of an invite that is shown.
func TestJudge(t *testing.T) {
	s, x, key, other := Secret{1}, []byte("exporter"), []byte("key 1"), []byte("key 2")
	proof := s.Prove(x, key)
	for _, c := range []struct {
		name   string
		change func(*Issued)
		proof  Proof
		now    time.Time
		want   Reason
	}{
		{"never issued", nil, Secret{2}.Prove(x, key), noon, ReasonInvite},
		{"right ID, wrong secret", nil, Proof{proof.ID, Secret{2}.Prove(x, key).MAC}, noon, ReasonInvite},
		{"replayed on another connection", nil, s.Prove([]byte("other"), key), noon, ReasonInvite},
		{"replayed by another home", nil, s.Prove(x, other), noon, ReasonInvite},
		{"wrong secret, expired: nothing is told", func(i *Issued) { i.Expires = 1 }, Proof{proof.ID, [32]byte{}}, noon, ReasonInvite},
		{"expired", func(i *Issued) { i.Expires = noon.Unix() }, proof, noon, ReasonInviteExpired},
		{"cancelled", func(i *Issued) { i.State = InviteCancelled }, proof, noon, ReasonInviteUsed},
		{"claimed by another", func(i *Issued) { i.Claim(other) }, proof, noon, ReasonInviteUsed},
		{"used by another", func(i *Issued) { i.State, i.By = InviteUsed, other }, proof, noon, ReasonInviteUsed},
		{"used by itself", func(i *Issued) { i.State, i.By = InviteUsed, key }, proof, noon, ReasonInviteUsed},
		{"no clock", nil, proof, time.Unix(86400, 0), ReasonBusy},
		{"good", nil, proof, noon, 0},
		{"in its last second", nil, proof, noon.Add(3599 * time.Second), 0},
		{"claimed by itself", func(i *Issued) { i.Claim(key) }, proof, noon, 0},
		{"claimed by itself, expired since", func(i *Issued) { i.Claim(key); i.Expires = 1 }, proof, noon, 0},
	} {
		i := issued(s)
		if c.change != nil {
			c.change(&i)
		}
		l := Invites{issued(Secret{9}), i}
		got, r, text := l.Judge(c.now, c.proof, x, key)
		if r != c.want || (got == nil) != (c.want != 0) || (text == "") != (c.want == 0) || got != nil && got != &l[1] {
			t.Errorf("%s: %v %q", c.name, r, text)
		}
		if r != 0 && !printable(text) {
			t.Errorf("%q", text)
		}
	}
}

// TestInvitesTable: whatever people and homes do, an invite lets one home in,
// and there are never too many.
func TestInvitesTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l Invites
		now, n := noon, byte(0)
		in := map[InviteID]string{} // who got in by it
		numbers := map[int]bool{}
		secrets := []Secret{}
		peers := map[string]bool{}
		t.Repeat(map[string]func(*rapid.T){
			"issue": func(t *rapid.T) {
				n++
				s := Secret{n}
				i := issued(s)
				i.Expires = now.Unix() + int64(rapid.IntRange(-1, 31*86400).Draw(t, "for"))
				left := i.Expires - now.Unix()
				open := 0
				for k := range l {
					if l[k].Open(now) {
						open++
					}
				}
				number, err := l.Add(now, i)
				if (err == nil) != (left >= 1 && left <= 30*86400 && open < MaxInvites) {
					t.Fatalf("for %d s with %d open: %v", left, open, err)
				}
				if err == nil {
					if numbers[number] {
						for k := range l[:len(l)-1] {
							if l[k].Number == number {
								t.Fatalf("number %d twice", number)
							}
						}
					}
					numbers[number] = true
					secrets = append(secrets, s)
				}
			},
			"use": func(t *rapid.T) {
				if len(secrets) == 0 {
					return
				}
				s := rapid.SampledFrom(secrets).Draw(t, "secret")
				key := rapid.SampledFrom([]string{"key 1", "key 2", "key 3"}).Draw(t, "key")
				i, _, _ := l.Judge(now, s.Prove(nil, []byte(key)), nil, []byte(key))
				if i == nil {
					return
				}
				if by, ok := in[i.ID]; ok && by != key {
					t.Fatalf("%s gets in by the invite of %s", key, by)
				}
				in[i.ID] = key
				i.Claim([]byte(key))
				if rapid.Bool().Draw(t, "lives on") {
					peers[key] = true
					l.Settle(func(k []byte) bool { return peers[string(k)] })
				}
			},
			"cancel": func(t *rapid.T) {
				k := rapid.IntRange(0, 40).Draw(t, "number")
				if l.Cancel(int64(k)) {
					for i := range l {
						if l[i].Number == k && (l[i].State != InviteCancelled || in[l[i].ID] != "") {
							t.Fatalf("%+v", l[i])
						}
					}
				}
			},
			"wait": func(t *rapid.T) { now = now.Add(time.Duration(rapid.IntRange(0, 1000000).Draw(t, "s")) * time.Second) },
			"": func(t *rapid.T) {
				open := 0
				for k := range l {
					if l[k].Open(now) {
						open++
					}
					if l[k].State == InviteUsed && !peers[string(l[k].By)] {
						t.Fatal("used, but by no peer")
					}
				}
				if open > MaxInvites || len(l) > maxInviteRows+len(in) {
					t.Fatalf("%d open of %d", open, len(l))
				}
			},
		})
	})
	var l Invites
	for n := range MaxInvites + 1 {
		if _, err := l.Add(noon, issued(Secret{byte(n)})); (err == nil) != (n < MaxInvites) {
			t.Errorf("invite %d: %v", n+1, err)
		}
	}
	if l.Cancel(1<<32 + int64(l[0].Number)) {
		t.Error("a router's int has 32 bits: another number cancels the first invite")
	}
	if _, err := l.Add(time.Unix(86400, 0), Issued{Expires: 86500}); !errors.Is(err, ErrClock) {
		t.Error(err)
	}
	for s, want := range map[string]InviteState{"open": InviteOpen, "claimed": InviteClaimed, "used": InviteUsed, "cancelled": InviteCancelled} {
		if got, ok := ParseInviteState(s); !ok || got != want || got.String() != s {
			t.Error(s, got, ok)
		}
	}
	if _, ok := ParseInviteState("junk"); ok || InviteState(9).String() != "state 9" {
		t.Error("junk is a state")
	}
}

// TestGuesses: a network that shows wrong invites is not looked at for a while;
// others are.
func TestGuesses(t *testing.T) {
	var g Guesses
	bad, near, good := netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("203.0.113.200"), netip.MustParseAddr("203.0.114.9")
	for range maxInviteWrong {
		if !g.Allowed(bad, noon) {
			t.Error("too early")
		}
		g.Wrong(bad, noon)
	}
	if g.Allowed(near, noon.Add(inviteWrongFor-1)) || !g.Allowed(good, noon) || !g.Allowed(bad, noon.Add(inviteWrongFor)) {
		t.Errorf("%+v", g)
	}
	for i := range 3 * maxGuessers {
		g.Wrong(netip.AddrFrom4([4]byte{10, byte(i), 0, 1}), noon)
	}
	if len(g) > maxGuessers {
		t.Error(len(g))
	}
	g.Wrong(good, noon.Add(2*inviteWrongFor))
	if len(g) != 1 {
		t.Error(len(g), "are remembered for ever")
	}
}

// seal makes the text of an invite of octets that carry no checksum yet.
func seal(b []byte) string {
	sum := sha256.Sum256(b)
	return invitePrefix + inviteCode.EncodeToString(append(bytes.Clone(b), sum[:inviteSum]...))
}
