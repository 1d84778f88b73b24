package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"sluice/sidecar/queue"
)

// maxListed bounds a list of queued messages.
const maxListed = 100_000

func (s *Server) queue(r *http.Request) (any, error) {
	var selection queue.Selection
	if s.opts.Queue == nil {
		return nil, fmt.Errorf("queue: %w", badRequest{errors.New("sluice has found no queue of Exim on this node (exim.binary)")})
	}
	if err := json.NewDecoder(r.Body).Decode(&selection); err != nil {
		return nil, fmt.Errorf("queue: %w", badRequest{err})
	}
	if selection.Top < 1 || selection.List < 0 || selection.List > maxListed {
		return nil, fmt.Errorf("queue: %w", badRequest{fmt.Errorf("top must be 1 at least, and a list has at most %d messages", maxListed)})
	}
	report, err := s.opts.Queue(selection)
	if err != nil {
		return nil, fmt.Errorf("queue: %w", badRequest{err})
	}
	return report, nil
}
