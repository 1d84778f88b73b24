package queue

import (
	"os"
	"path/filepath"
	"slices"

	"sluice/sidecar/envelope"
	"sluice/sidecar/exim"
)

// A place is where a sweep has found a held message.
type place struct {
	queue  string
	input  os.FileInfo // that queue's directory; nil: it could not be looked at
	missed int         // sweeps since then that have not found it
}

// missesGone is how many sweeps in a row do not find a held message that is gone: while Exim moves
// one to another directory, or writes its header anew, a single listing may not show it.
const missesGone = 2

// inputOf is the directory of a queue's messages; nil if it cannot be looked at.
func (x *Index) inputOf(queue string) os.FileInfo {
	info, err := os.Stat(filepath.Join(x.options.Directory, queue, "input"))
	if err != nil {
		return nil
	}
	return info
}

// lookForHeld begins to look for what is held. sweeping is held.
func (s *sweep) lookForHeld() {
	if s.options.Gone != nil && s.options.Held != nil {
		s.held, s.foundIn = s.options.Held(), map[string]string{}
	}
}

// reportGone tells of held messages that are nowhere in the spool any more, though no line of the log
// says that they left: somebody has removed their files. Only of those that an earlier sweep has
// found, and whose directory is still the one that they were in: a spool that is another Exim's, or
// is not mounted, tells nothing of them. sweeping is held; err is why not all could be read.
func (s *sweep) reportGone(err error) {
	if err != nil || s.foundIn == nil {
		return
	}
	inputs := map[string]os.FileInfo{}
	inputOf := func(queue string) os.FileInfo {
		if _, known := inputs[queue]; !known {
			inputs[queue] = s.inputOf(queue)
		}
		return inputs[queue]
	}
	before := s.Index.places
	s.Index.places = map[string]place{}
	for id := range s.held {
		if queue, found := s.foundIn[id]; found {
			s.Index.places[id] = place{queue: queue, input: inputOf(queue)}
			continue
		}
		at := before[id]
		if now := inputOf(at.queue); at.input == nil || now == nil || !os.SameFile(at.input, now) {
			continue
		}
		if at.missed++; at.missed < missesGone {
			s.Index.places[id] = at
			continue
		}
		s.options.Gone(id, nil)
	}
}

// reportMarked tells of recipients of a held message that its header has among those who have it:
// somebody has marked them as delivered (exim -Mmd, -Mmad), and Exim tries them no more.
func (s *sweep) reportMarked(id string, h *exim.SpoolHeader) {
	if s.held[id] == 0 || len(h.Done) == 0 {
		return
	}
	if len(h.Left) == 0 { // nor what aliases have made of them
		s.options.Gone(id, nil)
		return
	}
	// Of two spellings of an address one may be left.
	done := slices.DeleteFunc(slices.Clone(h.Done), func(a string) bool {
		to := envelope.Fold(a)
		return slices.ContainsFunc(h.Left, func(b string) bool { return envelope.Fold(b) == to })
	})
	if len(done) > 0 {
		s.options.Gone(id, done)
	}
}
