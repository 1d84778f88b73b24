package attribution

import (
	"slices"
	"time"
)

// What is kept by the minute of a subject: of the last hour, at most so many times that an
// author sent within a minute. Beyond it the oldest minute goes.
const (
	keptMinutes = 60
	maxMinutes  = 512
)

// minutes are how much the authors of a subject have sent in each minute of the last hour, for
// the picture of an incident. A restart forgets them.
type minutes struct {
	from int64 // the first minute of which all is known; 0: they are not kept
	of   []minute
}

// minute is what an author has tried and sent within one, of which the number is in minutes
// since 1970.
type minute struct {
	number              int32
	author, tried, sent uint32
}

const minuteSize = 16 // bytes

// minute adds sends of an author. They are kept of a subject while half of the memory is free,
// and of one that has tried enough to matter.
func (t *table) minute(s *subject, at time.Time, author, tried, sent uint32) {
	k, number := &s.minutes, at.Unix()/60
	if t.length == 0 || number < k.from {
		return
	}
	if k.from == 0 {
		if t.memory() > t.Memory/2 && s.tried() < enough {
			return
		}
		if k.from = number; s.noted > 0 { // from before the start: who knows what this minute had
			k.from++
			return
		}
	}
	i := len(k.of)
	for i > 0 && int64(k.of[i-1].number) > number {
		i--
	}
	for j := i; j > 0 && int64(k.of[j-1].number) == number; j-- {
		if m := &k.of[j-1]; m.author == author {
			m.tried, m.sent = m.tried+tried, m.sent+sent
			return
		}
	}
	room := cap(k.of)
	t.authors.use(author)
	k.of = slices.Insert(k.of, i, minute{int32(number), author, tried, sent})
	t.forgetMinutes(k, number-keptMinutes+1)
	if len(k.of) > maxMinutes {
		t.forgetMinutes(k, int64(k.of[0].number)+1)
	}
	if cap(k.of) != room {
		t.resize(s)
	}
}

// forgetMinutes forgets those before one.
func (t *table) forgetMinutes(k *minutes, from int64) {
	if k.from == 0 || k.from >= from {
		return
	}
	n := 0
	for n < len(k.of) && int64(k.of[n].number) < from {
		t.release(k.of[n].author)
		n++
	}
	k.of, k.from = slices.Delete(k.of, 0, n), from
}

// A Minute is what an author has tried and sent within one.
type Minute struct {
	At          time.Time // its begin
	Author      string
	Tried, Sent int64
}

// Minutes returns how much each author of a subject has sent in each minute since one, at most
// an hour ago: where there is none for a minute, the author sent nothing in it. Zero: nothing
// is known by the minute.
func (a *Attribution) Minutes(now time.Time, name string) (since time.Time, all []Minute) {
	a.look(now, name, func(s *subject, _ int64) {
		if s.minutes.from == 0 {
			return
		}
		since = time.Unix(s.minutes.from*60, 0).UTC()
		for _, m := range s.minutes.of {
			all = append(all, Minute{time.Unix(int64(m.number)*60, 0).UTC(), a.authors.all[m.author].Key, int64(m.tried), int64(m.sent)})
		}
	})
	return since, all
}
