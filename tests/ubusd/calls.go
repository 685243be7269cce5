package ubusd

import "htip/src/ubus"

func (c *Core) invoke(cl *client, m ubus.Message, a *ubus.Attrs, fd *int) verdict {
	if !a.Has(ubus.AttrMethod) || !a.Has(ubus.AttrObjID) {
		return status(ubus.StatusInvalidArgument)
	}
	switch a.ObjID {
	case ubus.ObjectEvent:
		return c.invokeEvent(cl, a)
	case ubus.ObjectACL:
		return c.invokeACL(cl, m, a)
	case ubus.ObjectMonitor:
		return c.invokeMonitor(cl, a)
	}
	o := c.objects[a.ObjID]
	if o == nil {
		return status(ubus.StatusNotFound)
	}
	if o.path != "" && !c.may(cl, func(p Policy, who Cred) bool { return p.Access(who, o.path, a.Method) }) {
		return status(ubus.StatusPermissionDenied)
	}
	b := ubus.NewMessage(ubus.MsgInvoke, m.Seq, cl.id)
	c.send(o.owner, forward(b, cl, o, a), *fd)
	*fd = NoFD
	return noStatus
}

// forward writes a call for its callee.
func forward(b *ubus.Builder, from *client, to *object, a *ubus.Attrs) *ubus.Builder {
	b.U32(ubus.AttrObjID, to.id).Text(ubus.AttrMethod, a.Method).
		Text(ubus.AttrUser, from.cred.User).Text(ubus.AttrGroup, from.cred.Group)
	if a.Has(ubus.AttrData) {
		b.Raw(ubus.AttrData, a.Data)
	}
	return b
}

// response passes a callee's DATA or STATUS to its caller. What nobody can be
// meant by is dropped.
func (c *Core) response(cl *client, m ubus.Message, a *ubus.Attrs, fd *int) verdict {
	o := c.objects[a.ObjID]
	caller := c.clients[m.Peer]
	switch {
	case !a.Has(ubus.AttrObjID),
		m.Type == ubus.MsgStatus && !a.Has(ubus.AttrStatus),
		m.Type == ubus.MsgData && !a.Has(ubus.AttrData),
		o == nil, caller == nil:
		return noStatus
	case o.owner != cl:
		return noStatus
	}
	m.Peer = o.id
	c.sendMessage(caller, m, *fd)
	*fd = NoFD
	return noStatus
}

func (c *Core) invokeACL(cl *client, m ubus.Message, a *ubus.Attrs) verdict {
	if a.Method != "query" {
		return status(ubus.StatusInvalidCommand)
	}
	var paths []string
	for _, o := range cl.objects {
		if o.path != "" {
			paths = append(paths, o.path)
		}
	}
	c.send(cl, ubus.NewMessage(ubus.MsgData, m.Seq, m.Peer).
		U32(ubus.AttrObjID, ubus.ObjectACL).Table(ubus.AttrData, c.policy.Query(paths)), NoFD)
	return status(ubus.StatusOK)
}

func (c *Core) subscribe(cl *client, a *ubus.Attrs) verdict {
	if !a.Has(ubus.AttrObjID) || !a.Has(ubus.AttrTarget) {
		return status(ubus.StatusInvalidArgument)
	}
	o, target := c.objects[a.ObjID], c.objects[a.Target]
	switch {
	case o == nil:
		return status(ubus.StatusNotFound)
	case o.owner != cl:
		return status(ubus.StatusInvalidArgument)
	case target == nil:
		return status(ubus.StatusNotFound)
	case target.owner == cl:
		return status(ubus.StatusInvalidArgument)
	case !c.may(cl, func(p Policy, who Cred) bool { return p.Subscribe(who, target.path) }):
		return status(ubus.StatusNotFound)
	}
	first := len(target.subscribers) == 0
	target.subscribers = append([]*object{o}, target.subscribers...)
	o.targets = append([]*object{target}, o.targets...)
	if first {
		c.tellActive(target)
	}
	return status(ubus.StatusOK)
}

func (c *Core) unsubscribe(cl *client, a *ubus.Attrs) verdict {
	if !a.Has(ubus.AttrObjID) || !a.Has(ubus.AttrTarget) {
		return status(ubus.StatusInvalidArgument)
	}
	o := c.objects[a.ObjID]
	switch {
	case o == nil:
		return status(ubus.StatusNotFound)
	case o.owner != cl:
		return status(ubus.StatusInvalidArgument)
	}
	for _, target := range o.targets {
		if target.id == a.Target {
			c.untie(o, target)
			return status(ubus.StatusOK)
		}
	}
	return status(ubus.StatusNotFound)
}

// untie ends one subscription.
func (c *Core) untie(o, target *object) {
	o.targets = without(o.targets, target)
	target.subscribers = without(target.subscribers, o)
	if len(target.subscribers) == 0 {
		c.tellActive(target)
	}
}

// tellActive tells an owner whether its object has subscribers now.
func (c *Core) tellActive(o *object) {
	o.seq++
	c.send(o.owner, ubus.NewMessage(ubus.MsgNotify, o.seq, 0).
		U32(ubus.AttrObjID, o.id).Flag(ubus.AttrActive, len(o.subscribers) > 0), NoFD)
}

func (c *Core) notify(cl *client, m ubus.Message, a *ubus.Attrs) verdict {
	if !a.Has(ubus.AttrMethod) || !a.Has(ubus.AttrObjID) {
		return status(ubus.StatusInvalidArgument)
	}
	o := c.objects[a.ObjID]
	if o == nil {
		return status(ubus.StatusNotFound)
	}
	if o.owner != cl {
		return status(ubus.StatusPermissionDenied)
	}
	if !a.NoReply {
		ids := make([]uint32, len(o.subscribers))
		for i, s := range o.subscribers {
			ids[i] = s.id
		}
		c.send(cl, ubus.NewMessage(ubus.MsgStatus, m.Seq, m.Peer).U32(ubus.AttrObjID, o.id).
			IDs(ubus.AttrSubscribers, ids).U32(ubus.AttrStatus, 0), NoFD)
	}
	for _, s := range o.subscribers {
		b := ubus.NewMessage(ubus.MsgInvoke, m.Seq, cl.id)
		if a.NoReply {
			b.Flag(ubus.AttrNoReply, true)
		}
		c.send(s.owner, forward(b, cl, s, a), NoFD)
	}
	return noStatus
}
