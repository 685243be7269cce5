package datapath

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"htip/src/rtnl"
)

// The few messages of linux/xfrm.h that a tunnel in ESP needs.
const (
	xfrmNewSA        = 0x10
	xfrmDeleteSA     = 0x11
	xfrmGetSA        = 0x12
	xfrmNewPolicy    = 0x13
	xfrmDeletePolicy = 0x14
	xfrmGetPolicy    = 0x15

	xfrmTemplate = 5  // attributes
	xfrmAEAD     = 18 // struct xfrm_algo_aead
	xfrmSource   = 13
	xfrmReplay   = 23 // struct xfrm_replay_state_esn

	xfrmPolicyIn  = 0
	xfrmPolicyOut = 1

	sizeSelector = 56
	sizeSA       = 224
	sizePolicy   = 168
	sizeTemplate = 64
	sizeID       = 24 // struct xfrm_usersa_id

	atLifetime = 96 // in struct xfrm_usersa_info
	atCurrent  = 160
	atReqID    = 208
	aeadName   = 64 // octets of a name

	espFlagESN = 128 // XFRM_STATE_ESN
	// Packets that may come in another order than they were sent in.
	espWindow = 256
	espICV    = 128 // bits: none of the check value is cut off
)

// Ciphers of ESP (RFC 4106, RFC 7634), by the names people read.
const (
	CipherAES    = "aes-gcm-128"
	CipherChaCha = "chacha20-poly1305"
)

// espCipher is what the kernel calls a cipher, and the octets of its key with
// the salt.
func espCipher(name string) (kernel string, key int) {
	if name == CipherAES {
		return "rfc4106(gcm(aes))", 16 + 4
	}
	return "rfc7539esp(chacha20,poly1305)", 32 + 4
}

// ip4 is an IPv4 address, or zero for any. Package netip's are three times as
// long, and the code that copies and compares them here as well.
type ip4 [4]byte

// espSelector says which packets are meant: UDP between two addresses, from or
// to a port (0: any).
type espSelector struct {
	src, dst     ip4
	sport, dport uint16
}

// espSA is a security association in transport mode (RFC 4301 §4.1).
type espSA struct {
	src, dst   ip4
	spi, reqid uint32

	// Told only.
	sel        espSelector
	key        []byte // with the salt
	soft, hard time.Duration

	algorithm string // the kernel's name

	// Asked only.
	packets, octets uint64
	added           int64 // seconds since 1970, by the kernel's clock
}

// espPolicy has the kernel drop what is not in an association of its reqid.
type espPolicy struct {
	sel   espSelector
	in    bool
	reqid uint32

	index uint32 // asked only
}

// xfrmKernel is what the driver needs of the kernel. Both lists have nothing
// but what has the reqid, or carries our mark if that is 0. fakeXfrm is the
// other one.
type xfrmKernel interface {
	sas(reqid uint32) ([]espSA, error)
	policies(reqid uint32) ([]espPolicy, error)
	addSA(*espSA) error
	addPolicy(*espPolicy) error
	// What is not there is removed already.
	removeSA(*espSA) error
	removePolicy(*espPolicy) error
}

// xfrmNetlink is the real kernel.
type xfrmNetlink struct{}

var _ xfrmKernel = xfrmNetlink{}

// encode writes struct xfrm_selector.
func (s *espSelector) encode(b []byte) {
	copy(b, s.dst[:])
	copy(b[16:], s.src[:])
	put := func(b []byte, port uint16) { // with its mask
		if port != 0 {
			binary.BigEndian.PutUint16(b, port)
			binary.BigEndian.PutUint16(b[2:], 0xffff)
		}
	}
	put(b[32:], s.dport)
	put(b[36:], s.sport)
	binary.NativeEndian.PutUint16(b[40:], unix.AF_INET)
	if s.dst != (ip4{}) {
		b[42] = 32
	}
	if s.src != (ip4{}) {
		b[43] = 32
	}
	b[44] = unix.IPPROTO_UDP
}

