// Package quarantine does what operators want done to messages in Exim's queue: moves them into
// a named queue where nothing is delivered, and back, removes, freezes, thaws and delivers them.
// It owns the file of senders whose mail may be late. It asks Exim to do all of that, and then
// the spool what has become of each message, because Exim's exit code does not say. It tells
// its callers what was done, what was not, and why.
package quarantine
