// Package control is the channel on which two gateways talk HTIP: TCP in TLS
// 1.3, both sides presenting self-signed certificates of their Ed25519 keys.
// A peer is known by its key and nothing else: no name, no authority, no clock
// (a router without a battery starts in 1970).
package control
