package po

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

/*
The file that LuCI reads translations from, *.lmo, has three parts, with numbers of 32 bits,
high byte first:

	texts    each filled up with zeros to a multiple of 4 bytes
	index    for each text: hash of its msgid, number of its plural forms,
	         offset and length; ordered by hash
	end      offset of the index

The hash is of the msgid, before which stand the context and \1, and behind which \2 and the
number of the form where there is a plural. The formula for plural forms has hash and number 0.
*/

// Hash is SuperFastHash of Paul Hsieh as LuCI uses it: begun with the length, and the
// last byte of three or of one with a sign.
func Hash(s string) uint32 {
	if s == "" {
		return 0
	}
	word := func(at int) uint32 { return uint32(binary.LittleEndian.Uint16([]byte(s[at : at+2]))) }
	signed := func(at int) uint32 { return uint32(int32(int8(s[at]))) }
	h, i := uint32(len(s)), 0
	for ; i+4 <= len(s); i += 4 {
		h += word(i)
		h = h<<16 ^ word(i+2)<<11 ^ h
		h += h >> 11
	}
	switch len(s) - i {
	case 3:
		h += word(i)
		h ^= h << 16
		h ^= signed(i+2) << 18
		h += h >> 11
	case 2:
		h += word(i)
		h ^= h << 11
		h += h >> 17
	case 1:
		h += signed(i)
		h ^= h << 10
		h += h >> 1
	}
	h ^= h << 3
	h += h >> 5
	h ^= h << 4
	h += h >> 17
	h ^= h << 25
	h += h >> 6
	return h
}

// LuCI's own compiler leaves these two escapes as they are, and so the page gets them:
// it is to see the same, whoever made the package.
var kept = strings.NewReplacer("\n", `\n`, "\t", `\t`)

// LMO is the file for LuCI; nil where nothing is translated.
func (f *File) LMO() ([]byte, error) {
	type row struct{ hash, forms, offset, length uint32 }
	var texts []byte
	var index []row
	seen := map[uint32]string{}
	add := func(name string, hash, forms uint32, text string) error {
		if other, ok := seen[hash]; ok {
			return fmt.Errorf("%q and %q have the same hash, or are there twice", name, other)
		}
		seen[hash] = name
		index = append(index, row{hash, forms, uint32(len(texts)), uint32(len(text))})
		texts = append(texts, text...)
		for len(texts)%4 != 0 {
			texts = append(texts, 0)
		}
		return nil
	}
	if plurals := f.Field("Plural-Forms"); plurals != "" {
		if err := add("Plural-Forms", 0, 0, plurals); err != nil {
			return nil, err
		}
	}
	for _, e := range f.Entries {
		if len(e.Str) == 0 || e.Str[0] == "" {
			continue
		}
		for i, text := range e.Str {
			name := e.ID
			if e.Context != "" {
				name = e.Context + "\x01" + name
			}
			if e.Plural != "" {
				name = fmt.Sprintf("%s\x02%d", name, i)
			}
			name, text = kept.Replace(name), kept.Replace(text)
			if text == "" || Hash(name) == Hash(text) { // as good as none
				continue
			}
			if err := add(name, Hash(name), uint32(len(e.Str)), text); err != nil {
				return nil, err
			}
		}
	}
	if len(texts) == 0 {
		return nil, nil
	}
	slices.SortFunc(index, func(a, b row) int { return cmp.Compare(a.hash, b.hash) })
	out := texts
	for _, r := range index {
		for _, n := range []uint32{r.hash, r.forms, r.offset, r.length} {
			out = binary.BigEndian.AppendUint32(out, n)
		}
	}
	return binary.BigEndian.AppendUint32(out, uint32(len(texts))), nil
}
