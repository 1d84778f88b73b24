// Package event is what an operator should know of, as values. It owns the limit on
// events that repeat, and the wording of each in the log (kinds.go). It asks nobody. It
// tells every event to all subscribers, of which the log is one.
package event
