// Package config reads /etc/config/htip: the file as the real uci reads it, then
// the typed and validated Config that the daemon runs by, and it writes single
// peers back without touching anything else in the user's file.
//
// # Why not go-uci
//
// The plan was to keep github.com/digineo/go-uci behind a reader. Looked at
// closely, it has nothing left to do there:
//
//   - Of the 27 recorded cases in testdata/uci-cases it gives uci's answer for 14
//     (TestGoUCI lists the others), so the reading has to be ours in any case.
//   - Its Tree can't hold what uci holds: it drops a list's repeated values, and
//     it has no call that names a section's options or all sections in order, so
//     "unknown option" could not even be told.
//   - Its Commit writes apostrophes unescaped (a value could end its own quotes and
//     add options), drops every comment, and makes the file 0644.
//   - It costs 64 kB of the stripped mipsle softfloat binary, 20 kB after xz
//     (6,357,185 bytes with netlink, dns, tls, slog, json; 6,422,721 with go-uci).
//
// The tests still use it as a second reader: what SetPeer writes must mean the
// same to go-uci.
package config
