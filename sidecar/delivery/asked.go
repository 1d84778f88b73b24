package delivery

import (
	"strings"
	"sync"

	"sluice/sidecar"
)

// asked are the messages about which Sluice was asked, by their ids, with what the log does
// not say of them: whose connection on this host they came over, or in which directory a
// program has sent them. They wait here until the log has the arrival, which then keeps that.
// A crash in between forgets them: then what nobody has charged is charged to the loopback or
// the login.
type asked struct {
	mu          sync.Mutex
	now, before map[string]askedBy // before is older than all of now
}

// askedBy is the part of an origin that only a question tells.
type askedBy struct{ socket, proxy, directory, script string }

// maxAsked bounds each of the two maps. A message that was refused in the end never arrives.
const maxAsked = 10_000

func (s *asked) add(r *sidecar.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now == nil || len(s.now) >= maxAsked {
		s.now, s.before = map[string]askedBy{}, s.now
	}
	by := askedBy{socket: strings.Clone(r.Socket), proxy: strings.Clone(r.ProxyAddress)}
	if r.ClientAddress == "" {
		by.directory, by.script = strings.Clone(r.CWD), strings.Clone(r.Script)
	}
	s.now[strings.Clone(r.ID)] = by
}

// take returns what a question has told of a message, and forgets it.
func (s *asked) take(id string) (by askedBy, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if by, known = s.now[id]; known {
		delete(s.now, id)
	} else if by, known = s.before[id]; known {
		delete(s.before, id)
	}
	return by, known
}

// Came tells what a question says of a message that arrives. It never waits: the question is
// being answered.
func (d *Recorder) Came(r *sidecar.Request) { d.messages.asked.add(r) }

// complete adds to an arrival what Came has told.
func (r *messages) complete(a *Arrived) {
	if a.Sender.Socket != "" || a.Sender.Directory != "" || a.Sender.Auth != "" {
		return
	}
	if by, known := r.asked.take(a.id); known {
		from := a.Sender.origin
		from.Socket, from.Proxy, from.Directory, from.Script = by.socket, by.proxy, by.directory, by.script
		a.Sender = r.sources.Get(from)
		r.changed(a)
	}
}
