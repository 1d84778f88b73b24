// Package journal makes a ratelimit.Ledger survive a crash. It owns a directory: the
// Ledger, notes (small values of other packages that must survive with the counts), and
// the files that both are read back from. It asks only the Ledger. It tells a Reporter
// when the files were damaged or cannot be written.
//
// Every change is written to a segment file before the call that makes it returns, so
// it survives kill -9. Once a second the segment is synced: a power cut may cost that
// second. When the segments since the last snapshot have become too long, a new
// snapshot of the Ledger is written and the older files are removed.
//
// If the disk fails, the Store keeps answering and reports it. As soon as the disk can
// be written again, a new snapshot makes up for what was not written.
package journal
