package sidecar

import (
	"crypto/sha256"
	"encoding/binary"
	"strconv"
	"strings"
	"time"

	"sluice/ratelimit"
)

// token names the n-th send of a message to one recipient. Node is part of it,
// for Exim's message ids are unique on one host only. n tells apart entries of
// a message that fold to the same address; its first is 0.
func token(node, id string, to address, n int) ratelimit.Token {
	return hash("send", node, id, to.String(), strconv.Itoa(n))
}

// mark tells refusals apart: a client that tries the same recipient again does
// not count twice.
func mark(sender string, to address) ratelimit.Token {
	return hash("refused", sender, to.String())
}

func hash(parts ...string) ratelimit.Token {
	b := make([]byte, 0, 256)
	for _, p := range parts {
		b = append(binary.AppendUvarint(b, uint64(len(p))), p...)
	}
	sum := sha256.Sum256(b)
	return ratelimit.Token(binary.LittleEndian.Uint64(sum[:]))
}

// tokens are the tokens of all recipients of a message.
func tokens(node, id string, to []address) []ratelimit.Token {
	seen := make(map[address]int, len(to))
	ts := make([]ratelimit.Token, len(to))
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

// arrival is the time in an Exim message id: its first six characters are the
// seconds since 1970 in base 62 (Exim specification, "Message identification").
func arrival(id string) (time.Time, bool) {
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
