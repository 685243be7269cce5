// Package ubus speaks to OpenWrt's ubusd: the blob and blobmsg codec, a client,
// and objects that other processes call.
//
// # Layers
//
// The codec (blob.go, blobmsg.go, message.go, signature.go, json.go) is pure:
// bytes in, values out, no socket and no clock. A [Table] keeps the order of its
// fields, because ubus does.
//
// A [Conn] is one connection: requests, event listeners, subscriptions and
// published objects. A [Server] keeps objects published for ever: it connects,
// publishes, serves, and starts again when ubusd goes away.
//
// # What is refused and what is forgiven
//
// The length rules of the framing are strict: a bad length ends the connection,
// as ubusd does it. The attributes of a message are lenient: they are found by
// id in any order, the last of two wins, and one of the wrong size or without
// its NUL counts as absent. Values inside DATA are strict again: what ubusd and
// libubus could not have written is an error (status 2 for a caller of ours,
// [ErrParse] for a reply to us), never a guess. Contents of padding are ignored.
// [CheckMessage] is the strict test of everything at once.
//
// # Integers
//
// A JSON number reaches an object as int32 or int64, depending on its value. An
// argument declared with either (or int16) therefore takes all of them, and
// [Table.GetInt] reads all of them.
package ubus
