package incident

import "sync"

// Incidents are the incidents of a node.
type Incidents struct {
	mu       sync.Mutex
	all      []*Incident // as they were told of last, the oldest first
	watchers []func(Incident)
}

// Watch calls f with every incident that is kept, open or closed, the oldest first, and from
// then on with each that is opened (again), becomes worse, has another culprit, or is closed.
// Its Revision has grown then. The timeline and the evidence grow without a call.
//
// What f was called with before a restart it gets once more after it, as it is now: who must
// not tell of it twice keeps the ID and Revision told last. Incidents are written before f is
// called. f is called by one goroutine at a time, and must neither wait nor call Incidents.
//
// Of nodes that share their counts, one calls its watchers: the one that has numbered the
// incident, or that has taken it over from a node that is silent.
func (s *Incidents) Watch(f func(Incident)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.all {
		f(*i)
	}
	s.watchers = append(s.watchers, f)
}
