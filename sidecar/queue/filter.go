package queue

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/envelope"
	"sluice/sidecar/exim"
	"sluice/sidecar/logline"
)

// A filter is a Selection with its expressions compiled.
type filter struct {
	Selection
	sender, recipient, subject func(string) bool
	now                        time.Time
	hosts                      map[string]string // that have deferred mail last, by its domain
}

func (s Selection) compile(now time.Time) (f filter, err error) {
	f = filter{Selection: s, now: now}
	f.To = envelope.FoldDomain(f.To)
	if f.sender, err = textFilter("sender", s.Sender); err != nil {
		return f, err
	}
	if f.recipient, err = textFilter("recipient", s.Recipient); err == nil {
		f.subject, err = textFilter("subject", s.Subject)
	}
	return f, err
}

func textFilter(of, pattern string) (func(string) bool, error) {
	if expression, is := strings.CutPrefix(pattern, "~"); is {
		r, err := regexp.Compile("(?i)" + expression)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", of, err)
		}
		return r.MatchString, nil
	}
	pattern = strings.ToLower(pattern)
	return func(text string) bool { return strings.Contains(strings.ToLower(text), pattern) }, nil
}

// takes reports whether a message is selected, as far as the index knows.
func (f *filter) takes(m *Message) bool {
	return f.takesPlace(m) && f.takesTime(m.Arrived) && f.takesSender(m)
}

func (f *filter) takesPlace(m *Message) bool {
	wanted := f.Quarantined || f.ID != "" || f.Queue == logline.QuarantineQueue
	aside := m.Queue == logline.QuarantineQueue
	switch {
	case aside && !wanted, f.Quarantined && !aside,
		f.ID != "" && m.ID != f.ID,
		f.Queue != "" && m.Queue != f.Queue,
		f.Frozen && m.Frozen == nil,
		f.Held && m.Held == 0:
		return false
	}
	return true
}

func (f *filter) takesTime(arrived time.Time) bool {
	age := f.now.Sub(arrived)
	switch {
	case f.Older > 0 && age < f.Older,
		f.Younger > 0 && age >= f.Younger,
		!f.Since.IsZero() && arrived.Before(f.Since),
		!f.Until.IsZero() && !arrived.Before(f.Until):
		return false
	}
	return true
}

func (f *filter) takesSender(m *Message) bool {
	of := func(scope string) bool { return m.Payer == scope || m.Author == scope }
	switch {
	case f.Scope != "" && !of(f.Scope),
		f.BouncesOf != "" && !(m.bounce() && of(f.BouncesOf)),
		f.Bounces && !m.bounce(),
		f.Sender != "" && (m.Unknown || !f.sender(cmp.Or(m.Sender, "<>"))), // as it is shown
		f.byHeader() && m.Unknown:
		return false
	}
	return true
}

// byHeader reports whether the header of a message has to be read to know whether it is selected:
// the index has only where most of it is to go.
func (f *filter) byHeader() bool { return f.Recipient != "" || f.Subject != "" || f.To != "" }

// takesHeader reports whether a message is selected by its header.
func (f *filter) takesHeader(h *exim.SpoolHeader) bool {
	to := func(recipient string) bool {
		domain := envelope.DomainOf(recipient)
		return f.To == "" || domain == f.To || f.hosts[domain] == f.To
	}
	return f.subject(h.Subject) && slices.ContainsFunc(h.Left, func(r string) bool { return f.recipient(r) && to(r) })
}

// each calls do for each message that a filter takes, in no order.
func (x *Index) each(f *filter, do func(*Message)) {
	held := map[string]int{}
	if x.options.Held != nil {
		held = x.options.Held()
	}
	var candidates []Message
	x.mu.Lock()
	for k, m := range x.messages {
		one := x.show(k, m, held)
		switch {
		case !f.takes(&one):
		case f.byHeader():
			candidates = append(candidates, one)
		default:
			do(&one)
		}
	}
	f.hosts = maps.Clone(x.hosts)
	x.mu.Unlock()
	for i := range candidates {
		m := &candidates[i]
		if file, there := exim.FindSpoolFile(x.options.Directory, m.Queue, m.ID); there {
			if h, _ := file.Header(); f.takesHeader(&h) {
				do(m)
			}
		}
	}
}

// Select returns the selected messages, the oldest first.
func (x *Index) Select(now time.Time, s Selection) (all []Message, err error) {
	f, err := s.compile(now)
	if err != nil {
		return nil, err
	}
	x.each(&f, func(m *Message) { all = append(all, *m) })
	return oldest(all, len(all)), nil
}
