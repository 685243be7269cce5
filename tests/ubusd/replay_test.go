package ubusd

import (
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"htip/src/ubus"
	"htip/tests/ubusd/recording"
)

const wireDir = "../../src/ubus/testdata/wire"

// notReplayed are the recordings that the core can't be asked for.
var notReplayed = map[string]string{
	"16-raw-lengths": "framing is the socket's part: TestLengths and TestSplitWrites say the same messages to it",
}

// TestReplay says to the core what the recorded clients said to the real ubusd,
// gives it the ids that the real one drew, and wants the same bytes back on
// every connection.
//
// Not everybody who took part was recorded. In 22 uhttpd's connection is missing
// and in 23 rpcd's: their messages are taken from the other side's recording.
func TestReplay(t *testing.T) {
	all, err := recording.LoadAll(wireDir)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 22 {
		t.Fatalf("%d recordings, want 22", len(all))
	}
	for _, s := range all {
		t.Run(s.Name, func(t *testing.T) {
			if why := notReplayed[s.Name]; why != "" {
				t.Skip(why)
			}
			newReplay(t, s).run()
		})
	}
}

type replay struct {
	t     *testing.T
	s     recording.Scenario
	core  *Core
	ids   map[Kind][]uint32 // what the real ubusd drew next
	conns map[string]uint32
	known map[uint32]bool // clients that are recorded
	gone  map[uint32]bool // clients that have closed

	// Objects whose owner was not recorded, by id.
	strangers map[uint32]uint32

	got, want map[uint32][]string
}

func newReplay(t *testing.T, s recording.Scenario) *replay {
	r := &replay{t: t, s: s,
		ids: map[Kind][]uint32{}, conns: map[string]uint32{}, known: map[uint32]bool{}, gone: map[uint32]bool{},
		strangers: map[uint32]uint32{}, got: map[uint32][]string{}, want: map[uint32][]string{}}
	var policy Policy = RootOnly{}
	if s.Name == "19-acl-nobody" {
		policy = nobodyMay{}
	}
	r.core = NewCore(r, policy, r.draw)
	return r
}

func (r *replay) draw(k Kind) uint32 {
	if len(r.ids[k]) == 0 {
		r.t.Fatalf("id of kind %d that the real ubusd did not tell", k)
	}
	id := r.ids[k][0]
	r.ids[k] = r.ids[k][1:]
	return id
}

func (r *replay) Send(to uint32, msg []byte, fd int) {
	if r.gone[to] {
		return
	}
	r.got[to] = append(r.got[to], line(msg, fd != NoFD))
}

func (r *replay) CloseFD(int) {}

func line(msg []byte, fd bool) string {
	s := hex.EncodeToString(msg)
	if fd {
		s += " +fd"
	}
	return s
}

func cred(conn string) Cred {
	if strings.HasPrefix(conn, "nobody") {
		return Cred{UID: 65534, GID: 65534, User: "nobody", Group: "nogroup"}
	}
	return Root
}

func (r *replay) run() {
	messages := 0
	for i, step := range r.s.Steps {
		switch {
		case step.ToUbus && step.Closed:
			r.gone[r.conns[step.Conn]] = true
			r.core.Disconnect(r.conns[step.Conn])
		case step.ToUbus:
			r.tell(i, step)
			messages++
		case !step.Closed:
			r.expect(step)
			messages++
		}
	}
	if messages == 0 {
		r.t.Fatal("no message was replayed")
	}
	for conn, id := range r.conns {
		got, want := r.got[id], r.want[id]
		for i := range max(len(got), len(want)) {
			g, w := "nothing", "nothing"
			if i < len(got) {
				g = got[i]
			}
			if i < len(want) {
				w = want[i]
			}
			if g != w {
				r.t.Errorf("%s, message %d:\n got %s\nwant %s", conn, i, g, w)
			}
		}
	}
}

// tell gives the core what a recorded client sent.
func (r *replay) tell(i int, step recording.Step) {
	m, err := ubus.DecodeMessage(step.Bytes)
	if err != nil {
		r.t.Fatalf("line %d: %v", step.Line, err)
	}
	switch m.Type {
	case ubus.MsgAddObject:
		if a, ok := r.answer(i, m); ok {
			r.ids[KindObject] = append(r.ids[KindObject], a.ObjID)
			if a.Has(ubus.AttrObjType) {
				r.ids[KindType] = append(r.ids[KindType], a.ObjType)
			}
		}
	case ubus.MsgLookup:
		r.meetStrangers(i, m)
	}
	fd := NoFD
	if step.FD {
		fd = 1000
	}
	r.core.Handle(r.conns[step.Conn], m, fd)
}

