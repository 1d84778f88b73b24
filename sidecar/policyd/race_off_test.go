//go:build !race

package policyd

const slowdown = 1
