package homes

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"htip/tests/qemu/lab"
)

// Packet is where a packet came from and went to.
type Packet struct {
	From, To netip.Addr
	Text     string // as tcpdump prints it
}

// Capture watches a router's device until the function it returns is called,
// which gives the packets seen.
func Capture(ctx context.Context, r *lab.Router, device, filter string) (func() ([]Packet, error), error) {
	file := "/tmp/capture-" + device
	pid, err := r.Check(ctx, fmt.Sprintf("tcpdump -Z root -n -t -l -i %s '%s' >%s 2>%s.err </dev/null & echo $!; "+
		"n=0; until grep -q 'listening on' %s.err; do n=$((n+1)); [ $n -lt 100 ] || { cat %s.err; exit 1; }; sleep 0.05; done", device, filter, file, file, file, file))
	if err != nil {
		return nil, fmt.Errorf("capturing on %s of %s: %w", device, r.Name, err)
	}
	return func() ([]Packet, error) {
		time.Sleep(200 * time.Millisecond) // what was just sent may still be on its way to tcpdump
		out, err := r.Check(ctx, fmt.Sprintf("kill -INT %s; n=0; while kill -0 %s 2>/dev/null; do n=$((n+1)); [ $n -lt 100 ] || exit 1; sleep 0.05; done; cat %s; rm -f %s %s.err",
			strings.TrimSpace(pid), strings.TrimSpace(pid), file, file, file))
		if err != nil {
			return nil, fmt.Errorf("capturing on %s of %s: %w", device, r.Name, err)
		}
		var ps []Packet
		for _, l := range strings.Split(out, "\n") {
			if p, ok := parsePacket(l); ok {
				ps = append(ps, p)
			}
		}
		return ps, nil
	}, nil
}

// parsePacket reads "IP 10.0.0.4 > 10.0.2.5: ICMP echo request, …"; ports are
// cut off.
func parsePacket(line string) (Packet, bool) {
	f := strings.Fields(line)
	if len(f) < 4 || f[0] != "IP" || f[2] != ">" {
		return Packet{}, false
	}
	from, ok1 := address(f[1])
	to, ok2 := address(strings.TrimSuffix(f[3], ":"))
	return Packet{from, to, line}, ok1 && ok2
}

func address(s string) (netip.Addr, bool) {
	parts := strings.SplitN(s, ".", 5)
	if len(parts) < 4 {
		return netip.Addr{}, false
	}
	a, err := netip.ParseAddr(strings.Join(parts[:4], "."))
	return a, err == nil
}

// Hop is where on its way a packet was seen, and with which addresses.
type Hop struct {
	Where    string
	From, To netip.Addr
}

func (h Hop) String() string { return fmt.Sprintf("%-16s %v > %v", h.Where, h.From, h.To) }

// Hops pings from a host of one home to an address and returns the addresses of
// the request at the four hops (LAN and tunnel of the one, tunnel and LAN of the
// other) and then those of the reply.
func Hops(ctx context.Context, from, to *Home, addr netip.Addr) (request, reply []Hop, err error) {
	type place struct {
		where  string
		router *lab.Router
		device string
	}
	a, err := from.Tunnel(ctx, to.Name)
	if err != nil {
		return nil, nil, err
	}
	b, err := to.Tunnel(ctx, from.Name)
	if err != nil {
		return nil, nil, err
	}
	places := []place{
		{"LAN of " + from.Name, from.Router, "br-lan"}, {"tunnel at " + from.Name, from.Router, a.Device},
		{"tunnel at " + to.Name, to.Router, b.Device}, {"LAN of " + to.Name, to.Router, "br-lan"},
	}
	var stops []func() ([]Packet, error)
	for _, p := range places {
		stop, err := Capture(ctx, p.router, p.device, "icmp")
		if err != nil {
			return nil, nil, err
		}
		stops = append(stops, stop)
	}
	ping := from.Host.Ping(ctx, addr, 56, 1)
	for i, stop := range stops {
		packets, err := stop()
		if err != nil {
			return nil, nil, err
		}
		for _, p := range packets {
			if x, y := p.From.String(), p.To.String(); x == a.Gateway && y == a.PeerGateway || x == a.PeerGateway && y == a.Gateway {
				continue // the daemons' own echo through a quiet tunnel
			}
			hop := Hop{places[i].where, p.From, p.To}
			if strings.Contains(p.Text, "echo request") {
				request = append(request, hop)
			} else if strings.Contains(p.Text, "echo reply") {
				reply = append([]Hop{hop}, reply...)
			}
		}
	}
	return request, reply, ping
}
