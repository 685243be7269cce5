//go:build qemu

package qemu_test

import (
	"context"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"htip/src/htip"
	"htip/tests/qemu/homes"
	"htip/tests/qemu/lab"
)

// secretKinds are where a router's secrets can be read by root, who may: a
// command that prints them as words, in whatever form.
var secretKinds = map[string]string{
	"the gateway's key":             "cat /etc/htip/key",
	"secrets of tunnels":            `grep -o '"secret":"[^"]*"' /var/run/htip/tunnels.json | cut -d'"' -f4`,
	"secrets of xl2tpd":             "cat /var/run/htip/tunnels/*/secrets /var/run/htip/tunnels/*/*/secrets 2>/dev/null | cut -d' ' -f3",
	"WireGuard's private keys":      "wg show all private-key | cut -f2",
	"WireGuard's preshared keys":    "wg show all preshared-keys | cut -f3 | grep -v none",
	"keys of security associations": "ip xfrm state 2>/dev/null | grep -oE '0x[0-9a-f]{40,}'",
}

// forms are all ways in which a secret may be written down, short of somebody
// hiding it on purpose.
func forms(secret string) []string {
	out := []string{secret}
	if b, err := base64.StdEncoding.DecodeString(secret); err == nil && len(b) >= 16 {
		out = append(out, hex.EncodeToString(b), base64.URLEncoding.EncodeToString(b), base64.RawStdEncoding.EncodeToString(b), fmt.Sprint(b))
		for i := 0; len(b) > 32 && i+32 <= len(b); i += 32 { // keys in a row
			out = append(out, hex.EncodeToString(b[i:i+32]), base64.StdEncoding.EncodeToString(b[i:i+32]))
		}
	}
	if h, ok := strings.CutPrefix(secret, "0x"); ok {
		out = append(out, h)
	}
	if b, err := hex.DecodeString(strings.TrimPrefix(secret, "0x")); err == nil && len(b) >= 16 {
		out = append(out, base64.StdEncoding.EncodeToString(b))
	}
	return out
}

// secretsOf reads a router's secrets as they are now.
func secretsOf(ctx context.Context, t *testing.T, r *lab.Router) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	for what, command := range secretKinds {
		for _, s := range strings.Fields(r.MustRun(ctx, command+"; true")) {
			if len(s) < 16 {
				t.Fatalf("%s: %q is no secret", what, s)
			}
			out[what] = append(out[what], forms(s)...)
		}
	}
	return out
}

// listen keeps what others on the router can see while something happens:
// command lines and environments of all processes, and what watchers are told.
// The function that it returns ends it.
func listen(ctx context.Context, t *testing.T, h *homes.Home) func() string {
	t.Helper()
	h.Router.MustRun(ctx, `rm -f /root/seen; touch /root/listening; htip watch --json >/root/watched 2>&1 </dev/null & echo $! >/root/watcher
		while [ -e /root/listening ]; do cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null | tr '\0' '\n' | sort -u; sleep 0.2; done >/root/seen 2>/dev/null </dev/null &`)
	return func() string {
		return h.Router.MustRun(ctx, "rm /root/listening; kill $(cat /root/watcher); cat /root/seen /root/watched; rm /root/seen /root/watched /root/watcher")
	}
}

// answers is all that the daemon tells callers, and all that was logged.
func answers(ctx context.Context, h *homes.Home) string {
	return h.Router.MustRun(ctx, "for c in status peers key hosts requests invites; do htip $c; htip $c --json; done 2>&1; cat /var/log/*; true")
}

