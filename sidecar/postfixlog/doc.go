// Package postfixlog reads Postfix's log: Parser turns its lines, written by syslog or
// postlogd, into entries. It owns only the time of the last line, and hides the format:
// what smtpd.c, pickup.c, qmgr_active.c, log_adhoc.c and bounce.c of Postfix 3.4 to 3.10
// write. It asks a function for the login name of a user id. It tells only its caller,
// package mainlog's Follower, and judges nothing: the lines of a message are joined by
// queue id later on, those of smtpd and pickup with where it comes from, those of qmgr
// with its sender, and those of the delivering daemons with the outcome for a recipient.
package postfixlog
