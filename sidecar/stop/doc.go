// Package stop keeps who is stopped: an author, or an account, that may send nothing while
// others of its domain go on. It owns the stops, which are on the board for all nodes, and
// in notes those that could not be posted to the board yet. It asks the directory "stopped"
// which files there are, and package hold how much of an author's mail waits. It tells the
// directory to make and remove files, and policy, for every question, whether its author is
// stopped.
package stop
