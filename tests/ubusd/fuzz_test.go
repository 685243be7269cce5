package ubusd

import (
	"bytes"
	"testing"

	"htip/src/ubus"
	"htip/tests/ubusd/recording"
)

// FuzzCore says anything to the core, from three clients that have met. It must
// not panic, and what it sends must be a message.
func FuzzCore(f *testing.F) {
	all, err := recording.LoadAll(wireDir)
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range all {
		var talk []byte
		for _, step := range s.Steps {
			if step.ToUbus && len(step.Bytes) > 0 && len(step.Bytes) < 256 {
				talk = append(append(talk, byte(len(step.Conn))), step.Bytes...)
			}
		}
		if len(talk) < 2000 {
			f.Add(talk)
		}
	}
	f.Fuzz(func(t *testing.T, talk []byte) {
		sink := &checker{t: t}
		next := uint32(ubus.FirstFreeID)
		c := NewCore(sink, nobodyMay{}, func(Kind) uint32 { next++; return next })
		ids := []uint32{c.Connect(Root, nil), c.Connect(cred("nobody"), nil), c.Connect(Root, nil)}
		for len(talk) > ubus.HeaderLen {
			who := ids[int(talk[0])%len(ids)]
			m, n, err := ubus.DecodeHeader(talk[1:])
			if talk = talk[min(1+ubus.HeaderLen, len(talk)):]; err != nil {
				continue
			}
			m.Body, talk = talk[:min(n, len(talk))], talk[min(n, len(talk)):]
			c.Handle(who, m, NoFD)
		}
		for _, id := range ids {
			c.Disconnect(id)
		}
		if len(c.objects)+len(c.types)+len(c.paths)+len(c.patterns)+len(c.monitors)+len(c.clients) != 0 {
			t.Errorf("left behind: %d objects, %d types, %d paths, %d patterns, %d monitors, %d clients",
				len(c.objects), len(c.types), len(c.paths), len(c.patterns), len(c.monitors), len(c.clients))
		}
	})
}

type checker struct{ t *testing.T }

func (c *checker) CloseFD(int) {}

func (c *checker) Send(_ uint32, msg []byte, _ int) {
	// Bodies of others are passed on as they are; the frame is ours.
	m, err := ubus.DecodeMessage(msg)
	if err != nil {
		c.t.Errorf("%x: %v", msg, err)
	}
	if again, err := m.Append(nil); err != nil || !bytes.Equal(again, msg) {
		c.t.Errorf("%x: %x, %v", msg, again, err)
	}
}
