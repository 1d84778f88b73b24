package attribution

import (
	"strings"
	"time"

	"sluice/sidecar"
)

// authorSize is how many bytes an author takes, with its key and its places in the maps.
const authorSize = 160

// authors are all that are known, by number. An author that no pane names is kept until its
// place is needed. Number 0 is no author: it is the head of a list of those that no pane
// names, the one longest unseen first.
type authors struct {
	most    int
	numbers map[string]uint32 // by key
	all     []author
	free    []uint32
}

type author struct {
	sidecar.Author
	first      int64 // when it was first seen, in Unix seconds
	uses       int32 // panes and bad sends that name it
	evidence   *evidence
	prev, next uint32
}

func newAuthors(most int) authors {
	return authors{most: most, numbers: map[string]uint32{}, all: make([]author, 1)}
}

// number returns the number of an author, a new one if it has none; 0 if there is no room.
func (x *authors) number(who *sidecar.Author, now time.Time) uint32 {
	n := x.numbers[who.Key]
	switch {
	case n != 0:
		if a := &x.all[n]; a.Account != who.Account || a.Proof != who.Proof { // it has changed hands
			a.Proof, a.Account = who.Proof, strings.Clone(who.Account)
		}
		return n
	case len(x.numbers) >= x.most && !x.forget():
		return 0
	}
	if last := len(x.free) - 1; last >= 0 {
		n, x.free = x.free[last], x.free[:last]
	} else {
		n, x.all = uint32(len(x.all)), append(x.all, author{})
	}
	x.all[n] = author{Author: who.Clone(), first: now.Unix()}
	x.numbers[x.all[n].Key] = n
	x.idle(n)
	return n
}

// use has an author not forgotten until release was called as often.
func (x *authors) use(n uint32) {
	if a := &x.all[n]; a.uses == 0 {
		x.all[a.prev].next, x.all[a.next].prev = a.next, a.prev
	}
	x.all[n].uses++
}

// release ends one use, and reports whether it was the last.
func (x *authors) release(n uint32) bool {
	x.all[n].uses--
	if x.all[n].uses > 0 {
		return false
	}
	x.idle(n)
	return true
}

// idle adds an author that nothing uses to the end of the list.
func (x *authors) idle(n uint32) {
	last := x.all[0].prev
	x.all[n].prev, x.all[n].next = last, 0
	x.all[last].next, x.all[0].prev = n, n
}

// forget forgets the author that is longest unused, and reports whether there was one.
func (x *authors) forget() bool {
	n := x.all[0].next
	if n == 0 {
		return false
	}
	x.use(n) // out of the list
	delete(x.numbers, x.all[n].Key)
	x.all[n] = author{}
	x.free = append(x.free, n)
	return true
}

func (x *authors) size() int64 { return int64(len(x.numbers)) * authorSize }

// These bound the authors of one domain whose names anybody can choose: the scripts of an
// account, and the addresses that forward. Further ones count together.
const maxChosen = 64

// chosen reports whether the name of an author is one that somebody may choose again and
// again.
func chosen(who *sidecar.Author) bool {
	return strings.HasPrefix(who.Key, sidecar.ScriptPrefix) || strings.HasPrefix(who.Key, sidecar.ForwardPrefix)
}

// others is the author under whom further ones count together with this one.
func others(who *sidecar.Author) sidecar.Author {
	all := *who
	if name, ok := strings.CutPrefix(who.Key, sidecar.ForwardPrefix); ok {
		all.Key = sidecar.ForwardPrefix + "*" + name[max(0, strings.LastIndexByte(name, '@')):]
		return all
	}
	home := ""
	if i := strings.Index(who.Key+"/", "/"+who.Account+"/"); i >= 0 && who.Account != "" {
		home = who.Key[len(sidecar.ScriptPrefix):i+1] + who.Account + "/"
	}
	all.Key = sidecar.ScriptPrefix + home + "*"
	return all
}
