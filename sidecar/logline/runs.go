package logline

import "slices"

// Runs are programs of which Exim's log says where they were run, and that have submitted nothing
// yet: entries of the kind Ran.
type Runs []Entry

// maxRuns bounds them.
const maxRuns = 100

// Add adds a program.
func (r *Runs) Add(e *Entry) {
	*r = append(*r, e.Clone())
	*r = (*r)[max(0, len(*r)-maxRuns):]
}

// Claim takes out the program that has submitted a message: the one with its process id where
// those are logged, else the last that was run.
func (r *Runs) Claim(e *Entry) (ran Entry, ok bool) {
	i := len(*r) - 1
	if e.Process != "" {
		i = slices.IndexFunc(*r, func(ran Entry) bool { return ran.Process == e.Process })
	}
	if i < 0 {
		return ran, false
	}
	ran = (*r)[i]
	*r = slices.Delete(*r, i, i+1)
	return ran, true
}
