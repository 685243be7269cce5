package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"
)

// Limits of one listener. Each tunnel has its own, so that no home can use up
// what the others need.
const (
	localSlots = 64 // questions under way at once, from our own hosts
	peerSlots  = 16 // from one peer
	localConns = 16
	peerConns  = 4

	maxQuery    = 1232 // octets of a question
	perConn     = 64   // questions over one TCP connection
	idle        = 5 * time.Second
	writeWithin = 2 * time.Second
)

// query is a question as it arrived.
type query struct {
	*msg
	from netip.AddrPort
	tcp  bool
}

// handler answers q with any number of calls of write; with none, nobody hears
// anything.
type handler func(ctx context.Context, q query, write func(*msg) error)

// server answers questions on one UDP and one TCP socket. It is ours and not
// a library's because its limits are: datagrams are parsed one by one, and no
// goroutine is started for a question beyond them.
type server struct {
	udp    *net.UDPConn
	tcp    net.Listener
	handle handler
	slots  chan struct{} // questions under way
	conns  chan struct{} // TCP connections
	stats  *counters

	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

// listen opens both sockets of a server.
func listen(s Sockets, device string, at netip.AddrPort, slots, conns int, stats *counters, h handler) (*server, error) {
	udp, err := s.ListenUDP(device, at)
	if err != nil {
		return nil, err
	}
	tcp, err := s.ListenTCP(device, at)
	if err != nil {
		udp.Close()
		return nil, err
	}
	return &server{
		udp: udp, tcp: tcp, handle: h, stats: stats, open: make(map[net.Conn]struct{}),
		slots: make(chan struct{}, slots), conns: make(chan struct{}, conns),
	}, nil
}

// run answers until ctx ends or close is called, and returns when nothing of it
// is left.
func (s *server) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer s.close() // waits for one that is under way
	defer context.AfterFunc(ctx, s.close)()
	var wg sync.WaitGroup
	wg.Go(func() {
		s.serveTCP(ctx, &wg)
		cancel() // the sockets are closed: nobody hears an answer any more
	})
	s.serveUDP(ctx, &wg)
	wg.Wait()
}

// close ends the sockets and every connection. When it returns, the port is
// free again.
func (s *server) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	s.closed = true
	s.udp.Close()
	s.tcp.Close()
	for c := range s.open {
		c.Close()
	}
}

// pause waits after an error of a listening socket, which may come again at
// once (a device that is down, no more descriptors). It tells whether to go on.
func (s *server) pause(ctx context.Context, err error) bool {
	if errors.Is(err, net.ErrClosed) {
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(50 * time.Millisecond):
		return true
	}
}

func (s *server) serveUDP(ctx context.Context, wg *sync.WaitGroup) {
	b := make([]byte, maxQuery+1)
	for {
		n, from, source, err := receive(s.udp, b)
		if err != nil {
			if s.pause(ctx, err) {
				continue
			}
			return
		}
		if n > maxQuery {
			continue
		}
		req, reject, err := parseQuery(b[:n])
		write := func(m *msg) error {
			limit := minMessage
			if req != nil {
				limit = udpSize(req)
			}
			packed, err := m.PackWithin(limit)
			if err != nil {
				return err
			}
			_, _, err = s.udp.WriteMsgUDPAddrPort(packed, source, from)
			return err
		}
		if err != nil {
			s.stats.junk.Add(1)
			if reject != nil {
				s.count(write(reject))
			}
			continue
		}
		select {
		case s.slots <- struct{}{}:
		default:
			s.stats.busy.Add(1)
			s.count(write(render(req, failure(edeNotReady, errBusy))))
			continue
		}
		q := query{msg: req, from: from}
		wg.Go(func() {
			defer func() { <-s.slots }()
			s.handle(ctx, q, func(m *msg) error { return s.count(write(m)) })
		})
	}
}

var errBusy = errors.New("too many questions at once")

// count notes a reply that could not be sent; the asker will ask again.
func (s *server) count(err error) error {
	if err != nil {
		s.stats.unsent.Add(1)
	}
	return err
}

func (s *server) serveTCP(ctx context.Context, wg *sync.WaitGroup) {
	for {
		select {
		case s.conns <- struct{}{}:
		case <-ctx.Done():
			return
		}
		c, err := s.tcp.Accept()
		if err != nil {
			<-s.conns
			if s.pause(ctx, err) {
				continue
			}
			return
		}
		if !s.track(c) {
			c.Close()
			<-s.conns
			return
		}
		wg.Go(func() {
			s.serveConn(ctx, c)
			s.mu.Lock()
			delete(s.open, c)
			s.mu.Unlock()
			c.Close()
			<-s.conns
		})
	}
}

func (s *server) track(c net.Conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.open[c] = struct{}{}
	}
	return !s.closed
}

// serveConn answers the questions of one connection, one after the other. It
// ends at the first thing that is wrong: who talks TCP has proved its address,
// but owes us order.
func (s *server) serveConn(ctx context.Context, c net.Conn) {
	addr, ok := c.RemoteAddr().(*net.TCPAddr)
	if !ok {
		return
	}
	from := netip.AddrPortFrom(addr.AddrPort().Addr().Unmap(), addr.AddrPort().Port())
	for range perConn {
		b, err := readTCP(c, maxQuery, time.Now().Add(idle))
		if err != nil {
			return
		}
		failed := false
		write := func(m *msg) error {
			err := s.count(writeTCP(c, m, time.Now().Add(writeWithin)))
			failed = failed || err != nil
			return err
		}
		req, reject, err := parseQuery(b)
		if err != nil {
			s.stats.junk.Add(1)
			if reject != nil {
				write(reject) // counted; the connection ends either way
			}
			return
		}
		select {
		case s.slots <- struct{}{}:
			s.handle(ctx, query{msg: req, from: from, tcp: true}, write)
			<-s.slots
		default:
			s.stats.busy.Add(1)
			write(render(req, failure(edeNotReady, errBusy)))
		}
		if failed {
			return
		}
	}
}
