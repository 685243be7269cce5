package ubus

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"strings"
)

// AppendTable appends the fields of t as a blobmsg list, the contents of a DATA
// or SIGNATURE attribute, and returns the longer slice. Strings and names with a
// NUL inside are refused: a C peer would see them cut.
func AppendTable(dst []byte, t Table) ([]byte, error) {
	start := len(dst)
	out, err := appendFields(dst, t, 1)
	if err == nil && len(out)-start > MaxMessage {
		err = ErrTooBig
	}
	if err != nil {
		return dst, err
	}
	return out, nil
}

func appendFields(dst []byte, t Table, depth int) ([]byte, error) {
	if depth > MaxDepth {
		return nil, errDeep
	}
	var err error
	for i := range t {
		if dst, err = appendValue(dst, t[i].Name, t[i].Value, depth); err != nil {
			return nil, fmt.Errorf("%s: %w", t[i].Name, err)
		}
	}
	return dst, nil
}

func appendItems[T any](dst []byte, a []T, depth int) ([]byte, error) {
	if depth > MaxDepth {
		return nil, errDeep
	}
	var err error
	for i := range a {
		if dst, err = appendValue(dst, "", any(a[i]), depth); err != nil {
			return nil, fmt.Errorf("item %d: %w", i, err)
		}
	}
	return dst, nil
}

var errDeep = fmt.Errorf("nested deeper than %d levels: %w", MaxDepth, ErrTooBig)

// appendValue appends one value with its name, padded.
func appendValue(dst []byte, name string, v any, depth int) ([]byte, error) {
	if len(name) > math.MaxUint16 {
		return nil, fmt.Errorf("name of %d bytes: %w", len(name), ErrTooBig)
	}
	if strings.IndexByte(name, 0) >= 0 {
		return nil, fmt.Errorf("NUL inside a name")
	}
	dst, start := beginBlob(dst, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(name)))
	dst = append(dst, name...)
	dst = append(dst, 0)
	for (len(dst)-start)&3 != 0 {
		dst = append(dst, 0)
	}
	dst, typ, err := appendPayload(dst, v, depth)
	if err != nil {
		return nil, err
	}
	if len(dst)-start > MaxMessage {
		return nil, ErrTooBig
	}
	binary.BigEndian.PutUint32(dst[start:], blobExtended|uint32(typ)<<24)
	return endBlob(dst, start), nil
}

func appendPayload(dst []byte, v any, depth int) ([]byte, Type, error) {
	var err error
	switch v := v.(type) {
	case nil:
		return dst, TypeAny, nil
	case string:
		if strings.IndexByte(v, 0) >= 0 {
			return nil, 0, fmt.Errorf("NUL inside a string")
		}
		if len(v) > MaxMessage {
			return nil, 0, ErrTooBig
		}
		return append(append(dst, v...), 0), TypeString, nil
	case bool:
		if v {
			return append(dst, 1), TypeBool, nil
		}
		return append(dst, 0), TypeBool, nil
	case float64:
		return binary.BigEndian.AppendUint64(dst, math.Float64bits(v)), TypeDouble, nil
	case int16:
		return binary.BigEndian.AppendUint16(dst, uint16(v)), TypeInt16, nil
	case int32:
		return binary.BigEndian.AppendUint32(dst, uint32(v)), TypeInt32, nil
	case int64:
		return binary.BigEndian.AppendUint64(dst, uint64(v)), TypeInt64, nil
	case Table:
		dst, err = appendFields(dst, v, depth+1)
		return dst, TypeTable, err
	case Array:
		dst, err = appendItems(dst, v, depth+1)
		return dst, TypeArray, err
	case []any:
		dst, err = appendItems(dst, v, depth+1)
		return dst, TypeArray, err
	case []string:
		dst, err = appendItems(dst, v, depth+1)
		return dst, TypeArray, err
	case []Table:
		dst, err = appendItems(dst, v, depth+1)
		return dst, TypeArray, err
	}
	n, ok := widen(v)
	if !ok {
		return nil, 0, fmt.Errorf("a value of type %T has no place in a ubus message", v)
	}
	if n >= math.MinInt32 && n <= math.MaxInt32 {
		return binary.BigEndian.AppendUint32(dst, uint32(n)), TypeInt32, nil
	}
	return binary.BigEndian.AppendUint64(dst, uint64(n)), TypeInt64, nil
}

// widen turns the integer types that the wire does not have into an int64.
func widen(v any) (int64, bool) {
	switch v := v.(type) {
	case int:
		return int64(v), true
	case int8:
		return int64(v), true
	case uint8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case uint:
		return int64(v), uint64(v) <= math.MaxInt64
	case uint64:
		return int64(v), v <= math.MaxInt64
	}
	return 0, false
}

