package ubusd

import (
	"slices"
	"strings"

	"htip/src/ubus"
)

// pattern is one registration of a listener.
type pattern struct {
	key     string // without the "*"
	partial bool   // had a "*"
	object  *object
}

func (p *pattern) matches(event string) bool {
	return event == p.key || p.partial && strings.HasPrefix(event, p.key)
}

// invokeEvent serves the system object 1.
func (c *Core) invokeEvent(cl *client, a *ubus.Attrs) verdict {
	args, err := ubus.DecodeTable(a.Data)
	if err != nil {
		return status(ubus.StatusInvalidArgument)
	}
	switch a.Method {
	case "register":
		return c.register(cl, args)
	case "send":
		return c.sendEvent(cl, args)
	}
	return status(ubus.StatusInvalidCommand)
}

func (c *Core) register(cl *client, args ubus.Table) verdict {
	n, isInt := args.GetInt("object")
	text, isText := args.GetString("pattern")
	id := uint32(n)
	o := c.objects[id]
	switch {
	case !isInt || !isText:
		return status(ubus.StatusInvalidArgument)
	case id < ubus.FirstFreeID:
		return status(ubus.StatusPermissionDenied)
	case o == nil:
		return status(ubus.StatusNotFound)
	case o.owner != cl, !c.may(cl, func(p Policy, who Cred) bool { return p.Listen(who, text) }):
		return status(ubus.StatusPermissionDenied)
	}
	p := &pattern{object: o}
	p.key, p.partial = prefix(text)
	at, _ := slices.BinarySearchFunc(c.patterns, p.key+"\x00", func(q *pattern, key string) int {
		return strings.Compare(q.key, key)
	})
	c.patterns = slices.Insert(c.patterns, at, p)
	return status(ubus.StatusOK)
}

func (c *Core) sendEvent(cl *client, args ubus.Table) verdict {
	event, isText := args.GetString("id")
	data, isTable := args.GetTable("data")
	switch {
	case !isText || !isTable:
		return status(ubus.StatusInvalidArgument)
	case strings.HasPrefix(event, "ubus."),
		!c.may(cl, func(p Policy, who Cred) bool { return p.Send(who, event) }):
		return status(ubus.StatusPermissionDenied)
	}
	c.emit(cl, event, data)
	return status(ubus.StatusOK)
}

// objectEvent tells that an object came or went.
func (c *Core) objectEvent(event string, o *object) {
	c.emit(nil, event, ubus.Table{ubus.F("id", int32(o.id)), ubus.F("path", o.path)})
}

// emit delivers an event once to each object that listens, except the sender's.
func (c *Core) emit(from *client, event string, data ubus.Table) {
	c.events++
	for _, p := range c.patterns {
		o := p.object
		if !p.matches(event) || o.owner == from || o.seen == c.events {
			continue
		}
		o.seen = c.events
		c.eventSeq++
		c.send(o.owner, ubus.NewMessage(ubus.MsgInvoke, c.eventSeq, 0).
			U32(ubus.AttrObjID, o.id).Text(ubus.AttrMethod, event).Table(ubus.AttrData, data), NoFD)
	}
}
