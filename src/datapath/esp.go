package datapath

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"htip/src/slog"
)

// ProtocolL2TPESP is L2TP in ESP, transport mode (RFC 3193 without IKE: the
// keys come from the control talk).
const ProtocolL2TPESP = "l2tp-esp"

// What L2TP in ESP leaves of an Ethernet frame: 20 octets of IP, 8 of ESP, 8 of
// IV and 16 of check value leave 1448, a multiple of four, for the 38 - 20 of
// L2TP, the packet, and ESP's two last octets. DefaultMTU fits with PPPoE, too.
const espMaxMTU = 1448 - 18 - 2

// esp makes tunnels of L2TP that pass the Internet in ESP only. Associations
// and policies of a tunnel are in the kernel before its programs start and
// until they have ended, so no packet of theirs is ever sent or taken plain.
// Both carry a reqid of ours; there are no files beyond those of L2TP.
//
// The policies name our port, not the peer's, and the peer's address only for
// what is sent: the kernel takes nothing at that port, from anybody, that
// did not come by the tunnel's associations. If our own address changes, no
// association fits and nothing is sent.
type esp struct {
	l2tp   *l2tp // with a run directory of its own
	kernel xfrmKernel
	load   func(ctx context.Context, module string)
	proc   string
	times  espTimes
	log    *slog.Logger

	mu      sync.Mutex
	tunnels map[string]*espTunnel // by device: those that the keeper looks after
	spent   map[string][32]byte   // by device: the hash of the secret that was used last
	keeping bool
	ciphers []string // of this kernel
}

// espTunnel is what the kernel's IPsec has to do with a tunnel.
type espTunnel struct {
	reqid         uint32
	local, remote ip4
	port          uint16
	send, receive espKeys
	changed       time.Time // when the key of what is sent was changed last
}

func newESP(l *l2tp, k xfrmKernel, load func(context.Context, string), every time.Duration, log *slog.Logger) *esp {
	if every <= 0 {
		every = espEvery
	}
	return &esp{
		l2tp: l, kernel: k, load: load, proc: l.proc.proc, times: timesOf(every), log: log,
		tunnels: map[string]*espTunnel{}, spent: map[string][32]byte{},
	}
}

// withoutESP is the tunnel as the L2TP driver wants to know it.
func (t Tunnel) withoutESP() Tunnel {
	t.Secret = t.Secret[:espL2TPSecret]
	return t
}

// espModules are what OpenWrt's packages hold; where the kernel's own loader
// does not find them by their aliases this helps.
var espModules = []string{"xfrm_user", "esp4", "gcm", "ctr", "ghash-generic", "chacha20poly1305", "seqiv", "echainiv"}

func (e *esp) missing(ctx context.Context) []string {
	missing := e.l2tp.missing(ctx)
	// Who has no xl2tpd doesn't want this: no modules are loaded in vain.
	if _, err := e.find(ctx, len(missing) == 0); err != nil {
		missing = append(missing, fmt.Sprintf("kernel has no ESP with AES-GCM or ChaCha20-Poly1305: install kmod-ipsec, kmod-ipsec4, kmod-crypto-seqiv and kmod-crypto-chacha20poly1305 (or kmod-crypto-gcm, for a processor with AES instructions) (%v)", err))
	}
	return missing
}

// find gives the ciphers that the kernel has, by making an association with
// each. If load is true and one is missing, modules are loaded.
func (e *esp) find(ctx context.Context, load bool) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.ciphers) > 0 {
		return e.ciphers, nil
	}
	found, err := e.probeAll()
	if err != nil && load {
		for _, m := range espModules {
			e.load(ctx, m)
		}
		found, err = e.probeAll()
	}
	if e.ciphers = found; len(found) > 0 {
		err = nil
	}
	return found, err
}

func (e *esp) probeAll() (found []string, err error) {
	for _, c := range []string{CipherAES, CipherChaCha} {
		if bad := e.probe(c); bad != nil {
			err = bad
		} else {
			found = append(found, c)
		}
	}
	return found, err
}

// probe makes an association that nothing can use, and removes it.
func (e *esp) probe(cipher string) error {
	loopback := ip4{127, 0, 0, 1}
	s := &espSA{src: loopback, dst: loopback, spi: espFirstSPI, reqid: espMark, soft: time.Second, hard: 2 * time.Second}
	var octets int
	s.algorithm, octets = espCipher(cipher)
	s.key = make([]byte, octets)
	s.sel = espSelector{src: loopback, dst: loopback, sport: 1, dport: 1}
	if err := e.kernel.removeSA(s); err != nil { // of one that was killed here
		return err
	}
	if err := e.kernel.addSA(s); err != nil {
		return err
	}
	return e.kernel.removeSA(s)
}

// fast tells whether the processor has instructions for AES: without them
// ChaCha20-Poly1305 is a quarter faster (measured on MIPS).
func (e *esp) fast() bool {
	b, _ := os.ReadFile(e.proc + "/cpuinfo")
	return slices.Contains(strings.Fields(string(b)), "aes") // among its flags, or features
}

