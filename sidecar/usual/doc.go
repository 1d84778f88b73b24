// Package usual knows how much the authors of each domain usually send in an hour. It owns the
// busiest hour of each of the last 35 days of an author, in a byte each, and how many authors
// are kept. It asks nobody: attribution tells it what was sent in the hours that are over, and
// saves what it knows. It tells attribution how much an author may send as ever, and for how
// much the others of its domain need room.
package usual
