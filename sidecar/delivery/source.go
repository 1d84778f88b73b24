package delivery

import (
	"strings"
	"sync"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/domains"
	"sluice/sidecar/envelope"
	"sluice/sidecar/logline"
	"sluice/sidecar/settings"
)

// An origin is what is known of an arrival about who sends the message.
type origin struct {
	Sender string `json:"sender,omitempty"`
	Auth   string `json:"auth,omitempty"`
	Login  string `json:"login,omitempty"`
	Client string `json:"client,omitempty"`

	// Directory is where the program ran that submitted the message; empty if unknown.
	Directory string `json:"directory,omitempty"`

	// Script is as in sidecar.Submitter, Socket and Proxy are as in sidecar.Connection. No log
	// has them, see asked.
	Script string `json:"script,omitempty"`
	Socket string `json:"socket,omitempty"`
	Proxy  string `json:"proxy,omitempty"`
}

// IsBounce reports whether an arrival is a bounce or warning that Exim made itself: its line
// says so, and names Exim's user. The line alone is not enough where that user is known, for
// anybody may run sendmail -E.
func IsBounce(e *logline.Entry, eximUser string) bool {
	return e.Answers != "" && (eximUser == "" || e.Login == eximUser)
}

// OriginOf returns the origin of an arrival, without what does not matter for who is
// charged: so more arrivals have the same one. That of a bounce is empty.
func OriginOf(e *logline.Entry, bounce bool) origin {
	if bounce {
		return origin{}
	}
	o := origin{Sender: e.Sender, Auth: e.Auth, Login: e.Login, Client: e.ClientAddress, Directory: e.Directory}
	if o.Auth != "" && o.Client != "" {
		o.Login, o.Client = "", ""
	}
	return o
}

func (o origin) clone() origin {
	for _, s := range [...]*string{&o.Sender, &o.Auth, &o.Login, &o.Client, &o.Directory, &o.Script, &o.Socket, &o.Proxy} {
		*s = strings.Clone(*s)
	}
	return o
}

// A Source is an origin, and who is charged for its messages.
type Source struct {
	origin
	payer *PayerLimits // nil if not known yet
	key   cacheKey     // of payer
}

// A cacheKey is what the payer of an origin depends on: settings and owner map.
type cacheKey struct {
	settings *settings.Settings
	owners   *domains.Owners
}

// PayerLimits are who is charged for a send, and the limits that are in force for them.
type PayerLimits struct {
	Who      sidecar.Payer
	Author   sidecar.Author      // who of them has sent it
	Subjects []ratelimit.Subject // nil if nobody is charged
	ignores  []sidecar.Cause     // deferfail_ignore
	batch    uint64              // the last Batch in which its domain's counts have changed
}

// Sources keeps the Sources of authenticated clients and local users: most lines of a log
// are about them.
type Sources struct {
	mu    sync.Mutex // Prepare and Record may call Get at the same time
	Known map[string]*Source
	key   []byte // reused by Get
}

// MaxSenders bounds the Sources that are kept. At this number all are dropped; a message
// keeps its own Source all the same.
const MaxSenders = 20_000

// Get returns the Source of an origin: the same one again for those that are kept.
func (s *Sources) Get(o origin) *Source {
	if o.Client != "" { // not authenticated: anybody in the world, perhaps never seen again
		return &Source{origin: o.clone()}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.key = s.key[:0]
	for _, part := range [...]string{o.Sender, o.Auth, o.Login, o.Directory, o.Script} {
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

// payerOf returns who is charged for a send of a message: for a bounce, who sent the message
// that it answers, unless an alias or list of this host redirects it.
func (a *Arrived) payerOf(s *settings.Settings, o *Outcome) *PayerLimits {
	if !o.arrears() {
		return a.Sender.payerOf(s, o)
	}
	r := a.Answered.Request()
	r.Stage = sidecar.StageLocal // nothing is known of its own recipients
	return NewPayerLimits(s, &r)
}

// arrears reports whether a send is Exim's own bounce, which is never asked about. What
// becomes of it says nothing about the mail of who pays for it.
func (o *Outcome) arrears() bool { return o.Of != nil && o.Of.Answered != nil && !o.redirected() }

// Stranger returns the sender of a message from outside; empty if that is null, or the message
// is of anybody here. The address may be forged: then an autoresponder's answer to it fails, by
// no fault of the tenant whose autoresponder that is.
func (x *Source) Stranger(s *settings.Settings) string {
	r := x.Request()
	if who, _ := s.Identify(&r); who.Class != sidecar.Inbound {
		return ""
	}
	return x.Sender
}

// toStranger reports whether a send answers mail from outside, and goes to the sender of that.
// Anybody can have a message name what it answers, by sendmail -oMm: so one from outside excuses
// what goes to its own sender, and nothing else.
func (o *Outcome) toStranger() bool {
	return o.Of != nil && o.Of.RepliesTo != "" && !o.redirected() && envelope.FoldRouted(o.Of.RepliesTo) == o.To
}

// redirected reports whether an alias or list has made the recipient.
func (o *Outcome) redirected() bool { return o.Original != "" && o.Spelled == 0 }

// payerOf returns who is charged for a send of a message. It is the same for all of its
// sends, but for those that an alias or list has made, and those of a client that has not
// logged in: there it also matters whether this host is the MX of the recipient.
func (x *Source) payerOf(s *settings.Settings, o *Outcome) *PayerLimits {
	r := x.Request()
	r.Stage = sidecar.StageRoute
	if o.Postfix {
		r.Stage = sidecar.StagePostfixEnd
	}
	if x.Client != "" || o.redirected() {
		r.Recipient, r.Original = o.Recipient, o.Original
		return NewPayerLimits(s, &r)
	}
	if now := (cacheKey{s, s.OwnerMap.Get()}); x.payer == nil || x.key != now {
		x.payer, x.key = NewPayerLimits(s, &r), now
	}
	return x.payer
}

// NewPayerLimits finds who is charged for what is asked about, and their limits.
func NewPayerLimits(s *settings.Settings, r *sidecar.Request) *PayerLimits {
	who, author := s.Identify(r)
	p := &PayerLimits{Who: who, Author: author}
	if who.Class == sidecar.Charged {
		p.Subjects, p.ignores = s.AppendSubjects(nil, who), s.IgnoredCauses(who)
	}
	return p
}

// Request returns a Request with what an origin tells about the sender.
func (o origin) Request() sidecar.Request {
	return sidecar.Request{Sender: o.Sender, Submitter: sidecar.Submitter{Auth: o.Auth, Login: o.Login, ClientAddress: o.Client, CWD: o.Directory, Script: o.Script},
		Connection: sidecar.Connection{Socket: o.Socket, ProxyAddress: o.Proxy}}
}
