// Package mainlog reads Exim's main log: Parser turns its lines into entries, Follower
// reads the log as it is written, across rotations and restarts, and History reads old
// logs. It owns how far each file of the log is read, and hides the format (Exim
// specification, chapter "Log files", and what log.c, deliver.c and receive.c of 4.94 to
// 4.100 write beyond it) and how logs are rotated. It asks nobody but the file system.
// It tells a Consumer, or for a History a Reader, what the lines say, and emits an event
// when the log cannot be read; it judges nothing.
//
// Of the Follower, follow.go waits for what is written, rotation.go goes through the
// files of the log when they have changed, and drain.go reads one of them. position.go
// keeps what was read, and files.go finds which files belong to the log.
package mainlog
