package ubus

import (
	"bytes"
	"math"
	"strconv"
	"unicode/utf8"
)

// MarshalJSON writes the table as a JSON object, in order.
func (t Table) MarshalJSON() ([]byte, error) { return AppendJSON(nil, t), nil }

// MarshalJSON writes the array as JSON.
func (a Array) MarshalJSON() ([]byte, error) { return AppendJSON(nil, a), nil }

// AppendJSON appends a decoded value as JSON. A double always carries a point or
// an exponent, so that reading it back gives a double; NaN and infinities, which
// JSON lacks, become null.
func AppendJSON(dst []byte, v any) []byte {
	switch v := v.(type) {
	case Table:
		dst = append(dst, '{')
		for i, f := range v {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendQuoted(dst, f.Name), ':')
			dst = AppendJSON(dst, f.Value)
		}
		return append(dst, '}')
	case Array:
		return appendJSONItems(dst, v)
	case []any:
		return appendJSONItems(dst, v)
	case []string:
		return appendJSONItems(dst, v)
	case []Table:
		return appendJSONItems(dst, v)
	case string:
		return appendQuoted(dst, v)
	case bool:
		return strconv.AppendBool(dst, v)
	case float64:
		return appendDouble(dst, v)
	case uint64:
		return strconv.AppendUint(dst, v, 10)
	}
	if n, ok := asInt(v); ok {
		return strconv.AppendInt(dst, n, 10)
	}
	if n, ok := widen(v); ok {
		return strconv.AppendInt(dst, n, 10)
	}
	return append(dst, "null"...)
}

func appendJSONItems[T any](dst []byte, a []T) []byte {
	dst = append(dst, '[')
	for i := range a {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendJSON(dst, any(a[i]))
	}
	return append(dst, ']')
}

func appendDouble(dst []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(dst, "null"...)
	}
	start := len(dst)
	dst = strconv.AppendFloat(dst, f, 'g', -1, 64)
	if !bytes.ContainsAny(dst[start:], ".e") {
		dst = append(dst, ".0"...)
	}
	return dst
}

const hexDigits = "0123456789abcdef"

// appendQuoted writes a JSON string. Bytes that are no UTF-8 become U+FFFD.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			dst = append(dst, '\\', byte(r))
		case r == '\n':
			dst = append(dst, '\\', 'n')
		case r == '\t':
			dst = append(dst, '\\', 't')
		case r == '\r':
			dst = append(dst, '\\', 'r')
		case r < 0x20 || r == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[r>>4], hexDigits[r&15])
		default:
			dst = utf8.AppendRune(dst, r)
		}
	}
	return append(dst, '"')
}