// espOrphan begins the name under which associations and policies without a
// directory and processes are held.
const espOrphan = "reqid "

func (e *esp) held() ([]string, error) {
	devices, err := e.l2tp.held()
	if err != nil {
		return nil, err
	}
	sas, err := e.kernel.sas(0)
	if err != nil {
		return nil, err
	}
	policies, err := e.kernel.policies(0)
	if err != nil {
		return nil, err
	}
	known := []uint32{espMark} // a probe's goes by itself
	for _, d := range devices {
		known = append(known, espReqID(d))
	}
	var found []uint32
	for i := range sas {
		found = append(found, sas[i].reqid)
	}
	for i := range policies {
		found = append(found, policies[i].reqid)
	}
	for _, reqid := range found {
		if !slices.Contains(known, reqid) {
			known = append(known, reqid)
			devices = append(devices, espOrphan+strconv.FormatUint(uint64(reqid), 16))
		}
	}
	return devices, nil
}

// remove takes what there is of a reqid, or of all of ours, out of the kernel,
// the associations first: what is still sent then is dropped.
func (e *esp) remove(reqid uint32) error {
	sas, err := e.kernel.sas(reqid)
	for i := range sas {
		err = errors.Join(err, e.kernel.removeSA(&sas[i]))
	}
	policies, bad := e.kernel.policies(reqid)
	err = errors.Join(err, bad)
	for i := range policies {
		err = errors.Join(err, e.kernel.removePolicy(&policies[i]))
	}
	return err
}

// policies are those of a tunnel: for what is sent, for what is received.
func (x *espTunnel) policies() []espPolicy {
	return []espPolicy{
		{reqid: x.reqid, sel: espSelector{dst: x.remote, sport: x.port}},
		{reqid: x.reqid, sel: espSelector{dport: x.port}, in: true},
	}
}

func inKernelESP(t *Tunnel) *espTunnel {
	return &espTunnel{
		reqid: espReqID(t.Device), local: t.Local.As4(), remote: t.Remote.Addr().As4(), port: t.LocalPort, changed: time.Now(),
		send: newESPKeys(t.Secret, t.Cipher, t.Server), receive: newESPKeys(t.Secret, t.Cipher, !t.Server),
	}
}

// sa is the association of a generation, sent or received by.
func (x *espTunnel) sa(n uint32, in bool, every time.Duration) *espSA {
	s := &espSA{reqid: x.reqid, src: x.local, dst: x.remote, hard: espHardSend * every}
	k := &x.send
	s.sel.sport = x.port
	if in {
		k = &x.receive
		s.src, s.dst, s.hard = s.dst, s.src, espHardReceive*every
		s.sel.sport, s.sel.dport = 0, x.port
	}
	// With a soft limit before the hard one the kernel bears a clock that is set
	// meanwhile, as on a router without a battery after each start.
	s.soft = s.hard / 2
	s.sel.src, s.sel.dst = s.src, s.dst
	s.spi, s.key = k.spi(n), k.key(n)
	s.algorithm, _ = espCipher(k.cipher)
	return s
}

// sort puts associations in their directions and generations; false if one is
// not of this tunnel with these keys.
func (x *espTunnel) sort(sas []espSA, now time.Time) (out, in []espGeneration, ok bool) {
	algorithm, _ := espCipher(x.send.cipher)
	for i := range sas {
		s := &sas[i]
		k, list := &x.send, &out
		want := espSelector{src: x.local, dst: x.remote, sport: x.port}
		if s.dst == x.local {
			k, list = &x.receive, &in
			want = espSelector{src: want.dst, dst: want.src, dport: x.port}
		}
		n, ours := k.generation(s.spi)
		if !ours || s.algorithm != algorithm || s.sel != want || s.src != want.src || s.dst != want.dst {
			return nil, nil, false
		}
		*list = append(*list, espGeneration{n, s.packets, s.octets, now.Sub(time.Unix(s.added, 0)), uint8(s.spi)})
	}
	return out, in, true
}

// guarded tells whether the kernel has just what the tunnel needs.
func (e *esp) guarded(t *Tunnel) (bool, error) {
	x := inKernelESP(t)
	sas, err := e.kernel.sas(x.reqid)
	if err != nil {
		return false, err
	}
	policies, err := e.kernel.policies(x.reqid)
	out, in, ok := x.sort(sas, time.Now())
	want := x.policies()
	for i := range policies {
		p, w := &policies[i], &want[0]
		if p.in {
			w = &want[1]
		}
		ok = ok && p.sel == w.sel
	}
	return ok && len(policies) == len(want) && len(out) > 0 && len(in) > 0, err
}

func (e *esp) runs(t Tunnel) (bool, error) {
	ok, err := e.guarded(&t)
	if err != nil || !ok {
		return false, err
	}
	return e.l2tp.runs(t.withoutESP())
}