func (s *espSelector) decode(b []byte) {
	s.dst, s.src = ip4(b), ip4(b[16:])
	s.dport, s.sport = binary.BigEndian.Uint16(b[32:]), binary.BigEndian.Uint16(b[36:])
}

// Packets and octets after which the kernel itself makes an end with a key.
const (
	espHardPackets = 1<<32 - 1
	espHardOctets  = 1 << 37
)

// encode gives the message that makes an association.
func (s *espSA) encode() []byte {
	m := make([]byte, sizeSA)
	native := binary.NativeEndian
	s.sel.encode(m)
	s.id(m[sizeSelector:])
	copy(m[80:], s.src[:])
	const never = 1<<64 - 1
	life := m[atLifetime:]
	native.PutUint64(life, never)
	native.PutUint64(life[8:], espHardOctets)
	native.PutUint64(life[16:], never)
	native.PutUint64(life[24:], espHardPackets)
	native.PutUint64(life[32:], uint64(s.soft/time.Second))
	native.PutUint64(life[40:], uint64(s.hard/time.Second))
	native.PutUint32(m[atReqID:], s.reqid)
	native.PutUint16(m[atReqID+4:], unix.AF_INET)
	m[atReqID+8] = espFlagESN

	alg := make([]byte, aeadName+8, aeadName+8+len(s.key))
	copy(alg, s.algorithm)
	native.PutUint32(alg[aeadName:], uint32(8*len(s.key)))
	native.PutUint32(alg[aeadName+4:], espICV)
	m = rtnl.Put(m, xfrmAEAD, append(alg, s.key...)...)
	replay := make([]byte, 24)
	native.PutUint32(replay, espWindow/32)
	native.PutUint32(replay[20:], espWindow)
	return rtnl.Put(m, xfrmReplay, replay...)
}

// id writes struct xfrm_id; the offset of the protocol is that of struct
// xfrm_usersa_id but for the family.
func (s *espSA) id(b []byte) {
	copy(b, s.dst[:])
	binary.BigEndian.PutUint32(b[16:], s.spi)
	b[20] = unix.IPPROTO_ESP
}

// encodeID gives the message that removes an association.
func (s *espSA) encodeID() []byte {
	m := make([]byte, sizeID)
	s.id(m)
	binary.NativeEndian.PutUint16(m[20:], unix.AF_INET)
	m[22] = unix.IPPROTO_ESP
	var src [16]byte
	copy(src[:], s.src[:])
	return rtnl.Put(m, xfrmSource, src[:]...)
}

// decodeSA reads what the kernel tells of an association; false if it is not
// one of ours.
func decodeSA(m []byte) (s espSA, ok bool) {
	if len(m) < sizeSA || m[sizeSelector+20] != unix.IPPROTO_ESP || binary.NativeEndian.Uint16(m[atReqID+4:]) != unix.AF_INET {
		return s, false
	}
	native := binary.NativeEndian
	s.sel.decode(m)
	s.dst, s.spi, s.src = ip4(m[56:]), binary.BigEndian.Uint32(m[72:]), ip4(m[80:])
	s.octets, s.packets = native.Uint64(m[atCurrent:]), native.Uint64(m[atCurrent+8:])
	s.added = int64(native.Uint64(m[atCurrent+16:]))
	s.reqid = native.Uint32(m[atReqID:])
	alg, _ := rtnl.Pick(m[sizeSA:], xfrmAEAD)
	name, _, _ := bytes.Cut(alg[:min(len(alg), aeadName)], []byte{0})
	s.algorithm = string(name)
	// One without an SPI waits for somebody who negotiates keys, and goes away.
	return s, espOurs(s.reqid) && s.spi != 0
}

func (p *espPolicy) dir() byte {
	if p.in {
		return xfrmPolicyIn
	}
	return xfrmPolicyOut
}

// espPriority: before the policies that other programs make (a smaller number
// goes first), and behind one that somebody has made by hand without any.
const espPriority = 1

