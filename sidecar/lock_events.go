package sidecar

import "sluice/sidecar/event"

// lockEvents are what operators are told of the lock directory.
var lockEvents = map[LockEventKind]event.Kind{
	LockReleased:  event.LockRemoved,
	LockMade:      event.LockMade,
	LockTaken:     event.LockTaken,
	LockDirLost:   event.LockDirLost,
	LockTrouble:   event.LockTrouble,
	LockMended:    event.LockDirMended,
	LockDirShared: event.LockDirShared,
	LockIgnored:   event.LockIgnored,
}

// EventOf is what operators are told of it.
func EventOf(e LockEvent) event.Event {
	told := event.Event{Kind: lockEvents[e.Kind], Domain: e.File.Domain, Err: e.Err}
	switch e.File.Kind {
	case "": // it is about the whole directory
	case LockUsage:
		told.Kind = event.UsageRemoved
	default:
		told.Attrs = event.Attrs("lock", string(e.File.Kind))
	}
	return told
}
