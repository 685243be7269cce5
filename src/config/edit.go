package config

import (
	"bytes"
	"errors"
	"slices"
	"strings"
)

// setPeer is a file's text with the peer in it as given. A section that is there
// already keeps its place, its comments and every option that means the same
// already; a new one goes to the end. Every other byte stays.
func setPeer(data []byte, p Peer) ([]byte, error) {
	p, err := checkPeer(p)
	if err != nil {
		return nil, err
	}
	before, err := parse(data, nil)
	if err != nil {
		return nil, err
	}
	at, out := findPeer(before, p.Name), data
	if at < 0 {
		at, out = len(before.sections), appendSection(data, newPeerSection(before, p))
	} else if out, err = editPeer(data, before.sections[at], at, p); err != nil {
		return nil, err
	}
	// Whatever the file looked like: only this peer may have changed, and it must
	// be the one that was wanted.
	after, err := parse(out, nil)
	if err != nil || len(after.sections) < len(before.sections) || len(after.sections) > max(at+1, len(before.sections)) {
		return nil, errUnusual
	}
	for i := range before.sections {
		if i != at && !before.sections[i].equal(after.sections[i]) {
			return nil, errUnusual
		}
	}
	c, problems := decode(after)
	if got, ok := c.Peer(p.Name); !ok || !got.Equal(p) {
		return nil, problems.of(after, at)
	}
	return out, nil
}

// removePeer is a file's text without the peer. Comments and every other byte
// stay. A peer that isn't there is no error.
func removePeer(data []byte, name string) ([]byte, error) {
	before, err := parse(data, nil)
	if err != nil {
		return nil, err
	}
	name, out, after := lower(name), data, before
	for at := findPeer(after, name); at >= 0; at = findPeer(after, name) {
		wanted := slices.Delete(slices.Clone(after.sections), at, at+1)
		sts, err := statements(out)
		if err != nil {
			return nil, err
		}
		out = slices.Clone(out)
		for i := len(sts) - 1; i >= 0; i-- {
			if sts[i].section == at {
				out = deleteStatement(out, sts, i)
			}
		}
		after, err = parse(out, nil)
		if err != nil || !slices.EqualFunc(after.sections, wanted, (*section).equal) {
			return nil, errUnusual
		}
	}
	return out, nil
}

var errUnusual = errors.New("the file is written in a way that can't be edited safely: run uci commit htip once, or edit it by hand")

// checkPeer brings a peer into its one form, or says what is wrong with it.
func checkPeer(p Peer) (Peer, error) {
	s := &section{kind: kindPeer}
	for _, f := range peerFields {
		if v := f.write(p); v != nil {
			s.options = append(s.options, &option{name: f.name, list: f.list, values: v})
		}
	}
	q, ps := decodePeer(s, p.Name)
	if len(ps) > 0 {
		return p, errors.New(ps[0].String())
	}
	return q, nil
}

// of is an error that names the problems of one section.
func (ps Problems) of(d document, at int) error {
	title := peerTitle(d.sections[at], d.labels()[at])
	var errs []error
	for _, p := range ps {
		if p.Section == title && p.Severity >= Error {
			errs = append(errs, errors.New(p.String()))
		}
	}
	if len(errs) == 0 {
		return errUnusual
	}
	return errors.Join(errs...)
}

// findPeer is the index of the first section of a peer by its name, or -1.
func findPeer(d document, name string) int {
	return slices.IndexFunc(d.sections, func(s *section) bool {
		if s.kind != kindPeer {
			return false
		}
		if o := s.option("name"); o != nil {
			return lower(o.values[0]) == name
		}
		return s.name != "" && lower(s.name) == name
	})
}

// newPeerSection is a section for a peer. Its name is the peer's where uci allows
// that; it does not allow hyphens.
func newPeerSection(d document, p Peer) *section {
	s := &section{kind: kindPeer, name: strings.ReplaceAll(p.Name, "-", "_")}
	if slices.ContainsFunc(d.sections, func(o *section) bool { return o.name == s.name }) {
		s.name = ""
	}
	for _, f := range peerFields {
		v := f.write(p)
		if v != nil && !(f.name == "name" && s.name == p.Name) {
			s.options = append(s.options, &option{name: f.name, list: f.list, values: v})
		}
	}
	return s
}

func appendSection(data []byte, s *section) []byte {
	gap := ""
	if len(data) > 0 {
		gap = endLine(data) + "\n"
	}
	return slices.Concat(data, []byte(gap+strings.Join(s.statements(), "\n\t")+"\n"))
}

