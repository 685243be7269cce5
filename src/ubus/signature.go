package ubus

import "fmt"

// Arg is one argument of a method, as its signature tells it to callers.
type Arg struct {
	Name string
	Type Type
}

// MethodInfo is one method of somebody's object, as LOOKUP tells it.
type MethodInfo struct {
	Name string
	Args []Arg
}

// SessionArg is the argument that uhttpd adds to every call from a browser: the
// id of the caller's session, 32 hex digits.
const SessionArg = "ubus_rpc_session"

// signatureTable is a SIGNATURE: a table for each method, holding the type of
// each argument as an int32.
func signatureTable(methods []MethodInfo) Table {
	t := make(Table, 0, len(methods))
	for _, m := range methods {
		args := make(Table, 0, len(m.Args))
		for _, a := range m.Args {
			args = append(args, F(a.Name, int32(a.Type)))
		}
		t = append(t, F(m.Name, args))
	}
	return t
}

// ParseSignature reads a SIGNATURE. A member that is no table of integers is an
// error.
func ParseSignature(data []byte) ([]MethodInfo, error) {
	t, err := DecodeTable(data)
	if err != nil {
		return nil, err
	}
	out := make([]MethodInfo, 0, len(t))
	for _, f := range t {
		args, ok := f.Value.(Table)
		if !ok {
			return nil, malformed("signature: method %q is no table", f.Name)
		}
		m := MethodInfo{Name: f.Name, Args: make([]Arg, 0, len(args))}
		for _, a := range args {
			n, ok := asInt(a.Value)
			if !ok || n < 0 || n > 255 {
				return nil, malformed("signature: argument %q of method %q has no type", a.Name, f.Name)
			}
			m.Args = append(m.Args, Arg{a.Name, Type(n)})
		}
		out = append(out, m)
	}
	return out, nil
}

// accepts tells whether a value may stand for an argument of the declared type.
// null may always: a page sends it for "not given". An integer may come in any
// width, and where a double is wanted.
func accepts(declared Type, v any) bool {
	switch v.(type) {
	case nil:
		return true
	case int16, int32, int64:
		switch declared {
		case TypeAny, TypeInt16, TypeInt32, TypeInt64, TypeDouble:
			return true
		}
		return false
	}
	return declared == TypeAny || declared == typeOf(v)
}

func typeOf(v any) Type {
	switch v.(type) {
	case Array:
		return TypeArray
	case Table:
		return TypeTable
	case string:
		return TypeString
	case bool:
		return TypeBool
	case float64:
		return TypeDouble
	case int64:
		return TypeInt64
	case int32:
		return TypeInt32
	case int16:
		return TypeInt16
	}
	return TypeAny
}

// checkArgs tests the arguments of a call against a signature and takes the
// session out of them. An argument that was not declared is refused: it is a
// misspelt one, and to ignore it would be to do something else than was asked.
func checkArgs(declared []Arg, args Table) (rest Table, session string, err error) {
	session, isString := args.GetString(SessionArg)
	own := false
	for _, f := range args {
		known := false
		for _, a := range declared {
			if a.Name != f.Name {
				continue
			}
			known = true
			own = own || f.Name == SessionArg
			if !accepts(a.Type, f.Value) {
				return nil, "", argError(f.Name, "is "+typeOf(f.Value).String()+", want "+a.Type.String())
			}
		}
		if f.Name == SessionArg && !known {
			if !isString {
				return nil, "", argError(f.Name, "is no string")
			}
			continue
		}
		if !known {
			return nil, "", argError(f.Name, "is not an argument of this method")
		}
	}
	if !own {
		args = args.without(SessionArg)
	}
	return args, session, nil
}

func argError(name, what string) error {
	return fmt.Errorf("argument %q %s: %w", name, what, ErrInvalidArgument)
}
