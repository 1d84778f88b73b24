// Package attribution knows who sends: of each domain, and whatever else is charged, which
// authors have tried and sent how much in the window of hourly limits, and what became of it.
// It owns these shares, which are approximate and bounded in memory and stand in front of no
// decision: if they are lost or wrong, names are left out and nothing else changes. It asks the
// store for the counts of a domain, and the notes for what it knew before a restart. It tells
// operators and the texts of refusals who most likely is the culprit.
package attribution
