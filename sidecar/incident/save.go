package incident

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"sluice/sidecar/event"
)

// name is the name of an incident's note.
func (i *state) name() []string { return []string{i.Node, fmt.Sprintf("%016d", i.Number)} }

// save notes the incidents that have changed and were saved before a time, or never. s.mu is
// held.
func (s *Incidents) save(now, before time.Time) {
	for _, i := range s.all {
		if i.changed && i.Revision > 0 && !i.saved.After(before) {
			s.put(now, i)
		}
	}
}

func (s *Incidents) put(now time.Time, i *state) {
	i.saved, i.changed = now, false
	event.EmitError(s.Events, event.StoreFailed, s.notes.Put(i.Incident, i.name()...))
}

// load goes on from the notes. Causes that are conditions of the node count as gone from the
// start on: those that are still there are found again.
func (s *Incidents) load() {
	s.number.Load(func(_ []string, n int64) error {
		s.last = max(s.last, n)
		return nil
	})
	s.notes.Load(func(name []string, noted Incident) error {
		i := &state{Incident: noted}
		if n := i.name(); n[0] != name[0] || n[1] != name[1] {
			return fmt.Errorf("it has the name of %s-%s", name[0], name[1])
		}
		if err := noted.check(); err != nil {
			return err
		}
		if noted.Node == s.Node {
			s.last = max(s.last, noted.Number)
		}
		s.all = append(s.all, i)
		return nil
	})
	slices.SortStableFunc(s.all, func(a, b *state) int {
		return cmp.Or(a.Opened.Compare(b.Opened), cmp.Compare(a.Number, b.Number))
	})
	for _, i := range s.all {
		s.of[i.about()] = i
		if i.Condition != "" && i.Open() {
			i.endAll(s.Now)
		}
	}
}

// check reports what cannot be right in an incident that was kept.
func (i *Incident) check() error {
	for _, n := range [...]struct{ is, most int }{
		{len(i.Causes), maxCauses}, {len(i.Timeline), maxTimeline}, {len(i.Evidence.Who), maxWho}, {len(i.Evidence.Lines), maxLines}, {len(i.Minutes.Tried), maxMinutes},
	} {
		if n.is > n.most {
			return fmt.Errorf("it has %d where at most %d are", n.is, n.most)
		}
	}
	switch {
	case i.Number < 1 || i.Revision < 1 || i.Opened.IsZero() || i.Severity < Info:
		return errors.New("it has no number, revision, severity or begin")
	case (i.Domain == "") == (i.Condition == "") || len(i.Domain)+len(i.Condition) > maxText:
		return errors.New("it is about a domain or a condition of the node, and not " + strconv.Quote(i.Domain+" "+string(i.Condition)))
	case !i.Minutes.even():
		return errors.New("its minutes are not as many of one kind as of another")
	case i.Closed.IsZero() && len(i.Causes) == 0:
		return errors.New("it is open without a cause")
	}
	return nil
}