// encode gives the message that makes a policy.
func (p *espPolicy) encode() []byte {
	m := make([]byte, sizePolicy)
	native := binary.NativeEndian
	p.sel.encode(m)
	for i := range 32 { // no limits of octets and packets
		m[sizeSelector+i] = 0xff
	}
	native.PutUint32(m[152:], espPriority)
	m[160] = p.dir()
	t := make([]byte, sizeTemplate)
	t[20] = unix.IPPROTO_ESP
	native.PutUint16(t[24:], unix.AF_INET)
	native.PutUint32(t[44:], p.reqid)
	for i := range 12 { // any algorithm: the reqid says enough
		t[52+i] = 0xff
	}
	return rtnl.Put(m, xfrmTemplate, t...)
}

// encodeID gives the message that removes a policy.
func (p *espPolicy) encodeID() []byte {
	m := make([]byte, 64)
	binary.NativeEndian.PutUint32(m[56:], p.index)
	m[60] = p.dir()
	return m
}

// decodePolicy reads what the kernel tells of a policy; false if it is not one
// of ours.
func decodePolicy(m []byte) (p espPolicy, ok bool) {
	if len(m) < sizePolicy {
		return p, false
	}
	p.sel.decode(m)
	p.index, p.in = binary.NativeEndian.Uint32(m[156:]), m[160] == xfrmPolicyIn
	t, _ := rtnl.Pick(m[sizePolicy:], xfrmTemplate)
	if len(t) != sizeTemplate { // several templates: not ours
		return p, false
	}
	p.reqid = binary.NativeEndian.Uint32(t[44:])
	return p, espOurs(p.reqid) && m[160] <= xfrmPolicyOut
}

// xfrmAsk sends a message; an error of the kernel that means that there is
// nothing to be done is none.
func xfrmAsk(kind, flags int, msg []byte, none error) ([][]byte, error) {
	answers, err := rtnl.Ask(unix.NETLINK_XFRM, kind, flags, msg)
	if none != nil && errors.Is(err, none) {
		return nil, nil
	}
	if err != nil {
		err = fmt.Errorf("IPsec of the kernel, message %#x: %w", kind, err)
	}
	return answers, err
}

func (xfrmNetlink) sas(reqid uint32) (out []espSA, err error) {
	// A kernel without IPsec has nothing of ours.
	answers, err := xfrmAsk(xfrmGetSA, unix.NLM_F_DUMP, nil, unix.EPROTONOSUPPORT)
	for _, m := range answers {
		if s, ok := decodeSA(m); ok && (reqid == 0 || s.reqid == reqid) {
			out = append(out, s)
		}
	}
	return out, err
}

func (xfrmNetlink) policies(reqid uint32) (out []espPolicy, err error) {
	answers, err := xfrmAsk(xfrmGetPolicy, unix.NLM_F_DUMP, nil, unix.EPROTONOSUPPORT)
	for _, m := range answers {
		if p, ok := decodePolicy(m); ok && (reqid == 0 || p.reqid == reqid) {
			out = append(out, p)
		}
	}
	return out, err
}

const xfrmNew = unix.NLM_F_ACK | unix.NLM_F_CREATE | unix.NLM_F_EXCL

func (xfrmNetlink) addSA(s *espSA) error {
	_, err := xfrmAsk(xfrmNewSA, xfrmNew, s.encode(), nil)
	return err
}

func (xfrmNetlink) addPolicy(p *espPolicy) error {
	_, err := xfrmAsk(xfrmNewPolicy, xfrmNew, p.encode(), nil)
	return err
}

func (xfrmNetlink) removeSA(s *espSA) error {
	_, err := xfrmAsk(xfrmDeleteSA, unix.NLM_F_ACK, s.encodeID(), unix.ESRCH)
	return err
}

func (xfrmNetlink) removePolicy(p *espPolicy) error {
	_, err := xfrmAsk(xfrmDeletePolicy, unix.NLM_F_ACK, p.encodeID(), unix.ENOENT)
	return err
}
