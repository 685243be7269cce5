// Package frame is the talk between the lab and the agent inside a router: frames over a
// serial port of the virtual machine, many commands at once.
package frame

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Port is the name of the serial port in the guest.
const Port = "htip.lab"

// Kind says what a frame means.
type Kind byte

// The kinds of frames, with their payload. To the agent: Run, Stdin, StdinEnd, Kill. From the
// agent: Hello, Out, Exit.
const (
	Hello    Kind = iota + 1 // the agent has started; forget what ran before
	Run                      // command for /bin/sh
	Stdin                    // bytes for the command's standard input
	StdinEnd                 // no more of them
	Kill                     // end the command's process group
	Out                      // bytes of standard output and error
	Exit                     // exit code, 4 bytes big-endian; -n for signal n
)

// Max is the largest payload of one frame in bytes.
const Max = 32 << 10

const header = 9

// Frame is one message about command ID.
type Frame struct {
	ID      uint32
	Kind    Kind
	Payload []byte
}

// Read reads one frame.
func Read(r io.Reader) (Frame, error) {
	var h [header]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return Frame{}, err
	}
	n := binary.BigEndian.Uint32(h[5:])
	if n > Max {
		return Frame{}, fmt.Errorf("frame of %d bytes: more than %d", n, Max)
	}
	f := Frame{ID: binary.BigEndian.Uint32(h[:]), Kind: Kind(h[4]), Payload: make([]byte, n)}
	_, err := io.ReadFull(r, f.Payload)
	return f, err
}

// Write writes one frame by a single call.
func Write(w io.Writer, f Frame) error {
	if len(f.Payload) > Max {
		return fmt.Errorf("frame of %d bytes: more than %d", len(f.Payload), Max)
	}
	b := make([]byte, header, header+len(f.Payload))
	binary.BigEndian.PutUint32(b, f.ID)
	b[4] = byte(f.Kind)
	binary.BigEndian.PutUint32(b[5:], uint32(len(f.Payload)))
	_, err := w.Write(append(b, f.Payload...))
	return err
}
