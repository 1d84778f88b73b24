package envelope

import (
	"encoding/binary"
	"math/bits"
	"slices"
	"strings"
	"time"

	"github.com/dchest/siphash"

	"sluice/ratelimit"
)

// Token names the n-th send of a message to one recipient; n counts from 0 the
// recipients of the message that fold to the same address. The node is part of it
// because Exim's message ids are unique on one host only.
//
// It is SipHash (Aumasson, Bernstein 2012) with the message id as key. Nobody knows the id
// before the message is accepted. So no sender can choose a recipient whose token equals
// that of a send which was charged already, and get the second one for nothing.
func Token(node, id string, to Address, n int) ratelimit.Token {
	var key [16]byte
	copy(key[:], id)
	b := make([]byte, 0, 256)
	for _, part := range [...]string{node, id, to.Local, to.Domain} {
		b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
	}
	b = binary.AppendUvarint(b, uint64(n))
	return ratelimit.Token(siphash.Hash(binary.LittleEndian.Uint64(key[:8]), binary.LittleEndian.Uint64(key[8:]), b))
}

// Mark identifies refused sends, so that a client that tries the same recipient again
// does not count twice. Unlike a token it need not resist forgery: two sends with the same
// mark are both refused, and only one of them is counted. So a fast hash is enough. It
// multiplies eight bytes at a time to 128 bits, and xors the halves.
func Mark(sender string, to Address) ratelimit.Token {
	const odd = 0x9e3779b97f4a7c15 // 2^64 / golden ratio
	h := uint64(14695981039346656037)
	mix := func(word uint64) {
		high, low := bits.Mul64(h^word, odd)
		h = high ^ low
	}
	for _, part := range [...]string{sender, to.Local, to.Domain} {
		mix(uint64(len(part)))
		for ; len(part) >= 8; part = part[8:] {
			mix(binary.LittleEndian.Uint64([]byte(part[:8])))
		}
		var rest uint64
		for i := range len(part) {
			rest = rest<<8 | uint64(part[i])
		}
		mix(rest)
	}
	return ratelimit.Token(h)
}

// AppendTokens appends the tokens of all recipients of a message.
func AppendTokens(ts []ratelimit.Token, node, id string, to []Address) []ratelimit.Token {
	ts = slices.Grow(ts, len(to))
	var seen map[Address]int // nil where all are distinct, which is nearly always
	if !distinct(to) {
		seen = make(map[Address]int, len(to))
	}
	for _, a := range to {
		ts = append(ts, Token(node, id, a, seen[a]))
		if seen != nil {
			seen[a]++
		}
	}
	return ts
}

// distinct reports that no two of at most 16 addresses are equal. Of more it does not
// find out, and returns false.
func distinct(to []Address) bool {
	if len(to) > 16 {
		return false
	}
	for i, a := range to {
		if slices.Contains(to[:i], a) {
			return false
		}
	}
	return true
}

// AppendMarks appends the marks of all recipients of a message.
func AppendMarks(ms []ratelimit.Token, sender string, to []Address) []ratelimit.Token {
	ms = slices.Grow(ms, len(to))
	for _, a := range to {
		ms = append(ms, Mark(sender, a))
	}
	return ms
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// IDTime is the time in an Exim message id: the first six characters are seconds since
// 1970 in base 62 (Exim specification, "Message identification"). It is false if the id
// is not one of Exim's.
func IDTime(id string) (time.Time, bool) {
	if (len(id) != 16 && len(id) != 23) || id[6] != '-' {
		return time.Time{}, false
	}
	seconds := int64(0)
	for i := range 6 {
		digit := strings.IndexByte(base62, id[i])
		if digit < 0 {
			return time.Time{}, false
		}
		seconds = seconds*62 + int64(digit)
	}
	return time.Unix(seconds, 0), true
}
