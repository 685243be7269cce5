package datapath

import (
	"fmt"
	"net/netip"
	"slices"
	"sort"
)

// chainPrefix begins the name of every chain of ours.
const chainPrefix = "HTIP-"

// anyDevice is how iptables writes "any link of ours".
const anyDevice = DevicePrefix + "+"

// synMatch matches the packets that carry TCP's maximum segment size.
const synMatch = "-p tcp -m tcp --tcp-flags SYN,RST SYN"

// doorLimit is how many connections of strangers come to a [Door]: more than are
// let into a handshake, so that whoever comes later in a crowd has a chance, too,
// and a third of what OpenWrt's own limit of SYNs (25/s for the whole router)
// lets in: that one comes behind ours and knows no friends.
const doorLimit = "-m limit --limit 8/sec --limit-burst 16"

// NamesPort is where the names proxies listen inside tunnels, UDP and TCP: the
// one service of this router that a peer may use.
const NamesPort = 4853

// chain is one chain of ours and the jump that leads to it. The rules are in
// the words and the order in which iptables-save prints them.
type chain struct {
	table string // "nat", "mangle", "raw"
	hook  string // the built-in chain that jumps here
	what  string // tells two chains of one hook apart; usually empty
	match string // which packets take the jump
	rules []string
}

// name is unique in its table.
func (c chain) name() string { return chainPrefix + c.what + c.hook }

// jump is the rule in the built-in chain.
func (c chain) jump() string { return c.match + " -j " + c.name() }

