package ubus

import "slices"

// Type is the type of a blobmsg value, as the wire and signatures number it.
type Type uint8

// The blobmsg types. A bool is an int8 on the wire; there is no other bool.
const (
	TypeAny    Type = 0 // in a signature: any type; as a value: null
	TypeArray  Type = 1
	TypeTable  Type = 2
	TypeString Type = 3
	TypeInt64  Type = 4
	TypeInt32  Type = 5
	TypeInt16  Type = 6
	TypeBool   Type = 7
	TypeDouble Type = 8
)

var typeNames = [...]string{"any", "array", "table", "string", "int64", "int32", "int16", "bool", "double"}

// String is the type's name, for messages to people.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return "unknown"
}

// Field is one named value of a [Table].
//
// A decoded Value is one of nil, [Array], [Table], string, int64, int32, int16,
// bool, float64. For encoding every other integer type is taken too (as int32
// when it fits, else as int64, like a number of JSON), and []any, []string,
// []Table as arrays.
type Field struct {
	Name  string
	Value any
}

// F makes a [Field].
func F(name string, value any) Field { return Field{Name: name, Value: value} }

// T makes a table of names and values in turn: T("peer", "bob", "port", 4847).
// Each field costs a third of the code that it costs as a literal of a Table.
func T(pairs ...any) Table {
	t := make(Table, 0, len(pairs)/2)
	for i := 0; i+1 < len(pairs); i += 2 {
		t = append(t, Field{Name: pairs[i].(string), Value: pairs[i+1]})
	}
	return t
}

// Table is a blobmsg table: named values in order.
type Table []Field

// Array is a blobmsg array.
type Array []any

// Get returns the first value of that name, as libubox does when a name occurs
// twice.
func (t Table) Get(name string) (any, bool) {
	for i := range t {
		if t[i].Name == name {
			return t[i].Value, true
		}
	}
	return nil, false
}

// GetString returns the string of that name; false when there is none.
func (t Table) GetString(name string) (string, bool) { return get[string](t, name) }

// GetBool returns the bool of that name; false when there is none.
func (t Table) GetBool(name string) (value, ok bool) { return get[bool](t, name) }

// GetTable returns the table of that name; false when there is none.
func (t Table) GetTable(name string) (Table, bool) { return get[Table](t, name) }

// GetArray returns the array of that name; false when there is none.
func (t Table) GetArray(name string) (Array, bool) { return get[Array](t, name) }

// GetInt returns the integer of that name, of whatever width it came in.
func (t Table) GetInt(name string) (int64, bool) {
	v, _ := t.Get(name)
	return asInt(v)
}

// GetFloat returns the double of that name, or an integer as a double: 1 and
// 1.0 are the same number to a person.
func (t Table) GetFloat(name string) (float64, bool) {
	v, _ := t.Get(name)
	if f, ok := v.(float64); ok {
		return f, true
	}
	n, ok := asInt(v)
	return float64(n), ok
}

// GetStrings returns the array of that name when it holds nothing but strings.
func (t Table) GetStrings(name string) ([]string, bool) {
	a, ok := t.GetArray(name)
	if !ok {
		return nil, false
	}
	out := make([]string, 0, len(a))
	for _, v := range a {
		s, ok := v.(string)
		if !ok {
			return nil, false
		}
		out = append(out, s)
	}
	return out, true
}

// Set gives the first field of that name the value, or appends one.
func (t *Table) Set(name string, value any) {
	for i := range *t {
		if (*t)[i].Name == name {
			(*t)[i].Value = value
			return
		}
	}
	*t = append(*t, F(name, value))
}

// without returns the table less all fields of that name; t is not changed.
func (t Table) without(name string) Table {
	if _, ok := t.Get(name); !ok {
		return t
	}
	return slices.DeleteFunc(slices.Clone(t), func(f Field) bool { return f.Name == name })
}

func get[T any](t Table, name string) (T, bool) {
	v, _ := t.Get(name)
	out, ok := v.(T)
	return out, ok
}

func asInt(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case int32:
		return int64(v), true
	case int16:
		return int64(v), true
	}
	return 0, false
}
