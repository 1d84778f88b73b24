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

// tokenOf names the n-th send of a message to one recipient. Node is part of it,
// for Exim's message ids are unique on one host only. n tells apart entries of
// a message that fold to the same address; its first is 0.
//
// It is SipHash (Aumasson, Bernstein 2012) under the id, which nobody knows before
// the message is there: so nobody can choose recipients of whom one is taken for
// another that was charged already.
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

// mark tells refusals apart: a client that tries the same recipient again does
// not count twice. Whoever made two of them equal would be refused all the
// same, so that it need not be a cryptographic hash: eight bytes at a time are
// multiplied to 128 bits, which are folded.
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

// appendTokens appends the tokens of all recipients of a message.
func AppendTokens(ts []ratelimit.Token, node, id string, to []Address) []ratelimit.Token {
	if len(to) == 1 {
		return append(ts, Token(node, id, to[0], 0))
	}
	ts = slices.Grow(ts, len(to))
	if distinct(to) { // nearly always
		for _, a := range to {
			ts = append(ts, Token(node, id, a, 0))
		}
		return ts
	}
	seen := make(map[Address]int, len(to))
	for _, a := range to {
		ts = append(ts, Token(node, id, a, seen[a]))
		seen[a]++
	}
	return ts
}

// distinct tells that no two of a few addresses are the same; of many it does not
// know.
func distinct(to []Address) bool {
	const few = 16
	if len(to) > few {
		return false
	}
	for i, a := range to {
		if slices.Contains(to[:i], a) {
			return false
		}
	}
	return true
}

func AppendMarks(ms []ratelimit.Token, sender string, to []Address) []ratelimit.Token {
	ms = slices.Grow(ms, len(to))
	for _, a := range to {
		ms = append(ms, Mark(sender, a))
	}
	return ms
}

const base62 = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// IDTime is the time in an Exim message id: its first six characters are the
// seconds since 1970 in base 62 (Exim specification, "Message identification").
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
