package stop

import (
	"context"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/lockfile"
)

func lockOf(author string) lockfile.Lock {
	return lockfile.Lock{Kind: lockfile.Stopped, Domain: author}
}

// syncFiles makes and removes files so that each author that is stopped has one, if its key
// can be the name of one. A file that a hand has made, or touched, is an operator's stop.
func (s *Stops) syncFiles(ctx context.Context, now time.Time) {
	if s.Dir == nil {
		return
	}
	s.files.Lock()
	defer s.files.Unlock()
	stands := map[string]bool{}
	for _, f := range s.Dir.Files("") {
		stands[f.Domain] = true
		st := s.view.Load().inForce(now, f.Domain)
		switch {
		case f.Operator:
			if st == nil || !st.Until.IsZero() {
				at := f.Since.Round(0).UTC().Truncate(time.Millisecond)
				made := &Stop{Mark: newMark(now), Scope: f.Domain, Since: at, Cause: Operator, Who: byHand, Node: s.Settings().Node}
				s.post(ctx, keys+made.Mark, made)
			}
			event.EmitError(s.Events, event.LockTrouble, s.Dir.Adopt(f.Lock))
		case st == nil:
			event.EmitError(s.Events, event.LockTrouble, s.Dir.Unmake(f.Lock))
		}
	}
	for scope := range *s.view.Load() {
		if st := s.view.Load().inForce(now, scope); st != nil && !stands[scope] && lockfile.StopFile(scope) {
			event.EmitError(s.Events, event.LockTrouble, s.Dir.Make(lockOf(scope), "stopped by "+st.Who, 0))
		}
	}
}

// byHand is who has made or ended a stop by its file.
const byHand = "a hand (its file)"

// Event follows what an operator did by hand in the directory.
func (s *Stops) Event(ctx context.Context, now time.Time, e lockfile.Event) {
	switch e.Kind {
	case lockfile.RemovedByHand:
		s.Start(ctx, now, e.File.Domain, byHand, false)
	case lockfile.Made, lockfile.TakenOver:
		s.syncFiles(ctx, now)
	case lockfile.Ignored:
		s.Events.Emit(event.Event{Kind: event.StopIgnored, Err: e.Err})
	case lockfile.DirLost:
		s.Events.Emit(event.Event{Kind: event.LockDirLost, Err: e.Err})
	case lockfile.Trouble:
		event.EmitError(s.Events, event.LockTrouble, e.Err)
	case lockfile.DirMended:
		s.Events.Emit(event.Event{Kind: event.LockDirMended, Attrs: event.Attrs("dir", e.Dir)})
	}
}
