package lock

import (
	"sluice/sidecar"
	"sluice/sidecar/event"
)

// lockEvents are what operators are told of the lock directory.
var lockEvents = map[sidecar.LockEventKind]event.Kind{
	sidecar.LockReleased:  event.LockRemoved,
	sidecar.LockMade:      event.LockMade,
	sidecar.LockTaken:     event.LockTaken,
	sidecar.LockDirLost:   event.LockDirLost,
	sidecar.LockTrouble:   event.LockTrouble,
	sidecar.LockMended:    event.LockDirMended,
	sidecar.LockDirShared: event.LockDirShared,
	sidecar.LockIgnored:   event.LockIgnored,
}

// EventOf is what operators are told of it.
func EventOf(e sidecar.LockEvent) event.Event {
	told := event.Event{Kind: lockEvents[e.Kind], Domain: e.File.Domain, Err: e.Err}
	switch e.File.Kind {
	case "": // it is about the whole directory
	case sidecar.LockUsage:
		told.Kind = event.UsageRemoved
	default:
		told.Attrs = event.Attrs("lock", string(e.File.Kind))
	}
	return told
}