// DecodeTable reads a blobmsg list, the contents of a DATA or SIGNATURE
// attribute. The result shares no memory with data and is no larger than a small
// multiple of it. Errors are [ErrMalformed].
func DecodeTable(data []byte) (Table, error) {
	return decodeFields(data, 1, false)
}

func decodeFields(list []byte, depth int, strict bool) (Table, error) {
	n, err := countValues(list, depth)
	if err != nil {
		return nil, err
	}
	t := make(Table, 0, n)
	for len(list) > 0 {
		var f Field
		if f, list, err = decodeValue(list, depth, strict); err != nil {
			return nil, err
		}
		t = append(t, f)
	}
	return t, nil
}

func decodeItems(list []byte, depth int, strict bool) (Array, error) {
	n, err := countValues(list, depth)
	if err != nil {
		return nil, err
	}
	a := make(Array, 0, n)
	for len(list) > 0 {
		var f Field
		if f, list, err = decodeValue(list, depth, strict); err != nil {
			return nil, err
		}
		if strict && f.Name != "" {
			return nil, malformed("array item with the name %q", f.Name)
		}
		a = append(a, f.Value)
	}
	return a, nil
}

// countValues counts the values of a list, so that its slice is allocated once
// and never for more than is really there.
func countValues(list []byte, depth int) (int, error) {
	if depth > MaxDepth {
		return 0, malformed("nested deeper than %d levels", MaxDepth)
	}
	n := 0
	for len(list) > 0 {
		_, _, rest, ok := nextBlob(list)
		if !ok {
			return 0, malformed("value %d runs out of its container", n)
		}
		list = rest
		n++
	}
	return n, nil
}

// decodeValue reads the first value of a list that countValues has walked.
func decodeValue(list []byte, depth int, strict bool) (Field, []byte, error) {
	word, payload, rest, ok := nextBlob(list)
	if !ok || word&blobExtended == 0 || len(payload) < 3 {
		return Field{}, nil, malformed("value without a name header")
	}
	n := int(binary.BigEndian.Uint16(payload))
	if pad(2+n+1) > len(payload) || payload[2+n] != 0 {
		return Field{}, nil, malformed("name of %d bytes without its NUL", n)
	}
	f := Field{Name: cstring(payload[2 : 2+n])}
	if strict && len(f.Name) != n {
		return Field{}, nil, malformed("NUL inside a name")
	}
	if strict && (!zero(payload[2+n:pad(2+n+1)]) || !zero(list[blobHeader+len(payload):len(list)-len(rest)])) {
		return Field{}, nil, malformed("value %q: padding is not zero", f.Name)
	}
	var err error
	if f.Value, err = decodePayload(Type(blobID(word)), payload[pad(2+n+1):], depth, strict); err != nil {
		return Field{}, nil, fmt.Errorf("%q: %w", f.Name, err)
	}
	return f, rest, nil
}

func decodePayload(typ Type, b []byte, depth int, strict bool) (any, error) {
	want := -1
	switch typ {
	case TypeAny:
		if strict && len(b) != 0 {
			return nil, malformed("null with %d bytes", len(b))
		}
		return nil, nil
	case TypeTable:
		return boxed(decodeFields(b, depth+1, strict))
	case TypeArray:
		return boxed(decodeItems(b, depth+1, strict))
	case TypeString:
		if len(b) == 0 || b[len(b)-1] != 0 {
			return nil, malformed("string without its NUL")
		}
		if s := cstring(b); !strict || len(s) == len(b)-1 {
			return s, nil
		}
		return nil, malformed("NUL inside a string")
	case TypeInt64, TypeDouble:
		want = 8
	case TypeInt32:
		want = 4
	case TypeInt16:
		want = 2
	case TypeBool:
		want = 1
	default:
		return nil, malformed("unknown type %d", typ)
	}
	if len(b) != want {
		return nil, malformed("%s of %d bytes", typ, len(b))
	}
	switch typ {
	case TypeInt64:
		return int64(binary.BigEndian.Uint64(b)), nil
	case TypeInt32:
		return int32(binary.BigEndian.Uint32(b)), nil
	case TypeInt16:
		return int16(binary.BigEndian.Uint16(b)), nil
	case TypeBool:
		if strict && b[0] > 1 {
			return nil, malformed("bool of value %d", b[0])
		}
		return b[0] != 0, nil
	}
	return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
}

// boxed keeps a nil table of a failed decode from becoming a non-nil any.
func boxed[T any](v T, err error) (any, error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

// cstring is what a C peer sees: the bytes before the first NUL.
func cstring(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