// endLine is what ends the last line of a file without changing what it says.
func endLine(data []byte) string {
	switch text := bytes.TrimRight(data, " \t"); {
	case bytes.HasSuffix(data, []byte("\n")):
		return ""
	case bytes.HasSuffix(data, []byte(`\`)):
		return "\n\n" // the backslash takes one of them
	case bytes.HasSuffix(text, []byte(";")):
		return "#\n" // to uci a line end behind a semicolon is an unknown command
	default:
		return "\n"
	}
}

// editPeer changes the options of a section that don't mean what p has.
func editPeer(data []byte, s *section, at int, p Peer) ([]byte, error) {
	out := data
	for _, f := range peerFields {
		want, is := f.write(p), s.option(f.name)
		if is == nil && (want == nil || f.name == "name" && lower(s.name) == p.Name) {
			continue
		}
		if is != nil {
			q, good := NewPeer(""), true
			f.read(&q, is.values, func(string, string) { good = false })
			if good && slices.Equal(f.write(q), want) {
				continue
			}
		}
		var err error
		if out, err = setOption(out, at, &option{name: f.name, list: f.list, values: want}); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func statements(data []byte) (sts []statement, err error) {
	_, err = parse(data, func(st statement) { sts = append(sts, st) })
	return sts, err
}

// setOption puts an option's statements in the place of those that are there. What
// is too much is deleted; what is more comes behind the last of them, or behind
// the section's last statement.
func setOption(data []byte, at int, o *option) ([]byte, error) {
	sts, err := statements(data)
	if err != nil {
		return nil, err
	}
	var old []int // of this option
	last := -1    // of this section
	for i, st := range sts {
		if st.section != at {
			continue
		}
		last = i
		if st.verb != 'c' && st.name == o.name {
			old = append(old, i)
		}
	}
	if len(old) > 0 {
		last = old[len(old)-1]
	}
	out, want := slices.Clone(data), o.statements()
	if len(want) > len(old) {
		out = insertBehind(out, sts[last], want[len(old):])
	}
	for i := len(old) - 1; i >= 0; i-- {
		st := sts[old[i]]
		if i >= len(want) {
			out = deleteStatement(out, sts, old[i])
			continue
		}
		text := want[i]
		if st.dead {
			text += " #" // what uci didn't read must stay unread
		}
		out = splice(out, st.start, st.end, text)
	}
	return out, nil
}

// insertBehind puts statements behind another: on lines of their own, or, where
// more follows on the same line, between semicolons.
func insertBehind(data []byte, st statement, texts []string) []byte {
	if st.sep >= 0 {
		return splice(data, st.sep, st.sep, "; "+strings.Join(texts, "; "))
	}
	text := "\t" + strings.Join(texts, "\n\t") + "\n"
	if n := bytes.IndexByte(data[st.end:], '\n'); n >= 0 {
		return splice(data, st.end+n+1, st.end+n+1, text)
	}
	return append(data, endLine(data)+text...)
}

// deleteStatement takes out the statement i, with its line when that holds
// nothing else. The ones behind it in sts must be behind the text that changes or
// gone; the one before it is told when it loses its semicolon.
func deleteStatement(data []byte, sts []statement, i int) []byte {
	st := sts[i]
	from := bytes.LastIndexByte(data[:st.start], '\n') + 1
	to := len(data)
	if n := bytes.IndexByte(data[st.end:], '\n'); n >= 0 {
		to = st.end + n + 1
	}
	switch {
	case st.dead:
		return splice(data, st.start, st.end, "#")
	case blank(data[from:st.start]) && blank(data[st.end:to]):
		if st.verb == 'c' && (to == len(data) || blank(firstLine(data[to:]))) && from > 0 {
			// Of the empty lines around a section one is enough.
			if above := bytes.LastIndexByte(data[:from-1], '\n') + 1; blank(data[above:from]) {
				from = above
			}
		}
		return slices.Delete(data, from, to)
	case st.sep >= 0:
		end := st.sep + 1
		for end < len(data) && isBlank(data[end]) {
			end++
		}
		return slices.Delete(data, st.start, end)
	case i > 0 && sts[i-1].sep >= from:
		sep := sts[i-1].sep
		sts[i-1].sep = -1
		return slices.Delete(data, sep, st.end)
	default:
		return slices.Delete(data, st.start, st.end)
	}
}

func firstLine(data []byte) []byte {
	line, _, _ := bytes.Cut(data, []byte("\n"))
	return line
}

func blank(data []byte) bool {
	return !slices.ContainsFunc(data, func(c byte) bool { return !isSpace(c) })
}

// splice is data with the octets from i to j replaced by a text.
func splice(data []byte, i, j int, text string) []byte {
	return append(append(data[:i:i], text...), data[j:]...)
}
