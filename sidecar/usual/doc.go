// Package usual keeps how much the authors of each domain usually send in an hour. It owns the
// busiest hour of each of the last 35 days of an author, in a byte each, for a bounded number of
// authors. It asks nobody: attribution adds what was sent in the hours that are over, and saves
// all. It tells attribution how much of an author's mail is usual, and how much room the other
// authors of its domain need.
package usual
