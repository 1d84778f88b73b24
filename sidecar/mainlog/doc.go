// Package mainlog reads Exim's main log: Parser turns its lines into what the
// policy records, and Follower hands them over as they are written, across
// rotations and restarts.
//
// It hides the format of the log (Exim specification, chapter "Log files", and
// what log.c, deliver.c and receive.c of 4.94 to 4.100 write beyond it) and how
// logs are rotated. It judges nothing.
//
// Of the Follower, follow.go waits for what is written, turn.go goes through the
// files of the log when they have changed, and drain.go reads one of them.
// position.go has the rule of what was read, files.go that of which files are the
// log's.
package mainlog
