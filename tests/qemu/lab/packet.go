package lab

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"
)

// Protocol numbers of Packet.Proto.
const (
	ICMP = 1
	TCP  = 6
	UDP  = 17
	GRE  = 47
	ESP  = 50
)

// Packet is a captured IPv4 packet.
type Packet struct {
	Time      time.Time  // of this machine, or in a router's capture of the guest
	Device    string     // on which it was seen
	Out       bool       // sent by the namespace itself; never set in a router's capture
	Src, Dst  netip.Addr // addresses of the IPv4 header
	Proto     uint8      // protocol of the IPv4 header
	TTL       uint8      // time to live
	Len       int        // total length of the IPv4 header in bytes
	Fragment  int        // offset in bytes, 0 for a whole packet and a first fragment
	DF, More  bool       // don't fragment, more fragments
	ICMPType  uint8      // 8 echo request, 0 echo reply, 3 unreachable
	ICMPCode  uint8      // 4 with type 3: fragmentation needed
	ICMPID    uint16     // identifier of an echo
	ICMPSeq   uint16     // number of an echo
	SrcPort   uint16     // of TCP and UDP
	DstPort   uint16     // of TCP and UDP
	TCPFlags  uint8      // SYN is 2, ACK 16
	MSS       uint16     // option of a TCP SYN, 0 if there is none
	Payload   []byte     // what follows the IPv4 header
	Truncated bool       // the capture did not keep all of it
}

// String is what a person needs to see the packet's way.
func (p Packet) String() string {
	s := fmt.Sprintf("%s: %s > %s", p.Device, p.Src, p.Dst)
	switch {
	case p.Fragment > 0:
		s += fmt.Sprintf(" protocol %d, fragment at %d", p.Proto, p.Fragment)
	case p.Proto == ICMP && p.ICMPType == 8:
		s += fmt.Sprintf(" echo request %d/%d", p.ICMPID, p.ICMPSeq)
	case p.Proto == ICMP && p.ICMPType == 0:
		s += fmt.Sprintf(" echo reply %d/%d", p.ICMPID, p.ICMPSeq)
	case p.Proto == ICMP:
		s += fmt.Sprintf(" icmp type %d code %d", p.ICMPType, p.ICMPCode)
	case p.Proto == TCP:
		s += fmt.Sprintf(" tcp %d > %d flags %#x", p.SrcPort, p.DstPort, p.TCPFlags)
	case p.Proto == UDP:
		s += fmt.Sprintf(" udp %d > %d", p.SrcPort, p.DstPort)
	default:
		s += fmt.Sprintf(" protocol %d", p.Proto)
	}
	return fmt.Sprintf("%s, %d bytes", s, p.Len)
}

// Echo tells whether the packet is an echo request from src to dst.
func Echo(src, dst netip.Addr) func(Packet) bool {
	return func(p Packet) bool {
		return p.Proto == ICMP && p.ICMPType == 8 && p.Fragment == 0 && p.Src == src && p.Dst == dst
	}
}

// EchoReply tells whether the packet is an echo reply from src to dst.
func EchoReply(src, dst netip.Addr) func(Packet) bool {
	return func(p Packet) bool {
		return p.Proto == ICMP && p.ICMPType == 0 && p.Fragment == 0 && p.Src == src && p.Dst == dst
	}
}

// To tells whether the packet goes to an address of a network.
func To(network netip.Prefix) func(Packet) bool {
	return func(p Packet) bool { return network.Contains(p.Dst) }
}

// decodeIPv4 decodes a packet that begins with its IPv4 header.
func decodeIPv4(b []byte) (Packet, bool) {
	if len(b) < 20 || b[0]>>4 != 4 {
		return Packet{}, false
	}
	header := int(b[0]&15) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if header < 20 || len(b) < header || total < header {
		return Packet{}, false
	}
	flags := binary.BigEndian.Uint16(b[6:])
	p := Packet{
		Src: netip.AddrFrom4([4]byte(b[12:16])), Dst: netip.AddrFrom4([4]byte(b[16:20])),
		Proto: b[9], TTL: b[8], Len: total,
		Fragment: int(flags&0x1fff) * 8, More: flags&0x2000 != 0, DF: flags&0x4000 != 0,
		Truncated: total > len(b),
	}
	p.Payload = append([]byte(nil), b[header:min(total, len(b))]...)
	if p.Fragment == 0 {
		p.decodeTransport()
	}
	return p, true
}

func (p *Packet) decodeTransport() {
	b := p.Payload
	switch {
	case p.Proto == ICMP && len(b) >= 8:
		p.ICMPType, p.ICMPCode = b[0], b[1]
		p.ICMPID, p.ICMPSeq = binary.BigEndian.Uint16(b[4:]), binary.BigEndian.Uint16(b[6:])
	case p.Proto == TCP && len(b) >= 20:
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		p.TCPFlags = b[13]
		p.MSS = tcpMSS(b[20:max(20, min(int(b[12]>>4)*4, len(b)))])
	case p.Proto == UDP && len(b) >= 8:
		p.SrcPort, p.DstPort = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
	}
}

// tcpMSS finds the maximum segment size among TCP options.
func tcpMSS(b []byte) uint16 {
	for len(b) > 0 && b[0] != 0 {
		if b[0] == 1 {
			b = b[1:]
			continue
		}
		if len(b) < 2 || b[1] < 2 || int(b[1]) > len(b) {
			return 0
		}
		if b[0] == 2 && b[1] == 4 {
			return binary.BigEndian.Uint16(b[2:])
		}
		b = b[b[1]:]
	}
	return 0
}

// Link types of a capture file, and the bytes before the packet itself.
var linkHeaders = map[uint32]int{
	1:   14, // Ethernet
	12:  0,  // raw IP, as the kernel numbers it
	101: 0,  // raw IP
	113: 16, // "cooked"
	276: 20, // "cooked", version 2
}

// decodeLink decodes a packet with the header of its link.
func decodeLink(link uint32, b []byte) (Packet, bool) {
	n, ok := linkHeaders[link]
	if !ok || len(b) < n {
		return Packet{}, false
	}
	etherType := uint16(0x0800)
	switch link {
	case 1:
		etherType = binary.BigEndian.Uint16(b[12:])
	case 113:
		etherType = binary.BigEndian.Uint16(b[14:])
	case 276:
		etherType = binary.BigEndian.Uint16(b)
	}
	if etherType != 0x0800 {
		return Packet{}, false
	}
	return decodeIPv4(b[n:])
}
