// Package spike tells operators of authors that send much more in an hour than they did in any
// hour of 35 days. It owns who has had a spike in the last hour. It asks attribution who sends
// how much and what is usual, and the settings whether that is watched. It tells operators, by an
// event and by a mark in `sluice who`; it refuses nothing.
package spike
