package delivery

import (
	"hash/maphash"
	"strings"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/settings"
)

// Judged is a line of the log with its judgement.
type Judged struct {
	*sidecar.LogEntry
	judgement
}

// A judgement is what a line means by itself.
type judgement struct {
	By      *settings.Settings // nil if nobody has judged it yet
	From    *Source            // of an arrival; nil if not looked up yet
	Counts  bool               // it is one of a send: remote, and really attempted
	Outcome ratelimit.Outcome
	First   ratelimit.Token // of the sends to its recipient
	Spelled uint64          // how its sender has written the local part; 0 if it was another address
	To      envelope.Address
	cause   sidecar.Cause // of a bad one
}

// judge takes a line for what it means, which is nothing for a local recipient,
// for an attempt that was not made, and for one of our own refusals.
func Judge(s *settings.Settings, l *Judged) {
	l.judgement = judgement{By: s}
	e, j := l.LogEntry, &l.judgement
	switch e.Kind {
	case sidecar.LogDelivered:
		j.Outcome = ratelimit.Delivered
	case sidecar.LogDeferred:
		j.Outcome = ratelimit.Deferred
	case sidecar.LogFailed:
		j.Outcome = ratelimit.Failed
	}
	if j.Outcome != 0 {
		j.To = envelope.FoldRouted(e.Recipient)
		if e.Postfix { // it shows addresses as they came by SMTP
			j.To = envelope.Fold(e.Recipient)
		}
		j.Counts = j.To.Domain != "" && j.To.Domain != HoldDomain && !ours(e.Router) && (j.Outcome != ratelimit.Deferred || attempted(e.Text)) &&
			!s.Locals.Get().Has(j.To.Domain) && s.RemoteTransport(e.Transport)
	}
	if j.Counts {
		j.First, j.Spelled = s.Token(e.ID, j.To, 0), spelling(e, j.To)
		if j.Outcome != ratelimit.Delivered {
			j.cause = causeOf(e)
		}
	}
}

var spellingSeed = maphash.MakeSeed()

// spelling tells apart the ways in which the sender of a message may have written
// the local part of an address. It is 0 for what an alias or list has made of
// another one.
func spelling(e *sidecar.LogEntry, to envelope.Address) uint64 {
	written := e.Recipient
	if e.Original != "" {
		if written = e.Original; envelope.FoldRouted(written) != to && envelope.Fold(written) != to {
			return 0
		}
	}
	local, _ := envelope.Cut(written)
	return maphash.String(spellingSeed, local)
}

// holdDomain is where our router sends what it holds; see exim-config/routers.conf.
const HoldDomain = "hold.sluice.invalid"

// ours tells whether a router is a limiter's: ours, or cPanel's.
func ours(router string) bool {
	for _, prefix := range [...]string{"sluice", "enforce_mail_permissions", "check_mail_permissions"} {
		if strings.HasPrefix(router, prefix) {
			return true
		}
	}
	return false
}

// notAttempted begins the texts of deferrals without an attempt (Exim's deliver.c,
// transports/smtp.c), the last one Postfix's.
var notAttempted = [...]string{"retry time not reached", "reusing SMTP connection skips", "some host address lookups failed and retry time not reached",
	"connection limit reached for all hosts", "SMTP delivery explicitly queued", "first-pass only routing", "domain is held", "domain is in queue_domains",
	"delivery temporarily suspended"}

// attempted tells from the text of a deferral whether there was an attempt. Its
// error numbers, in parentheses before it, have changed over Exim's versions. Only
// how it begins is Exim's own: servers may answer what they like.
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
