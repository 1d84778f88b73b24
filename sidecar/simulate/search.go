package simulate

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/delivery"
	"sluice/sidecar/envelope"
	"sluice/sidecar/identity"
	"sluice/sidecar/logline"
	"sluice/sidecar/settings"
	"sluice/sidecar/typed"
)

// A Search finds the lines of somebody's messages in a log, which is read twice. Finder
// notes which messages are theirs: for what is forwarded, only the line of its delivery
// tells. Lister then passes on the lines of those. Of a log of any size a Search keeps
// only the ids of what it has found, and the messages that are on their way.
type Search struct {
	settings *settings.Settings
	scope    string             // a payer or an author; empty: only found counts
	found    map[messageID]bool // ids of their messages
}

// NewSearch returns a Search for what an operator has typed: a payer, an author or the id of
// a message. If a file that the configuration names cannot be read, it returns an error.
func NewSearch(o Options, typed string) (*Search, error) {
	s := &Search{found: map[messageID]bool{}}
	var err error
	if isID(typed) {
		s.found[idOf(typed)] = true
	} else if s.scope, err = CanonicalScope(typed); err != nil {
		return nil, err
	}
	s.settings, err = o.settings()
	return s, err
}

// isID reports whether a name is that of a message: a domain may have the same length, but
// has a dot.
func isID(name string) bool {
	_, is := envelope.IDTime(name)
	return is && !strings.ContainsAny(name, ".@:/")
}

// CanonicalScope returns the canonical form of a payer, or of an author's key.
func CanonicalScope(text string) (string, error) {
	for _, prefix := range [...]string{sidecar.LoginPrefix, sidecar.ScriptPrefix, sidecar.ServicePrefix} {
		if name, is := strings.CutPrefix(text, prefix); is && name != "" {
			if strings.IndexByte(name, '\\') >= 0 { // it is escaped already
				return text, nil
			}
			return sidecar.AuthorKey(prefix, name), nil
		}
	}
	if name, is := strings.CutPrefix(text, sidecar.ClientPrefix); is {
		address, _ := strings.CutSuffix(name, "/64")
		ip, err := netip.ParseAddr(address)
		if err != nil {
			return "", fmt.Errorf("scope %q: the client must be an address like \"192.0.2.1\", or \"2001:db8::/64\"", text)
		}
		return sidecar.ClientPrefix + sidecar.NetworkOf(ip), nil
	}
	return typed.Scope(text)
}

// isOf reports whether what is asked about is theirs.
func (s *Search) isOf(r *sidecar.Request) bool {
	if s.scope == "" {
		return false
	}
	who, author := s.settings.Identify(r)
	return s.scope == who.Subject() || s.scope == who.Mailbox || s.scope == author.Key || s.scope == sidecar.AccountPrefix+who.Account
}

// A Finder reads a log for the first time, and notes whose messages are searched for.
type Finder struct {
	*Search
	index index
	known map[*delivery.Source]bool // whether a sender that has logged in is searched for
}

// Finder returns a reader of the log, for the first time.
func (s *Search) Finder() *Finder {
	return &Finder{s, newIndex(s.settings), map[*delivery.Source]bool{}}
}

// Prepare implements mainlog.Reader.
func (f *Finder) Prepare(entries []logline.Entry) (read func(context.Context) [][]logline.Entry) {
	return func(context.Context) [][]logline.Entry {
		for i := range entries {
			f.add(&entries[i])
		}
		return [][]logline.Entry{entries}
	}
}

func (f *Finder) add(e *logline.Entry) {
	l := delivery.Judged{Entry: e}
	m := f.index.add(&l, 0)
	if m == nil {
		return
	}
	m.to = m.to[:0] // only a Replay needs them
	switch {
	case e.Kind == logline.Arrived:
		bounced := m.answered != nil && delivery.IsBounce(e, f.settings.EximUser) && f.found[idOf(e.Answers)]
		if bounced || f.isFrom(m.from) {
			f.found[idOf(e.ID)] = true
		}
	case e.IsOutcome() && (e.Original != "" || m.from.Client != "") && !f.found[idOf(e.ID)]:
		if f.isSentBy(m, &l) {
			f.found[idOf(e.ID)] = true
		}
	}
}

// isFrom reports whether a sender is searched for.
func (f *Finder) isFrom(from *delivery.Source) bool {
	is, known := f.known[from]
	if known {
		return is
	}
	r := from.Request()
	is = f.isOf(&r)
	if from.Client == "" { // else it is anybody in the world
		if len(f.known) >= delivery.MaxSenders {
			clear(f.known)
		}
		f.known[from] = is
	}
	return is
}

// isSentBy reports whether an attempt to send is of whom is searched for. It may be another
// than who has sent the message: an alias or list, or a client for which Exim relays.
func (f *Finder) isSentBy(m *message, l *delivery.Judged) bool {
	delivery.Judge(f.settings, l)
	held := l.To.Domain == logline.HoldDomain
	if l.First == 0 && !held {
		return false
	}
	r := m.from.Request()
	r.Stage, r.Recipient, r.Original = sidecar.StageRoute, l.Recipient, l.Original
	if held {
		unhold(f.settings, l.Entry, &r)
	}
	return (identity.Redirected(&r) != "" || m.from.Client != "") && f.isOf(&r)
}

// A Lister reads a log for the second time, and passes on the lines that were found.
type Lister struct {
	*Search
	ran  logline.Runs
	emit func(*logline.Entry)
}

// Lister returns a reader of all lines of the log, for the second time. It calls emit for
// each line of a message that was found, for that of the program that has submitted it,
// and for what was refused.
func (s *Search) Lister(emit func(*logline.Entry)) *Lister { return &Lister{Search: s, emit: emit} }

// Prepare implements mainlog.Reader.
func (l *Lister) Prepare(entries []logline.Entry) (read func(context.Context) [][]logline.Entry) {
	return func(context.Context) [][]logline.Entry {
		for i := range entries {
			l.list(&entries[i])
		}
		return [][]logline.Entry{entries}
	}
}

func (l *Lister) list(e *logline.Entry) {
	if e.Kind == logline.Ran {
		l.ran.Add(e)
		return
	}
	found := e.ID != "" && l.found[idOf(e.ID)] || e.Kind == logline.Refused && l.isRefused(e)
	if submitted := e.Kind == logline.Arrived || e.Kind == logline.Refused && e.ID != ""; submitted && e.Login != "" {
		if ran, ok := l.ran.Claim(e); ok && found {
			l.emit(&ran)
		}
	}
	if found {
		l.emit(e)
	}
}

// isRefused reports whether what was refused is of whom is searched for.
func (l *Lister) isRefused(e *logline.Entry) bool {
	r := refusedRequest(e)
	return l.isOf(&r)
}
