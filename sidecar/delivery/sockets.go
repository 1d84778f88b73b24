package delivery

import (
	"strings"
	"sync"

	"sluice/sidecar"
)

// sockets are the connections of clients on this host over which messages have come, by the
// message's id: whose they were, the log does not say. They wait here until the log has the
// arrival, which then keeps that. A crash in between forgets them: then what nobody has
// charged is charged to the loopback.
type sockets struct {
	mu          sync.Mutex
	now, before map[string]sidecar.Connection // before is older than all of now
}

// maxSockets bounds each of the two maps. A message that was refused in the end never arrives.
const maxSockets = 10_000

func (s *sockets) add(id string, c sidecar.Connection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil || len(s.now) >= maxSockets {
		s.now, s.before = map[string]sidecar.Connection{}, s.now
	}
	s.now[strings.Clone(id)] = sidecar.Connection{Socket: strings.Clone(c.Socket), ProxyAddress: strings.Clone(c.ProxyAddress)}
}

// take returns the connection of a message, and forgets it.
func (s *sockets) take(id string) (c sidecar.Connection, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c, known = s.now[id]; known {
		delete(s.now, id)
	} else if c, known = s.before[id]; known {
		delete(s.before, id)
	}
	return c, known
}

// Came tells over which connection of a client on this host a message has come. It never
// waits: a question is being answered.
func (d *Recorder) Came(id string, over sidecar.Connection) { d.messages.sockets.add(id, over) }

// findSocket completes an arrival by what Came has told.
func (r *messages) findSocket(a *Arrived) {
	if a.Sender.Client == "" || a.Sender.Socket != "" {
		return
	}
	if c, known := r.sockets.take(a.id); known {
		from := a.Sender.origin
		from.Socket, from.Proxy = c.Socket, c.ProxyAddress
		a.Sender = &Source{origin: from}
		r.changed(a)
	}
}
