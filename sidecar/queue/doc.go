// Package queue knows what waits in Exim's queue: whose it is, since when, and where it is to
// go; and what mail goes round in a loop. It owns an index of the spool, what is noted of it for
// a week, and what the log has told in ten minutes. It reads the spool, is told the lines of the
// main log, and asks its caller who pays for a message and what of it is held. It tells
// operators, and by events when the queue grows, freezes or ages, and of loops.
package queue
