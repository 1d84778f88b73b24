// Package mainlog reads Exim's main log: Parser turns its lines into what the
// policy records, and Follower hands them over as they are written, across
// rotations and restarts.
//
// It hides the format of the log (Exim specification, chapter "Log files", and
// what log.c, deliver.c and receive.c of 4.94 to 4.100 write beyond it) and how
// logs are rotated. It judges nothing.
package mainlog
