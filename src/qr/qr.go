// Package qr makes QR codes (ISO/IEC 18004) of error correction level L with mask 0,
// versions 1 to 14, in the alphanumeric or the byte mode. The tests hold them against
// rsc.io/qr, which costs four times as much of the packed program.
package qr

import (
	"errors"
	"strings"
)

// Quiet is the number of light modules around a code (5.3.8).
const Quiet = 4

// blocks are, for each version, the octets of error correction in a block and
// the number of blocks (table 9).
var blocks = [...][2]int{{7, 1}, {10, 1}, {15, 1}, {20, 1}, {26, 1}, {18, 2}, {20, 2}, {24, 2}, {30, 2}, {18, 4}, {20, 4}, {24, 4}, {26, 4}, {30, 4}}

const alpha = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ $%*+-./:" // table 5

// Code is a square of modules.
type Code struct {
	Size  int // modules in a row and in a column, without the quiet zone
	dark  []bool
	fixed []bool // no data here
}

// bits are octets that are filled bit by bit.
type bits struct {
	b []byte
	n int
}

func (q *bits) add(v, n int) {
	for n--; n >= 0; n-- {
		if q.n%8 == 0 {
			q.b = append(q.b, 0)
		}
		q.b[q.n/8] |= byte(v>>n&1) << (7 - q.n%8)
		q.n++
	}
}

// segment is a text as a segment of a version's data (7.4).
func segment(text string, version int) []byte {
	var q bits
	wide := version > 9
	if strings.Trim(text, alpha) == "" {
		q.add(2, 4)
		if q.add(len(text), 9); wide {
			q = bits{}
			q.add(2, 4)
			q.add(len(text), 11)
		}
		for ; len(text) > 1; text = text[2:] {
			q.add(strings.IndexByte(alpha, text[0])*45+strings.IndexByte(alpha, text[1]), 11)
		}
		if text != "" {
			q.add(strings.IndexByte(alpha, text[0]), 6)
		}
	} else {
		n := 8
		if wide {
			n = 16
		}
		q.add(4, 4)
		q.add(len(text), n)
		for i := range len(text) {
			q.add(int(text[i]), 8)
		}
	}
	q.add(0, 4)
	return q.b // an octet too many, should the terminator not have fitted, is noticed by its length
}

// mul multiplies in the field of the codes, GF(256) by 0x11d.
func mul(x, y int) (z int) {
	for i := 7; i >= 0; i-- {
		z = z<<1 ^ z>>7*0x11d ^ y>>i&1*x
	}
	return z
}

// correction are the n octets of error correction for a block (7.5.2).
func correction(block []byte, n int) []byte {
	poly, rem := make([]int, n), make([]byte, n)
	poly[n-1] = 1
	for i, root := 0, 1; i < n; i++ {
		for j := range poly {
			if poly[j] = mul(poly[j], root); j+1 < n {
				poly[j] ^= poly[j+1]
			}
		}
		root = mul(root, 2)
	}
	for _, c := range block {
		f := int(c ^ rem[0])
		copy(rem, rem[1:])
		rem[n-1] = 0
		for j := range rem {
			rem[j] ^= byte(mul(poly[j], f))
		}
	}
	return rem
}

// set fixes a module.
func (c *Code) set(x, y int, dark bool) {
	c.dark[y*c.Size+x], c.fixed[y*c.Size+x] = dark, true
}

// square draws the rings of a pattern around a point, as far as they lie in the
// code; ring 2 is light, and so is ring 4, a finder's border.
func (c *Code) square(x, y, rings int) {
	for dy := -rings; dy <= rings; dy++ {
		for dx := -rings; dx <= rings; dx++ {
			if ring := max(dx, -dx, dy, -dy); x+dx >= 0 && x+dx < c.Size && y+dy >= 0 && y+dy < c.Size {
				light := ring == 2 || ring == 4
				if rings == 2 { // alignment
					light = ring == 1
				}
				c.set(x+dx, y+dy, !light)
			}
		}
	}
}

// remainder appends the remainder of a division of polynomials (annexes C, D).
func remainder(v, poly, bits int) int {
	r := v
	for range bits {
		r = r<<1 ^ r>>(bits-1)*poly
	}
	return v<<bits | r
}

