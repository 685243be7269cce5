package ubus

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
)

// Handler serves one call. The table it returns, unless nil, is sent as the
// last DATA, then the error's [Status] ends the call; an error that holds no
// Status is logged and told as "unknown error". ctx ends with the connection,
// after [Options.HandlerTimeout], and when the caller uses the call's number
// again. Handlers of one object run at the same time.
type Handler func(ctx context.Context, r *Request) (Table, error)

// Method is one method of an [Object].
type Method struct {
	Name    string
	Args    []Arg // in the order that LOOKUP shows
	Handler Handler
}

// Object is something that other processes call. It is published on a [Conn] or
// kept published by a [Server], and not changed afterwards.
type Object struct {
	Name    string
	Methods []Method // in the order that LOOKUP shows

	// OnActive, if set, is told when the first subscriber comes and when the
	// last one is gone. It must not block.
	OnActive func(active bool)
}

// validate finds what ubusd would refuse or nobody could call.
func (o *Object) validate() error {
	if o.Name == "" || strings.ContainsAny(o.Name, "*\x00") {
		return fmt.Errorf("object name %q: want a name without \"*\"", o.Name)
	}
	seen := make(map[string]bool, len(o.Methods))
	for i, m := range o.Methods {
		switch {
		case m.Name == "" || strings.ContainsAny(m.Name, "*\x00"):
			return fmt.Errorf("object %s: method %d has the name %q", o.Name, i, m.Name)
		case seen[m.Name]:
			return fmt.Errorf("object %s: method %s is there twice", o.Name, m.Name)
		case m.Handler == nil:
			return fmt.Errorf("object %s: method %s has no handler", o.Name, m.Name)
		}
		seen[m.Name] = true
		for _, a := range m.Args {
			if a.Name == "" || a.Type > TypeDouble {
				return fmt.Errorf("object %s: method %s: argument %q of type %d", o.Name, m.Name, a.Name, a.Type)
			}
		}
	}
	return nil
}

// signature is what LOOKUP will show.
func (o *Object) signature() Table {
	infos := make([]MethodInfo, len(o.Methods))
	for i, m := range o.Methods {
		infos[i] = MethodInfo{m.Name, m.Args}
	}
	return signatureTable(infos)
}

func (o *Object) method(name string) *Method {
	for i := range o.Methods {
		if o.Methods[i].Name == name {
			return &o.Methods[i]
		}
	}
	return nil
}

// published is an object that ubusd knows under an id.
type published struct {
	object *Object
	id     uint32      // guarded by Conn.mu; 0 until ubusd has told it
	on     atomic.Bool // somebody is subscribed
	guard  func(what string, f func())
}

// Publish makes an object callable by others until the connection ends or
// [Conn.Unpublish]. A path that is taken is ErrInvalidArgument.
func (c *Conn) Publish(ctx context.Context, o *Object) error {
	if err := o.validate(); err != nil {
		return fmt.Errorf("ubus publish: %w", err)
	}
	p := &published{object: o, guard: c.guard}
	c.mu.Lock()
	_, taken := c.names[o.Name]
	if !taken {
		c.names[o.Name] = p
	}
	c.mu.Unlock()
	if taken {
		return fmt.Errorf("ubus publish %s: already published here: %w", o.Name, ErrInvalidArgument)
	}
	sig := o.signature()
	err := c.addObject(ctx, p, func(id uint32) { p.id = id }, func(b *Builder) *Builder {
		return b.Text(AttrPath, o.Name).Table(AttrSignature, sig)
	})
	if err != nil {
		c.mu.Lock()
		delete(c.names, o.Name)
		c.mu.Unlock()
		return fmt.Errorf("ubus publish %s: %w", o.Name, err)
	}
	return nil
}

// addObject makes an object at ubusd. setID runs under the lock, before any
// message for the object is handled. When the answer does not come in time the connection is
// given up, or an object that nobody serves would stay behind.
func (c *Conn) addObject(ctx context.Context, recv receiver, setID func(uint32), fill func(*Builder) *Builder) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	wait, cancel := context.WithTimeout(context.WithoutCancel(ctx), c.opts.WriteTimeout)
	defer cancel()
	r := newRequest(0)
	added := false
	r.early = func(a *Attrs) {
		if !a.Has(AttrObjID) || added {
			return
		}
		added = true
		c.mu.Lock()
		setID(a.ObjID)
		c.objects[a.ObjID] = recv
		c.mu.Unlock()
	}
	err := c.do(wait, r, func(seq uint16) *Builder { return fill(NewMessage(MsgAddObject, seq, 0)) }, nil)
	if err != nil {
		if StatusOf(err) == StatusTimeout {
			c.fail(fmt.Errorf("no answer to ADD_OBJECT: %w", err))
		}
		return err
	}
	if !added {
		return fmt.Errorf("object without an id: %w", ErrParse)
	}
	return nil
}

// removeObject takes an object away from ubusd.
func (c *Conn) removeObject(ctx context.Context, id uint32) error {
	c.mu.Lock()
	delete(c.objects, id)
	c.mu.Unlock()
	return c.send(ctx, 0, func(seq uint16) *Builder {
		return NewMessage(MsgRemoveObject, seq, 0).U32(AttrObjID, id)
	}, nil)
}

// Unpublish takes a published object away. Calls under way may still answer, but
// ubusd drops what they say.
func (c *Conn) Unpublish(ctx context.Context, name string) error {
	id := uint32(0)
	c.mu.Lock()
	if p := c.names[name]; p != nil && p.id != 0 {
		id = p.id
		delete(c.names, name)
	}
	c.mu.Unlock()
	if id == 0 {
		return fmt.Errorf("ubus unpublish %s: %w", name, ErrNotFound)
	}
	ctx, cancel := c.limited(ctx)
	defer cancel()
	if err := c.removeObject(ctx, id); err != nil {
		return fmt.Errorf("ubus unpublish %s: %w", name, err)
	}
	return nil
}

// Subscribed tells whether anybody is subscribed to a published object.
func (c *Conn) Subscribed(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.names[name]
	return p != nil && p.on.Load()
}

// Notify tells the subscribers of a published object something; they do not
// answer. It never waits: ErrBusy when ubusd does not read. Without subscribers
// nothing is sent.
func (c *Conn) Notify(name, notification string, data Table) error {
	c.mu.Lock()
	p := c.names[name]
	var id uint32
	var seq uint16
	if p != nil && p.on.Load() {
		// No answer comes to a NOTIFY with NO_REPLY, so its number is not kept.
		c.seq++
		id, seq = p.id, c.seq
	}
	c.mu.Unlock()
	switch {
	case p == nil:
		return fmt.Errorf("ubus notify %s: %w", name, ErrNotFound)
	case id == 0:
		return nil
	case c.Err() != nil:
		return fmt.Errorf("ubus notify %s: %w", name, c.lost())
	}
	err := c.sendSoon(NewMessage(MsgNotify, seq, id).U32(AttrObjID, id).
		Text(AttrMethod, notification).Table(AttrData, data).Flag(AttrNoReply, true))
	if err != nil {
		return fmt.Errorf("ubus notify %s %s: %w", name, notification, err)
	}
	return nil
}

func (p *published) active(on bool) {
	p.on.Store(on)
	if p.object.OnActive != nil {
		p.guard("OnActive of "+p.object.Name, func() { p.object.OnActive(on) })
	}
}

func (p *published) gone(uint32) {}
