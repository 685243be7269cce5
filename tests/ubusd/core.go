// Package ubusd is a small broker that stands in for OpenWrt's ubusd where there
// is no OpenWrt: in tests. It is not shipped.
//
// [Core] is what decides: messages in, messages out, no socket, no clock, and
// ids from a function. It is held byte for byte against recordings of the real
// one. [Broker] puts it behind a Unix socket.
package ubusd

import (
	"slices"
	"strings"

	"htip/src/ubus"
)

// Cred is who a client is.
type Cred struct {
	UID, GID    uint32
	User, Group string
}

// Root is the identity that may do all.
var Root = Cred{User: "root", Group: "root"}

// Policy decides what clients other than root may do. A path, pattern or event
// id is asked for as the client wrote it.
type Policy interface {
	Access(who Cred, path, method string) bool
	Publish(who Cred, path string) bool
	Subscribe(who Cred, path string) bool
	Listen(who Cred, pattern string) bool
	Send(who Cred, event string) bool

	// Query is the answer to an object's owner who asks for the rules about
	// the paths.
	Query(paths []string) ubus.Table
}

// RootOnly lets nobody but root do anything: a ubusd without ACL files.
type RootOnly struct{}

func (RootOnly) Access(Cred, string, string) bool { return false }
func (RootOnly) Publish(Cred, string) bool        { return false }
func (RootOnly) Subscribe(Cred, string) bool      { return false }
func (RootOnly) Listen(Cred, string) bool         { return false }
func (RootOnly) Send(Cred, string) bool           { return false }

// Query answers that there are no rules.
func (RootOnly) Query([]string) ubus.Table {
	return ubus.Table{ubus.F("seq", int32(0)), ubus.F("acl", ubus.Array{})}
}

// Everyone lets every client do all: for tests that do not run as root.
type Everyone struct{ RootOnly }

func (Everyone) Access(Cred, string, string) bool { return true }
func (Everyone) Publish(Cred, string) bool        { return true }
func (Everyone) Subscribe(Cred, string) bool      { return true }
func (Everyone) Listen(Cred, string) bool         { return true }
func (Everyone) Send(Cred, string) bool           { return true }

// Kind is what an id is for.
type Kind int

// The kinds of ids.
const (
	KindClient Kind = iota
	KindObject
	KindType
)

// NoFD stands for no descriptor.
const NoFD = -1

// Out takes what the core sends.
type Out interface {
	// Send takes a message for a client, and owns the descriptor. It must not
	// block; what does not fit is dropped.
	Send(client uint32, msg []byte, fd int)
	// CloseFD takes a descriptor that nobody is to get.
	CloseFD(fd int)
}

// Core is the broker without its sockets. Its methods must not run at the same
// time.
type Core struct {
	out    Out
	newID  func(Kind) uint32
	policy Policy

	clients  map[uint32]*client
	objects  map[uint32]*object
	types    map[uint32]*objectType
	paths    map[string]*object
	patterns []*pattern // sorted by key
	monitors []*monitor

	eventSeq uint16
	events   int // number of events so far, to send each once to an object
}

type client struct {
	id      uint32
	cred    Cred
	objects []*object // newest first
}

// NewCore makes a broker. newID gives a fresh id, 1024 or more; ids that are
// taken are asked for again.
func NewCore(out Out, policy Policy, newID func(Kind) uint32) *Core {
	return &Core{
		out: out, newID: newID, policy: policy,
		clients: make(map[uint32]*client),
		objects: make(map[uint32]*object),
		types:   make(map[uint32]*objectType),
		paths:   make(map[string]*object),
	}
}

func fresh[T any](c *Core, kind Kind, taken map[uint32]T) uint32 {
	for {
		id := c.newID(kind)
		if _, ok := taken[id]; !ok && id >= ubus.FirstFreeID {
			return id
		}
	}
}

