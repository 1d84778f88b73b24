// Package simulate tells what some settings would have done to the mail of a log, and which
// of its lines are about whose mail. A Replay owns the messages of the log, and each
// Simulation an engine of its own, on counts in memory, whose clock is the log's; a Search
// owns the ids that it has found. A Simulation asks the engine about each message as Exim
// would have. They tell nobody but their caller: they make no files and release nothing.
package simulate
