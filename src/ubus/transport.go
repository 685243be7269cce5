package ubus

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"
)

// firstRead is the most that is allocated for a message before its bytes come.
const firstRead = 16 << 10

// reader takes messages off a connection to ubusd.
type reader struct {
	conn  *net.UnixConn
	limit time.Duration // for the rest of a message once its first byte is there
	head  [HeaderLen]byte
	oob   [128]byte
}

// next reads one message. A descriptor that comes with it is closed: nothing of
// ours takes one, and a caller must not be able to use ours up.
func (r *reader) next() (Message, error) {
	n, err := r.readHead()
	if err != nil {
		return Message{}, err
	}
	if n < HeaderLen {
		if err := r.conn.SetReadDeadline(time.Now().Add(r.limit)); err != nil {
			return Message{}, err
		}
		for n < HeaderLen {
			k, err := r.recv(r.head[n:])
			if err != nil {
				return Message{}, cut(err)
			}
			n += k
		}
	}
	m, size, err := DecodeHeader(r.head[:])
	if err != nil {
		return m, err
	}
	if m.Version != 0 {
		return m, malformed("version %d", m.Version)
	}
	if size > 0 {
		if m.Body, err = r.readBody(size); err != nil {
			return m, cut(err)
		}
	}
	return m, r.conn.SetReadDeadline(time.Time{})
}

// readHead waits for the first bytes of a message, for ever.
func (r *reader) readHead() (int, error) { return r.recv(r.head[:]) }

// readBody reads size bytes, allocating as they come.
func (r *reader) readBody(size int) ([]byte, error) {
	if err := r.conn.SetReadDeadline(time.Now().Add(r.limit)); err != nil {
		return nil, err
	}
	body := make([]byte, min(size, firstRead))
	for n := 0; ; {
		// Plain reads take no descriptor: the kernel drops one that comes here.
		k, err := io.ReadFull(r.conn, body[n:])
		if err != nil {
			return nil, err
		}
		if n += k; n == size {
			return body, nil
		}
		more := make([]byte, min(size, 2*n))
		copy(more, body)
		body = more
	}
}

// recv reads some bytes and closes every descriptor that comes with them.
func (r *reader) recv(b []byte) (int, error) {
	n, oobn, _, _, err := r.conn.ReadMsgUnix(b, r.oob[:])
	if oobn > 0 {
		if e := closeFDs(r.oob[:oobn]); e != nil && err == nil {
			err = e
		}
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	return n, err
}

// closeFDs closes the descriptors of control messages.
func closeFDs(oob []byte) error {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return fmt.Errorf("control message from ubusd: %w", err)
	}
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // no descriptors in this one
		}
		for _, fd := range fds {
			if err := unix.Close(fd); err != nil {
				return fmt.Errorf("close a received descriptor: %w", err)
			}
		}
	}
	return nil
}

// cut names the end of a stream inside a message.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
