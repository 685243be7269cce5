package dns

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"golang.org/x/net/dns/dnsmessage"
)

// errElsewhere is a question for the zone that dnsmasq did not hand on to us.
var errElsewhere = errors.New("it does not ask htip for them")

// Reached asks our own dnsmasq for a name of the zone that nobody can know, and
// tells why the question did not come here, or the answer not back.
func (p *Proxy) Reached(ctx context.Context) error {
	name := join("htip-doctor-"+strconv.Itoa(int(newID()))+"-"+strconv.Itoa(int(newID())), p.tbl.Load().zone)
	came := new(atomic.Bool)
	p.awaited.Store(name, came)
	defer p.awaited.Delete(name)
	q := question{Name: name, Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	m, err := ask(ctx, p.sockets, "", p.opt.Dnsmasq, q, dnsmessage.Header{RecursionDesired: true}, 1)
	switch {
	case err != nil:
		return err
	case !came.Load():
		return fmt.Errorf("%w, but answers %s", errElsewhere, rcodeName(m.RCode))
	}
	return nil
}

// arrived notes that a question for a name has come.
func (p *Proxy) arrived(name string) {
	if came, ok := p.awaited.Load(name); ok {
		came.(*atomic.Bool).Store(true)
	}
}
