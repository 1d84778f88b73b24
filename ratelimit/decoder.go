package ratelimit

import (
	"encoding/binary"
	"errors"
)

var errShort = errors.New("it ends too early or holds an impossible number")

// A decoder reads what was encoded. After the first error it returns zeros, and err
// is set.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) uint() uint64 {
	if d.err == nil && len(d.b) > 0 && d.b[0] < 0x80 { // nearly all are one byte
		v := d.b[0]
		d.b = d.b[1:]
		return uint64(v)
	}
	v, n := binary.Uvarint(d.b)
	if n <= 0 || d.err != nil {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) int() int64 { return int64(d.uint()) }

// len reads how many things follow, each of at least size bytes.
func (d *decoder) len(size int) int {
	n := d.uint()
	if n > uint64(len(d.b)/size) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) bytes() []byte {
	n := d.len(1)
	b := d.b[:n]
	d.b = d.b[n:]
	return b
}

func (d *decoder) token() Token {
	if len(d.b) < 8 || d.err != nil {
		d.fail()
		return 0
	}
	t := Token(binary.LittleEndian.Uint64(d.b))
	d.b = d.b[8:]
	return t
}

func (d *decoder) tokens() []Token {
	ts := make([]Token, d.len(8))
	for i := range ts {
		ts[i] = d.token()
	}
	return ts
}

func (d *decoder) fail() {
	d.b = nil
	if d.err == nil {
		d.err = errShort
	}
}
