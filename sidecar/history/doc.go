// Package history is the changes that operators have made to thresholds with
// `sluice set`. It owns how these are written, and which of them have an effect at a
// time. Its Book follows the board, which all nodes share, and reads each change once. It
// tells package settings what is in force.
package history
