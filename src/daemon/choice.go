package daemon

import (
	"slices"
	"strings"

	"htip/src/config"
	"htip/src/htip"
)

// listed are the protocols that people here want to use at all: those of the
// main section, in its order, and those that only the section of a peer names.
func (d *Daemon) listed() []string {
	out := slices.Clone(d.cfg.Main.Protocols)
	for _, p := range d.cfg.Peers {
		for _, name := range p.Protocols {
			if !slices.Contains(out, name) {
				out = append(out, name)
			}
		}
	}
	return out
}

// allowed are the protocols that may be used with a peer, see the function. A
// peer whose section names none has those of the main section.
func (d *Daemon) allowed(p config.Peer) []htip.Protocol {
	if len(p.Protocols) == 0 {
		p.Protocols = d.cfg.Main.Protocols
	}
	return allowed(p)
}

// impossible says why listed protocols can't be had on this router.
func (d *Daemon) impossible() map[htip.Protocol]string {
	out := map[htip.Protocol]string{}
	for _, c := range d.caps {
		if p := htip.ParseProtocol(c.Protocol); p != 0 && !c.Possible() {
			out[p] = strings.Join(c.Missing, ", ")
		}
	}
	return out
}

// lookedOnce follows what is missing on this router.
const lookedOnce = "what has been installed meanwhile is seen after: /etc/init.d/htip restart"

// weak warns of what people here have configured against better advice.
func (d *Daemon) weak() []string {
	if !slices.Contains(d.listed(), config.ProtocolPPTP) {
		return nil
	}
	with := ""
	for _, p := range d.cfg.Peers {
		if p.Enabled && slices.Contains(d.allowed(p), htip.PPTP) {
			if with != "" {
				with += ", "
			}
			with += p.Name
		}
	}
	if with == "" {
		return []string{"pptp is listed, but used with no home without option encryption 'off' in its section: its encryption is broken"}
	}
	return []string{"pptp may be used with " + with + ". Its encryption is broken: whoever records what goes through such a tunnel can read it. Use it only when nothing else works; otherwise take pptp out of list protocol"}
}

// warnWeak writes it to the log, once for each text.
func (d *Daemon) warnWeak() {
	text := strings.Join(d.weak(), "; ")
	if text != "" && text != d.warned {
		d.log.Warn("not safe", "why", text)
	}
	d.warned = text
}
