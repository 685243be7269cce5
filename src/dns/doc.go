// Package dns carries names between homes (seed ¶30, 83-85, 98-99, 129-131,
// 148-149).
//
// A name travels like this. A host of home A asks its router's dnsmasq for
// nas.bob.internal, or for nas.bob.example.org. A drop-in ([DropIn], [Dnsmasq])
// makes dnsmasq ask our proxy at 127.0.0.1:4854 (local.go). The proxy asks the
// other home's proxy, through the tunnel and at port 4853, for nas.htip.: the
// pseudo-zone htip. is the only one that two proxies speak of, so neither needs
// to know what the other calls it. The other proxy (remote.go) asks its own
// dnsmasq for nas.lan., keeps the addresses of the networks that it has mapped
// for this peer, and answers with their substitutes. Back at A every address
// must lie inside B's substitutes, or the answer is refused; then the owner
// name becomes what was asked.
//
// No question can go round in a circle:
//   - The listener inside a tunnel asks nobody but its own dnsmasq, only for
//     names below the LAN domain and for PTRs of its own networks, and without
//     "recursion desired". dnsmasq hands that flag on, and the local listener
//     asks neither a peer nor the Internet for a question without it.
//   - The local listener never asks a peer for a name below the LAN domain, nor
//     for the PTR of an own network: no peer has a substitute that overlaps one.
//   - Upstream resolvers are never this machine and never an address inside a
//     peer's substitutes.
//
// All that decides is pure (message.go, names.go, translate.go, table.go,
// answer.go, zone.go, dropin.go); what acts is bounded in number, size and time.
package dns
