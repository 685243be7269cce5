// Package rtnl is the little of the kernel's netlink that is needed here: links,
// IPv4 addresses and routes, and what messages of other families are made of.
//
// Sockets and the framing of messages are those of vishvananda/netlink/nl. That
// library's own types know every kind of link, route and encapsulation there
// is, and cost 50 kB of the packed program.
package rtnl

import (
	"encoding/binary"
	"errors"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Nested marks the kind of an attribute that holds attributes.
const (
	Nested   = 0x8000
	kindMask = 0x3fff
)

var errShort = errors.New("netlink message: attribute is cut off")

// Attributes calls f for every attribute in b, which has no header any more.
func Attributes(b []byte, f func(kind uint16, value []byte) error) error {
	for len(b) > 0 {
		if len(b) < 4 {
			return errShort
		}
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return errShort
		}
		if err := f(binary.NativeEndian.Uint16(b[2:])&kindMask, b[4:n]); err != nil {
			return err
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return nil
}

// Pick gives the value of the last attribute of a kind, and how many of any
// kind there are. What is cut off is not there.
func Pick(b []byte, kind uint16) (value []byte, n int) {
	_ = Attributes(b, func(k uint16, v []byte) error {
		if n++; k == kind {
			value = v
		}
		return nil
	})
	return value, n
}

// Pick32 is the number in an attribute; 0 if there is none.
func Pick32(b []byte, kind uint16) uint32 {
	v, _ := Pick(b, kind)
	if len(v) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(v)
}

// Pick16 is the number in an attribute; 0 if there is none.
func Pick16(b []byte, kind uint16) uint16 {
	v, _ := Pick(b, kind)
	if len(v) < 2 {
		return 0
	}
	return binary.NativeEndian.Uint16(v)
}

// PickText is the text in an attribute, without its end.
func PickText(b []byte, kind uint16) string {
	v, _ := Pick(b, kind)
	return unix.ByteSliceToString(v)
}

// Put appends an attribute to a message whose length is a multiple of four.
func Put(msg []byte, kind int, value ...byte) []byte {
	msg = binary.NativeEndian.AppendUint16(msg, uint16(4+len(value)))
	msg = binary.NativeEndian.AppendUint16(msg, uint16(kind))
	msg = append(msg, value...)
	return append(msg, make([]byte, -len(msg)&3)...)
}

// Put16 appends a number.
func Put16(msg []byte, kind int, v uint16) []byte {
	return Put(msg, kind, binary.NativeEndian.AppendUint16(nil, v)...)
}

// Put32 appends a number.
func Put32(msg []byte, kind int, v uint32) []byte {
	return Put(msg, kind, binary.NativeEndian.AppendUint32(nil, v)...)
}

// PutText appends a text with a zero at its end.
func PutText(msg []byte, kind int, s string) []byte {
	return Put(msg, kind, append([]byte(s), 0)...)
}

// Ask sends a message of a netlink protocol, such as NETLINK_GENERIC, and gives
// what the kernel answers, without the headers of netlink.
func Ask(protocol, kind, flags int, msg []byte) ([][]byte, error) {
	req := nl.NewNetlinkRequest(kind, flags)
	req.AddRawData(msg)
	return req.Execute(protocol, 0)
}

// Change sends a message of rtnetlink that changes something.
func Change(kind, flags int, msg []byte) error {
	_, err := Ask(unix.NETLINK_ROUTE, kind, flags|unix.NLM_F_ACK, msg)
	return err
}

// dump asks rtnetlink for all of a kind. If something changed under it, it is
// asked again.
func dump(kind int, msg []byte) (answers [][]byte, err error) {
	for range 5 {
		answers, err = Ask(unix.NETLINK_ROUTE, kind, unix.NLM_F_DUMP, msg)
		if !errors.Is(err, nl.ErrDumpInterrupted) {
			break
		}
	}
	return answers, err
}
