// Package spike finds authors that send much more in an hour than in any hour of the last 35 days.
// It owns who has had such a spike in the last hour. It asks attribution who sends how much and what
// is usual, and the settings whether that is watched. It tells operators, by an event and by a mark
// in `sluice who`; it refuses nothing.
package spike
