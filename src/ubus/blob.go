package ubus

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
)

// MaxMessage is the largest padded length of a message's top container, in
// bytes. ubusd closes a connection that announces more.
const MaxMessage = 1 << 20

// MaxDepth is the deepest nesting of tables and arrays inside a message's DATA
// that the codec reads or writes.
const MaxDepth = 32

const (
	blobHeader   = 4       // u32: bit 31 extended, 7 bits id, 24 bits length
	blobExtended = 1 << 31 // set on every blobmsg value, on no ubus attribute
	blobLenMask  = 1<<24 - 1
)

// ErrMalformed is what every decoding error of this package is: bytes that are
// no blob, blobmsg or ubus message.
var ErrMalformed = errors.New("malformed ubus message")

// ErrTooBig reports a value that does not fit into one ubus message.
var ErrTooBig = errors.New("larger than a ubus message may be")

// pad rounds n up to the next multiple of four.
func pad(n int) int { return (n + 3) &^ 3 }

// malformed makes a decoding error.
func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// beginBlob appends a blob header whose length endBlob fills in.
func beginBlob(dst []byte, id uint32) ([]byte, int) {
	return binary.BigEndian.AppendUint32(dst, id<<24), len(dst)
}

// endBlob writes the length of the blob that starts at start and pads it.
func endBlob(dst []byte, start int) []byte {
	word := binary.BigEndian.Uint32(dst[start:])
	binary.BigEndian.PutUint32(dst[start:], word&^blobLenMask|uint32(len(dst)-start)&blobLenMask)
	for len(dst)&3 != start&3 {
		dst = append(dst, 0)
	}
	return dst
}

// nextBlob splits the first blob off a list. raw is the header's word, payload
// its contents without padding. ok is false when what is left is no blob: then
// a lenient reader stops, and a strict one complains unless the list is empty.
func nextBlob(list []byte) (word uint32, payload, rest []byte, ok bool) {
	if len(list) < blobHeader {
		return 0, nil, nil, false
	}
	word = binary.BigEndian.Uint32(list)
	n := int(word & blobLenMask)
	if n < blobHeader || pad(n) > len(list) {
		return 0, nil, nil, false
	}
	return word, list[blobHeader:n], list[pad(n):], true
}

// blobID is the id of a blob header's word, without the extended bit.
func blobID(word uint32) uint32 { return word >> 24 & 0x7f }

// Attributes walks the attributes of a message body in the order of the wire.
// It stops where the bytes are no attribute any more, like libubox.
func Attributes(body []byte) iter.Seq2[AttrID, []byte] {
	return func(yield func(AttrID, []byte) bool) {
		for {
			word, payload, rest, ok := nextBlob(body)
			if !ok || !yield(AttrID(blobID(word)), payload) {
				return
			}
			body = rest
		}
	}
}
