// Package operator carries out what operators command, and shows them how a node is: the
// CLI and the admin socket call it. It owns nothing but three funcs that it was given, which
// report how far the logs were read, whether the kernel tells whose sockets there are, and
// the state of the shared store (see shown). It asks the store, the
// settings and each owner of state for what status shows. It tells locks, settings and the
// reconciler what to change.
package operator
