package ubus

// CheckMessage tells whether b is one message exactly as ubusd and libubus write
// them: known type and attributes, right lengths and sizes, NULs where they
// belong and nowhere else, zero padding, well-formed values. For tests and
// diagnosis; a connection is more forgiving.
func CheckMessage(b []byte) error {
	m, err := DecodeMessage(b)
	switch {
	case err != nil:
		return err
	case m.Version != 0:
		return malformed("version %d", m.Version)
	case m.Type > MsgMonitor:
		return malformed("%s", m.Type)
	case len(b)%4 != 0 || b[8] != 0:
		return malformed("top container is no multiple of four with id 0")
	case m.Type == MsgMonitor:
		return checkList(m.Body, monitorSchema)
	}
	return checkList(m.Body, bodySchema)
}

// attrKind is what an attribute holds.
type attrKind uint8

const (
	kindUnknown attrKind = iota
	kind32
	kind8
	kindText
	kindTable
	kindList // of 32 bit numbers with id 0
	kindBody // a message body
)

func bodySchema(id AttrID) attrKind {
	switch id {
	case AttrStatus, AttrObjID, AttrObjType, AttrTarget:
		return kind32
	case AttrActive, AttrNoReply:
		return kind8
	case AttrPath, AttrMethod, AttrUser, AttrGroup:
		return kindText
	case AttrSignature, AttrData:
		return kindTable
	case AttrSubscribers:
		return kindList
	}
	return kindUnknown
}

// The attributes of a MONITOR message.
const (
	MonitorClient AttrID = 0 // u32: whose connection
	MonitorPeer   AttrID = 1 // u32
	MonitorSend   AttrID = 2 // u8: 1 = sent by ubusd
	MonitorSeq    AttrID = 3 // u32
	MonitorType   AttrID = 4 // u32
	MonitorData   AttrID = 5 // the watched message's body
)

func monitorSchema(id AttrID) attrKind {
	switch id {
	case MonitorClient, MonitorPeer, MonitorSeq, MonitorType:
		return kind32
	case MonitorSend:
		return kind8
	case MonitorData:
		return kindBody
	}
	return kindUnknown
}

func listSchema(id AttrID) attrKind {
	if id == 0 {
		return kind32
	}
	return kindUnknown
}

func checkList(list []byte, schema func(AttrID) attrKind) error {
	for len(list) > 0 {
		word, payload, rest, ok := nextBlob(list)
		if !ok {
			return malformed("attribute runs out of its container")
		}
		id := AttrID(blobID(word))
		if word&blobExtended != 0 {
			return malformed("attribute %d is extended", id)
		}
		if !zero(list[blobHeader+len(payload) : len(list)-len(rest)]) {
			return malformed("attribute %d: padding is not zero", id)
		}
		if err := checkAttr(id, schema(id), payload); err != nil {
			return err
		}
		list = rest
	}
	return nil
}

func checkAttr(id AttrID, kind attrKind, b []byte) error {
	ok := false
	switch kind {
	case kind32:
		ok = len(b) == 4
	case kind8:
		ok = len(b) == 1 && b[0] <= 1
	case kindText:
		s, nul := getString(b, "")
		ok = nul && len(s) == len(b)-1
	case kindTable:
		_, err := decodeFields(b, 1, true)
		return err
	case kindList:
		return checkList(b, listSchema)
	case kindBody:
		return checkList(b, bodySchema)
	}
	if !ok {
		return malformed("attribute %d of %d bytes", id, len(b))
	}
	return nil
}
