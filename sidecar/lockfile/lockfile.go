package lockfile

import "time"

// A Kind is the kind of a lock file. A domain can have one file of each kind.
type Kind string

// The kinds of lock, named like their files.
const (
	Hourly    Kind = "max_hourly"
	DeferFail Kind = "max_deferfail"
)

// Stopped is the kind of the files in the directory "stopped" of the lock directory, which
// are named after an author alone: its key is in the place of the domain.
const Stopped Kind = "stopped"

// OfUsage is the kind of a domain's usage file, which locks nothing and is named
// after the domain alone. It occurs in Events only.
const OfUsage Kind = "usage"

// A Lock is one lock file of a domain.
type Lock struct {
	Kind   Kind
	Domain string // lower-case A-label; of Stopped the key of an author
}

// A File is a lock that is in the directory.
type File struct {
	Lock
	Operator bool      // made, touched or edited by an operator: Sluice leaves it alone
	Since    time.Time // modification time of the file
	Epoch    int64     // the epoch of the domain, as in sidecar.Reset, when Sluice made the file
	Content  string
}

// A Usage is the content of a domain's usage file.
type Usage struct {
	Domain  string // lower-case A-label
	Content string // "15/20 (75%)", as in a lock file
	Epoch   int64  // the epoch of the domain, as in sidecar.Reset
}

// A Dir is the email_send_limits directory.
type Dir interface {
	// Make makes a lock file of Sluice's unless there is one of that name.
	Make(l Lock, content string, epoch int64) error
	// MakeOperator makes a lock file that Sluice leaves alone.
	MakeOperator(l Lock, content string) error
	// Unmake removes a lock file if Sluice made it and nobody touched it.
	Unmake(l Lock) error
	// Remove removes a lock file whoever made it. No Event follows.
	Remove(l Lock) error
	// Files lists the lock files of a domain, or of all domains for "": those that could not be
	// made yet too, and not those that could not be removed yet.
	Files(domain string) []File
	// ShowUsage writes these usage files, the most important first, and removes all
	// others that Sluice made. Errors come as a Trouble.
	ShowUsage(files []Usage)
	// Failure is why lock files cannot be made or removed now; nil if they can.
	Failure() error
}

// An EventKind is what has happened in the lock directory without Sluice.
type EventKind int

// The kinds of Event.
const (
	RemovedByHand EventKind = iota // an operator removed a lock or usage file: release and reset the domain
	Made                           // an operator made a lock file
	TakenOver                      // an operator touched or edited a file of Sluice's, which now is the operator's
	DirLost                        // the directory is missing or another one: our locks were made anew
	Trouble                        // a lock or usage file could not be made, removed or read: Err
	DirMended                      // nothing is in trouble any more, nor below the directory: Dir
	DirShared                      // cPanel's own limiter uses the directory too: Err
	Ignored                        // files are named nearly like locks, and have no effect: Err
)

// An Event is something that has happened in the lock directory without Sluice.
type Event struct {
	Kind EventKind
	File File   // as last seen; the zero value if it is about the whole directory
	Dir  string // path of the lock directory
	Err  error
}
