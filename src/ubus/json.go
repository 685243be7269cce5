package ubus

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
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

// ParseJSON reads one JSON object, with the types that OpenWrt's own tools give:
// true and false are bools, a number without fraction and exponent is an int32
// when it fits and an int64 else, any other number a double, null stays null. Of
// two members of one name the last counts.
func ParseJSON(b []byte) (Table, error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	v, err := readJSON(dec, 0)
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	t, ok := v.(Table)
	if !ok {
		return nil, errors.New("read JSON: want an object, as in {\"name\":\"value\"}")
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("read JSON: something follows the object")
	}
	return t, nil
}

// readJSON reads one value.
func readJSON(dec *json.Decoder, depth int) (any, error) {
	tok, err := dec.Token()
	if err != nil {
		return nil, err
	}
	switch tok := tok.(type) {
	case json.Delim:
		if depth >= MaxDepth {
			return nil, fmt.Errorf("nested deeper than %d levels", MaxDepth)
		}
		if tok == '[' {
			return readJSONArray(dec, depth+1)
		}
		return readJSONObject(dec, depth+1)
	case json.Number:
		return parseNumber(string(tok))
	case string, bool:
		return tok, nil
	}
	return nil, nil
}

func readJSONObject(dec *json.Decoder, depth int) (any, error) {
	t := Table{}
	for dec.More() {
		tok, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := tok.(string) // the decoder lets nothing else be a name
		v, err := readJSON(dec, depth)
		if err != nil {
			return nil, err
		}
		t.Set(name, v)
	}
	_, err := dec.Token()
	return t, err
}

func readJSONArray(dec *json.Decoder, depth int) (any, error) {
	a := Array{}
	for dec.More() {
		v, err := readJSON(dec, depth)
		if err != nil {
			return nil, err
		}
		a = append(a, v)
	}
	_, err := dec.Token()
	return a, err
}

func parseNumber(s string) (any, error) {
	if strings.ContainsAny(s, ".eE") {
		return strconv.ParseFloat(s, 64)
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%s does not fit into 64 bits", s)
	}
	if n >= math.MinInt32 && n <= math.MaxInt32 {
		return int32(n), nil
	}
	return n, nil
}