// TestSecrets: whatever the protocol, no secret is in a log, a command line, an
// environment, an answer on ubus or an error, and every file that holds one is
// its owner's alone.
func TestSecrets(t *testing.T) {
	ctx, l := newLab(t)
	const loud = "\toption log_level 'debug'\n"
	hs, err := homes.Start(ctx, l,
		homes.Spec{Name: "alice", LAN: lan("192.168.1.1/24", "192.168.1.4", "pc"), Main: loud},
		homes.Spec{Name: "bob", LAN: lan("192.168.1.1/24", "192.168.1.5", "nas"), Main: loud})
	if err != nil {
		t.Fatal(err)
	}
	showLogs(t, hs...)
	t.Run("invite", func(t *testing.T) { testInviteSecrets(ctx, t, hs) })
	for _, protocol := range []string{"wireguard", "l2tp-esp", "l2tp"} {
		t.Run(protocol, func(t *testing.T) {
			for _, h := range hs {
				c := h.Config(hs...) + "\tlist protocol '" + protocol + "'\n"
				if protocol == "l2tp" {
					c += "\toption encryption 'off'\n"
				}
				h.Reconfigure(ctx, t, c)
			}
			var heard []func() string
			for _, h := range hs {
				heard = append(heard, listen(ctx, t, h))
			}
			out, err := hs[0].Connect(ctx, "bob")
			if err != nil {
				t.Fatal(err)
			}
			if tn, err := hs[0].Tunnel(ctx, "bob"); err != nil || tn.Protocol != protocol {
				t.Fatalf("%v, %v\n%s", tn, err, out)
			}
			for i, h := range hs {
				secrets := secretsOf(ctx, t, h.Router)
				said := heard[i]() + answers(ctx, h)
				if i == 0 {
					said += out
				}
				checkSecrets(ctx, t, h, said, secrets)
			}
			hs[0].Router.MustRun(ctx, "htip disconnect bob")
			for _, h := range hs {
				if _, err := h.WaitState(ctx, map[string]string{"alice": "bob", "bob": "alice"}[h.Name], "idle"); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// testInviteSecrets: an invite is nowhere but in the hand of the person who asked
// for it, neither before nor after it is used.
func testInviteSecrets(ctx context.Context, t *testing.T, hs []*homes.Home) {
	for _, h := range hs {
		h.Strangers = true
		defer func() { h.Strangers = false }()
		h.Reconfigure(ctx, t, h.Config(hs...))
	}
	alice, bob := hs[0], hs[1]
	var heard []func() string
	for _, h := range hs {
		heard = append(heard, listen(ctx, t, h))
	}
	// One is used, one cancelled, one left; none is in a command line of ours.
	bob.Router.MustRun(ctx, "umask 077; for i in 1 2 3; do htip invite --name ally >/root/invite$i 2>/root/said; done; htip invites | grep -q 'good until'; htip invite --cancel 2")
	var invites []string
	for i := range 3 {
		invites = append(invites, strings.TrimSpace(bob.Router.MustRun(ctx, fmt.Sprintf("cat /root/invite%d", i+1))))
	}
	if err := alice.Router.Put(ctx, "/root/invite", []byte(invites[0]+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	said := map[*homes.Home]string{bob: bob.Router.MustRun(ctx, "cat /root/said")}
	said[alice] = alice.Router.MustRun(ctx, "htip accept --name bob --wait </root/invite; htip accept --name bob </root/invite; echo HTIP-DAMAGED | htip accept; true")
	if tn, err := alice.Tunnel(ctx, "bob"); err != nil || tn.State != "up" {
		t.Fatalf("%+v, %v\n%s", tn, err, said[alice])
	}
	for i, h := range hs {
		secrets := secretsOf(ctx, t, h.Router)
		for _, text := range invites {
			v, err := htip.ParseInvite(text)
			if err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			key := v.Secret.Key()
			written := []string{text, strings.ToLower(text), base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(v.Secret[:])}
			id := v.Secret.ID()
			for _, b := range [][]byte{v.Secret[:], key[:], append(id[:], key[:]...)} { // the last as it is kept
				written = append(written, forms(base64.StdEncoding.EncodeToString(b))...)
			}
			secrets["invites"] = append(secrets["invites"], written...)
		}
		files := checkSecrets(ctx, t, h, said[h]+heard[i]()+answers(ctx, h), secrets)
		if kept := slices.Contains(files, "/etc/htip/strangers.json"); kept != (h == bob) {
			t.Errorf("%s: an invite's key in strangers.json: %v", h.Name, kept)
		}
	}
	for _, h := range hs {
		h.Router.MustRun(ctx, "rm /root/invite*; htip disconnect --all 2>/dev/null; true")
	}
}

// checkSecrets looks for secrets in what was said, and in all files, and gives
// the files that hold one.
func checkSecrets(ctx context.Context, t *testing.T, h *homes.Home, said string, secrets map[string][]string) (files []string) {
	t.Helper()
	if len(secrets["the gateway's key"]) == 0 || len(secrets["secrets of tunnels"]) == 0 || !strings.Contains(said, "htipd") || !strings.Contains(said, `"step"`) {
		t.Fatalf("%s: looked at the wrong place: %d kinds of secrets; heard\n%s", h.Name, len(secrets), said)
	}
	var all []string
	for what, forms := range secrets {
		for _, s := range forms {
			if i := strings.Index(said, s); i >= 0 {
				t.Errorf("%s: %s were told: …%s…", h.Name, what, said[max(0, i-200):min(len(said), i+20)])
			}
		}
		all = append(all, forms...)
	}
	if err := h.Router.Put(ctx, "/root/patterns", []byte(strings.Join(all, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	files = strings.Fields(h.Router.MustRun(ctx, "find /etc /var /run /tmp /root -type f -exec grep -laF -f /root/patterns {} + | sort -u; true"))
	if len(files) < 3 { // the patterns, the key, the tunnels
		t.Errorf("%s: only %q hold secrets: looked at the wrong place?", h.Name, files)
	}
	for _, f := range files {
		mode := strings.Fields(h.Router.MustRun(ctx, "stat -L -c '%a %u' "+f))
		if mode[0] != "600" || mode[1] != "0" {
			t.Errorf("%s: %s holds a secret and has mode %v", h.Name, f, mode)
		}
	}
	if b, err := json.Marshal(files); err == nil {
		t.Logf("%s: secrets are in %s", h.Name, b)
	}
	return files
}
