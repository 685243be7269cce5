package bridge

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"

	"htip/src/ubus"
)

// maxPost is how much uhttpd's ubus module reads.
const maxPost = 65536

// rpcError is an error of the bridge itself, as uhttpd tells them.
type rpcError struct {
	code    int32
	message string
}

func (e *rpcError) Error() string { return e.message }

// The errors that uhttpd's ubus module knows. A request that it can't make sense of
// is a parse error, also when it is good JSON.
var (
	errParse   = &rpcError{-32700, "Parse error"}
	errMethod  = &rpcError{-32601, "Method not found"}
	errParams  = &rpcError{-32602, "Invalid parameters"}
	errObject  = &rpcError{-32000, "Object not found"}
	errAccess  = &rpcError{-32002, "Access denied"}
	errTimeout = &rpcError{-32003, "ubus request timed out"}
)

// serveUbus is POST /ubus/: a JSON-RPC request, or an array of them, which are
// answered one after the other.
func (b *Bridge) serveUbus(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxPost))
	var out []byte
	request, bad := parseAny(body)
	switch v := request.(type) {
	case ubus.Array:
		replies := ubus.Array{}
		for _, one := range v {
			replies = append(replies, b.answer(r.Context(), one))
		}
		out = ubus.AppendJSON(nil, replies)
	default:
		if err != nil || bad != nil {
			v = nil
		}
		out = ubus.AppendJSON(nil, b.answer(r.Context(), v))
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(out)
}

// parseAny reads JSON that need not be an object.
func parseAny(data []byte) (any, error) {
	t, err := ubus.ParseJSON(slices.Concat([]byte(`{"x":`), data, []byte(`}`)))
	if err != nil || len(t) != 1 {
		return nil, errParse
	}
	return t[0].Value, nil
}

// answer is the reply to one request. A status of ubus stands in the result; only
// what the bridge refuses is an error.
func (b *Bridge) answer(ctx context.Context, request any) ubus.Table {
	t, _ := request.(ubus.Table)
	id, _ := t.Get("id")
	reply := ubus.T("jsonrpc", "2.0", "id", id)
	result, err := b.run(ctx, t)
	var refused *rpcError
	if errors.As(err, &refused) {
		return append(reply, ubus.F("error", ubus.T("code", refused.code, "message", refused.message)))
	}
	return append(reply, ubus.F("result", result))
}

func (b *Bridge) run(ctx context.Context, request ubus.Table) (any, error) {
	version, _ := request.GetString("jsonrpc")
	name, ok := request.GetString("method")
	params, _ := request.GetArray("params")
	switch {
	case version != "2.0" || !ok:
		return nil, errParse
	case name == "list":
		return b.list(ctx, params)
	case name != "call":
		return nil, errMethod
	case len(params) < 4:
		return nil, errParse
	}
	sid, ok1 := params[0].(string)
	object, ok2 := params[1].(string)
	function, ok3 := params[2].(string)
	args, ok4 := params[3].(ubus.Table)
	if !ok1 || !ok2 || !ok3 || !ok4 {
		return nil, errParse
	}
	return b.call(ctx, sid, object, function, args)
}

// call calls a method in the name of a session. Whether the object is there comes
// before whether it may be used.
func (b *Bridge) call(ctx context.Context, sid, object, function string, args ubus.Table) (any, error) {
	own, isOwn := b.local()[object]
	var conn *ubus.Conn
	if !isOwn {
		var err error
		if conn, err = b.dial(ctx); err != nil {
			return nil, errObject
		}
		defer conn.Close()
		if list, err := conn.Lookup(ctx, object); err != nil || len(list) != 1 {
			return nil, errObject
		}
	}
	if !b.access(sid, "ubus", object, function) {
		return nil, errAccess
	}
	if _, ok := args.Get(ubus.SessionArg); ok {
		return nil, errParams
	}
	if isOwn {
		m, ok := own[function]
		if !ok {
			return ubus.Array{int32(ubus.StatusMethodNotFound)}, nil
		}
		return result(m.call(sid, args))
	}
	ctx, cancel := context.WithTimeout(ctx, b.cfg.CallTimeout)
	defer cancel()
	data, err := conn.Call(ctx, object, function, append(slices.Clip(args), ubus.F(ubus.SessionArg, sid)))
	if ctx.Err() != nil {
		return nil, errTimeout
	}
	return result(data, err)
}

// result is the array that a call ends with: the status, and the data if any.
func result(data ubus.Table, err error) (any, error) {
	out := ubus.Array{int32(ubus.StatusOf(err))}
	if err == nil && len(data) > 0 {
		out = append(out, data)
	}
	return out, nil
}

var typeWords = map[ubus.Type]string{
	ubus.TypeBool: "boolean", ubus.TypeInt32: "number", ubus.TypeString: "string", ubus.TypeArray: "array", ubus.TypeTable: "object",
}

// list names all objects, or tells the methods of those that are asked for.
func (b *Bridge) list(ctx context.Context, patterns ubus.Array) (any, error) {
	conn, err := b.dial(ctx)
	if err != nil {
		return ubus.Array{}, nil
	}
	defer conn.Close()
	if patterns == nil {
		names := ubus.Array{}
		for _, n := range slices.Sorted(maps.Keys(b.local())) {
			names = append(names, n)
		}
		all, _ := conn.Lookup(ctx, "")
		for _, o := range all {
			names = append(names, o.Path)
		}
		return names, nil
	}
	out := ubus.Table{}
	for _, p := range patterns {
		pattern, _ := p.(string)
		for name, o := range b.local() {
			if wild(pattern, name) {
				methods := ubus.Table{}
				for m := range o {
					methods.Set(m, arguments(o[m].args))
				}
				out.Set(name, methods)
			}
		}
		found, _ := conn.Lookup(ctx, pattern)
		for _, o := range found {
			methods := ubus.Table{}
			for _, m := range o.Methods {
				methods.Set(m.Name, arguments(m.Args))
			}
			out.Set(o.Path, methods)
		}
	}
	return out, nil
}

func arguments(args []ubus.Arg) ubus.Table {
	out := ubus.Table{}
	for _, a := range args {
		word, ok := typeWords[a.Type]
		if !ok {
			word = "unknown"
		}
		out.Set(a.Name, word)
	}
	return out
}
