package dns

import (
	"context"
	"errors"
	"strconv"
	"sync/atomic"

	"golang.org/x/net/dns/dnsmessage"
)

// Reached asks our own dnsmasq for a name of the zone that nobody can know, and
// tells why the question did not come here, or the answer not back.
func (p *Proxy) Reached(ctx context.Context) error {
	name := join("htip-doctor-"+strconv.Itoa(int(newID())), p.tbl.Load().zone)
	came := new(atomic.Bool)
	p.awaited.Store(name, came)
	defer p.awaited.Delete(name)
	q := question{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	_, err := ask(ctx, p.sockets, "", p.opt.Dnsmasq, q, dnsmessage.Header{RecursionDesired: true}, 1)
	if err == nil && !came.Load() {
		err = errors.New("it answers itself, and does not ask htip")
	}
	return err
}

// arrived notes that a question for a name has come.
func (p *Proxy) arrived(name string) {
	if came, ok := p.awaited.Load(name); ok {
		came.(*atomic.Bool).Store(true)
	}
}
