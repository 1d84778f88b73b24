// Package listen makes the unix sockets of a server so that no client ever finds one absent,
// or with rights that are not yet its own. It owns nothing. It asks the file system whether a
// server is there already. It tells nobody.
package listen
