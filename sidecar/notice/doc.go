// Package notice lets Sluice's own notices to operators pass, which no limit and no block may
// stop: what they tell of may be that this very host or domain is stopped, and over every
// limit. It owns which recipients have got one in the last hour. It asks nobody. It tells
// package policy whether one more may pass.
package notice
