package po

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

/*
plurals are the formulas for plural forms, as LuCI's own translation has them: it puts all
translations into one table, with one formula, which may be anybody's. Korean has no plural,
but LuCI's own formula for it has two forms; so both have to be there.
*/
var plurals = map[string]string{
	"de": "nplurals=2; plural=n != 1;",
	"ko": "nplurals=2; plural=n == 1 ? 0 : 1;",
}

// same are languages whose plural forms are all alike.
var same = map[string]bool{"ko": true}

// places of LuCI's String.format(): in a fixed order, as it knows no numbers of arguments.
var holes = regexp.MustCompile(`%[-0 ]?\d*(?:\.\d+)?[a-zA-Z%]`)

// verbatim is what stays as it is: paths, addresses, options, and commands that can be
// told from words.
var verbatim = regexp.MustCompile(`/(?:etc|usr)/[\w./-]*\w|\b(?:option|list) [a-z_]+|\b[a-z0-9]+(?:[.:][a-z0-9-]+)+\b|\b\d+(?:\.\d+){3}\S*|\bhtip (?:doctor|key|peers|requests|connect)\b|\buci (?:set|commit) \S+\w|\b(?:ifstatus(?: wan)?|fw4 check|kmod-\w+|ddns-scripts|htip-\+)|--\w+|\b(?:reload|restart|remove|add)\b`)

// Check tells what is wrong with a translation.
func Check(language string, f *File, texts []*Text) (errs []error) {
	complain := func(e *Entry, format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: %q: %s", language, e.ID, fmt.Sprintf(format, args...)))
	}
	for _, want := range []string{"Language: " + language, "Content-Type: text/plain; charset=UTF-8", "Plural-Forms: " + plurals[language]} {
		if !slices.Contains(f.Header, want) {
			errs = append(errs, fmt.Errorf("%s: the header lacks %q", language, want))
		}
	}
	by := map[key]*Entry{}
	for _, e := range f.Entries {
		if by[e.key()] != nil {
			complain(e, "is there twice")
		}
		by[e.key()] = e
	}
	for _, t := range texts {
		e := by[t.key()]
		delete(by, t.key())
		switch {
		case e == nil:
			complain(&t.Entry, "is not there")
			continue
		case e.Plural != t.Plural:
			complain(e, "its plural is %q, not %q", t.Plural, e.Plural)
			continue
		case slices.Contains(e.Flags, "fuzzy"):
			complain(e, "is fuzzy: look at it, then take away that word")
		case !e.translated():
			complain(e, "is not translated")
			continue
		}
		if want := f.forms(); t.Plural != "" && len(e.Str) != want {
			complain(e, "has %d plural forms, not %d", len(e.Str), want)
		}
		if same[language] && len(slices.Compact(slices.Clone(e.Str))) > 1 {
			complain(e, "its plural forms differ: %q", e.Str)
		}
		for _, s := range e.Str {
			for _, err := range fits(t, s) {
				complain(e, "%v", err)
			}
		}
	}
	for _, e := range f.Entries {
		if by[e.key()] == e {
			complain(e, "is not a text of the page any more")
		}
	}
	return errs
}

// fits compares a translation with its text.
func fits(t *Text, s string) (errs []error) {
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !utf8.ValidString(s) || strings.ContainsFunc(s, func(r rune) bool { return r != '\n' && unicode.IsControl(r) || r == utf8.RuneError }) {
		complain("%q has characters that are none", s)
	}
	if t.Doctor == "" && s != strings.TrimSpace(s) {
		complain("%q has blanks around it", s)
	}
	if strings.Contains(s, "  ") {
		complain("%q has two blanks", s)
	}
	if a, b := strings.HasSuffix(t.ID, "…"), strings.HasSuffix(s, "…"); a != b {
		complain("%q: a … at the end of one of them only", s)
	}
	if t.Doctor == "" {
		if strings.Contains(s, "\n") {
			complain("%q has more than a line", s)
		}
		if want, got := holes.FindAllString(t.ID, -1), holes.FindAllString(s, -1); !slices.Equal(want, got) {
			complain("%q has %q, not %q", s, got, want)
		}
	} else {
		errs = append(errs, fitsDoctor(t.Doctor, s)...)
	}
	source := t.ID
	if t.Doctor != "" {
		source = t.Doctor
	}
	for _, w := range verbatim.FindAllString(source, -1) {
		if strings.Count(s, w) < strings.Count(source, w) && !plainWord(source, w) {
			complain("%q lacks %q", s, w)
		}
	}
	return errs
}

// plainWord tells whether something that looks like a part of a command is a word of a
// sentence.
func plainWord(text, w string) bool {
	if !slices.Contains([]string{"reload", "restart", "remove", "add"}, w) {
		return false
	}
	return !regexp.MustCompile(`(?:/etc/init\.d/\w+|\.sh) ` + w).MatchString(text)
}

// fitsDoctor compares a sentence of the doctor: whether the advice is apart, and whether
// each argument is named.
func fitsDoctor(format, s string) (errs []error) {
	if a, b := strings.Count(format, "\n"), strings.Count(s, "\n"); a != b {
		errs = append(errs, fmt.Errorf(`%q has \n %d times, not %d`, s, b, a))
	}
	for part := range strings.SplitSeq(s, "\n") {
		if part == "" || part != strings.TrimSpace(part) {
			errs = append(errs, fmt.Errorf(`%q has nothing or blanks beside \n`, s))
		}
	}
	var named, want []int
	numbers, plain := 0, 0
	for i := range len(s) {
		if s[i] != '%' {
			continue
		}
		if i+1 < len(s) && '1' <= s[i+1] && s[i+1] <= '9' {
			numbers++
			named = append(named, int(s[i+1]-'0'))
		} else {
			plain++
			named = append(named, plain)
		}
	}
	for i := range strings.Count(format, "%") {
		want = append(want, i+1)
	}
	slices.Sort(named)
	if numbers > 0 && plain > 0 {
		errs = append(errs, fmt.Errorf("%q has arguments both with and without numbers", s))
	} else if named = slices.Compact(named); !slices.Equal(named, want) || plain > len(want) {
		errs = append(errs, fmt.Errorf("%q names the arguments %v, not %v", s, named, want))
	}
	return errs
}