// Connect adds a client and greets it. welcome, if not nil, runs before, so that
// the greeting finds its way.
func (c *Core) Connect(cred Cred, welcome func(id uint32)) uint32 {
	cl := &client{id: fresh(c, KindClient, c.clients), cred: cred}
	c.clients[cl.id] = cl
	if welcome != nil {
		welcome(cl.id)
	}
	c.send(cl, ubus.NewMessage(ubus.MsgHello, 0, cl.id), NoFD)
	return cl.id
}

// Disconnect removes a client and all that was its.
func (c *Core) Disconnect(id uint32) {
	cl := c.clients[id]
	if cl == nil {
		return
	}
	c.dropMonitor(cl)
	for len(cl.objects) > 0 {
		c.remove(cl.objects[0])
	}
	delete(c.clients, id)
}

// verdict is how a request ends.
type verdict int

// noStatus ends a request without a STATUS of the broker's own.
const noStatus verdict = -1

func status(s ubus.Status) verdict { return verdict(s) }

// Handle takes one message of a client, and the descriptor that came with it.
func (c *Core) Handle(id uint32, m ubus.Message, fd int) {
	cl := c.clients[id]
	if cl == nil {
		c.closeFD(fd)
		return
	}
	c.watch(cl, m, false)
	if m.Type != ubus.MsgStatus && m.Type != ubus.MsgInvoke {
		c.closeFD(fd)
		fd = NoFD
	}
	a := ubus.ParseAttrs(m.Body)
	v := status(ubus.StatusInvalidCommand)
	switch m.Type {
	case ubus.MsgPing:
		pong := m
		pong.Type = ubus.MsgData
		c.sendMessage(cl, pong, NoFD)
		v = status(ubus.StatusOK)
	case ubus.MsgLookup:
		v = c.lookup(cl, m, &a)
	case ubus.MsgInvoke:
		v = c.invoke(cl, m, &a, &fd)
	case ubus.MsgStatus, ubus.MsgData:
		v = c.response(cl, m, &a, &fd)
	case ubus.MsgAddObject:
		v = c.addObject(cl, m, &a)
	case ubus.MsgRemoveObject:
		v = c.removeObject(cl, m, &a)
	case ubus.MsgSubscribe:
		v = c.subscribe(cl, &a)
	case ubus.MsgUnsubscribe:
		v = c.unsubscribe(cl, &a)
	case ubus.MsgNotify:
		v = c.notify(cl, m, &a)
	}
	c.closeFD(fd)
	if v != noStatus {
		c.send(cl, ubus.NewMessage(ubus.MsgStatus, m.Seq, m.Peer).U32(ubus.AttrStatus, uint32(v)), NoFD)
	}
}

func (c *Core) closeFD(fd int) {
	if fd != NoFD {
		c.out.CloseFD(fd)
	}
}

// send sends a message that the broker made. One that is too big is dropped,
// like one that does not fit into the queue.
func (c *Core) send(to *client, b *ubus.Builder, fd int) {
	raw, err := b.Bytes()
	if err != nil {
		c.closeFD(fd)
		return
	}
	if len(c.monitors) > 0 {
		if m, err := ubus.DecodeMessage(raw); err == nil {
			c.watch(to, m, true)
		}
	}
	c.out.Send(to.id, raw, fd)
}

// sendMessage sends a message that is mostly somebody else's.
func (c *Core) sendMessage(to *client, m ubus.Message, fd int) {
	raw, err := m.Append(nil)
	if err != nil {
		c.closeFD(fd)
		return
	}
	c.watch(to, m, true)
	c.out.Send(to.id, raw, fd)
}

// may asks the policy, for clients that are not root.
func (c *Core) may(cl *client, ask func(Policy, Cred) bool) bool {
	return cl.cred.UID == 0 || ask(c.policy, cl.cred)
}

// prefix splits a pattern with a trailing "*".
func prefix(pattern string) (key string, partial bool) {
	return strings.CutSuffix(pattern, "*")
}

// without removes the first element that is v.
func without[T comparable](list []T, v T) []T {
	if i := slices.Index(list, v); i >= 0 {
		return slices.Delete(list, i, i+1)
	}
	return list
}
