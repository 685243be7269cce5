// Package luci is a stand-in for LuCI's client side, enough for an app of ours:
// the loader, RPC, UCI, forms and a theme. It was written for the tests and shares
// names, not code, with the real one. README.md in the directory above tells what
// it leaves out.
package luci

import "embed"

// Files are what the browser loads.
//
//go:embed *.js *.css
var Files embed.FS
