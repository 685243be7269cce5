package config

import "slices"

// Change is what a new configuration changes.
type Change struct {
	Added   []Peer
	Removed []Peer // as they were
	Changed []PeerChange
	Main    []string // changed options of the main section, by name
	// Tunnels: one of them concerns every tunnel.
	Tunnels bool
}

// PeerChange is a peer whose section changed; its name is the same.
type PeerChange struct {
	Old, New Peer
}

// Tunnel tells whether the change concerns the peer's tunnel, or only when it is
// asked for and what may pass it.
func (c PeerChange) Tunnel() bool {
	old := c.Old
	old.Auto, old.Access = c.New.Auto, c.New.Access
	return !old.Equal(c.New)
}

// None tells whether nothing changed.
func (c Change) None() bool {
	return len(c.Added) == 0 && len(c.Removed) == 0 && len(c.Changed) == 0 && len(c.Main) == 0
}

// Diff compares two configurations. A peer is the same one as long as its name is.
func Diff(old, new Config) Change {
	var c Change
	before, after := old.byName(), new.byName()
	for _, p := range old.Peers {
		q, ok := after[p.Name]
		switch {
		case !ok:
			c.Removed = append(c.Removed, p)
		case !p.Equal(q):
			c.Changed = append(c.Changed, PeerChange{p, q})
		}
	}
	for _, q := range new.Peers {
		if _, ok := before[q.Name]; !ok {
			c.Added = append(c.Added, q)
		}
	}
	c.Main = old.Main.changed(new.Main)
	c.Tunnels = slices.ContainsFunc(c.Main, concernsTunnels)
	return c
}

func (c Config) byName() map[string]Peer {
	m := make(map[string]Peer, len(c.Peers))
	for _, p := range c.Peers {
		m[p.Name] = p
	}
	return m
}

// changed names the options in which m and n differ.
func (m Main) changed(n Main) []string {
	var out []string
	for _, x := range []struct {
		name string
		same bool
	}{
		{"enabled", m.Enabled == n.Enabled},
		{"domain", m.Domain == n.Domain},
		{"name", m.Name == n.Name},
		{"port", m.Port == n.Port},
		{"network", slices.Equal(m.Networks, n.Networks)},
		{"interface", slices.Equal(m.Interfaces, n.Interfaces)},
		{"lan_device", slices.Equal(m.LANDevices, n.LANDevices)},
		{"wan_device", m.WANDevice == n.WANDevice},
		{"pool", slices.Equal(m.Pool, n.Pool)},
		{"candidates", m.Candidates == n.Candidates},
		{"zone", m.Zone == n.Zone},
		{"lan_domain", m.LANDomain == n.LANDomain},
		{"protocol", slices.Equal(m.Protocols, n.Protocols)},
		{"l2tp_port", m.L2TPPort == n.L2TPPort},
		{"mtu", m.MTU == n.MTU},
		{"accept", m.Accept == n.Accept},
		{"log_level", m.LogLevel == n.LogLevel},
	} {
		if !x.same {
			out = append(out, x.name)
		}
	}
	return out
}

// concernsTunnels tells whether an option of the main section is part of what a
// tunnel was made by. The others are of the listener, the names and the log.
func concernsTunnels(option string) bool {
	switch option {
	case "name", "port", "accept", "zone", "lan_domain", "log_level":
		return false
	}
	return true
}
