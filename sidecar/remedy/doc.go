// Package remedy does what an operator has root do to a host: stop who sends, suspend a login,
// take mail out of the queue, disable a script. It owns no state but the record of that (package
// action), which it writes before and after, and looks at the world again before it takes
// something back by it. It asks the packages that act, the files of this host, and for what only
// the running sluice can do its front, whose word is never taken for an order. It tells its
// caller, which is a command, what was done.
package remedy
