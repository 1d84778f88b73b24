package queue

import "math/bits"

// A key is a message id in 16 bytes: its digits, from 1 on, as a number to the base of 63. No
// digit is 0, so that the length is in it too.
type key struct{ high, low uint64 }

const (
	base   = 63
	digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
)

// valueOf is what a character is as a digit of a key, from 1 on; 0: it is none.
var valueOf = func() (values [256]uint8) {
	for i := range len(digits) {
		values[digits[i]] = uint8(i + 1)
	}
	return values
}()

// dashes returns where the second dash of an id is, of 16 characters or 23, as from Exim 4.97
// on; the first is the seventh character. 0: no id is so long.
func dashes(length int) int {
	switch length {
	case 16:
		return 13
	case 23:
		return 18
	}
	return 0
}

// keyOf is the key of an id; false if it is none of Exim's.
func keyOf(id string) (k key, ok bool) {
	second := dashes(len(id))
	if second == 0 {
		return key{}, false
	}
	for i := range len(id) {
		if i == 6 || i == second {
			if id[i] != '-' {
				return key{}, false
			}
			continue
		}
		digit := valueOf[id[i]]
		if digit == 0 {
			return key{}, false
		}
		over, low := bits.Mul64(k.low, base)
		low, carry := bits.Add64(low, uint64(digit), 0)
		k = key{k.high*base + over + carry, low}
	}
	return k, true
}

// id is the id of a key.
func (k key) id() string {
	var text [23]byte
	i := len(text)
	for k != (key{}) && i > 0 {
		high, rest := k.high/base, k.high%base
		low, digit := bits.Div64(rest, k.low, base)
		k = key{high, low}
		i--
		text[i] = digits[digit-1]
	}
	s := string(text[i:])
	if len(s) == 14 {
		return s[:6] + "-" + s[6:12] + "-" + s[12:]
	}
	return s[:6] + "-" + s[6:17] + "-" + s[17:]
}
