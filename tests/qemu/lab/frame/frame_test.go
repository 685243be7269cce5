package frame

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

func TestRead(t *testing.T) {
	for name, in := range map[string]struct {
		bytes string
		want  error // nil: any
	}{
		"nothing":      {"", io.EOF},
		"half header":  {"\x00\x00\x00\x01\x02", io.ErrUnexpectedEOF},
		"half payload": {"\x00\x00\x00\x01\x02\x00\x00\x00\x03ab", io.ErrUnexpectedEOF},
		"too long":     {"\x00\x00\x00\x01\x02\x00\x00\x80\x01", nil},
		"huge":         {"\x00\x00\x00\x01\x02\xff\xff\xff\xff", nil},
	} {
		_, err := Read(bytes.NewReader([]byte(in.bytes)))
		if err == nil || in.want != nil && !errors.Is(err, in.want) {
			t.Errorf("%s: got %v, want %v", name, err, in.want)
		}
	}
	if err := Write(io.Discard, Frame{Payload: make([]byte, Max+1)}); err == nil {
		t.Error("a frame above the limit is written")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x01\x02\x00\x00\x00\x03abc"))
	f.Add([]byte("\x00\x00\x00\x00\x01\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fr, err := Read(bytes.NewReader(b))
		if err != nil {
			return
		}
		var out bytes.Buffer
		if err := Write(&out, fr); err != nil {
			t.Fatal(err)
		}
		if !bytes.HasPrefix(b, out.Bytes()) {
			t.Errorf("read %x, wrote %x", b, out.Bytes())
		}
	})
}
