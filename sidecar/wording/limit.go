package wording

import (
	"fmt"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/limit"
	"sluice/sidecar/printable"
)

// Operators grep for these texts, so they do not change. textHourly and its two endings
// are cPanel's to the letter, two spaces included. What Sluice adds follows in brackets.
const (
	textHourly    = "%s has exceeded the max emails per %s (%s) allowed.  Message %s"
	textWatched   = "%s has exceeded the max emails (%s) allowed.  Watched only, not refused"
	textUncounted = "%s cannot be counted now.  Message will be reattempted later"

	reattempted = "will be reattempted later"
	discarded   = "discarded."
)

// Gone refuses a client that has gone before it was known whose program it is.
const Gone = "The client has closed its connection before it was known who it is.  Message will be reattempted later"

// Uncounted refuses mail of a subject while the store fails.
func Uncounted(subject string) string {
	return fmt.Sprintf(textUncounted, sidecar.TitleOf(subject))
}

// Watched warns of a limit that would have refused, if it were not only watched. title names
// who has exceeded it, and ratio shows what was attempted of it.
func Watched(title, ratio string) string { return fmt.Sprintf(textWatched, title, ratio) }

// A Refusal is the limit that is named when several refuse, and what it answers.
type Refusal struct {
	Use       ratelimit.Use
	Origin    limit.Origin // where the limit is set
	Per       string       // hour or day
	Title     string       // names who has exceeded it
	Attempted int64        // sends: used, promised to this message, and refused since the limit was reached
	Action    sidecar.Action
	Frees     time.Time // when there is room, by the system's clock; zero if there never is room for so many
}

// Text words a refusal: who exceeded which limit by how much, what is counted, when there
// is room, and where the limit comes from.
func (r *Refusal) Text(node string) sidecar.RefusalText {
	where := fmt.Sprintf("limit from %s; sluice on %s", r.Origin, node)
	if r.Use.Withheld {
		return r.textWithheld(where)
	}
	what, room := reattempted, "more than the limit at once"
	if r.Action != sidecar.Defer {
		what = discarded
	}
	if !r.Frees.IsZero() {
		room = "room at " + r.frees()
	}
	return sidecar.RefusalText{
		Text:  fmt.Sprintf(textHourly, r.Title, r.Per, printable.Ratio(r.Attempted, r.Use.Limit.Max), what),
		Why:   fmt.Sprintf("%d sent in %s; %s", r.Use.Used, printable.Span(r.Use.Limit.Window), room),
		Where: where,
	}
}

// textWithheld words the refusal of an author that has to leave room for the others of its
// domain.
func (r *Refusal) textWithheld(where string) sidecar.RefusalText {
	limit := r.Use.Limit
	left, room := max(0, limit.Max-limit.Withheld), "room as its own sends leave the window"
	if !r.Frees.IsZero() {
		room += ", at the latest at " + r.frees()
	}
	return sidecar.RefusalText{
		Text:  fmt.Sprintf(textHourly, r.Title, r.Per, printable.Ratio(r.Attempted, left), reattempted),
		Why:   fmt.Sprintf("%d is %d of %s less %d that its other senders usually send; %s", left, limit.Max, r.Use.Subject, limit.Withheld, room),
		Where: where,
	}
}

func (r *Refusal) frees() string { return r.Frees.Format("2006-01-02 15:04:05 -0700") }