// answer finds the DATA that the real ubusd answered to message i.
func (r *replay) answer(i int, m ubus.Message) (ubus.Attrs, bool) {
	conn := r.s.Steps[i].Conn
	for _, step := range r.s.Steps[i+1:] {
		if step.Conn != conn || step.ToUbus || step.Closed {
			continue
		}
		d, err := ubus.DecodeMessage(step.Bytes)
		if err != nil || d.Seq != m.Seq {
			continue
		}
		return ubus.ParseAttrs(d.Body), d.Type == ubus.MsgData
	}
	return ubus.Attrs{}, false
}

// meetStrangers publishes the objects that a LOOKUP is about to find and that no
// recorded connection has published.
func (r *replay) meetStrangers(i int, m ubus.Message) {
	a, ok := r.answer(i, m)
	if !ok || r.core.objects[a.ObjID] != nil {
		return
	}
	owner := r.stranger(0xffff0000 + uint32(len(r.strangers)))
	r.ids[KindObject] = append(r.ids[KindObject], a.ObjID)
	r.ids[KindType] = append(r.ids[KindType], a.ObjType)
	r.handle(owner, ubus.NewMessage(ubus.MsgAddObject, 1, 0).Text(ubus.AttrPath, a.Path).Raw(ubus.AttrSignature, a.Signature))
	r.strangers[a.ObjID] = owner
}

// stranger connects somebody who was not recorded.
func (r *replay) stranger(id uint32) uint32 {
	if r.core.clients[id] == nil {
		r.ids[KindClient] = append(r.ids[KindClient], id)
		r.core.Connect(Root, nil)
	}
	return id
}

func (r *replay) handle(client uint32, b *ubus.Builder) {
	raw, err := b.Bytes()
	if err != nil {
		r.t.Fatal(err)
	}
	m, err := ubus.DecodeMessage(raw)
	if err != nil {
		r.t.Fatal(err)
	}
	r.core.Handle(client, m, NoFD)
}

// expect notes what a recorded client got. A HELLO is where its connection
// begins; what a stranger caused is caused now.
func (r *replay) expect(step recording.Step) {
	m, err := ubus.DecodeMessage(step.Bytes)
	if err != nil {
		r.t.Fatalf("line %d: %v", step.Line, err)
	}
	if m.Type == ubus.MsgHello {
		r.ids[KindClient] = append(r.ids[KindClient], m.Peer)
		r.conns[step.Conn] = r.core.Connect(cred(step.Conn), nil)
		r.known[m.Peer] = true
	}
	id := r.conns[step.Conn]
	a := ubus.ParseAttrs(m.Body)
	switch {
	case m.Type == ubus.MsgInvoke && m.Peer != 0 && !r.known[m.Peer]:
		r.handle(r.stranger(m.Peer), ubus.NewMessage(ubus.MsgInvoke, m.Seq, a.ObjID).
			U32(ubus.AttrObjID, a.ObjID).Text(ubus.AttrMethod, a.Method).Raw(ubus.AttrData, a.Data))
	case r.strangers[m.Peer] != 0:
		back := m
		back.Peer = id
		r.core.Handle(r.strangers[m.Peer], back, NoFD)
	}
	r.want[id] = append(r.want[id], line(step.Bytes, step.FD))
}

// nobodyMay is the ACL file of recording 19.
type nobodyMay struct{}

func (nobodyMay) Access(_ Cred, path, method string) bool {
	return path == "rig.test" && method == "echo"
}
func (nobodyMay) Publish(_ Cred, path string) bool   { return strings.HasPrefix(path, "nobody.") }
func (nobodyMay) Subscribe(_ Cred, path string) bool { return path == "rig.test" }
func (nobodyMay) Listen(_ Cred, pattern string) bool { return pattern == "foo.*" }
func (nobodyMay) Send(_ Cred, event string) bool     { return event == "foo.bar" }

func (nobodyMay) Query(paths []string) ubus.Table {
	acl := ubus.Array{}
	if slices.Contains(paths, "rig.test") {
		acl = append(acl, ubus.Table{ubus.F("obj", "rig.test"), ubus.F("user", "nobody"),
			ubus.F("acl", ubus.Table{ubus.F("level", 7)})})
	}
	return ubus.Table{ubus.F("seq", int32(1)), ubus.F("acl", acl)}
}
