package policyd

// Counts are what happened to a server's connections and questions since New.
type Counts struct {
	Answered   int64 // replies written
	Unanswered int64 // requests malformed, over a limit or of an unknown kind
	TooLate    int64 // replies for which the client did not wait
	TooSlow    int64 // connections closed because the client was silent, dripped or did not read
	Refused    int64 // connections of users that may not ask
	Shed       int64 // connections closed to make room
	Crowded    int64 // connections that met MaxConns
	NoAccept   int64 // failed accepts
	Panics     int64 // panics of the Asker
}

// Open returns the number of connections now.
func (s *Server) Open() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// Counts returns what happened since New.
func (s *Server) Counts() Counts { return s.events.counts() }

func (e *events) counts() Counts {
	return Counts{
		Answered:   e.answeredCount.Load(),
		Unanswered: e.unansweredCount.total.Load(),
		TooLate:    e.late.total.Load(),
		TooSlow:    e.slow.total.Load(),
		Refused:    e.refused.total.Load(),
		Shed:       e.shed.total.Load(),
		Crowded:    e.crowd.total.Load(),
		NoAccept:   e.accepts.total.Load(),
		Panics:     e.panics.total.Load(),
	}
}
