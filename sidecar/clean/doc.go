// Package clean puts the remedies for an abuse together: stop who sends, suspend its login, take
// its mail out of the queue, disable its script, release who was locked for it. It owns the
// order of the steps, what a failed one means for those after it, and when a plan may be carried
// out without a word from an operator. It asks each step what it would do, and then to do it.
// It tells its caller what each has planned and done.
package clean
