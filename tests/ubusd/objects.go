package ubusd

import (
	"slices"
	"strings"

	"htip/src/ubus"
)

// object is something that can be called, subscribed to, or sent events.
type object struct {
	id    uint32
	path  string // "" for an anonymous one
	owner *client
	typ   *objectType

	subscribers []*object // newest first
	targets     []*object // what it is subscribed to, newest first
	seq         uint16    // counts what the broker tells it of itself
	seen        int       // number of the last event sent to it
}

// objectType is a signature, shared by objects.
type objectType struct {
	id      uint32
	methods ubus.Table
	refs    int
}

// typeOf finds or makes the type that ADD_OBJECT names; nil when it names none
// that is usable.
func (c *Core) typeOf(a *ubus.Attrs) *objectType {
	if a.Has(ubus.AttrObjType) {
		return c.types[a.ObjType]
	}
	if !a.Has(ubus.AttrSignature) {
		return nil
	}
	methods, err := ubus.DecodeTable(a.Signature)
	if err != nil || slices.ContainsFunc(methods, func(f ubus.Field) bool { return f.Name == "" }) {
		return nil
	}
	t := &objectType{id: fresh(c, KindType, c.types), methods: methods}
	c.types[t.id] = t
	return t
}

func (c *Core) addObject(cl *client, m ubus.Message, a *ubus.Attrs) verdict {
	if a.Has(ubus.AttrPath) {
		if _, taken := c.paths[a.Path]; taken || !c.may(cl, func(p Policy, who Cred) bool { return p.Publish(who, a.Path) }) {
			return status(ubus.StatusInvalidArgument)
		}
	}
	o := &object{id: fresh(c, KindObject, c.objects), path: a.Path, typ: c.typeOf(a), owner: cl}
	if o.typ != nil {
		o.typ.refs++
	}
	c.objects[o.id] = o
	cl.objects = slices.Insert(cl.objects, 0, o)
	if a.Has(ubus.AttrPath) {
		c.paths[o.path] = o
		c.objectEvent("ubus.object.add", o)
	}
	b := ubus.NewMessage(ubus.MsgData, m.Seq, m.Peer).U32(ubus.AttrObjID, o.id)
	if a.Has(ubus.AttrSignature) && o.typ != nil {
		b.U32(ubus.AttrObjType, o.typ.id)
	}
	c.send(cl, b, NoFD)
	return status(ubus.StatusOK)
}

func (c *Core) removeObject(cl *client, m ubus.Message, a *ubus.Attrs) verdict {
	if !a.Has(ubus.AttrObjID) {
		return status(ubus.StatusInvalidArgument)
	}
	o := c.objects[a.ObjID]
	if o == nil {
		return status(ubus.StatusNotFound)
	}
	if o.owner != cl {
		return status(ubus.StatusPermissionDenied)
	}
	b := ubus.NewMessage(ubus.MsgData, m.Seq, m.Peer).U32(ubus.AttrObjID, o.id)
	if o.typ != nil && o.typ.refs == 1 {
		b.U32(ubus.AttrObjType, o.typ.id)
	}
	c.send(cl, b, NoFD)
	c.remove(o)
	return status(ubus.StatusOK)
}

// remove takes an object away and tells all whom it concerns.
func (c *Core) remove(o *object) {
	for len(o.targets) > 0 {
		c.untie(o, o.targets[0])
	}
	if len(o.subscribers) > 0 {
		subscribers := o.subscribers
		o.subscribers = nil
		for _, s := range subscribers {
			s.targets = without(s.targets, o)
			s.seq++
			c.send(s.owner, ubus.NewMessage(ubus.MsgUnsubscribe, s.seq, 0).
				U32(ubus.AttrObjID, s.id).U32(ubus.AttrTarget, o.id), NoFD)
		}
		c.tellActive(o)
	}
	c.patterns = slices.DeleteFunc(c.patterns, func(p *pattern) bool { return p.object == o })
	if c.paths[o.path] == o {
		c.objectEvent("ubus.object.remove", o)
		delete(c.paths, o.path)
	}
	o.owner.objects = without(o.owner.objects, o)
	delete(c.objects, o.id)
	if o.typ != nil {
		if o.typ.refs--; o.typ.refs == 0 {
			delete(c.types, o.typ.id)
		}
	}
}

func (c *Core) lookup(cl *client, m ubus.Message, a *ubus.Attrs) verdict {
	if !a.Has(ubus.AttrPath) {
		c.describeAll(cl, m, "")
		return status(ubus.StatusOK)
	}
	if a.Path == "" {
		return status(ubus.StatusInvalidArgument)
	}
	if key, partial := prefix(a.Path); partial {
		if !c.describeAll(cl, m, key) {
			return status(ubus.StatusNotFound)
		}
		return status(ubus.StatusOK)
	}
	o := c.paths[a.Path]
	if o == nil {
		return status(ubus.StatusNotFound)
	}
	c.describe(cl, m, o)
	return status(ubus.StatusOK)
}

// describeAll describes the objects whose paths begin with key, in order, and
// tells whether there was any.
func (c *Core) describeAll(cl *client, m ubus.Message, key string) bool {
	var paths []string
	for p := range c.paths {
		if strings.HasPrefix(p, key) {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	for _, p := range paths {
		c.describe(cl, m, c.paths[p])
	}
	return len(paths) > 0
}

// describe answers a LOOKUP with one object: nothing for one without a type, or
// without any method that the client may call.
func (c *Core) describe(cl *client, m ubus.Message, o *object) {
	if o.typ == nil {
		return
	}
	methods := slices.DeleteFunc(slices.Clone(o.typ.methods), func(f ubus.Field) bool {
		return !c.may(cl, func(p Policy, who Cred) bool { return p.Access(who, o.path, f.Name) })
	})
	if len(methods) == 0 && len(o.typ.methods) > 0 {
		return
	}
	c.send(cl, ubus.NewMessage(ubus.MsgData, m.Seq, m.Peer).Text(ubus.AttrPath, o.path).
		U32(ubus.AttrObjID, o.id).U32(ubus.AttrObjType, o.typ.id).Table(ubus.AttrSignature, methods), NoFD)
}
