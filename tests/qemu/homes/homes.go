// Package homes furnishes the lab's routers as people would: every home has our
// daemon, a ubus broker, a configuration that names its friends by their keys,
// and a public name on the lab's Internet.
package homes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"htip/src/control"
	"htip/tests/qemu/lab"
)

// Spec says what a home is like.
type Spec struct {
	Name      string // "bob": its public name is bob.example.org, and so its friends call it
	LAN       lab.LAN
	Main      string   // further lines of its main section
	Peers     string   // of each peer's section
	L2TP      bool     // L2TP only, and not encrypted, instead of what is the default
	Flags     []string // further flags of its daemon
	MemoryMB  int
	MoreLANs  []lab.LAN // of a router that looks like OpenWrt: guest, lan3
	SecondWAN bool      // the same
	// Strangers: its configuration names none of the others.
	Strangers bool
}

// Home is a home with its router running.
type Home struct {
	Spec
	Router *lab.Router
	Host   *lab.Host // the first host of its LAN
	Domain string
	Key    string // public key, as in a configuration

	flags string
	log   string // file of the daemon's words; /var/log/htipd.log when empty
}

// Start boots homes and starts their daemons.
func Start(ctx context.Context, l *lab.Lab, specs ...Spec) ([]*Home, error) {
	homes, err := Boot(ctx, l, specs...)
	if err != nil {
		return nil, err
	}
	for _, h := range homes {
		if err := h.StartDaemon(ctx); err != nil {
			return nil, err
		}
	}
	return homes, nil
}

// Boot boots a router for each spec and gives them each other as peers. ubus
// runs; the daemons don't yet.
func Boot(ctx context.Context, l *lab.Lab, specs ...Spec) ([]*Home, error) {
	files, err := programs(ctx, l.Arch())
	if err != nil {
		return nil, err
	}
	homes := make([]*Home, len(specs))
	keys := make([]lab.File, len(specs))
	for i, s := range specs {
		h := &Home{Spec: s, Domain: s.Name + ".example.org"}
		if keys[i], h.Key, err = identity(); err != nil {
			return nil, err
		}
		homes[i] = h
	}
	for i, h := range homes {
		own := map[string]lab.File{}
		for path, f := range files {
			own[path] = f
		}
		own["/etc/htip/key"] = keys[i]
		own["/etc/config/htip"] = lab.Text(h.Config(homes...))
		h.Router, err = l.AddRouter(ctx, lab.RouterConfig{Name: h.Name, LAN: []lab.LAN{h.LAN}, Files: own, MemoryMB: h.MemoryMB})
		if err != nil {
			return nil, err
		}
		h.Host = l.Host(h.Router, 0)
		h.flags = strings.Join(append([]string{"-resolv /tmp/resolv.conf.auto", "-dnsmasq-restart /usr/sbin/restart-dnsmasq"}, h.Flags...), " ")
		l.Internet().SetA(h.Domain, h.Router.WANAddr())
	}
	if err := l.Start(ctx); err != nil {
		return nil, err
	}
	for _, h := range homes {
		if err := h.StartUbus(ctx); err != nil {
			return nil, err
		}
	}
	return homes, nil
}

// StartUbus starts the broker, as after a boot.
func (h *Home) StartUbus(ctx context.Context) error {
	_, err := h.Router.Check(ctx, "mkdir -p /var/run/ubus; setsid ubusd -s /var/run/ubus/ubus.sock >/var/log/ubusd.log 2>&1 </dev/null &")
	return err
}

func programs(ctx context.Context, arch lab.Arch) (map[string]lab.File, error) {
	htip, err := lab.ReleaseBuild(ctx, arch)
	if err != nil {
		return nil, err
	}
	ubusd, err := lab.GoBuild(ctx, "htip/tests/ubusd/cmd/ubusd", arch)
	if err != nil {
		return nil, err
	}
	junk, err := lab.GoBuild(ctx, "htip/tests/ubusd/cmd/ubusjunk", arch)
	if err != nil {
		return nil, err
	}
	files := map[string]lab.File{
		"/usr/sbin/htipd": {Mode: os.ModeSymlink | 0o777, Data: []byte("/usr/bin/htip")},
	}
	for path, bin := range map[string]string{"/usr/bin/htip": htip, "/sbin/ubusd": ubusd, "/sbin/ubusjunk": junk} {
		if files[path], err = lab.Program(bin); err != nil {
			return nil, err
		}
	}
	return files, nil
}

func identity() (lab.File, string, error) {
	dir, err := os.MkdirTemp("", "htip-key")
	if err != nil {
		return lab.File{}, "", err
	}
	defer os.RemoveAll(dir)
	id, _, err := control.LoadIdentity(filepath.Join(dir, "key"))
	if err != nil {
		return lab.File{}, "", err
	}
	b, err := os.ReadFile(filepath.Join(dir, "key"))
	return lab.File{Mode: 0o600, Data: b}, control.EncodeKey(id.Public()), err
}

