package dns

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The tests' hosts, name servers and peers speak with another library than the
// program: it is a second reader of all that the program says, and a second
// writer of all that it hears.

// queryOf is a question of a host.
func queryOf(name string, qtype uint16) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	return m
}

// understood is m as the program reads it.
func understood(t testing.TB, m *dns.Msg) *msg {
	t.Helper()
	out := new(msg)
	if err := out.Unpack(packed(m)); err != nil {
		t.Fatalf("%v: %v", m, err)
	}
	return out
}

// theirs is m as the other library reads it.
func theirs(t testing.TB, m *msg) *dns.Msg {
	t.Helper()
	b, err := m.Pack()
	if err != nil {
		t.Fatalf("%+v: %v", m, err)
	}
	out := new(dns.Msg)
	if err := out.Unpack(b); err != nil {
		t.Fatalf("%x: %v", b, err)
	}
	return out
}

// packed is a message of either library.
func packed(m interface{ Pack() ([]byte, error) }) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

// framed is a message with its length in front.
func framed(m interface{ Pack() ([]byte, error) }) []byte {
	b := packed(m)
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(b))), b...)
}

func rrs(t testing.TB, list ...string) []dns.RR {
	t.Helper()
	var out []dns.RR
	for _, s := range list {
		rr, err := dns.NewRR(s)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, rr)
	}
	return out
}

func header(name string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}

// message is an answer with the records in zone-file form.
func message(t testing.TB, rcode int, records ...string) *msg {
	t.Helper()
	m := new(dns.Msg)
	m.Response, m.Rcode, m.Answer = true, rcode, rrs(t, records...)
	return understood(t, m)
}

// respond is an empty reply of a name server.
func respond(req *dns.Msg, rcode int) *dns.Msg {
	m := new(dns.Msg).SetRcode(req, rcode)
	m.Authoritative, m.RecursionAvailable, m.Compress = true, true, true
	if req.IsEdns0() != nil {
		m.SetEdns0(maxUDP, false)
	}
	return m
}

// nameServer is a name server whose every answer a test decides.
func nameServer(t testing.TB, s Sockets, device string, at netip.AddrPort, answer func(req *dns.Msg, tcp bool) []*dns.Msg) {
	t.Helper()
	if s == nil {
		s = Kernel{}
	}
	udp, err := s.ListenUDP(device, at)
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := s.ListenTCP(device, at)
	if err != nil {
		t.Fatal(err)
	}
	for _, srv := range []*dns.Server{{PacketConn: udp}, {Listener: tcp}} {
		srv.Handler = dns.HandlerFunc(func(w dns.ResponseWriter, req *dns.Msg) {
			_, isTCP := w.RemoteAddr().(*net.TCPAddr)
			for _, m := range answer(req, isTCP) {
				if !isTCP {
					size := dns.MinMsgSize
					if opt := req.IsEdns0(); opt != nil {
						size = int(opt.UDPSize())
					}
					m.Truncate(size)
				}
				w.WriteMsg(m)
			}
		})
		started := make(chan struct{})
		srv.NotifyStartedFunc = func() { close(started) }
		go srv.ActivateAndServe()
		<-started
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			srv.ShutdownContext(ctx)
		})
	}
}
