// Package sketch summarizes what streams of sends have in common, in bounded memory: who sends
// most, the most frequent value, how many different ones there are.
// It owns no state but what its types hold, and locks nothing.
// It asks nobody.
// It tells whoever asks counts that are exact while there are few, and else within stated bounds.
package sketch
