// Package share tells operators of authors that are refused because they send more than they
// usually do, so that the others of their domain keep their room. It owns of whom it has told
// lately. It asks nobody. It tells operators by an event, once in a window of the limit.
package share
