package ubusd

import (
	"slices"

	"htip/src/ubus"
)

// monitor is a client that sees every message.
type monitor struct {
	client *client
	seq    uint16
}

// invokeMonitor serves the system object 3.
func (c *Core) invokeMonitor(cl *client, a *ubus.Attrs) verdict {
	if cl.cred.UID != 0 || cl.cred.GID != 0 {
		return status(ubus.StatusPermissionDenied)
	}
	switch a.Method {
	case "add":
		c.dropMonitor(cl)
		c.monitors = append(c.monitors, &monitor{client: cl})
		return status(ubus.StatusOK)
	case "remove":
		c.dropMonitor(cl)
		return status(ubus.StatusOK)
	}
	return status(ubus.StatusMethodNotFound)
}

func (c *Core) dropMonitor(cl *client) {
	c.monitors = slices.DeleteFunc(c.monitors, func(m *monitor) bool { return m.client == cl })
}

// watch shows a message to the monitors: one that a client has sent, or one that
// it is about to get.
func (c *Core) watch(cl *client, m ubus.Message, sent bool) {
	for _, mon := range c.monitors {
		mon.seq++
		raw, err := ubus.NewMessage(ubus.MsgMonitor, mon.seq, 0).
			U32(ubus.MonitorClient, cl.id).U32(ubus.MonitorPeer, m.Peer).
			U32(ubus.MonitorSeq, uint32(m.Seq)).U32(ubus.MonitorType, uint32(m.Type)).
			Flag(ubus.MonitorSend, sent).Raw(ubus.MonitorData, m.Body).Bytes()
		if err != nil {
			continue // it fits no message with its frame around it
		}
		c.out.Send(mon.client.id, raw, NoFD)
	}
}
