package delivery

import (
	"slices"
	"strings"
	"sync"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/identity"
	"sluice/sidecar/settings"
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
func OriginOf(e *sidecar.LogEntry) origin {
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
type Source struct {
	origin
	payer *PayerLimits // nil if not known yet
	asOf  asOf         // what payer rests on
}

// asOf is what may change of who is charged.
type asOf struct {
	settings *settings.Settings
	owners   *identity.Owners
}

// A payer is who is charged for a send.
type PayerLimits struct {
	Who      sidecar.Payer
	Subjects []ratelimit.Subject // nil if nobody is charged
	ignores  []sidecar.Cause     // deferfail_ignore
	batch    uint64              // the last in which its domain was found to have changed
}

// senders remembers those who have logged in: most of a log's lines are of few.
type Sources struct {
	mu    sync.Mutex // Prepare and Record both ask
	Known map[string]*Source
	key   []byte // for get
}

// maxSenders bounds them; those of messages on their way stay with these.
const MaxSenders = 20_000

func (s *Sources) Get(o origin) *Source {
	if o.Client != "" { // anybody in the world
		return &Source{origin: o.clone()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = s.key[:0]
	for _, part := range [...]string{o.Sender, o.Auth, o.Login, o.Directory} {
		s.key = append(append(s.key, part...), 0)
	}
	if known := s.Known[string(s.key)]; known != nil {
		return known
	}
	if len(s.Known) >= MaxSenders {
		clear(s.Known)
	}
	x := &Source{origin: o.clone()}
	s.Known[string(s.key)] = x
	return x
}

// payerOf finds who is charged for a send of a message, which is another one than
// for its other sends only where an alias or list has redirected mail from
// elsewhere.
func (x *Source) payerOf(s *settings.Settings, o *Outcome) *PayerLimits {
	r := sidecar.Request{Stage: sidecar.StageRoute, Sender: x.Sender, Auth: x.Auth, Login: x.Login, ClientAddress: x.Client, CWD: x.Directory}
	if x.Auth == "" && x.Client != "" && o.Original != "" {
		r.Recipient, r.Original = o.Recipient, o.Original
		return payerOf(s, &r)
	}
	if now := (asOf{s, s.OwnerMap.Get()}); x.payer == nil || x.asOf != now {
		x.payer, x.asOf = payerOf(s, &r), now
	}
	return x.payer
}

func payerOf(s *settings.Settings, r *sidecar.Request) *PayerLimits {
	p := Paying(s, s.Payer(r))
	return &p
}

func Paying(s *settings.Settings, who sidecar.Payer) PayerLimits {
	p := PayerLimits{Who: who}
	if who.Class == sidecar.Charged {
		p.Subjects, p.ignores = s.AppendSubjects(nil, who), s.Ignored(who)
	}
	return p
}

func (p *PayerLimits) ignore(c sidecar.Cause) bool { return slices.Contains(p.ignores, c) }

// request is what is known of who sends when something is asked about.
func (o origin) Request() sidecar.Request {
	return sidecar.Request{Sender: o.Sender, Auth: o.Auth, Login: o.Login, ClientAddress: o.Client, CWD: o.Directory}
}