func (e *esp) adopt(t Tunnel) error {
	e.keep(&t)
	return e.l2tp.adopt(t.withoutESP())
}

func (e *esp) start(ctx context.Context, t Tunnel) error {
	sum := sha256.Sum256(t.Secret)
	e.mu.Lock()
	spent := t.Old || e.spent[t.Device] == sum
	e.spent[t.Device] = sum
	e.mu.Unlock()
	if spent {
		// The same keys from their beginning would be the end of their secrecy.
		return permanent("the tunnel's encryption was disturbed, its keys can't be used a second time")
	}
	if err := e.end(ctx, t.Device); err != nil {
		return err
	}
	err := e.guard(&t)
	if err == nil {
		err = e.l2tp.start(ctx, t.withoutESP())
	}
	if err != nil {
		return errors.Join(err, e.end(context.WithoutCancel(ctx), t.Device))
	}
	e.keep(&t)
	return nil
}

// guard makes a tunnel's first associations and its policies.
func (e *esp) guard(t *Tunnel) error {
	x := inKernelESP(t)
	err := e.kernel.addSA(x.sa(0, false, e.times.every))
	for n := uint32(0); n <= espAhead && err == nil; n++ {
		err = e.kernel.addSA(x.sa(n, true, e.times.every))
	}
	want := x.policies()
	for i := range want {
		if err == nil {
			err = e.kernel.addPolicy(&want[i])
		}
	}
	if errors.Is(err, unix.EEXIST) {
		err = fmt.Errorf("%w: another program of this router has the same; connect again", err)
	}
	return err
}

func (e *esp) end(ctx context.Context, device string) error {
	if hex, ok := strings.CutPrefix(device, espOrphan); ok {
		reqid, err := strconv.ParseUint(hex, 16, 32)
		return errors.Join(err, e.remove(uint32(reqid)))
	}
	e.mu.Lock()
	delete(e.tunnels, device)
	e.mu.Unlock()
	if err := e.l2tp.end(ctx, device); err != nil {
		return err
	}
	return e.remove(espReqID(device))
}

func (e *esp) state(t Tunnel) (driverState, error) { return e.l2tp.state(t.withoutESP()) }

func (e *esp) housekeep(device string) error { return e.l2tp.housekeep(device) }

func (e *esp) sweep() error {
	err := errors.Join(e.l2tp.sweep(), e.remove(0))
	if bad := os.Remove(e.l2tp.runDir); bad != nil && !errors.Is(bad, fs.ErrNotExist) {
		err = errors.Join(err, bad)
	}
	return err
}

// keep has the keeper change a tunnel's keys.
func (e *esp) keep(t *Tunnel) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.spent[t.Device] = sha256.Sum256(t.Secret)
	if e.tunnels[t.Device] == nil {
		e.tunnels[t.Device] = inKernelESP(t)
	}
	if !e.keeping {
		e.keeping = true
		go e.keeper()
	}
}

// keeper runs as long as there is a tunnel to look after.
func (e *esp) keeper() {
	for {
		time.Sleep(e.times.look)
		e.mu.Lock()
		if e.keeping = len(e.tunnels) > 0; !e.keeping {
			e.mu.Unlock()
			return
		}
		e.look(time.Now())
		e.mu.Unlock()
	}
}

// look changes the keys whose time has come, and puts policies back that
// somebody has removed. Callers hold e.mu, so that no tunnel ends meanwhile.
// What fails is tried at the next look.
func (e *esp) look(now time.Time) {
	var err error
	for _, device := range sortedKeys(e.tunnels) {
		x := e.tunnels[device]
		want := x.policies()
		for i := range want {
			if e.kernel.addPolicy(&want[i]) == nil { // else it is there
				e.log.Warn("a policy of IPsec was gone", "device", device)
			}
		}
		sas, bad := e.kernel.sas(x.reqid)
		err = errors.Join(err, bad)
		out, in, ok := x.sort(sas, now)
		if !ok {
			continue // the next comparison ends it
		}
		send := e.times.sending(out, now.Sub(x.changed) >= e.times.pause)
		if send.to > 0 {
			x.changed = now
			e.log.Info("new key", "device", device, "generation", send.from)
		}
		err = errors.Join(err, e.change(x, out, send, false), e.change(x, in, e.times.receiving(in), true))
	}
	if err != nil {
		e.log.Warn("keys are not changed", "err", err)
	}
}

func (e *esp) change(x *espTunnel, have []espGeneration, c espChange, in bool) (err error) {
	for n := c.from; n < c.to; n++ {
		if !has(have, n) {
			err = errors.Join(err, e.kernel.addSA(x.sa(n, in, e.times.every)))
		}
	}
	for _, g := range have {
		if g.n < c.below {
			err = errors.Join(err, e.kernel.removeSA(x.sa(g.n, in, e.times.every)))
		}
	}
	return err
}
