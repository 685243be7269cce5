// Package htip is the Home-to-Home Tunnelling Initiation Protocol without the
// world around it: the messages (message.go, param.go), the address plan
// (plan.go, candidates.go, prefix.go), the connection table (table.go) and the
// state machine of a gateway with all its peers (event.go, gateway.go,
// addresses.go, attempt.go, initiator.go, responder.go, standing.go, words.go).
//
// Nothing in here opens a socket, reads a clock, draws a random number or
// starts a goroutine. A [Gateway] is given events and answers with actions; who
// carries them out is not its business. That makes every order of events
// something a test can write down.
//
// ¶ in comments are paragraphs of EP 1441483 A2.
package htip
