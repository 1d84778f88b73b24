package delivery

import (
	"hash/maphash"
	"strings"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/logline"
	"sluice/sidecar/settings"
)

// Judged is a line of the log, with what can be said of it without any other line.
type Judged struct {
	*logline.Entry
	judgement
}

// A judgement is what a line means under some settings.
type judgement struct {
	By         *settings.Settings // nil if it was not judged yet
	From       *Source            // of an arrival; nil if not looked up yet
	Counts     bool               // it is the outcome of an attempt to send to another host
	Redirected bool               // it is about an address that an alias or list made, and that our router let pass; not of Postfix, which makes all when a message arrives
	Outcome    ratelimit.Outcome
	First      ratelimit.Token // of the first send of its message to its recipient
	Spelled    uint64          // hash of the local part as the sender wrote it; 0 if an alias made the address
	To         envelope.Address
	cause      sidecar.Cause // of a bad outcome
}

// Judge finds out what can be said of a line without any other line. An outcome does not
// count if its recipient is local, if nothing was attempted, or if Sluice itself held it.
func Judge(s *settings.Settings, l *Judged) {
	l.judgement = judgement{By: s}
	e, j := l.Entry, &l.judgement
	switch e.Kind {
	case logline.Delivered:
		j.Outcome = ratelimit.Delivered
	case logline.Deferred:
		j.Outcome = ratelimit.Deferred
	case logline.Failed:
		j.Outcome = ratelimit.Failed
	}
	if j.Outcome != 0 {
		j.To = envelope.FoldRouted(e.Recipient)
		if e.Postfix { // it shows addresses as they came by SMTP
			j.To = envelope.Fold(e.Recipient)
		}
		j.judgeOutcome(s, e)
	}
}

func (j *judgement) judgeOutcome(s *settings.Settings, e *logline.Entry) {
	tried := j.Outcome != ratelimit.Deferred || attempted(e.Text)
	if !tried && e.Original == "" || j.To.Domain == "" || j.To.Domain == logline.HoldDomain || isLimiter(e.Router) ||
		s.Locals.Get().Has(j.To.Domain) || !s.Config.RemoteTransport(e.Transport) {
		return
	}
	j.Counts = tried
	j.First, j.Spelled = s.Token(e.ID, j.To, 0), spellingOf(e, j.To)
	j.Redirected = j.Spelled == 0 && !e.Postfix
	if tried && j.Outcome != ratelimit.Delivered {
		j.cause = causeOf(e)
	}
}

var spellingSeed = maphash.MakeSeed()

// spellingOf returns a hash of the local part of an address as the sender of the message
// wrote it. It is 0 for what an alias or list has made of another address.
func spellingOf(e *logline.Entry, to envelope.Address) uint64 {
	written := e.Recipient
	if e.Original != "" {
		if written = e.Original; envelope.FoldRouted(written) != to && envelope.Fold(written) != to {
			return 0
		}
	}
	local, _ := envelope.Cut(written)
	return maphash.String(spellingSeed, local)
}

// isLimiter reports whether a router is a limiter's: Sluice's, or cPanel's.
func isLimiter(router string) bool {
	for _, prefix := range [...]string{"sluice", "enforce_mail_permissions", "check_mail_permissions"} {
		if strings.HasPrefix(router, prefix) {
			return true
		}
	}
	return false
}

// notAttempted are the beginnings of deferrals without an attempt: the last is Postfix's,
// the others Exim's (deliver.c, transports/smtp.c).
var notAttempted = [...]string{"retry time not reached", "reusing SMTP connection skips", "some host address lookups failed and retry time not reached",
	"connection limit reached for all hosts", "concurrency limit reached for transport", "no host found for existing SMTP connection",
	"remote deliveries suppressed", "hold_domains lookup deferred", "queue_domains lookup deferred", "SMTP delivery explicitly queued", "first-pass only routing", "domain is held", "domain is in queue_domains",
	"delivery temporarily suspended"}

// attempted reports from the text of a deferral whether there was an attempt. Only the
// beginning is looked at, which is Exim's own; what follows may be a server's answer. The
// error number in parentheses before it differs between Exim's versions.
func attempted(text string) bool {
	if strings.HasPrefix(text, "(") {
		if _, behind, ok := strings.Cut(text, "): "); ok {
			text = behind
		}
	}
	for _, begin := range &notAttempted {
		if strings.HasPrefix(text, begin) {
			return false
		}
	}
	return true
}
