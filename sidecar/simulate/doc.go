// Package simulate tells what some settings would have done to the mail of a log. A Replay
// owns the messages of the log, and each Simulation an engine of its own, on counts in
// memory, whose clock is the log's. It asks the engine about each message as Exim would
// have. It tells nobody but its caller: it makes no files and releases nothing.
package simulate
