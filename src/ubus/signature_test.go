package ubus

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"testing"
)

func TestCheckArgs(t *testing.T) {
	declared := []Arg{{"s", TypeString}, {"i", TypeInt32}, {"l", TypeInt64}, {"d", TypeDouble}, {"b", TypeBool},
		{"t", TypeTable}, {"a", TypeArray}, {"any", TypeAny}}
	for name, in := range map[string]Table{
		"number for a string":  {F("s", int32(5))},
		"string for a number":  {F("i", "5")},
		"double for a number":  {F("i", 5.0)},
		"bool for a number":    {F("i", true)},
		"number for a bool":    {F("b", int32(1))},
		"array for a table":    {F("t", Array{})},
		"table for an array":   {F("a", Table{})},
		"undeclared":           {F("x", int32(1))},
		"second of two":        {F("s", "x"), F("s", int32(1))},
		"session of no string": {F(SessionArg, int32(1))},
	} {
		if _, _, err := checkArgs(declared, in); !errors.Is(err, ErrInvalidArgument) {
			t.Errorf("%s: %v", name, err)
		}
	}
	good := Table{F("i", int64(1)), F("l", int32(1)), F("d", int32(1)), F("any", Table{}), F("s", nil)}
	with := append(append(Table{}, good...), F(SessionArg, "0123"))
	rest, session, err := checkArgs(declared, with)
	if err != nil || session != "0123" || !reflect.DeepEqual(rest, good) || len(with) != len(good)+1 {
		t.Errorf("got %v, %q, %v", rest, session, err)
	}
	rest, session, err = checkArgs([]Arg{{SessionArg, TypeString}}, Table{F(SessionArg, "0123")})
	if err != nil || session != "0123" || len(rest) != 1 {
		t.Errorf("declared session: %v, %q, %v", rest, session, err)
	}
}

func TestParseSignatureBad(t *testing.T) {
	for name, in := range map[string]Table{
		"method is no table":   {F("m", int32(1))},
		"type is no number":    {F("m", Table{F("a", "x")})},
		"type is out of range": {F("m", Table{F("a", -1)})},
	} {
		b, err := AppendTable(nil, in)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseSignature(b); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := ParseSignature([]byte{1}); !errors.Is(err, ErrMalformed) {
		t.Errorf("junk: %v", err)
	}
}

func TestObjectValidate(t *testing.T) {
	h := func(context.Context, *Request) (Table, error) { return nil, nil }
	for name, o := range map[string]Object{
		"no name":       {},
		"star":          {Name: "a*"},
		"method twice":  {Name: "a", Methods: []Method{{Name: "m", Handler: h}, {Name: "m", Handler: h}}},
		"no handler":    {Name: "a", Methods: []Method{{Name: "m"}}},
		"nameless":      {Name: "a", Methods: []Method{{Handler: h}}},
		"argument type": {Name: "a", Methods: []Method{{Name: "m", Handler: h, Args: []Arg{{"x", 9}}}}},
	} {
		if err := o.validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestStatusOf(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want Status
	}{
		{nil, StatusOK},
		{ErrNotFound, StatusNotFound},
		{fmt.Errorf("x: %w", Status(99)), 99},
		{StatusOK, StatusUnknownError}, // an error is never success
		{errors.New("x"), StatusUnknownError},
		{fmt.Errorf("x: %w", context.DeadlineExceeded), StatusTimeout},
	} {
		if got := StatusOf(tc.err); got != tc.want {
			t.Errorf("%v: %v, want %v", tc.err, got, tc.want)
		}
	}
}
