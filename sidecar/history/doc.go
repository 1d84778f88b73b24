// Package history is the changes that operators have made to thresholds with
// `sluice set`. It owns how these are written, and which of them have an effect at a
// time. It asks the board for them, which all nodes share. It tells package settings
// what is in force.
package history
