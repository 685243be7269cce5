package sim

import (
	"time"

	"htip/src/htip"
)

// kind is what an event of the simulated world is.
type kind uint8

const (
	evRecv     kind = iota // a message arrives at an end of a connection
	evJunk                 // something arrives that is no message
	evClosed               // an end of a connection notices that it is gone
	evDialed               // a dial is over, one way or the other
	evTimer                // a timer of the protocol runs out
	evSilent               // a connection has had its time to come into use
	evApply                // the applier looks at what is wanted
	evApplied              // and has brought the kernel in line
	evNoStart              // a VPN program could not even be tried
	evLink                 // a VPN device comes up or goes down
	evProbe                // a probe through the tunnel is sent
	evChurn                // a user or a fault does something
	evBoot                 // a gateway starts
	evDeadline             // somebody who asked for a tunnel must have had an answer
)

// event is something that will happen at a time. Those of a process that has
// ended meanwhile (boot) don't happen.
type event struct {
	at   time.Duration
	seq  uint64
	kind kind
	node *node
	boot uint32
	slot *slot
	end  *end
	msg  *htip.Message
	n    uint64
	wish []*tunnel
	dev  *device
	up   bool
}

// queue is a heap of events in order of time, and of making within one time.
type queue struct {
	heap []*event
	free []*event
	seq  uint64
}

func (q *queue) make() *event {
	if n := len(q.free); n > 0 {
		e := q.free[n-1]
		q.free = q.free[:n-1]
		return e
	}
	return &event{}
}

func (q *queue) done(e *event) {
	*e = event{}
	q.free = append(q.free, e)
}

func before(a, b *event) bool { return a.at < b.at || a.at == b.at && a.seq < b.seq }

func (q *queue) push(e *event) {
	q.seq++
	e.seq = q.seq
	q.heap = append(q.heap, e)
	i := len(q.heap) - 1
	for i > 0 {
		p := (i - 1) / 4
		if !before(e, q.heap[p]) {
			break
		}
		q.heap[i] = q.heap[p]
		i = p
	}
	q.heap[i] = e
}

func (q *queue) pop() *event {
	top := q.heap[0]
	n := len(q.heap) - 1
	e := q.heap[n]
	q.heap[n] = nil
	q.heap = q.heap[:n]
	if n == 0 {
		return top
	}
	i := 0
	for {
		c := 4*i + 1
		if c >= n {
			break
		}
		least := c
		for j := c + 1; j < n && j < c+4; j++ {
			if before(q.heap[j], q.heap[least]) {
				least = j
			}
		}
		if !before(q.heap[least], e) {
			break
		}
		q.heap[i] = q.heap[least]
		i = least
	}
	q.heap[i] = e
	return top
}
