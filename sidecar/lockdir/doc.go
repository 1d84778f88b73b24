// Package lockdir keeps the lock files in the directory email_send_limits, by which
// Exim refuses a domain even while Sluice does not answer. It owns the directory and a
// record of each lock file, and knows which files operators have made, changed or
// removed by hand. It asks Notes, in which the records survive a crash, and the kernel
// for changes. It tells the caller of Run, by a lockfile.Event for everything that
// somebody else did in the directory.
//
// A record (record.go) is noted before and after each step on the disk. Its state is
// making, made or unmaking, and its file belongs to Sluice or to the operator. Whatever
// happened, even a crash or an operator's rm while Sluice was down, step (step.go)
// compares the record with the file:
//
//	record    no file, same directory  no file, other directory  file as recorded  file replaced, touched or edited
//	none      -                        -                         -                 the operator's: lockfile.Made
//	making    make it                  make it                   made              the operator's: lockfile.Made
//	made      by hand: LockReleased    make it again             -                 the operator's: LockTaken
//	unmaking  forget it                forget it                 remove, forget    the operator's: lockfile.Made
//
// Operators may edit their own files as they like. Only a file that was made and is
// absent counts as removed by hand. If the directory itself is missing or is another
// one (removed, mounted over), nothing counts as removed: all locks are made again, the
// operator's too, and a lockfile.DirLost says so. In another directory, a file with our
// content is ours: a directory that was unmounted comes back with the files it had.
//
// Make, Unmake and Remove change the disk and the records under the same mutex as the
// scans that compare them, so nothing that Sluice does looks like an operator's doing.
// Every scan is complete by itself; the kernel's notices and the poll (watch.go) only
// say when to scan.
//
// Modification time, inode, size and content tell whose a file is: after a chmod, chown
// or another hard link it is still ours. A lock file whose note a power cut lost,
// because it was written in the second before, counts as the operator's. While notes
// would not survive a crash, for example on a full disk, Sluice makes no lock files: after
// a crash they would count as the operator's, and nobody would remove them.
//
// Usage files (usage.go) are named by the bare domain and share the directory and the
// mutex. They only inform: they are written anew every few seconds and have no record,
// and of what an operator does to them only a removal counts.
//
// The directory "stopped" below it is a second Dir (name.go). Its files are named after an
// author, of which they stop the mail. It has no usage files, and all its files may be Sluice's:
// an operator's is adopted.
package lockdir
