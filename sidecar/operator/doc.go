// Package operator carries out what operators command, and shows them how a node is: the
// CLI and the admin socket call it. It owns nothing but where to ask how far the logs were
// read and how the shared store is. It asks the store, the settings and each owner of state
// for what status shows. It tells locks, settings and the reconciler what to change.
package operator
