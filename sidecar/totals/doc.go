// Package totals counts what the policy has decided. It owns these counts, since the start
// of the program and of no domain in particular. It asks nobody. It tells operators, by
// `sluice status` and metrics.
package totals
