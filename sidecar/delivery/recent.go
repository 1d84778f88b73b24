package delivery

import (
	"strings"
	"sync"
)

// recent is what questions have told of messages, by their ids, until the log has it: at least of
// the last maxRecent. It never waits long, for a question is being answered.
type recent[T any] struct {
	mu          sync.Mutex
	now, before map[string]T // before is older than all of now
}

// maxRecent bounds each of the two maps.
const maxRecent = 10_000

func (s *recent[T]) put(id string, told T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil || len(s.now) >= maxRecent {
		s.now, s.before = map[string]T{}, s.now
	}
	s.now[strings.Clone(id)] = told
}

func (s *recent[T]) get(id string) (told T, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if told, known = s.now[id]; !known {
		told, known = s.before[id]
	}
	return told, known
}

// take is get, and forgets it.
func (s *recent[T]) take(id string) (told T, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if told, known = s.now[id]; known {
		delete(s.now, id)
	} else if told, known = s.before[id]; known {
		delete(s.before, id)
	}
	return told, known
}
