package daemon

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"htip/src/config"
	"htip/src/htip"
	"htip/src/rtnl"
	"htip/src/slog"
	"htip/src/ubus"
)

// lonely is a daemon of which nothing runs, with one peer.
func lonely(t *testing.T, dir string, key config.Key) *Daemon {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	bus, err := ubus.NewServer(ubus.ServerConfig{Options: ubus.Options{Log: log}, Socket: filepath.Join(dir, "none")})
	if err != nil {
		t.Fatal(err)
	}
	d := &Daemon{
		opt: Options{StateDir: dir, RunDir: dir, Way: rtnl.Way}, log: log, bus: bus, names: &FakeNames{}, ctx: context.Background(), dirty: make(chan struct{}, 1),
		events: make(chan func(), 64), cfg: config.Config{Peers: []config.Peer{{Name: "bob", Enabled: true, Key: key}}},
		gw:    htip.NewGateway(htip.Config{Key: []byte{9}, Random: random}, htip.Home{}),
		state: map[string]homeState{}, tunnels: map[string]*tunnel{}, progress: map[string][]Progress{}, dials: map[string]*dialing{},
		ended: map[string]config.Key{}, asked: map[string]bool{}, waiters: map[string][]chan error{},
	}
	tab, err := readTable(filepath.Join(dir, stateFile))
	if err != nil {
		t.Fatal(err)
	}
	if d.state, err = decodeState(tab); err != nil {
		t.Fatal(err)
	}
	d.gw.SetPeers([]htip.Peer{{Name: "bob", Key: key[:]}}, nil)
	t.Cleanup(func() {
		if d.trim != nil {
			d.trim.Stop()
		}
	})
	return d
}

func down(r htip.Reason, text string) htip.Progress {
	return htip.Progress{Peer: "bob", Step: htip.StepDown, Reason: r, Text: text}
}

// What ends a tunnel for good, and for whom.
func TestEnded(t *testing.T) {
	key, other := config.Key{1}, config.Key{2}
	for _, x := range []struct {
		what string
		step htip.Progress
		want bool
	}{
		{"a user at either end", down(htip.ReasonUser, ""), true},
		{"a user at either end, before it was up", htip.Progress{Peer: "bob", Step: htip.StepFailed, Reason: htip.ReasonUser}, true},
		{"another device with our key", down(htip.ReasonSuperseded, "another device"), true},
		{"the peer replaces its own tunnel", down(htip.ReasonSuperseded, ""), false},
		{"the line", down(htip.ReasonLink, "silent"), false},
		{"the other daemon stops", down(htip.ReasonShutdown, ""), false},
	} {
		d := lonely(t, t.TempDir(), key)
		d.progressed(x.step)
		if d.isEnded("bob") != x.want {
			t.Errorf("%s: ended %t", x.what, !x.want)
		}
		if _, err := os.Stat(filepath.Join(d.opt.StateDir, stateFile)); err == nil {
			t.Errorf("%s: a peer can wear our flash out", x.what)
		}
		// Another home under the old name has nothing to do with it.
		d.cfg.Peers[0].Key = other
		if d.isEnded("bob") {
			t.Errorf("%s: a new key inherits it", x.what)
		}
		d.cfg.Peers[0].Key = key
		d.tunnels["bob"] = &tunnel{Entry: htip.Entry{Peer: "bob"}}
		if d.progressed(htip.Progress{Peer: "bob", Step: htip.StepUp}); d.isEnded("bob") {
			t.Errorf("%s: still ended when the tunnel is up", x.what)
		}
	}
}

// Our own user's disconnect survives a restart, and only a person here undoes
// it.
func TestOurUserEnded(t *testing.T) {
	key, dir := config.Key{1}, t.TempDir()
	d := lonely(t, dir, key)
	d.remember("bob", func(st *homeState) { st.Wanted = true })
	d.markEnded("bob")
	d.remember("bob", func(st *homeState) { st.Wanted, st.Ended = false, true })

	d = lonely(t, dir, key)
	if !d.isEnded("bob") || d.endedNow("bob") || d.wanted("bob") {
		t.Error("forgotten over a restart")
	}
	d.tunnels["bob"] = &tunnel{Entry: htip.Entry{Peer: "bob"}}
	if d.progressed(htip.Progress{Peer: "bob", Step: htip.StepUp}); !d.isEnded("bob") {
		t.Error("the other home undid it")
	}
	if d = lonely(t, dir, config.Key{2}); d.isEnded("bob") {
		t.Error("another home inherits it")
	}
	d = lonely(t, dir, key)
	if d.begun("bob"); d.isEnded("bob") {
		t.Error("a person here wanted it again")
	}
	if d = lonely(t, dir, key); d.isEnded("bob") {
		t.Error("what a person wanted again is forgotten over a restart")
	}
}
