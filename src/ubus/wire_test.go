package ubus_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"htip/src/ubus"
	"htip/tests/ubusd/recording"
)

func recordings(t testing.TB) []recording.Scenario {
	t.Helper()
	all, err := recording.LoadAll("testdata/wire")
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestReproduce decodes every recorded message down to its last value, builds it
// again from the values, and wants the same bytes.
func TestReproduce(t *testing.T) {
	messages, broken, kept := 0, 0, 0
	for _, s := range recordings(t) {
		for _, step := range s.Steps {
			if step.Closed {
				continue
			}
			messages++
			m, err := ubus.DecodeMessage(step.Bytes)
			if err != nil {
				// The two lengths that ubusd answers by closing.
				if broken++; s.Name != "16-raw-lengths" || !errors.Is(err, ubus.ErrMalformed) {
					t.Errorf("%s:%d: %v", s.Name, step.Line, err)
				}
				continue
			}
			b, n := rebuild(t, m)
			kept += n
			raw, err := b.Bytes()
			if err != nil {
				t.Errorf("%s:%d: %v", s.Name, step.Line, err)
				continue
			}
			raw[0] = m.Version
			if !bytes.Equal(raw, step.Bytes) {
				t.Errorf("%s:%d:\n got %x\nwant %x", s.Name, step.Line, raw, step.Bytes)
			}
		}
	}
	// What could only be copied: DATA of "add" and "remove" of the CLI's monitor
	// (left-over bytes; once more inside a MONITOR message), and the signature
	// that was malformed on purpose.
	if messages != 637 || broken != 2 || kept != 4 {
		t.Errorf("%d messages, %d with broken lengths, %d lists that were no blobmsg; want 637, 2, 4", messages, broken, kept)
	}
}

// rebuild makes a message from the values in m; kept counts lists that are no
// blobmsg and were copied.
func rebuild(t *testing.T, m ubus.Message) (b *ubus.Builder, kept int) {
	b = ubus.NewMessage(m.Type, m.Seq, m.Peer)
	for id, p := range ubus.Attributes(m.Body) {
		if m.Type == ubus.MsgMonitor {
			switch id {
			case ubus.MonitorData:
				inner, n := rebuild(t, ubus.Message{Body: p})
				raw, err := inner.Bytes()
				if err != nil {
					t.Fatal(err)
				}
				b.Raw(id, raw[ubus.HeaderLen:])
				kept += n
			case ubus.MonitorSend:
				b.Flag(id, p[0] == 1)
			default:
				b.U32(id, binary.BigEndian.Uint32(p))
			}
			continue
		}
		a := ubus.ParseAttrs(attr(t, id, p))
		if !a.Has(id) {
			t.Fatalf("attribute %d is not understood: %x", id, p)
		}
		switch id {
		case ubus.AttrStatus:
			b.U32(id, uint32(a.Status))
		case ubus.AttrPath:
			b.Text(id, a.Path)
		case ubus.AttrObjID:
			b.U32(id, a.ObjID)
		case ubus.AttrMethod:
			b.Text(id, a.Method)
		case ubus.AttrObjType:
			b.U32(id, a.ObjType)
		case ubus.AttrTarget:
			b.U32(id, a.Target)
		case ubus.AttrActive:
			b.Flag(id, a.Active)
		case ubus.AttrNoReply:
			b.Flag(id, a.NoReply)
		case ubus.AttrSubscribers:
			b.IDs(id, a.Subscribers)
		case ubus.AttrUser:
			b.Text(id, a.User)
		case ubus.AttrGroup:
			b.Text(id, a.Group)
		case ubus.AttrSignature, ubus.AttrData:
			table, err := ubus.DecodeTable(p)
			if err != nil {
				kept++
				b.Raw(id, p)
				continue
			}
			b.Table(id, table)
		}
	}
	return b, kept
}

// attr is a body of one attribute.
func attr(t *testing.T, id ubus.AttrID, payload []byte) []byte {
	t.Helper()
	raw, err := ubus.NewMessage(0, 0, 0).Raw(id, payload).Bytes()
	if err != nil {
		t.Fatal(err)
	}
	return raw[ubus.HeaderLen:]
}

// TestStructure holds the strict check against all recordings: it must accept
// all but the messages that were broken on purpose, and the junk of the CLI's
// monitor.
func TestStructure(t *testing.T) {
	refused := map[string]int{}
	messages := 0
	for _, s := range recordings(t) {
		for _, step := range s.Steps {
			if step.Closed {
				continue
			}
			messages++
			if err := ubus.CheckMessage(step.Bytes); err != nil {
				refused[s.Name]++
				if !errors.Is(err, ubus.ErrMalformed) {
					t.Errorf("%s:%d: %v", s.Name, step.Line, err)
				}
			}
		}
	}
	want := map[string]int{
		"14-monitor":        3, // junk DATA of add and remove, and the latter monitored
		"15-raw-edge":       3, // PING and DATA of version 1, type 200
		"16-raw-lengths":    2,
		"20-signature-edge": 1,
	}
	if fmt.Sprint(refused) != fmt.Sprint(want) {
		t.Errorf("refused %v, want %v", refused, want)
	}
	if messages != 637 {
		t.Errorf("%d messages, want 637", messages)
	}
}

// TestSignatures reads the signatures that LOOKUP gave.
func TestSignatures(t *testing.T) {
	n := 0
	for _, s := range recordings(t) {
		for _, step := range s.Steps {
			m, err := ubus.DecodeMessage(step.Bytes)
			if err != nil {
				continue
			}
			a := ubus.ParseAttrs(m.Body)
			if !a.Has(ubus.AttrSignature) || a.Path == "x.bad" {
				continue
			}
			methods, err := ubus.ParseSignature(a.Signature)
			if err != nil {
				t.Errorf("%s:%d: %v", s.Name, step.Line, err)
			}
			n++
			if a.Path != "rig.fd" {
				continue
			}
			if got := fmt.Sprint(methods); got != "[{pipe []} {takefd []} {tagged [{code int32}]}]" {
				t.Errorf("rig.fd: %s", got)
			}
		}
	}
	if n < 50 {
		t.Errorf("only %d signatures were read", n)
	}
}
