// Package lockfile is the words for lock files: which kinds there are, what the lock directory
// does for whoever has some made, and what may happen in it. It owns nothing. It asks nobody.
// It tells whose key may be the name of a file.
package lockfile
