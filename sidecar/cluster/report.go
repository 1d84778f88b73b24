package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/printable"
)

// A Report is what one node knows of who sends of a subject: those who have tried most. All
// numbers are of the window.
type Report struct {
	Node    string   `json:"-"`
	Asks    int64    `json:"q,omitempty"` // number of the last question of this node about the subject; the others answer a new one
	Tried   int64    `json:"t,omitempty"` // by all authors
	Quota   int64    `json:"o,omitempty"` // what all authors usually send, as in usual.Domain
	Authors []Author `json:"a,omitempty"`
}

// An Author is what one author has sent on a node.
type Author struct {
	Key       string                  `json:"k"`
	Proof     sidecar.Proof           `json:"p,omitempty"`
	Account   string                  `json:"u,omitempty"`
	First     int64                   `json:"f,omitempty"` // when it was first seen, in Unix seconds
	Tried     int64                   `json:"t,omitempty"` // as in senders.Author
	Sent      int64                   `json:"s,omitempty"`
	Error     int64                   `json:"e,omitempty"`
	Newest    int64                   `json:"n,omitempty"` // of Sent, at least so many in the last five sixths of the window
	Causes    map[sidecar.Cause]int64 `json:"c,omitempty"` // of what is bad
	Held      int64                   `json:"h,omitempty"` // of what is bad, held against the subject
	Against   int64                   `json:"g,omitempty"` // of Held, for a cause that speaks against the author
	Free      int64                   `json:"r,omitempty"` // as in usual.Domain
	Quota     int64                   `json:"o,omitempty"`
	*Evidence                         // nil: there was no room for it
}

// Evidence is what is known of an author beside its numbers, as in senders.Author.
type Evidence struct {
	Networks     []Share `json:"w,omitempty"`
	More         bool    `json:"m,omitempty"` // networks
	Recipients   int64   `json:"x,omitempty"`
	Senders      int64   `json:"y,omitempty"`
	Destinations []Share `json:"z,omitempty"`
	Subject      string  `json:"j,omitempty"`
	SubjectCount int64   `json:"i,omitempty"`
	Header       string  `json:"b,omitempty"`
}

// A Share is how many of what an author has tried have something in common.
type Share struct {
	Name  string `json:"n"`
	Tried int64  `json:"s"`
}

// MaxAuthors is how many of a subject a node tells of.
const MaxAuthors = 16

const (
	maxEvidence = 3    // authors of a report with evidence
	maxShares   = 8    // of each kind
	maxBytes    = 2048 // of a report on the board
	maxText     = 256  // bytes of a name or text
	maxNumber   = 1 << 40
)

// Of returns what an author has sent; nil: nothing is told of it.
func (r *Report) Of(author string) *Author {
	for i := range r.Authors {
		if r.Authors[i].Key == author {
			return &r.Authors[i]
		}
	}
	return nil
}

// encode is a report as it is told: without the evidence of those who have sent least, and
// without them, as far as it would be too long.
func (r Report) encode() ([]byte, error) {
	r.Authors = slices.Clone(r.Authors[:min(len(r.Authors), MaxAuthors)])
	evident := min(len(r.Authors), maxEvidence)
	for i := evident; i < len(r.Authors); i++ {
		r.Authors[i].Evidence = nil
	}
	for {
		value, err := json.Marshal(r)
		switch {
		case err != nil || len(value) <= maxBytes:
			return value, err
		case evident > 0:
			evident--
			r.Authors[evident].Evidence = nil
		case len(r.Authors) > 0:
			r.Authors = r.Authors[:len(r.Authors)-1]
		default:
			return nil, errors.New("it is too long")
		}
	}
}

// decode is the report of a value on the board, which anybody can have written who has access to
// the Redis.
func decode(value []byte) (r Report, err error) {
	if len(value) > maxBytes {
		return r, fmt.Errorf("it has %d bytes, more than %d", len(value), maxBytes)
	}
	if err = json.Unmarshal(value, &r); err != nil {
		return r, err
	}
	if len(r.Authors) > MaxAuthors {
		return r, fmt.Errorf("it has %d authors, more than %d", len(r.Authors), MaxAuthors)
	}
	numbers := []int64{r.Tried, r.Quota}
	for i := range r.Authors {
		a := &r.Authors[i]
		if !isKey(a.Key) || a.Proof > sidecar.Proven {
			return r, fmt.Errorf("%q is no author", a.Key)
		}
		a.Account = clean(a.Account)
		numbers = append(numbers, a.Tried, a.Sent, a.Error, a.Newest, a.Held, a.Against, a.Free, a.Quota)
		for cause, n := range a.Causes {
			if numbers = append(numbers, n); !slices.Contains(sidecar.Causes(), cause) {
				return r, fmt.Errorf("%q is no cause", cause)
			}
		}
		if a.Evidence != nil {
			numbers = append(numbers, a.Evidence.cleaned()...)
		}
	}
	if slices.ContainsFunc(numbers, func(n int64) bool { return n < 0 || n > maxNumber }) {
		return r, errors.New("one of its numbers cannot be right")
	}
	return r, nil
}

// isKey reports whether a text may be an author's key.
func isKey(s string) bool {
	odd := func(r rune) bool { return r < ' ' || r > '~' }
	return s != "" && len(s) <= maxText && strings.IndexFunc(s, odd) < 0
}

// cleaned makes all texts fit to be shown, cuts what is too long, and returns the numbers.
func (e *Evidence) cleaned() []int64 {
	numbers := []int64{e.Recipients, e.Senders, e.SubjectCount}
	e.Subject, e.Header = clean(e.Subject), clean(e.Header)
	for _, list := range [...]*[]Share{&e.Networks, &e.Destinations} {
		*list = (*list)[:min(len(*list), maxShares)]
		for i := range *list {
			s := &(*list)[i]
			s.Name = clean(s.Name)
			numbers = append(numbers, s.Tried)
		}
	}
	return numbers
}

func clean(s string) string { return printable.Of(s[:min(len(s), maxText)]) }
