package lab

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Capture collects the IPv4 packets seen at one place from its start on.
type Capture struct {
	Place  string // for people: where
	mu     sync.Mutex
	more   *sync.Cond
	got    []Packet
	err    error // why no more will come
	stop   func() error
	ended  chan struct{}
	closed bool
}

func newCapture(place string, stop func() error) *Capture {
	c := &Capture{Place: place, stop: stop, ended: make(chan struct{})}
	c.more = sync.NewCond(&c.mu)
	return c
}

func (c *Capture) add(p Packet) {
	c.mu.Lock()
	c.got = append(c.got, p)
	c.mu.Unlock()
	c.more.Broadcast()
}

func (c *Capture) end(err error) {
	c.mu.Lock()
	if !c.closed {
		c.err = err
	}
	c.mu.Unlock()
	close(c.ended)
	c.more.Broadcast()
}

// Packets are the packets so far that a test accepts; nil accepts all.
func (c *Capture) Packets(accept func(Packet) bool) []Packet {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Packet
	for _, p := range c.got {
		if accept == nil || accept(p) {
			out = append(out, p)
		}
	}
	return out
}

// Wait returns the first packet that a test accepts, now or when it comes. If none comes, its
// error lists what was seen instead.
func (c *Capture) Wait(ctx context.Context, accept func(Packet) bool) (Packet, error) {
	stop := context.AfterFunc(ctx, func() {
		c.mu.Lock() // it is not between its look at ctx and its wait
		defer c.mu.Unlock()
		c.more.Broadcast()
	})
	defer stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if i := slices.IndexFunc(c.got, accept); i >= 0 {
			return c.got[i], nil
		}
		err := c.err
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			return Packet{}, fmt.Errorf("%s: no such packet among %d: %w%s", c.Place, len(c.got), err, list(c.got))
		}
		c.more.Wait()
	}
}

// list shows the last packets, one a line.
func list(ps []Packet) string {
	var b strings.Builder
	for _, p := range ps[max(0, len(ps)-20):] {
		b.WriteString("\n  " + p.String())
	}
	return b.String()
}

// Stop ends the capture; the packets stay. Its error tells that packets may be missing.
func (c *Capture) Stop() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	err := c.err
	c.closed = true
	c.mu.Unlock()
	err = errors.Join(err, c.stop())
	<-c.ended
	return err
}

// Capture collects the packets on the host's network card, sent and received: what a host of
// the LAN sees on the wire. On the Internet it is the first provider's bridge: all that the
// homes send by their first lines.
func (h *Host) Capture() (*Capture, error) {
	fd := -1
	err := h.ns.do(func() error {
		dev, err := net.InterfaceByName(h.device)
		if err != nil {
			return err
		}
		// All protocols: a socket for one of them would not see what the host sends.
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		const buffer = 16 << 20 // a transfer of 100 MB must not push a packet out
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, buffer); err != nil {
			return err
		}
		if h.router == nil { // a bridge shows what passes it only in promiscuous mode
			m := unix.PacketMreq{Ifindex: int32(dev.Index), Type: unix.PACKET_MR_PROMISC}
			if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, &m); err != nil {
				return err
			}
		}
		// Stop is noticed at the next time-out.
		tv := unix.NsecToTimeval(int64(50 * time.Millisecond))
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: dev.Index})
	})
	if err != nil {
		if fd >= 0 {
			unix.Close(fd)
		}
		return nil, fmt.Errorf("capture on %s in %s: %w", h.device, h.ns.name, err)
	}
	done := make(chan struct{})
	c := newCapture(h.ns.name, func() error { close(done); return nil })
	go c.readSocket(fd, h.device, done)
	return c, nil
}

func htons(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}

// readSocket collects from a packet socket until done; then it takes what is still queued.
func (c *Capture) readSocket(fd int, device string, done chan struct{}) {
	defer unix.Close(fd)
	b := make([]byte, 64<<10)
	flags := 0
	for {
		select {
		case <-done:
			flags = unix.MSG_DONTWAIT
		default:
		}
		n, from, err := unix.Recvfrom(fd, b, flags)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case errors.Is(err, unix.EAGAIN) && flags == 0:
			continue
		case errors.Is(err, unix.EAGAIN):
			c.end(nil)
			return
		case err != nil:
			c.end(fmt.Errorf("capture on %s: %w", device, err))
			return
		}
		ll, ok := from.(*unix.SockaddrLinklayer)
		if !ok || ll.Protocol != htons(unix.ETH_P_IP) {
			continue
		}
		if p, ok := decodeIPv4(b[:n]); ok {
			p.Time, p.Device, p.Out = time.Now(), device, ll.Pkttype == unix.PACKET_OUTGOING
			c.add(p)
		}
	}
}

// Capture collects packets on a device of the router, such as "wan" or a tunnel's, by the
// guest's tcpdump. The filter is tcpdump's; it should leave out bulk data. It has begun
// when Capture returns.
func (r *Router) Capture(ctx context.Context, device, filter string) (*Capture, error) {
	ctx, cancel := context.WithCancel(ctx)
	logFile := "/tmp/lab-capture-" + device + ".log"
	// -Z root: Debian's tcpdump would become a user that the router does not have.
	cmd := fmt.Sprintf("exec tcpdump -Z root -n -U -s 256 -i %s -w - %s 2>%s", quote(device), quote(filter), quote(logFile))
	p, err := r.start(ctx, cmd, nil)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("%s: capture on %s: %w", r.Name, device, err)
	}
	link, err := readPcapHeader(p)
	if err != nil {
		cancel()
		// Without a shell there is nothing to add to the first error.
		log, _ := r.Run(context.WithoutCancel(ctx), "cat "+quote(logFile))
		return nil, fmt.Errorf("%s: capture on %s: %w: %s", r.Name, device, err, log.Output)
	}
	c := newCapture(r.Name+" "+device, func() error {
		// What the guest's kernel has handed to tcpdump shall still come.
		time.Sleep(100 * time.Millisecond)
		cancel()
		return nil
	})
	go c.readPcap(p, link, device)
	return c, nil
}

// readPcapHeader reads the header of a little-endian capture file and returns its link type.
func readPcapHeader(r io.Reader) (uint32, error) {
	var h [24]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return 0, fmt.Errorf("read tcpdump's header: %w", err)
	}
	if magic := binary.LittleEndian.Uint32(h[:]); magic != 0xa1b2c3d4 {
		return 0, fmt.Errorf("tcpdump's header begins with %#x", magic)
	}
	link := binary.LittleEndian.Uint32(h[20:]) & 0xffff
	if _, ok := linkHeaders[link]; !ok {
		return 0, fmt.Errorf("link type %d is not known", link)
	}
	return link, nil
}

func (c *Capture) readPcap(r io.Reader, link uint32, device string) {
	var h [16]byte
	for {
		if _, err := io.ReadFull(r, h[:]); err != nil {
			c.end(fmt.Errorf("tcpdump on %s has ended: %w", device, err))
			return
		}
		n := binary.LittleEndian.Uint32(h[8:])
		if n > 1<<18 {
			c.end(fmt.Errorf("capture on %s: packet of %d bytes", device, n))
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(r, b); err != nil {
			c.end(err)
			return
		}
		if p, ok := decodeLink(link, b); ok {
			p.Device = device
			p.Time = time.Unix(int64(binary.LittleEndian.Uint32(h[:])), int64(binary.LittleEndian.Uint32(h[4:]))*1000)
			c.add(p)
		}
	}
}
