package ubus_test

import (
	"context"
	"testing"

	"htip/src/ubus"
)

// status is a table like the one that our own "status" answers: 8 tunnels.
func statusTable() ubus.Table {
	peers := make(ubus.Array, 0, 8)
	for range 8 {
		peers = append(peers, ubus.Table{ubus.F("name", "bob"), ubus.F("domain", "bob.example.org"), ubus.F("state", "up"),
			ubus.F("driver", "l2tp"), ubus.F("initiator", true), ubus.F("ours", "10.0.0.0/24"), ubus.F("ours_inside", "10.83.4.0/24"),
			ubus.F("theirs", "192.168.1.0/24"), ubus.F("theirs_inside", "10.83.5.0/24"), ubus.F("rx", int64(1<<40)), ubus.F("tx", int32(4711))})
	}
	return ubus.Table{ubus.F("name", "alice"), ubus.F("peers", peers)}
}

func BenchmarkEncodeCall(b *testing.B) {
	b.ReportAllocs()
	args := ubus.Table{ubus.F("peer", "bob.example.org"), ubus.F("wait", true)}
	for b.Loop() {
		if _, err := ubus.NewMessage(ubus.MsgInvoke, 1, 0x12345678).U32(ubus.AttrObjID, 0x12345678).
			Text(ubus.AttrMethod, "connect").Table(ubus.AttrData, args).Bytes(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeStatus(b *testing.B) {
	b.ReportAllocs()
	t := statusTable()
	var buf []byte
	for b.Loop() {
		var err error
		if buf, err = ubus.AppendTable(buf[:0], t); err != nil {
			b.Fatal(err)
		}
	}
	b.SetBytes(int64(len(buf)))
}

func BenchmarkDecodeStatus(b *testing.B) {
	b.ReportAllocs()
	buf, err := ubus.AppendTable(nil, statusTable())
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if _, err := ubus.DecodeTable(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseAttrs(b *testing.B) {
	b.ReportAllocs()
	msg, err := ubus.NewMessage(ubus.MsgInvoke, 1, 0x12345678).U32(ubus.AttrObjID, 0x12345678).Text(ubus.AttrMethod, "connect").
		Text(ubus.AttrUser, "root").Text(ubus.AttrGroup, "root").Table(ubus.AttrData, nil).Bytes()
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		m, err := ubus.DecodeMessage(msg)
		if err != nil {
			b.Fatal(err)
		}
		if a := ubus.ParseAttrs(m.Body); a.ObjID != 0x12345678 {
			b.Fatal(a)
		}
	}
}

func BenchmarkJSONStatus(b *testing.B) {
	b.ReportAllocs()
	t := statusTable()
	var buf []byte
	for b.Loop() {
		buf = ubus.AppendJSON(buf[:0], t)
	}
	b.SetBytes(int64(len(buf)))
}

// BenchmarkCall is a whole call: lookup, invoke, answer, through the test broker.
func BenchmarkCall(b *testing.B) {
	b.ReportAllocs()
	path := socket(b)
	broker(b, path)
	serve(b, path, ubus.Options{})
	c := dial(b, path, ubus.Options{})
	args := ubus.Table{ubus.F("s", "x")}
	for b.Loop() {
		if _, err := c.Call(context.Background(), "rig.test", "echo", args); err != nil {
			b.Fatal(err)
		}
	}
}

// What a call costs at most; more would be a step back.
func TestAllocations(t *testing.T) {
	table := statusTable()
	raw, err := ubus.AppendTable(nil, table)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, 2*len(raw))
	if n := testing.AllocsPerRun(20, func() { buf, err = ubus.AppendTable(buf[:0], table) }); n > 0 || err != nil {
		t.Errorf("encoding a status: %v allocations, %v", n, err)
	}
	// One for each name, two for each string, one for each number beyond 255 and
	// each list: about 260 for 90 values.
	if n := testing.AllocsPerRun(20, func() { _, err = ubus.DecodeTable(raw) }); n > 300 || err != nil {
		t.Errorf("decoding a status: %v allocations, %v", n, err)
	}
}
