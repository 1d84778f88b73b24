// Package stop knows who is stopped: an author, or an account, that may send nothing while
// others of its domain go on. It owns the stops, which are on the board for all nodes, and
// those that the board has not taken yet, in notes. It asks the directory "stopped" which
// files stand, and holds how much of an author's mail waits. It tells the directory to make
// and remove files; policy asks it with every question, and what a stop has held when that
// is over.
package stop
