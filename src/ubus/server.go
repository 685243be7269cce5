package ubus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// ServerConfig is what a [Server] needs.
type ServerConfig struct {
	Options
	Socket  string // DefaultSocket when empty
	Objects []*Object

	// FirstRetry is how long to wait before connecting again, LastRetry what
	// that grows to: ubusd's restart takes a moment only, and its absence must
	// cost nothing. Defaults 100 ms and 5 s. A connection that lasted LastRetry
	// starts from FirstRetry again.
	FirstRetry, LastRetry time.Duration

	// OnConnect, if set, runs after the objects were published on a new
	// connection: for Listen, Subscribe and first calls. ctx ends with the
	// connection. An error ends it too, and it is tried again.
	OnConnect func(ctx context.Context, c *Conn) error
}

// Server keeps objects published: it connects, publishes, serves, and does so
// again whenever the connection ends.
type Server struct {
	cfg   ServerConfig
	ready chan struct{}
	once  sync.Once

	mu   sync.Mutex
	conn *Conn // nil while there is no connection with everything published
}

// NewServer makes a server; Run starts it. Errors are those of an object that
// can't be published anywhere.
func NewServer(cfg ServerConfig) (*Server, error) {
	cfg.Options = cfg.Options.withDefaults()
	cfg.Socket = cmp.Or(cfg.Socket, DefaultSocket)
	cfg.FirstRetry = cmp.Or(cfg.FirstRetry, 100*time.Millisecond)
	cfg.LastRetry = cmp.Or(cfg.LastRetry, 5*time.Second)
	seen := make(map[string]bool, len(cfg.Objects))
	for _, o := range cfg.Objects {
		if err := o.validate(); err != nil {
			return nil, fmt.Errorf("ubus: %w", err)
		}
		if seen[o.Name] {
			return nil, fmt.Errorf("ubus: object %s is there twice", o.Name)
		}
		seen[o.Name] = true
	}
	return &Server{cfg: cfg, ready: make(chan struct{})}, nil
}

// String names the server in messages.
func (s *Server) String() string { return "ubus " + s.cfg.Socket }

// Ready is closed when everything was published for the first time.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// Run serves until ctx ends, and returns its error. It outlives every trouble
// with ubusd; see [ServerConfig] for how often it tries.
func (s *Server) Run(ctx context.Context) error {
	delay, said := s.cfg.FirstRetry, ""
	for {
		up := time.Time{}
		err := s.serve(ctx, func(c *Conn) {
			up = time.Now()
			s.cfg.Log.Info("ubus connected", "socket", s.cfg.Socket, "id", fmt.Sprintf("%08x", c.ID()))
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !up.IsZero() {
			said = ""
		}
		if !up.IsZero() && time.Since(up) >= s.cfg.LastRetry {
			delay = s.cfg.FirstRetry
		}
		// The same trouble again and again is one event.
		if msg := err.Error(); msg != said {
			s.cfg.Log.Warn("ubus not connected", "socket", s.cfg.Socket, "retry", delay.String(), "err", msg)
			said = msg
		} else {
			s.cfg.Log.Debug("ubus not connected", "socket", s.cfg.Socket, "retry", delay.String(), "err", msg)
		}
		sleep(ctx, delay)
		delay = min(2*delay, s.cfg.LastRetry)
	}
}

// serve is one life of a connection.
func (s *Server) serve(ctx context.Context, connected func(*Conn)) error {
	c, err := s.cfg.Options.Dial(ctx, s.cfg.Socket)
	if err != nil {
		return err
	}
	defer c.Close()
	// Publishing is not broken off halfway, except together with the connection.
	unhookRun := context.AfterFunc(ctx, func() { c.settle(); c.Close() })
	defer unhookRun()
	for _, o := range s.cfg.Objects {
		if err := c.Publish(ctx, o); err != nil {
			return err
		}
	}
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	unhook := context.AfterFunc(c.ctx, cancel)
	defer unhook()
	s.set(c)
	defer s.set(nil)
	if s.cfg.OnConnect != nil {
		if err := s.cfg.OnConnect(life, c); err != nil {
			return fmt.Errorf("set up: %w", err)
		}
	}
	connected(c)
	s.once.Do(func() { close(s.ready) })
	select {
	case <-ctx.Done():
		c.settle()
		return ctx.Err()
	case <-c.Done():
		return c.lost()
	}
}

func (s *Server) set(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn = c
}

// Conn is the present connection. Without one it is an ErrConnectionFailed.
func (s *Server) Conn() (*Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.conn == nil {
		return nil, fmt.Errorf("ubus: %w: %w", ErrConnectionFailed, ErrNoConnection)
	}
	return s.conn, nil
}

// ErrNoConnection is the reason while a [Server] has no connection.
var ErrNoConnection = errors.New("not connected at present")

// Notify is [Conn.Notify] on the present connection. Without one there is no
// subscriber either, and nothing to do.
func (s *Server) Notify(name, notification string, data Table) error {
	c, err := s.Conn()
	if err != nil {
		return nil
	}
	err = c.Notify(name, notification, data)
	if errors.Is(err, ErrConnectionFailed) {
		return nil
	}
	return err
}

// Subscribed tells whether anybody is subscribed to an object now.
func (s *Server) Subscribed(name string) bool {
	c, err := s.Conn()
	return err == nil && c.Subscribed(name)
}

// SendEvent is [Conn.SendEvent] on the present connection.
func (s *Server) SendEvent(ctx context.Context, id string, data Table) error {
	c, err := s.Conn()
	if err != nil {
		return err
	}
	return c.SendEvent(ctx, id, data)
}

// Call is [Conn.Call] on the present connection.
func (s *Server) Call(ctx context.Context, object, method string, args Table) (Table, error) {
	c, err := s.Conn()
	if err != nil {
		return nil, err
	}
	return c.Call(ctx, object, method, args)
}

// sleep waits for d or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
