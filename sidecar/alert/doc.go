// Package alert tells operators of incidents: by mail, by a webhook, or by a program of theirs. It
// owns what was told on which channel, and for each channel a queue of notices in files, so that
// after a crash nothing is left untold. It asks the configuration in force, the incidents as they
// are now, and whose a domain is. It tells each channel when an incident opens, becomes worse, has
// another culprit, goes on or is over, and what operators do where that is wanted, within bounds, so
// that no tenant drowns another's alarm.
package alert
