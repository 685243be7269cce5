package htip

import (
	"fmt"
	"time"
)

// ConnID names a control connection. The one who opens and accepts them chooses
// it, never 0, never twice.
type ConnID uint64

// Event is something that happened to a peer; see [Gateway.Handle].
type Event interface{ event() }

type (
	// Connect: a user, a configuration or a DNS question wants a tunnel.
	Connect struct{}
	// Disconnect: a user or a shutdown ends the tunnel and every attempt.
	Disconnect struct{ Reason Reason }
	// Opened: the connection that a Dial action asked for stands. Ends are the
	// addresses that we see; without them there is no L2TPESP.
	Opened struct {
		Conn ConnID
		Ends Ends
	}
	// DialFailed: it does not.
	DialFailed struct {
		Reason Reason
		Text   string
	}
	// Received: a message came on a connection of the peer; for a connection
	// that the peer opened the first one is also the first sign of it.
	Received struct {
		Conn ConnID
		Msg  *Message
		Ends Ends // as of Opened
	}
	// Malformed: something came that is no message. The connection is useless.
	Malformed struct {
		Conn ConnID
		Talk uint64 // as far as it could be read: the answer carries it
		Err  error
	}
	// Closed: a connection is gone, and why as far as known (0 and "" else).
	Closed struct {
		Conn   ConnID
		Reason Reason
		Text   string
	}
	// Timeout: the time of a SetTimer action is over.
	Timeout struct{ Seq uint32 }
	// Started: the VPN program that StartServer or StartClient asked for runs;
	// a server is really listening.
	Started struct{ TunnelID uint32 }
	// StartFailed: it does not run.
	StartFailed struct {
		TunnelID uint32
		Text     string
	}
	// LinkUp: the VPN tunnel carries addresses; NAT and routes are set.
	LinkUp struct{ TunnelID uint32 }
	// LinkDown: it broke, or its program ended.
	LinkDown struct {
		TunnelID uint32
		Text     string
	}
	// Proven: a packet has passed both ways.
	Proven struct{ TunnelID uint32 }
)

func (Connect) event()     {}
func (Disconnect) event()  {}
func (Opened) event()      {}
func (DialFailed) event()  {}
func (Received) event()    {}
func (Malformed) event()   {}
func (Closed) event()      {}
func (Timeout) event()     {}
func (Started) event()     {}
func (StartFailed) event() {}
func (LinkUp) event()      {}
func (LinkDown) event()    {}
func (Proven) event()      {}

// Action is something to be done, in the order given.
type Action interface{ action() }

type (
	// Dial opens a control connection to the peer: its name is resolved anew.
	Dial struct{ Peer string }
	// Send sends a message. A failure shows as Closed.
	Send struct {
		Conn ConnID
		Msg  *Message
	}
	// CloseConn closes a connection after what was sent on it has left.
	CloseConn struct{ Conn ConnID }
	// SetTimer replaces the peer's timer; After 0 stops it.
	SetTimer struct {
		Peer  string
		Seq   uint32
		After time.Duration
	}
	// StartServer and StartClient start the VPN program of a tunnel. The keys
	// come from the TLS session of Conn. The Entry of a server that has to listen
	// before addresses are agreed (Config.EarlyServers) has no Own and no
	// OwnGateway yet: Agreed brings them, or StopTunnel comes.
	StartServer struct {
		Entry Entry
		Conn  ConnID
	}
	StartClient struct {
		Entry Entry
		Conn  ConnID
	}
	// Agreed completes the Entry of a server that listens already: addresses,
	// NAT and routes can be set now. LinkUp is true only after it.
	Agreed struct{ Entry Entry }
	// Prove sends packets through the tunnel until one came back (Proven).
	Prove struct{ Entry Entry }
	// StopTunnel ends the VPN program and removes NAT and routes.
	StopTunnel struct{ Entry Entry }
	// Save remembers the substitutes of a peer for good.
	Save struct {
		Peer   string
		Record Record
	}
	// Progress tells those who watch how far the peer's tunnel is.
	Progress struct {
		Peer   string
		Step   Step
		Reason Reason // of Failed and Down
		Text   string // for people
		Retry  time.Duration
	}
)

