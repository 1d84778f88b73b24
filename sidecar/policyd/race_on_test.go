//go:build race

package policyd

// slowdown is what deadlines are multiplied by: the race detector makes all slower.
const slowdown = 5
