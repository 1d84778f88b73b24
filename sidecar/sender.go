package sidecar

import (
	"slices"
	"strings"
	"sync"

	"sluice/ratelimit"
)

// An origin is what an arrival line says of where a message comes from.
type origin struct {
	Sender string `json:"sender,omitempty"`
	Auth   string `json:"auth,omitempty"`
	Login  string `json:"login,omitempty"`
	Client string `json:"client,omitempty"`

	// Directory is where the program ran that has submitted it; empty if not known.
	Directory string `json:"directory,omitempty"`
}

// originOf leaves out what is of no matter for who is charged, so that fewer are
// different.
func originOf(e *LogEntry) origin {
	o := origin{Sender: e.Sender, Auth: e.Auth, Login: e.Login, Client: e.ClientAddress, Directory: e.Directory}
	if o.Auth != "" {
		o.Login, o.Client = "", ""
	}
	return o
}

func (o origin) clone() origin {
	return origin{strings.Clone(o.Sender), strings.Clone(o.Auth), strings.Clone(o.Login), strings.Clone(o.Client), strings.Clone(o.Directory)}
}

// A sender is an origin, and who is charged for its messages.
type sender struct {
	origin
	payer *payer // nil if not known yet
	asOf  asOf   // what payer rests on
}

// asOf is what may change of who is charged.
type asOf struct {
	settings *Settings
	owners   *owners
}

// A payer is who is charged for a send.
type payer struct {
	who      identity
	subjects []ratelimit.Subject // nil if nobody is charged
	ignores  []Cause             // deferfail_ignore
	batch    uint64              // the last in which its domain was found to have changed
}

// senders remembers those who have logged in: most of a log's lines are of few.
type senders struct {
	mu    sync.Mutex // Prepare and Record both ask
	known map[string]*sender
	key   []byte // for get
}

// maxSenders bounds them; those of messages on their way stay with these.
const maxSenders = 20_000

func (s *senders) get(o origin) *sender {
	if o.Client != "" { // anybody in the world
		return &sender{origin: o.clone()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = s.key[:0]
	for _, part := range [...]string{o.Sender, o.Auth, o.Login, o.Directory} {
		s.key = append(append(s.key, part...), 0)
	}
	if known := s.known[string(s.key)]; known != nil {
		return known
	}
	if len(s.known) >= maxSenders {
		clear(s.known)
	}
	x := &sender{origin: o.clone()}
	s.known[string(s.key)] = x
	return x
}

// payerOf finds who is charged for a send of a message, which is another one than
// for its other sends only where an alias or list has redirected mail from
// elsewhere.
func (x *sender) payerOf(s *Settings, o *outcome) *payer {
	r := Request{Stage: StageRoute, Sender: x.Sender, Auth: x.Auth, Login: x.Login, ClientAddress: x.Client, CWD: x.Directory}
	if x.Auth == "" && x.Client != "" && o.Original != "" {
		r.Recipient, r.Original = o.Recipient, o.Original
		return payerOf(s, &r)
	}
	if now := (asOf{s, s.owners.get()}); x.payer == nil || x.asOf != now {
		x.payer, x.asOf = payerOf(s, &r), now
	}
	return x.payer
}

func payerOf(s *Settings, r *Request) *payer {
	p := paying(s, s.identify(r))
	return &p
}

func paying(s *Settings, who identity) payer {
	p := payer{who: who}
	if who.class == charged {
		p.subjects, p.ignores = s.appendSubjects(nil, who), s.ignored(who)
	}
	return p
}

func (p *payer) ignore(c Cause) bool { return slices.Contains(p.ignores, c) }

// request is what is known of who sends when something is asked about.
func (o origin) request() Request {
	return Request{Sender: o.Sender, Auth: o.Auth, Login: o.Login, ClientAddress: o.Client, CWD: o.Directory}
}