// Config is the home's /etc/config/htip with the others as peers.
func (h *Home) Config(all ...*Home) string {
	s := fmt.Sprintf("config htip 'main'\n\toption enabled '1'\n\toption domain '%s'\n%s", h.Domain, h.Main)
	if h.L2TP {
		s += "\tlist protocol 'l2tp'\n"
	}
	s += "\n"
	for _, p := range all {
		if p == h || h.Strangers {
			continue
		}
		s += fmt.Sprintf("config peer '%s'\n\toption domain '%s'\n\toption key '%s'\n", p.Name, p.Domain, p.Key)
		if h.L2TP {
			s += "\toption encryption 'off'\n"
		}
		s += h.Peers
		s += "\n"
	}
	return s
}

// StartDaemon starts htipd and waits until it answers.
func (h *Home) StartDaemon(ctx context.Context) error {
	_, err := h.Router.Check(ctx, "setsid htipd "+h.flags+" >>/var/log/htipd.log 2>&1 </dev/null &")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		begin := time.Now()
		res, err := h.Router.Run(ctx, "htip status --json")
		if err == nil && res.Code == 0 {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("htipd on %s does not answer: %s\n%s", h.Name, res.Output, h.Log())
		}
		Pause(time.Since(begin))
	}
}

// Pause between two looks at a router is as long as a look, which may be a good part of what
// an emulated router can do: watched all the time it would be half as fast.
func Pause(look time.Duration) { time.Sleep(max(100*time.Millisecond, min(look, time.Second))) }

// StopDaemon ends htipd as procd does and waits for its end.
func (h *Home) StopDaemon(ctx context.Context) error {
	_, err := h.Router.Check(ctx, "kill $(pidof htipd) || exit 1; n=0; while pidof htipd >/dev/null; do n=$((n+1)); [ $n -lt 900 ] || exit 2; sleep 0.1; done")
	if err != nil {
		return fmt.Errorf("stopping htipd on %s: %w\n%s", h.Name, err, h.Log())
	}
	return nil
}

// Fataler is what Reconfigure needs of a test.
type Fataler interface {
	Helper()
	Fatal(args ...any)
}

// Reconfigure is Configure for tests.
func (h *Home) Reconfigure(ctx context.Context, t Fataler, config string) {
	t.Helper()
	if err := h.Configure(ctx, config); err != nil {
		t.Fatal(err)
	}
}

// Configure writes /etc/config/htip and waits until the daemon has looked at
// it.
func (h *Home) Configure(ctx context.Context, config string) error {
	const seen = "grep -cE 'configuration (taken|not taken) over' /var/log/htipd.log"
	before, err := h.Router.Run(ctx, seen)
	if err == nil {
		err = h.Router.Put(ctx, "/etc/config/htip", []byte(config), 0o600)
	}
	if err == nil {
		_, err = h.Router.Check(ctx, fmt.Sprintf("kill -HUP $(pidof htipd); n=0; while [ $(%s) = %s ]; do n=$((n+1)); [ $n -lt 600 ] || exit 1; sleep 0.1; done", seen, strings.TrimSpace(before.Output)))
	}
	if err != nil {
		return fmt.Errorf("configuring %s: %w\n%s", h.Name, err, h.Log())
	}
	return nil
}

// Log is what the daemon has said.
func (h *Home) Log() string {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	name := h.log
	if name == "" {
		name = "/var/log/htipd.log"
	}
	b, err := h.Router.Get(ctx, name)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("--- log of %s\n%s", h.Name, b)
}

// Connect runs "htip connect PEER --wait" and returns what it printed.
func (h *Home) Connect(ctx context.Context, peer string) (string, error) {
	out, err := h.Router.Check(ctx, "htip connect "+peer+" --wait")
	if err != nil {
		return out, fmt.Errorf("%w\n%s", err, h.Log())
	}
	return out, nil
}

// Tunnel is a line of the connection table as "htip status --json" shows it.
type Tunnel struct {
	Peer, Domain, State, Role, Protocol, Device, Reason, Error string
	TunnelID                                                   string `json:"tunnel_id"`
	ProtocolReason                                             string `json:"protocol_reason"`
	Gateway                                                    string
	PeerGateway                                                string `json:"peer_gateway"`
	Kernel, Encrypted                                          bool
	Since                                                      int64
	Own, Theirs                                                []struct{ Network, Substitute netip.Prefix }
}

// Tunnel is this home's tunnel to a peer.
func (h *Home) Tunnel(ctx context.Context, peer string) (Tunnel, error) {
	out, err := h.Router.Check(ctx, "htip status --json")
	if err != nil {
		return Tunnel{}, err
	}
	var s struct{ Tunnels []Tunnel }
	if err := json.Unmarshal([]byte(out), &s); err != nil {
		return Tunnel{}, fmt.Errorf("htip status --json printed %q: %w", out, err)
	}
	for _, t := range s.Tunnels {
		if t.Peer == peer {
			return t, nil
		}
	}
	return Tunnel{}, errors.New("no tunnel to " + peer)
}

// WaitState waits until the tunnel to a peer is in the given state.
func (h *Home) WaitState(ctx context.Context, peer, state string) (Tunnel, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	for {
		begin := time.Now()
		t, err := h.Tunnel(ctx, peer)
		if err == nil && t.State == state {
			return t, nil
		}
		if ctx.Err() != nil {
			return t, fmt.Errorf("%s: the tunnel to %s is %s, not %s (%v)\n%s", h.Name, peer, t.State, state, err, h.Log())
		}
		Pause(time.Since(begin))
	}
}
