// Package logline is what a line of a mail server's log says, whatever the server, and what
// that means for a send. It owns nothing. It asks nobody. It tells nobody: fronts make an Entry
// of a line, and package delivery makes an Outcome of an Entry.
package logline