// chainsFor is the rule text for what is wanted. Chains without rules are left
// out: they should not exist.
//
// The jumps match our devices only and so cost every other packet one look.
//
//   - raw PREROUTING, before connection tracking sees the packet: what comes
//     out of a tunnel must come from a substitute of that peer and go to a
//     substitute of ours. The two DROPs count apart: a destination outside
//     (somebody tries the WAN, the router's other addresses or a third home
//     through us), a forged source.
//   - nat PREROUTING and POSTROUTING: NETMAP at the tunnel's end.
//   - mangle FORWARD: the tunnel's MTU is smaller than the LAN's, TCP is told.
//   - raw PREROUTING of UDP: a tunnel's port hears its peer only. xl2tpd keeps
//     state for whoever knocks, and logs what he says. WireGuard does neither,
//     and its peer may come from any address, through NAT for example.
//   - mangle INPUT (the filter table may be somebody else's): of the router itself a peer reaches the names proxy, an
//     echo and what its Access names, nothing else, whatever zone somebody puts our devices into.
//   - mangle INPUT of TCP at PPTP's port, while such a tunnel is served: see pptpKnock.
//   - mangle INPUT of TCP, while strangers crowd our own port: see [Door]. Before connection tracking, in raw, connections
//     of our hosts with such a port elsewhere would count, too; here what is dropped is not kept there.
//   - mangle FORWARD twice more, for tunnels with limited Access only: see accessRules. Here the host has its real address
//     in both directions: after nat PREROUTING, before nat POSTROUTING.
//   - for persons away from home see usersRules. Of this router they reach the resolver and an echo.
//   - mangle OUTPUT: a session with a service of this router ends with the access to it, and must not come back from our
//     side when flows are forgotten, not even where the peer may reach every host by then.
//
// In our chains a DROP is final, while no ACCEPT of ours can override the
// firewall. Nothing is rejected: the filter table, the only one that could, may
// be somebody else's, and an answer tells a hostile peer which hosts there are.
func chainsFor(w Wanted) []chain {
	tunnels := slices.Clone(w.Tunnels)
	sort.Slice(tunnels, func(i, j int) bool { return tunnels[i].Device < tunnels[j].Device })

	guard := chain{table: "raw", hook: "PREROUTING", match: "-i " + anyDevice}
	knock := chain{table: "raw", hook: "PREROUTING", what: "VPN-"}
	input := chain{table: "mangle", hook: "INPUT", match: "-i " + anyDevice}
	door := chain{table: "mangle", hook: "INPUT", what: "DOOR-"}
	access := chain{table: "mangle", hook: "FORWARD", what: "ACCESS-", match: "-i " + anyDevice}
	answers := chain{table: "mangle", hook: "FORWARD", what: "ANSWER-", match: "-o " + anyDevice}
	output := chain{table: "mangle", hook: "OUTPUT", match: "-o " + anyDevice}
	users := chain{table: "mangle", hook: "FORWARD", what: "USERS-", match: "-o " + UsersDevice}
	clamp := chain{table: "mangle", hook: "FORWARD", match: synMatch}
	in := chain{table: "nat", hook: "PREROUTING", match: "-i " + anyDevice}
	out := chain{table: "nat", hook: "POSTROUTING", match: "-o " + anyDevice}

	var services, refuse, nat []string    // of this router
	low, high := uint16(65535), uint16(0) // ports of our VPN programs
	for _, t := range tunnels {
		forward, router, leaving := accessRules(&t)
		access.rules = append(access.rules, forward...)
		answers.rules = append(answers.rules, leaving...)
		services = append(services, router...)
		refuse = append(refuse, "-i "+t.Device+" -j DROP") // counts for each peer
		own := slices.Clone(t.Own)
		sort.Slice(own, func(i, j int) bool { return comparePrefixes(own[i].Network, own[j].Network) < 0 })
		peer := slices.Clone(t.Peer)
		sortPrefixes(peer)

		for _, p := range peer {
			for _, m := range own {
				guard.rules = append(guard.rules, fmt.Sprintf("-s %s -d %s -i %s -j RETURN", p, m.Substitute, t.Device))
			}
		}
		for _, p := range peer {
			guard.rules = append(guard.rules, fmt.Sprintf("-s %s -i %s -j DROP", p, t.Device))
		}
		guard.rules = append(guard.rules, fmt.Sprintf("-i %s -j DROP", t.Device))

		if a := t.Remote.Addr(); a.Is4() && t.LocalPort != 0 && (t.Protocol == ProtocolL2TP || t.Protocol == ProtocolL2TPESP) {
			knock.rules = append(knock.rules, fmt.Sprintf("! -s %s/32 -p udp -m udp --dport %d -j DROP", a, t.LocalPort))
			low, high = min(low, t.LocalPort), max(high, t.LocalPort)
		}

		for _, m := range own {
			if !m.NAT() {
				continue
			}
			in.rules = append(in.rules, fmt.Sprintf("-d %s -i %s -j NETMAP --to %s", m.Substitute, t.Device, m.Network))
			out.rules = append(out.rules, fmt.Sprintf("-s %s -o %s -j NETMAP --to %s", m.Network, t.Device, m.Substitute))
		}
	}
	if knock.match = fmt.Sprintf("-p udp -m udp --dport %d:%d", low, high); low == high {
		knock.match = fmt.Sprintf("-p udp -m udp --dport %d", low)
	}
	if w.Door.Port != 0 {
		door.match = fmt.Sprintf("-p tcp -m tcp --dport %d --tcp-flags FIN,SYN,RST,ACK SYN", w.Door.Port)
		for _, a := range w.Door.Friends {
			door.rules = append(door.rules, fmt.Sprintf("-s %s/32 -j RETURN", a))
		}
		door.rules = append(door.rules, doorLimit+" -j RETURN", "-j DROP")
	}
	var from []string
	from, users.rules, nat = usersRules(&w.Users, tunnels)
	guard.rules = append(guard.rules, from...)
	out.rules = append(out.rules, nat...)
	var person []string // what a user reaches of this router
	if len(w.Users.List) > 0 {
		i := "-i " + UsersDevice
		person = []string{i + " -p udp -m udp --dport 53 -j RETURN", i + " -p tcp -m tcp --dport 53 -j RETURN", i + " -p icmp -m icmp --icmp-type 8 -j RETURN", i + " -j DROP"}
	}
	if len(tunnels) > 0 || len(w.Users.List) > 0 {
		input.rules = append([]string{ofOurs, ofErrors}, person...)
		input.rules = append(input.rules,
			fmt.Sprintf("-p udp -m udp --dport %d -j RETURN", NamesPort),
			fmt.Sprintf("-p tcp -m tcp --dport %d -j RETURN", NamesPort),
			"-p icmp -m icmp --icmp-type 8 -j RETURN",
		)
		input.rules = append(slices.Concat(input.rules, services, refuse), "-j DROP")
		output.rules = []string{ofMiddle}
		clamp.rules = []string{
			// The kernel wants the match for SYN in the very rule.
			"-i " + anyDevice + " " + synMatch + " -j TCPMSS --clamp-mss-to-pmtu",
			"-o " + anyDevice + " " + synMatch + " -j TCPMSS --clamp-mss-to-pmtu",
		}
	}

	var chains []chain
	for _, c := range []chain{guard, knock, pptpKnock(tunnels), input, door, output, access, answers, users, clamp, in, out} {
		if len(c.rules) > 0 {
			chains = append(chains, c)
		}
	}
	return chains
}

func comparePrefixes(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
