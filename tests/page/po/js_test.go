package po

import (
	"fmt"
	"strings"
	"testing"
)

func TestScanJSBad(t *testing.T) {
	for src, want := range map[string]string{
		"/* a":                  "a comment without end",
		"\n'a":                  "x.js:2: a string without end",
		"'a\nb'":                "a string without end",
		"`a":                    "a template without end",
		"`${ a":                 "a template without end",
		"x = /a[/]":             "a regular expression without end",
		"a)":                    "a ) too many",
		`'\u12`:                 "a string without end",
		`'\xzz'`:                "is no character",
		"_('a'":                 "_( is not closed",
		"_(a)":                  "constant texts",
		"_('a' + b)":            "constant texts",
		"_('a' + )":             "constant texts",
		"_(`a ${b}`)":           "constant texts",
		"_()":                   "constant texts",
		"_('')":                 "constant texts",
		"_('a', 'b', 'c')":      "constant texts",
		"_('a', b)":             "constant texts",
		"_(row.text)":           "constant texts",
		"N_(n, 'a')":            "constant texts",
		"N_('a', 'b')":          "constant texts",
		"N_(f(1, 2), 'a', x)":   "constant texts",
		"N_(n,'a','b','c','d')": "constant texts",
	} {
		if _, errs := extractJS("x.js", src, variable); len(errs) == 0 || !strings.Contains(errs[0].Error(), want) {
			t.Errorf("%q: %v, want %s", src, errs, want)
		}
	}
}

func TestExtractJS(t *testing.T) {
	for src, want := range map[string]string{
		`_('a')`:                                                    "1 a",
		"\n\n_(\n\"b\"\n)":                                          "3 b",
		`_('it\'s "é" \u00e9 \x41 \u{1f600}')`:                      `1 it's "é" é A 😀`,
		`_("a" + 'b' + ` + "`c`)":                                   "1 abc",
		`_('a', 'ctx')`:                                             "1 ctx:a",
		`N_(f(n, [ 1, 2 ]), '%d a', '%d b')`:                        "1 %d a/%d b",
		`N_(n, 'a', 'b', 'ctx')`:                                    "1 ctx:a/b",
		`_('a').format(_('b'), x ? _('c') : _('d'))`:                "1 a; 1 b; 1 c; 1 d",
		"`${ _('a') + `${ { b: _('b') }.b }` } _('no')` + _('c')":   "1 a; 1 b; 1 c",
		`// _('no')` + "\n" + `/* _('no') */ "_('no')" + _('a')`:    "2 a",
		`x.replace(/['"\/_(']/g, _('a'))`:                           "1 a",
		`if (a) /'/.test(b), _('a')`:                                "1 a",
		`(a + b) / 2 / c; _('a')`:                                   "1 a",
		`a[1] / 2; _('a') / 1`:                                      "1 a",
		`return /'/.test(_('a'))`:                                   "1 a",
		`a._('no'); function _(s) { return s }; b_('no'); $_('no')`: "",
		`list.map((_, i) => i)`:                                     "",
		`_(row.format)`:                                             "",
	} {
		entries, errs := extractJS("x.js", src, variable)
		var got []string
		for _, e := range entries {
			s := e.ID
			if e.Context != "" {
				s = e.Context + ":" + s
			}
			if e.Plural != "" {
				s += "/" + e.Plural
			}
			got = append(got, fmt.Sprintf("%d %s", e.Places[0].Line, s))
		}
		if strings.Join(got, "; ") != want || len(errs) > 0 {
			t.Errorf("%s:\n%q, %v; want %q", src, got, errs, want)
		}
	}
}

func TestExtractJSON(t *testing.T) {
	entries, errs := extractJSON("x.json", "{\n\"a\": {\n\"title\": \"A\", \"order\": 1, \"x\": [ \"title\", \"no\" ],\n\"description\": \"B\" } }")
	if len(errs) > 0 || len(entries) != 2 || entries[0].ID != "A" || entries[0].Places[0].Line != 3 || entries[1].ID != "B" || entries[1].Places[0].Line != 4 {
		t.Errorf("%v %v", entries, errs)
	}
	if _, errs := extractJSON("x.json", `{ "title": `); len(errs) == 0 {
		t.Error("half a file is no error")
	}
}
