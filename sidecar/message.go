package sidecar

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"time"

	"sluice/ratelimit"
)

// token names the n-th send of a message to one recipient. Node is part of it,
// for Exim's message ids are unique on one host only. n tells apart entries of
// a message that fold to the same address; its first is 0.
func token(node, id string, to address, n int) ratelimit.Token {
	return hashes(node, id, to, n/hashesAtOnce)[n%hashesAtOnce]
}

// hashesAtOnce is how many tokens one hash gives.
const hashesAtOnce = 4

// hashes are some tokens of the sends of a message to one recipient.
//
// It is a cryptographic hash, so that nobody can choose recipients of whom one
// is taken for another that was charged already.
func hashes(node, id string, to address, n int) (tokens [hashesAtOnce]ratelimit.Token) {
	b := make([]byte, 0, 256)
	for _, part := range [...]string{node, id, to.local, to.domain} {
		b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
	}
	sum := sha256.Sum256(binary.AppendUvarint(b, uint64(n)))
	for i := range tokens {
		tokens[i] = ratelimit.Token(binary.LittleEndian.Uint64(sum[8*i:]))
	}
	return tokens
}

// mark tells refusals apart: a client that tries the same recipient again does
// not count twice. Whoever made two of them equal (FNV-1a) would be refused all
// the same.
func mark(sender string, to address) ratelimit.Token {
	h := uint64(14695981039346656037)
	for _, part := range [...]string{sender, to.local, to.domain} {
		for i := range len(part) {
			h = (h ^ uint64(part[i])) * 1099511628211
		}
		h = (h ^ 0xff) * 1099511628211 // between the parts
	}
	return ratelimit.Token(h)
}

// tokens are the tokens of all recipients of a message.
func tokens(node, id string, to []address) []ratelimit.Token {
	ts := make([]ratelimit.Token, len(to))
	if len(to) == 1 {
		ts[0] = token(node, id, to[0], 0)
		return ts
	}
	seen := make(map[address]int, len(to))
	for i, a := range to {
		ts[i] = token(node, id, a, seen[a])
		seen[a]++
	}
	return ts
}

func marks(sender string, to []address) []ratelimit.Token {
	ms := make([]ratelimit.Token, len(to))
	for i, a := range to {
		ms[i] = mark(sender, a)
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
