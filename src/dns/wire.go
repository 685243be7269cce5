package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	headerLen = 12
	opQuery   = 0
)

// errJunk is a packet that deserves no reply.
var errJunk = errors.New("not a question")

// parseQuery reads one question. A message that is none, or of which no sense
// can be made, gives an error, and with it the reply that it deserves or nil.
// Only what a question may contain is unpacked: nothing in the answer and
// authority sections.
func parseQuery(b []byte) (req, reject *msg, err error) {
	if len(b) < headerLen || b[2]&0x80 != 0 {
		return nil, nil, errJunk
	}
	bad := func(rcode dnsmessage.RCode) *msg {
		m := new(msg)
		m.ID = binary.BigEndian.Uint16(b)
		m.Response = true
		m.OpCode = dnsmessage.OpCode(b[2]>>3) & 0xf
		m.RCode = rcode
		return m
	}
	if b[2]>>3&0xf != opQuery {
		return nil, bad(dnsmessage.RCodeNotImplemented), errors.New("opcode is not QUERY")
	}
	qd, an := binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	ns, ar := binary.BigEndian.Uint16(b[8:]), binary.BigEndian.Uint16(b[10:])
	if qd != 1 || an != 0 || ns != 0 || ar > 2 {
		return nil, bad(dnsmessage.RCodeFormatError), fmt.Errorf("%d questions, %d+%d+%d records", qd, an, ns, ar)
	}
	req = new(msg)
	if err := req.Unpack(b); err != nil {
		return nil, bad(dnsmessage.RCodeFormatError), err
	}
	if opt := req.EDNS; opt != nil && opt.Version != 0 {
		m := reply(req, rcodeBadVers)
		return nil, m, errors.New("EDNS version")
	}
	return req, nil, nil
}

// matches tells whether m answers req: same id, same question. Anything else
// that arrives at our port was sent by somebody who is guessing.
func matches(m, req *msg) bool {
	if !m.Response || m.ID != req.ID || m.OpCode != req.OpCode || len(m.Question) != 1 {
		return false
	}
	q, r := m.Question[0], req.Question[0]
	return q.Type == r.Type && q.Class == r.Class && strings.EqualFold(q.Name, r.Name)
}

// udpSize is how much the asker of req takes over UDP.
func udpSize(req *msg) int {
	if opt := req.EDNS; opt != nil {
		return min(max(int(opt.Size), minMessage), maxUDP)
	}
	return minMessage
}

// readTCP reads one message with its length in front (RFC 1035 §4.2.2).
func readTCP(c net.Conn, limit int, until time.Time) ([]byte, error) {
	if err := c.SetReadDeadline(until); err != nil {
		return nil, err
	}
	var length [2]byte
	if _, err := io.ReadFull(c, length[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(length[:]))
	if n < headerLen || n > limit {
		return nil, fmt.Errorf("message of %d octets", n)
	}
	b := make([]byte, n)
	_, err := io.ReadFull(c, b)
	return b, err
}

func writeTCP(c net.Conn, m *msg, until time.Time) error {
	b, err := m.Pack()
	if err != nil {
		return err
	}
	if err := c.SetWriteDeadline(until); err != nil {
		return err
	}
	_, err = c.Write(append(binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(b)), uint16(len(b))), b...))
	return err
}