func (Dial) action()        {}
func (Send) action()        {}
func (CloseConn) action()   {}
func (SetTimer) action()    {}
func (StartServer) action() {}
func (StartClient) action() {}
func (Agreed) action()      {}
func (Prove) action()       {}
func (StopTunnel) action()  {}
func (Save) action()        {}
func (Progress) action()    {}

// Step is how far a tunnel is, as people see it.
type Step uint8

const (
	StepConnecting Step = iota + 1 // looking the name up, opening the control connection
	StepRequest                    // REQUEST sent or received
	StepResponse                   // RESPONSE
	StepNak                        // NAK; another round follows
	StepAck                        // ACK
	StepReady                      // READY; in a talk of three messages ACK: the server listens, the client starts
	StepTunnel                     // the VPN tunnel carries addresses, NAT is set
	StepUp                         // a packet has passed both ways
	StepDown                       // it was up and is no more
	StepFailed                     // the attempt ended without a tunnel
)

var stepNames = [...]string{StepConnecting: "connecting", StepRequest: "request", StepResponse: "response", StepNak: "nak", StepAck: "ack",
	StepReady: "ready", StepTunnel: "tunnel", StepUp: "up", StepDown: "down", StepFailed: "failed"}

func (s Step) String() string {
	if int(s) < len(stepNames) && stepNames[s] != "" {
		return stepNames[s]
	}
	return fmt.Sprintf("step %d", uint8(s))
}

// State is where a peer's tunnel stands.
type State uint8

const (
	Idle       State = iota // no tunnel, none wanted
	Waiting                 // wanted; the next attempt comes by itself
	Dialing                 // initiator: control connection is being opened
	Requested               // initiator: REQUEST sent
	Acked                   // initiator: ACK sent
	Refusing                // responder: NAK sent, the next REQUEST may follow
	Listening               // responder: VPN server is starting, RESPONSE follows (three messages)
	Responded               // responder: RESPONSE sent
	Preparing               // responder: VPN server is starting
	Connecting              // both: VPN server listens, client is connecting
	Proving                 // both: VPN tunnel stands, no packet has passed yet
	Up                      // both
)

var stateNames = [...]string{"idle", "waiting", "dialing", "requested", "acked", "refusing", "listening", "responded", "preparing", "connecting", "proving", "up"}

func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// Time limits of the states, in the initiator's or responder's own clock.
const (
	DialLimit      = 20 * time.Second
	AnswerLimit    = 10 * time.Second // for RESPONSE, ACK, a REQUEST after a NAK
	PrepareLimit   = 20 * time.Second // for the VPN server to listen
	ReadyLimit     = 25 * time.Second // for READY: longer, so that the responder can say why its server does not start
	LinkLimit      = 30 * time.Second // for the VPN tunnel to stand
	ProveLimit     = 15 * time.Second
	KeepaliveEvery = 30 * time.Second
	HoldTime       = 2 * time.Minute // a tunnel that a user ended is not accepted again from a peer that does not know it

	// MaxRounds is how often new parameters are tried within one attempt.
	MaxRounds = 6
	// MaxBusy is how often a busy peer is asked again.
	MaxBusy = 5
	// MaxApproval is how often a peer is asked again whose people have not
	// decided yet: for about an hour. Where somebody here waits for it
	// (Peer.Auto), it is asked after that once in an ApprovalPause.
	MaxApproval   = 60
	ApprovalPause = 10 * time.Minute
)

var pauses = [...]time.Duration{time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute}

// backoff is the pause before attempt n+1.
func backoff(n int) time.Duration { return pauses[min(n, len(pauses)-1)] }