// patterns draws all that is no data.
func (c *Code) patterns(version int) {
	n := c.Size
	for i := range n {
		c.set(6, i, i%2 == 0)
		c.set(i, 6, i%2 == 0)
	}
	if version > 1 {
		many := version/7 + 2
		step := (version*4 + many*2 + 1) / (many*2 - 2) * 2
		at := func(i int) int {
			if i == 0 {
				return 6
			}
			return n - 7 - (many-1-i)*step
		}
		for i := range many {
			for j := range many {
				if i+j > 0 && i+j != many-1 || i > 0 && j > 0 {
					c.square(at(i), at(j), 2)
				}
			}
		}
	}
	c.square(3, 3, 4)
	c.square(n-4, 3, 4)
	c.square(3, n-4, 4)
	format := remainder(1<<3, 0x537, 10) ^ 0x5412 // level L, mask 0
	for i := range 15 {
		dark := format>>i&1 == 1
		switch { // 7.9.1
		case i < 6:
			c.set(8, i, dark)
		case i < 8:
			c.set(8, i+1, dark)
		case i == 8:
			c.set(7, 8, dark)
		default:
			c.set(14-i, 8, dark)
		}
		if i < 8 {
			c.set(n-1-i, 8, dark)
		} else {
			c.set(8, n-15+i, dark)
		}
	}
	c.set(8, n-8, true)
	if version >= 7 {
		info := remainder(version, 0x1f25, 12)
		for i := range 18 {
			c.set(n-11+i%3, i/3, info>>i&1 == 1)
			c.set(i/3, n-11+i%3, info>>i&1 == 1)
		}
	}
}

// New makes the smallest code for a text. Of more than some 450 octets there is none.
func New(text string) (*Code, error) {
	for v, b := range blocks {
		v++
		c := &Code{Size: 17 + 4*v}
		c.dark, c.fixed = make([]bool, c.Size*c.Size), make([]bool, c.Size*c.Size)
		c.patterns(v)
		room := 0
		for _, f := range c.fixed {
			if !f {
				room++
			}
		}
		total, check, blocks := room/8, b[0], b[1]
		data := segment(text, v)
		most := total - check*blocks
		if len(data) > most {
			continue
		}
		for pad := 0xec; len(data) < most; pad ^= 0xec ^ 0x11 {
			data = append(data, byte(pad))
		}
		c.fill(interleave(data, check, blocks))
		return c, nil
	}
	return nil, errors.New("too long for a QR code")
}

// interleave cuts data into blocks, the last ones of which may be an octet
// longer, and mixes them and their error correction (7.6).
func interleave(data []byte, check, blocks int) []byte {
	short := len(data) / blocks
	long := blocks - len(data)%blocks // the first long one
	var parts, checks [][]byte
	for i := range blocks {
		n := short
		if i >= long {
			n++
		}
		parts, checks = append(parts, data[:n]), append(checks, correction(data[:n], check))
		data = data[n:]
	}
	var out []byte
	for _, list := range [][][]byte{parts, checks} {
		for i := range short + 1 + check {
			for _, p := range list {
				if i < len(p) {
					out = append(out, p[i])
				}
			}
		}
	}
	return out
}

// fill puts the octets into their places, in columns of two from the right
// (7.7.3), and masks them.
func (c *Code) fill(b []byte) {
	i, n := 0, c.Size
	for right := n - 1; right > 0; right -= 2 {
		if right == 6 {
			right = 5
		}
		for v := range n {
			y := v
			if (right+1)&2 == 0 {
				y = n - 1 - v
			}
			for x := right; x > right-2; x-- {
				if c.fixed[y*n+x] {
					continue
				}
				dark := (x+y)%2 == 0
				if i < len(b)*8 && b[i/8]>>(7-i%8)&1 == 1 {
					dark = !dark
				}
				c.dark[y*n+x] = dark
				i++
			}
		}
	}
}

// Dark tells of a module by its column and row; all around the code are light.
func (c *Code) Dark(x, y int) bool {
	return x >= 0 && y >= 0 && x < c.Size && y < c.Size && c.dark[y*c.Size+x]
}

// Rows are the code's rows from the top, without the quiet zone: a 1 for each dark
// module and a 0 for each light one.
func (c *Code) Rows() []string {
	rows := make([]string, c.Size)
	for y := range rows {
		b := make([]byte, c.Size)
		for x := range b {
			if b[x] = '0'; c.Dark(x, y) {
				b[x] = '1'
			}
		}
		rows[y] = string(b)
	}
	return rows
}
