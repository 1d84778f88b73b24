package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"sluice/sidecar/queue"
)

// MaxListed bounds a list of queued messages.
const MaxListed = 100_000

func (s *Server) queue(r *http.Request) (any, error) {
	var selection queue.Selection
	if s.opts.Queue == nil {
		return nil, fmt.Errorf("queue: %w", badRequest{errors.New("sluice has found no queue of Exim on this node (exim.binary, exim.spool_directory); " + queue.NotExim)})
	}
	if err := json.NewDecoder(r.Body).Decode(&selection); err != nil {
		return nil, fmt.Errorf("queue: %w", badRequest{err})
	}
	if selection.Top < 1 || selection.List < 0 || selection.List > MaxListed {
		return nil, fmt.Errorf("queue: %w", badRequest{fmt.Errorf("top must be 1 at least, and a list has at most %d messages", MaxListed)})
	}
	report, err := s.opts.Queue(selection)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", badRequest{err})
	}
	return report, nil
}
