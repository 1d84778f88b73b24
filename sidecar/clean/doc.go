// Package clean puts the remedies for an abuse together: stop who sends, suspend its login, take
// its mail out of the queue, disable its script, release who was locked for it. It owns what an
// incident has root act on, the steps with their order, what a failed one means for those after
// it, and when a plan may be carried out without asking an operator. It asks package remedy to do
// it, and the running sluice what has happened; an answer that is not well-formed counts as none. It
// tells its caller what each step has planned and done.
package clean
