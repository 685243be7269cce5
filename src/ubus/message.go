package ubus

import (
	"encoding/binary"
	"fmt"
	"strings"
)

// MsgType is the type of a ubus message.
type MsgType uint8

// The message types.
const (
	MsgHello        MsgType = 0
	MsgStatus       MsgType = 1
	MsgData         MsgType = 2
	MsgPing         MsgType = 3
	MsgLookup       MsgType = 4
	MsgInvoke       MsgType = 5
	MsgAddObject    MsgType = 6
	MsgRemoveObject MsgType = 7
	MsgSubscribe    MsgType = 8
	MsgUnsubscribe  MsgType = 9
	MsgNotify       MsgType = 10
	MsgMonitor      MsgType = 11
)

var msgNames = [...]string{"HELLO", "STATUS", "DATA", "PING", "LOOKUP", "INVOKE", "ADD_OBJECT",
	"REMOVE_OBJECT", "SUBSCRIBE", "UNSUBSCRIBE", "NOTIFY", "MONITOR"}

// String is the type's name.
func (t MsgType) String() string {
	if int(t) < len(msgNames) {
		return msgNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// AttrID is the id of a message attribute.
type AttrID uint8

// The attributes of a message body. A MONITOR message numbers its own.
const (
	AttrStatus      AttrID = 1  // u32
	AttrPath        AttrID = 2  // string
	AttrObjID       AttrID = 3  // u32
	AttrMethod      AttrID = 4  // string
	AttrObjType     AttrID = 5  // u32
	AttrSignature   AttrID = 6  // blobmsg list
	AttrData        AttrID = 7  // blobmsg list
	AttrTarget      AttrID = 8  // u32
	AttrActive      AttrID = 9  // u8
	AttrNoReply     AttrID = 10 // u8
	AttrSubscribers AttrID = 11 // list of u32
	AttrUser        AttrID = 12 // string
	AttrGroup       AttrID = 13 // string
)

// The system objects, which ubusd itself answers for.
const (
	ObjectEvent   uint32 = 1
	ObjectACL     uint32 = 2
	ObjectMonitor uint32 = 3

	// FirstFreeID is the smallest client, object or type id that is not ubusd's.
	FirstFreeID uint32 = 1024
)

// HeaderLen is the size of a message's header with the header of its top
// container, in bytes: what must be read to know the length of the rest.
const HeaderLen = 12

// Message is one ubus message.
type Message struct {
	Version uint8
	Type    MsgType
	Seq     uint16 // chosen by the requester, echoed in each reply
	Peer    uint32 // a client's or an object's id, by type
	Body    []byte // the attributes: contents of the top container
}

// DecodeHeader reads the first [HeaderLen] bytes of a message and returns the
// message without its body and the length of the body, 0 … MaxMessage-4.
func DecodeHeader(b []byte) (m Message, body int, err error) {
	if len(b) < HeaderLen {
		return m, 0, malformed("header of %d bytes", len(b))
	}
	m = Message{Version: b[0], Type: MsgType(b[1]), Seq: binary.BigEndian.Uint16(b[2:]), Peer: binary.BigEndian.Uint32(b[4:])}
	n := int(binary.BigEndian.Uint32(b[8:]) & blobLenMask)
	if n < blobHeader || pad(n) > MaxMessage {
		return m, 0, malformed("%s of length %d", m.Type, n)
	}
	return m, n - blobHeader, nil
}

// DecodeMessage reads one whole message. Its body is a part of b.
func DecodeMessage(b []byte) (Message, error) {
	m, n, err := DecodeHeader(b)
	if err != nil {
		return m, err
	}
	if len(b) != HeaderLen+n {
		return m, malformed("%d bytes where the header says %d", len(b), HeaderLen+n)
	}
	m.Body = b[HeaderLen:]
	return m, nil
}

// Append appends the message's bytes to dst.
func (m Message) Append(dst []byte) ([]byte, error) {
	if pad(blobHeader+len(m.Body)) > MaxMessage {
		return dst, fmt.Errorf("%s of %d bytes: %w", m.Type, len(m.Body), ErrTooBig)
	}
	dst = append(dst, m.Version, byte(m.Type))
	dst = binary.BigEndian.AppendUint16(dst, m.Seq)
	dst = binary.BigEndian.AppendUint32(dst, m.Peer)
	dst = binary.BigEndian.AppendUint32(dst, uint32(blobHeader+len(m.Body)))
	return append(dst, m.Body...), nil
}

// Attrs are the attributes of a message body, found by id.
type Attrs struct {
	has uint32 // bit n: attribute n is there

	Status      Status
	Path        string
	ObjID       uint32
	Method      string
	ObjType     uint32
	Signature   []byte // blobmsg list, for DecodeTable; shared with the body
	Data        []byte // blobmsg list, for DecodeTable; shared with the body
	Target      uint32
	Active      bool
	NoReply     bool
	Subscribers []uint32
	User        string
	Group       string
}

// Has tells whether the attribute was there and well-formed.
func (a *Attrs) Has(id AttrID) bool { return id < 32 && a.has&(1<<id) != 0 }

// ParseAttrs reads a message body. Nothing in it is an error: an attribute that
// is malformed is absent, one that is unknown is skipped, and of two the last
// counts.
func ParseAttrs(body []byte) Attrs {
	var a Attrs
	for id, b := range Attributes(body) {
		ok := false
		switch id {
		case AttrStatus:
			var n uint32
			n, ok = get32(b, uint32(a.Status))
			a.Status = Status(n)
		case AttrObjID:
			a.ObjID, ok = get32(b, a.ObjID)
		case AttrObjType:
			a.ObjType, ok = get32(b, a.ObjType)
		case AttrTarget:
			a.Target, ok = get32(b, a.Target)
		case AttrPath:
			a.Path, ok = getString(b, a.Path)
		case AttrMethod:
			a.Method, ok = getString(b, a.Method)
		case AttrUser:
			a.User, ok = getString(b, a.User)
		case AttrGroup:
			a.Group, ok = getString(b, a.Group)
		case AttrActive:
			a.Active, ok = getFlag(b, a.Active)
		case AttrNoReply:
			a.NoReply, ok = getFlag(b, a.NoReply)
		case AttrSignature:
			a.Signature, ok = b, true
		case AttrData:
			a.Data, ok = b, true
		case AttrSubscribers:
			a.Subscribers, ok = getIDs(b), true
		}
		if ok {
			a.has |= 1 << id
		}
	}
	return a
}

func get32(b []byte, old uint32) (uint32, bool) {
	if len(b) != 4 {
		return old, false
	}
	return binary.BigEndian.Uint32(b), true
}

func getFlag(b []byte, old bool) (value, ok bool) {
	if len(b) != 1 {
		return old, false
	}
	return b[0] != 0, true
}

func getString(b []byte, old string) (string, bool) {
	if len(b) == 0 || b[len(b)-1] != 0 {
		return old, false
	}
	return cstring(b), true
}

func getIDs(list []byte) []uint32 {
	var ids []uint32
	for _, b := range Attributes(list) {
		if n, ok := get32(b, 0); ok {
			ids = append(ids, n)
		}
	}
	return ids
}

// Builder writes a message attribute by attribute, in the order of the calls.
// The first error sticks and comes out of Bytes.
type Builder struct {
	buf []byte
	err error
}

// NewMessage starts a message of version 0.
func NewMessage(typ MsgType, seq uint16, peer uint32) *Builder {
	b := &Builder{buf: make([]byte, 0, 96)}
	b.buf = append(b.buf, 0, byte(typ))
	b.buf = binary.BigEndian.AppendUint16(b.buf, seq)
	b.buf = binary.BigEndian.AppendUint32(b.buf, peer)
	b.buf = binary.BigEndian.AppendUint32(b.buf, 0)
	return b
}

// U32 adds a 32 bit number.
func (b *Builder) U32(id AttrID, v uint32) *Builder {
	b.buf = binary.BigEndian.AppendUint32(b.buf, uint32(id)<<24|8)
	b.buf = binary.BigEndian.AppendUint32(b.buf, v)
	return b
}

// Flag adds a u8 of 0 or 1.
func (b *Builder) Flag(id AttrID, v bool) *Builder {
	b.buf = binary.BigEndian.AppendUint32(b.buf, uint32(id)<<24|5)
	var n byte
	if v {
		n = 1
	}
	b.buf = append(b.buf, n, 0, 0, 0)
	return b
}

// Text adds a string.
func (b *Builder) Text(id AttrID, s string) *Builder {
	switch {
	case strings.IndexByte(s, 0) >= 0:
		b.fail(fmt.Errorf("NUL inside %q", s))
		return b
	case len(s) > MaxMessage:
		b.fail(ErrTooBig)
		return b
	}
	dst, start := beginBlob(b.buf, uint32(id))
	b.buf = endBlob(append(append(dst, s...), 0), start)
	return b
}

// Table adds a blobmsg list, such as DATA or SIGNATURE.
func (b *Builder) Table(id AttrID, t Table) *Builder {
	if b.err != nil {
		return b
	}
	dst, start := beginBlob(b.buf, uint32(id))
	dst, err := AppendTable(dst, t)
	if err != nil {
		b.fail(err)
		return b
	}
	b.buf = endBlob(dst, start)
	return b
}

// Raw adds an attribute whose contents are encoded already.
func (b *Builder) Raw(id AttrID, payload []byte) *Builder {
	if len(payload) > MaxMessage {
		b.fail(ErrTooBig)
		return b
	}
	dst, start := beginBlob(b.buf, uint32(id))
	b.buf = endBlob(append(dst, payload...), start)
	return b
}

// IDs adds a list of 32 bit numbers, such as SUBSCRIBERS.
func (b *Builder) IDs(id AttrID, ids []uint32) *Builder {
	if len(ids) > MaxMessage/8 {
		b.fail(ErrTooBig)
		return b
	}
	dst, start := beginBlob(b.buf, uint32(id))
	for _, n := range ids {
		dst = binary.BigEndian.AppendUint32(dst, 8)
		dst = binary.BigEndian.AppendUint32(dst, n)
	}
	b.buf = endBlob(dst, start)
	return b
}

// Bytes finishes the message.
func (b *Builder) Bytes() ([]byte, error) {
	if b.err == nil && len(b.buf)-8 > MaxMessage {
		b.fail(ErrTooBig)
	}
	if b.err != nil {
		return nil, fmt.Errorf("%s: %w", MsgType(b.buf[1]), b.err)
	}
	binary.BigEndian.PutUint32(b.buf[8:], uint32(len(b.buf)-8))
	return b.buf, nil
}

func (b *Builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}
