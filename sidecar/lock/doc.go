// Package lock knows which lock and usage files should stand in the lock directory. It
// owns the locks that operators have made for all nodes, which are on the board. It asks
// the store which domains are at a limit, and the directory which files stand. It tells
// the directory to make and remove files, and the reconciler which domains to look at.
package lock
