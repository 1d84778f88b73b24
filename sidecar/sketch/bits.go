package sketch

import (
	"math"
	"math/bits"
)

// SetBit sets the bit of a hash.
func SetBit(set []uint64, hash uint64) {
	hash %= uint64(len(set)) * 64
	set[hash/64] |= 1 << (hash % 64)
}

// Distinct estimates how many different hashes have set the bits, by linear counting (Whang,
// Vander-Zanden, Taylor 1990).
func Distinct(sets ...[]uint64) int64 {
	size, zero := 0, 0
	for i := range sets[0] {
		var word uint64
		for _, set := range sets {
			word |= set[i]
		}
		size, zero = size+64, zero+64-bits.OnesCount64(word)
	}
	return int64(math.Round(-float64(size) * math.Log(max(float64(zero), 0.5)/float64(size))))
}
